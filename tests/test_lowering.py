"""The compiled steps lower for CPU, CUDA and TPU, so a change that one of them refuses fails without the hardware."""

import functools

import jax
import jax.numpy as jnp
import pytest

from posynda_jax.adaptation import adapters, bases, pretraining, recipes, step, sweep
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.novel_views import NovelViews
from posynda_jax.adaptation.lessons.placed import AsSeen, Synthesis
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import body, metrics, rigs
from posynda_jax.geometry.measured import Measured
from posynda_jax.runtime import parallel

PLATFORMS = ("cpu", "cuda", "tpu")
CLIPS, FRAMES = 2, 9
DENOISERS = {
    "mixste": MixSTE(num_frames=FRAMES, width=32, depth=2, num_heads=2),
    "mixste in bfloat16": MixSTE(num_frames=FRAMES, width=32, depth=2, num_heads=2, dtype=jnp.bfloat16),
    "videopose": VideoPose(num_frames=FRAMES, filter_widths=(3, 3), channels=16),
}
MEASURED = Measured(jax.ShapeDtypeStruct((16,), jnp.float32), jax.ShapeDtypeStruct((5,), jnp.float32))
RECIPES = {
    "paper": recipes.get("posynda"), "gan": recipes.get("gan"),
    "all": Recipe((AsSeen(tumble=1.0), PseudoLabels("joint"), NovelViews()), sampling_steps=2),
}
SHAPES = {
    "keypoints": (FRAMES, 17, 2), "confidence": (FRAMES, 17), "valid": (FRAMES,), "intrinsics": (9,),
    "poses": (FRAMES, 17, 3), "motion": (FRAMES, 17, 3),
}
TARGET = ("keypoints", "confidence", "valid", "intrinsics")


def clips(*fields: str, leading: tuple[int, ...] = (CLIPS,)) -> dict[str, jax.ShapeDtypeStruct]:
  return {name: jax.ShapeDtypeStruct((*leading, *SHAPES[name]), jnp.float32) for name in fields}


def variables(model):
  return jax.eval_shape(lambda: bases.init_variables(jax.random.key(0), model))


def lower(function, *arguments) -> None:
  """Lowers for all platforms. Raises AssertionError where one of them has no module."""
  exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
  assert exported.platforms == PLATFORMS and exported.mlir_module()


def lower_step(one, state, frozen, batch: dict, key) -> None:
  """Lowers a step on one device with the axis that pmap gives it, because pmap itself cannot be exported."""
  batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), batch)
  axes = {"in_axes": (None, None, 0, None), "out_axes": None, "axis_name": parallel.AXIS, "axis_size": 1}
  lower(jax.vmap(one, **axes), state, frozen, batch, key)


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_adaptation_step_lowers(name, recipe):
  model = DENOISERS[name]
  base = variables(model)
  state = jax.eval_shape(lambda: step.init_state(jax.random.key(0), base, recipe, FRAMES))
  batch = {"source": clips("motion", "valid"), "target": clips(*TARGET)}
  setting = step.Setting(model, rig=rigs.get_rig("wild_rig"), chunk=2)
  one = functools.partial(step.adapt_step, recipe=recipe, setting=setting)
  lower_step(one, state, (base, MEASURED), batch, jax.random.key(0))


@pytest.mark.parametrize("name", DENOISERS)
def test_the_pretraining_step_lowers(name):
  model, config = DENOISERS[name], pretraining.PretrainConfig(detected_share=0.5)
  state = jax.eval_shape(lambda: pretraining.init_state(jax.random.key(0), model, config))
  rig = rigs.get_rig("h36m_rig+wild_rig")
  one = functools.partial(pretraining.pretrain_step, model=model, config=config, rig=rig)
  lower_step(one, state, (), {"source": clips("motion", "valid")}, jax.random.key(0))


@pytest.mark.parametrize("name", DENOISERS)
def test_inference_lowers(name):
  model = DENOISERS[name]
  config = scoring.SamplingConfig(4, sampling_steps=2, flip=True, select="joint", refine="body", hypothesis_chunk=2)
  score = scoring.make_scorer(lambda params: adapters.make_denoiser(model, params, None), config)
  clip = clips(*TARGET, "poses") | {"index": jax.ShapeDtypeStruct((CLIPS,), jnp.int32)}
  lower(score, variables(model), MEASURED, clip)


def test_a_sweep_lowers():
  model = DENOISERS["mixste"]
  members = [
      Recipe((Synthesis(), PseudoLabels()), rate=rate, adapter=AdapterConfig(rank=rank))
      for rank, rate in ((1, 1e-3), (2, 1e-4))
  ]
  base = variables(model)
  keys = [jax.random.key(seed) for seed in range(2)]
  state = jax.eval_shape(lambda: sweep.init_members(keys, base, members, FRAMES))
  leading = (CLIPS, 2)
  batch = {"source": clips(*TARGET, "poses", leading=leading), "target": clips(*TARGET, leading=leading)}
  one = functools.partial(sweep.sweep_step, recipe=members[0], setting=step.Setting(model), at_once=2)
  lower_step(one, state, (base, MEASURED, sweep.find_numbers(members)), batch, jnp.stack(keys))


@pytest.mark.parametrize("solve", [
    lambda pose, keypoints, view: body.fit_body(pose, keypoints, view, jnp.ones_like(keypoints[..., 0]), (0.3,) * 16),
    lambda pose, keypoints, view: metrics.similarity_align(pose, pose[::-1]),
], ids=["fit_body", "similarity_align"])
def test_geometry_multiplies_in_float32_wherever_it_runs(solve):
  """GPUs and TPUs round factors to 10 or 7 bits by default, which is millimetres in metres."""
  shapes = [jax.ShapeDtypeStruct((CLIPS, *SHAPES[name]), jnp.float32) for name in ("poses", "keypoints", "intrinsics")]
  products = [line for line in jax.jit(solve).lower(*shapes).as_text().splitlines() if "dot_general" in line]
  assert products and all("[HIGHEST, HIGHEST]" in line for line in products)
