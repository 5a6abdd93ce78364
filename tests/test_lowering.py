"""The training steps and inference are lowered for CPU, CUDA and TPU: a change that one of them cannot take is caught without one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import adapt, pretrain, sweep
from posynda_jax.diffusion import hypotheses
from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import metrics, rigs
from posynda_jax.peft import lora
from posynda_jax.runtime import parallel

PLATFORMS = ("cpu", "cuda", "tpu")
CLIPS, FRAMES = 2, 9
DENOISERS = {
    "mixste": MixSTE(num_frames=FRAMES, width=32, depth=2, num_heads=2),
    "mixste in bfloat16": MixSTE(num_frames=FRAMES, width=32, depth=2, num_heads=2, dtype=jnp.bfloat16),
    "videopose": VideoPose(num_frames=FRAMES, filter_widths=(3, 3), channels=16),
}
EVERYTHING = dict(  # what a configuration can switch on, at once
    tilt="teacher", pair="upright", proportions="target", stretch=0.1, refine="body", body=(0.3,) * 16, pseudo_label="mean",
    teacher_flip=True, sampling_steps=2, view=(0.02, -0.1, 0.08, -0.23, 0.2),
    reprojection_weight=0.1, student_input="diffused",
)


def clips(num_clips: int, *fields: str) -> dict[str, jax.ShapeDtypeStruct]:
  shapes = {
      "keypoints": (FRAMES, 17, 2), "confidence": (FRAMES, 17), "valid": (FRAMES,), "intrinsics": (9,), "poses": (FRAMES, 17, 3),
      "motion": (FRAMES, 17, 3),
  }
  return {name: jax.ShapeDtypeStruct((num_clips, *shapes[name]), jnp.float32) for name in fields}


TARGET = ("keypoints", "confidence", "valid", "intrinsics")


def variables(model):
  made = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs(model)))
  return {name: made[name] for name in ("params", "batch_stats") if name in made}


def inputs(model):
  shape = (1, model.num_frames, 17)
  return jnp.zeros(shape + (2,)), jnp.zeros(shape + (3,)), jnp.zeros(1, jnp.int32)


def lower(function, *arguments) -> None:
  """Lowers for all platforms, and holds that each got a module."""
  exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
  assert exported.platforms == PLATFORMS and exported.mlir_module()


def on_one_device(step):
  """A step as pmap runs it, with the axis that pmap gives it: pmap itself cannot be exported."""
  return jax.vmap(step, in_axes=(None, None, 0, None), out_axes=None, axis_name=parallel.AXIS, axis_size=1)


def with_devices(batch):
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), batch)


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["paper", "everything"])
def test_the_adaptation_step_lowers(name, settings):
  model = DENOISERS[name]
  rule = adapt.TARGET_RULES["videopose" if name == "videopose" else "mixste"]
  config = adapt.AdaptConfig(target_rule=rule, **settings)
  base = variables(model)
  state = jax.eval_shape(lambda: adapt.init_state(jax.random.key(0), base, config))
  batch = {"source": clips(CLIPS, "motion", "valid"), "target": clips(CLIPS, *TARGET)}
  step = functools.partial(
      adapt.adapt_step, model=model, config=config, rig=rigs.get_rig("wild_rig"), tx=adapt.make_optimizer(config), chunk=2
  )
  lower(on_one_device(step), state, base, with_devices(batch), jax.random.key(0))


@pytest.mark.parametrize("name", DENOISERS)
def test_the_pretraining_step_lowers(name):
  model, config = DENOISERS[name], pretrain.PretrainConfig(detected_share=0.5)
  state = jax.eval_shape(lambda: pretrain.init_state(jax.random.key(0), model, config))
  step = functools.partial(
      pretrain.pretrain_step, model=model, config=config, rig=rigs.get_rig("h36m_rig+wild_rig"), tx=pretrain.make_optimizer(config)
  )
  lower(on_one_device(step), state, (), with_devices({"source": clips(CLIPS, "motion", "valid")}), jax.random.key(0))


@pytest.mark.parametrize("name", DENOISERS)
def test_inference_lowers(name):
  model = DENOISERS[name]
  config = evaluate.EvaluateConfig(
      num_hypotheses=4, hypothesis_chunk=2, sampling_steps=2, flip=True, select="joint", refine="body", body=(0.3,) * 16,
      view=(0.02, -0.1, 0.08, -0.23, 0.2),
  )
  score = evaluate.make_scorer(lambda weights: lora.bind(model, weights, None), config)
  clip = clips(CLIPS, *TARGET, "poses") | {"index": jax.ShapeDtypeStruct((CLIPS,), jnp.int32)}
  lower(score, variables(model), clip)


def test_a_sweep_lowers():
  model, configs = DENOISERS["mixste"], [adapt.AdaptConfig(rank=rank, learning_rate=rate) for rank, rate in ((1, 1e-3), (2, 1e-4))]
  base = variables(model)
  state = jax.eval_shape(lambda: sweep.init_state([jax.random.key(0), jax.random.key(1)], base, configs))
  numbers = {name: np.asarray(value) for name, value in sweep.settings(configs).items()}
  member = {"source": clips(CLIPS, "poses", "valid"), "target": clips(CLIPS, *TARGET)}
  member["source"] |= clips(CLIPS, "keypoints")
  batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((CLIPS, 2, *leaf.shape[1:]), leaf.dtype), member)
  step = functools.partial(sweep.sweep_step, model=model, config=configs[0], rig=None, names=("a", "b"), at_once=2)
  lower(on_one_device(step), state, (base, numbers), with_devices(batch), jax.random.split(jax.random.key(0), 2))


@pytest.mark.parametrize("solve", [
    lambda pose, keypoints, view: hypotheses.fit_body(pose, keypoints, view, jnp.ones_like(keypoints[..., 0]), (0.3,) * 16),
    lambda pose, keypoints, view: metrics.similarity_align(pose, pose[::-1]),
], ids=["fit_body", "similarity_align"])
def test_geometry_multiplies_in_float32_wherever_it_runs(solve):
  """GPUs and TPUs round what they multiply to 10 or 7 bits unless told: of metres that is millimetres."""
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((CLIPS, FRAMES, 17, 3), (CLIPS, FRAMES, 17, 2), (CLIPS, 9))]
  products = [line for line in jax.jit(solve).lower(*shapes).as_text().splitlines() if "dot_general" in line]
  assert products and all("[HIGHEST, HIGHEST]" in line for line in products)
