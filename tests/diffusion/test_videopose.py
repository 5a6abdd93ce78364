"""VideoPose: parity, its three forms, statistics held as state, adapters on convolutions, and plain lifters end to end."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posynda_jax.adaptation import adapt, pretrain
from posynda_jax.diffusion import process, sampler
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.geometry import camera, skeleton
from posynda_jax.peft import counting, lora
from posynda_jax.runtime import checkpoint, parallel
from tests import golden, scene
from tests.adaptation.test_adaptation import batch
from tests.experiments.test_experiments import ROOT, error_of, run_well
from tests.peft.test_lora import trained

FRAMES = 9


def tiny(**fields) -> tuple[VideoPose, dict]:
  """A denoiser 16 channels wide that sees 9 frames, with parameters and statistics that answer to everything."""
  model = VideoPose(**{"num_frames": FRAMES, "filter_widths": (3, 3), "channels": 16, **fields})
  shapes = jax.eval_shape(lambda: pretrain.init_state(jax.random.key(1), model, pretrain.PretrainConfig()).params)
  rng = np.random.default_rng(0)

  def value(path, leaf):
    around = {"scale": 1.0, "var": 1.0}.get(path[-1].key, 0.0)
    spread = math.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.1
    return (around + spread * rng.uniform(-1, 1, leaf.shape)).astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(value, shapes)


@functools.partial(jax.jit, static_argnames=("model", "form"))
def apply(model: VideoPose, variables, *inputs, form: str = "padded"):
  return model.apply(variables, *inputs, form=form)


def inputs(num_frames: int = FRAMES):
  poses = jnp.asarray(scene.poses((2, num_frames)))
  return poses[..., :2], jnp.asarray(scene.poses((2, num_frames), seed=1)), jnp.array([3, 900])


def variables_of(state: dict[str, np.ndarray]) -> dict:
  """The Flax variables of the reference's arrays."""
  tree: dict = {"params": {}, "batch_stats": {}}
  for name, value in state.items():
    module, kind = name.rsplit(".", 1)
    module = module.replace("layers_conv.", "conv_").replace("layers_bn.", "bn_")
    if kind.startswith("running_"):
      tree["batch_stats"].setdefault(module, {})[kind.removeprefix("running_")] = value
    elif kind != "num_batches_tracked":
      kind, value = ("kernel", value.transpose(2, 1, 0)) if value.ndim == 3 else ({"weight": "scale"}.get(kind, kind), value)
      tree["params"].setdefault(module, {})[kind] = value
  return tree


def test_golden_plain_videopose_unpadded():
  arrays = golden.load("videopose_small")
  config, state = arrays["config"], golden.params(arrays)
  model = make_model({
      "denoiser": "videopose", "diffusion": False, "num_joints": arrays["x_2d"].shape[2], "num_frames": config["T"],
      "filter_widths": config["filter_widths"], "channels": config["channels"], "causal": config["causal"],
  })
  assert model.receptive_field == config["receptive_field"]
  out = apply(model, variables_of(state), arrays["x_2d"], form="valid")
  np.testing.assert_allclose(out, arrays["out"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("widths, causal", [((3, 5), True), ((5, 1, 3), False)])
def test_strided_dilated_and_padded_forms_agree(widths, causal):
  model, variables = tiny(filter_widths=widths, causal=causal, num_frames=45)
  keypoints, noisy, t = inputs(45)
  dilated = apply(model, variables, keypoints, noisy, t, form="valid")
  strided = apply(model, variables, keypoints, noisy, t, form="strided")
  assert model.receptive_field == 15 and dilated.shape == (2, 31, 17, 3) and strided.shape == (2, 3, 17, 3)
  np.testing.assert_allclose(strided, dilated[:, ::15], atol=1e-5)
  before, after = (14, 0) if causal else (7, 7)  # the reference's pad and causal shift, by hand
  pad = lambda x: jnp.concatenate([x[:, :1]] * before + [x[:, :31]] + [x[:, 30:31]] * after, axis=1)
  padded = apply(model, variables, keypoints[:, :31], noisy[:, :31], t)
  np.testing.assert_allclose(padded, apply(model, variables, pad(keypoints), pad(noisy), t, form="valid"), atol=1e-5)


def test_a_causal_model_sees_no_later_frame_and_both_kinds_see_their_reach():
  keypoints, noisy, t = inputs(30)
  for causal in (False, True):
    model, variables = tiny(causal=causal)
    moved = noisy.at[:, 15].add(1.0)
    before, after = (apply(model, variables, keypoints, x, t) for x in (noisy, moved))
    touched = (before != after).any((0, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(touched), np.arange(15, 24) if causal else np.arange(11, 20))


def test_time_and_noise_are_seen_by_the_denoiser_and_not_by_the_plain_lifter():
  keypoints, noisy, t = inputs()
  for model, variables, seen in ((*tiny(), True), (*tiny(diffusion=False), False)):
    out = apply(model, variables, keypoints, noisy, t)
    for other in ((keypoints, noisy + 0.1, t), (keypoints, noisy, t + 50)):
      assert (jnp.abs(apply(model, variables, *other) - out).max() > 1e-4) == seen
  assert "time_in" not in variables["params"] and "time_in" in tiny()[1]["params"]


def test_the_training_norm_is_of_the_batch_and_its_average_moves_a_tenth():
  model, variables = tiny(axis_name=None, dropout=0.0)
  keypoints, noisy, t = inputs()
  out, moved = model.apply(variables, keypoints, noisy, t, train=True, mutable=["batch_stats"])
  x = jnp.concatenate([keypoints, noisy], -1).reshape(2, FRAMES, -1)
  x = np.asarray(jnp.pad(x, ((0, 0), (4, 4), (0, 0)), mode="edge"), np.float64)
  kernel = np.asarray(variables["params"]["expand_conv"]["kernel"], np.float64)
  y = sum(x[:, i : i + 15] @ kernel[i] for i in range(3))
  for name, now in (("mean", y.mean((0, 1))), ("var", y.var((0, 1)))):
    expected = 0.9 * variables["batch_stats"]["expand_bn"][name] + 0.1 * now
    np.testing.assert_allclose(moved["batch_stats"]["expand_bn"][name], expected, rtol=1e-4, atol=1e-5)
  assert jnp.abs(out - model.apply(variables, keypoints, noisy, t)).max() > 1e-3
  dropping = model.clone(dropout=0.25)
  rngs = {"dropout": jax.random.key(0)}
  dropped, _ = dropping.apply(variables, keypoints, noisy, t, train=True, mutable=["batch_stats"], rngs=rngs)
  assert jnp.abs(dropped - out).max() > 1e-3


def labelled(num: int = 8) -> dict:
  """Labelled clips of people at different places before one camera."""
  poses = scene.poses((num, FRAMES), 1)
  keypoints = np.asarray(camera.project(poses, np.tile(scene.INTRINSICS, (num, 1))))
  return {"keypoints": keypoints, "poses": poses, "valid": np.ones(poses.shape[:2], np.float32)}


@functools.cache
def pretrain_step(model: VideoPose, num_devices: int):
  static = dict(model=model, config=pretrain.PretrainConfig(loss="mse", ema=0.5), rig=None, tx=SGD)
  return parallel.make_parallel_step(functools.partial(pretrain.pretrain_step, **static), jax.local_devices()[:num_devices])


SGD = optax.sgd(0.1, momentum=0.9)  # Adam would magnify rounding of near-zero gradients into whole steps


def pretrained(num_devices: int, num_steps: int) -> pretrain.PretrainState:
  """The tiny model's state after some steps on one batch."""
  model, start = tiny()
  state = pretrain.PretrainState(np.int32(0), start, start, SGD.init({"params": start["params"]}))
  state, key = parallel.replicate((state, jax.random.key(1)), jax.local_devices()[:num_devices])
  for _ in range(num_steps):
    state, _ = pretrain_step(model, num_devices)(state, (), parallel.shard({"source": labelled()}, num_devices), key)
  return jax.device_get(state)


def test_devices_share_statistics_dropout_and_update():
  _, start = tiny()
  alone, *shared = [pretrained(num_devices, 1) for num_devices in (1, 2, 8)]
  for first, ours, average in zip(*map(jax.tree.leaves, (start, alone.params, alone.ema)), strict=True):
    assert np.abs(ours - first).max() > 1e-6
    np.testing.assert_allclose(average, (first + ours) / 2, atol=1e-6)
  for other in shared:
    for ours, theirs in zip(*map(jax.tree.leaves, (alone.params, other.params)), strict=True):
      np.testing.assert_allclose(theirs, ours, atol=5e-6)


def test_no_statistics_are_optimised_or_decayed():
  model, _ = tiny()
  state = jax.eval_shape(lambda: pretrain.init_state(jax.random.key(0), model, pretrain.PretrainConfig()))
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert sum(leaf.size for leaf in moments) == 2 * counting.count(state.params["params"])  # and AdamW decays what it has moments of


def test_training_lowers_the_error_that_frozen_statistics_give():
  model, start = tiny()
  source = labelled()
  truth = skeleton.root_centre(source["poses"])
  seen = (source["keypoints"], jax.random.normal(jax.random.key(6), truth.shape), jnp.full(8, 999))
  rate = lambda params: jnp.linalg.norm(apply(model, params, *seen) - truth, axis=-1).mean()
  assert rate(pretrained(1, 100).params) < 0.6 * rate(start)


def test_a_fresh_adapter_leaves_the_model_bit_identical():
  model, base = tiny()
  fresh = lora.init(jax.random.key(0), base, 2, lora.CONVOLUTIONS)
  np.testing.assert_array_equal(lora.bind(model, base, fresh)(*inputs()), model.apply(base, *inputs()))


@pytest.mark.parametrize(
    "rule, form", [(lora.CONVOLUTIONS, "padded"), (lora.EVERYWHERE, "padded"), (lora.CONVOLUTIONS, "strided")]
)
def test_factorised_equals_merged(rule, form):
  model, base = tiny(causal=True)
  adapter = trained(lora.init(jax.random.key(0), base, 2, rule))
  factorised = jax.jit(lambda base, adapter: lora.bind(model, base, adapter, 0.5)(*inputs(18), form=form))(base, adapter)
  merged = apply(model, lora.merge(base, adapter, 0.5), *inputs(18), form=form)
  np.testing.assert_allclose(factorised, merged, atol=1e-4)
  assert jnp.abs(factorised - apply(model, base, *inputs(18), form=form)).max() > 1e-3


def test_the_default_rule_adapts_every_convolution_but_the_output_layer():
  _, base = tiny(filter_widths=(3, 3, 3), num_frames=14)
  assert adapt.TARGET_RULES["videopose"] == lora.CONVOLUTIONS
  assert set(lora.targets(base, lora.CONVOLUTIONS)) == {"expand_conv", "conv_0", "conv_1", "conv_2", "conv_3"}


def test_adaptation_moves_the_adapter_and_neither_base_nor_statistics():
  model, base = tiny(num_frames=3, filter_widths=(3, 1))
  config, devices = adapt.AdaptConfig(rank=2, target_rule=lora.CONVOLUTIONS, learning_rate=1e-2), jax.local_devices()[:2]
  static = dict(model=model, config=config, rig=None, tx=adapt.make_optimizer(config))
  step = parallel.make_parallel_step(functools.partial(adapt.adapt_step, **static), devices)
  state, frozen, key = parallel.replicate((adapt.init_state(jax.random.key(0), base, config), base, jax.random.key(7)), devices)
  for _ in range(2):
    state, metrics = step(state, frozen, parallel.shard(batch(), 2), key)
  assert checkpoint.digest(jax.device_get(frozen)) == checkpoint.digest(base) and metrics["teacher_spread_mm"] > 0
  assert all(jnp.abs(entry["b"]).max() > 0 for entry in state.adapter["lora"].values())


def test_the_adaptation_state_holds_neither_base_nor_statistics():
  _, base = tiny()
  state = adapt.init_state(jax.random.key(0), base, adapt.AdaptConfig(rank=2, target_rule=lora.CONVOLUTIONS))
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert sum(leaf.size for leaf in moments) == 2 * counting.count(state.adapter)
  assert set(state.adapter["lora"]) == {"expand_conv", "conv_0", "conv_1"}


def test_a_plain_lifters_hypotheses_agree():
  model, base = tiny(diffusion=False)
  steps = process.ddim_steps(process.cosine_schedule(1000), 2)
  keys, keypoints = jax.random.split(jax.random.key(0), 2), inputs()[0]
  poses = jax.jit(lambda base: sampler.propose(keys, adapt.make_denoiser(model, base, None, 1.0), keypoints, steps, 3))(base)
  np.testing.assert_allclose(poses, jnp.stack([jnp.clip(apply(model, base, keypoints), -1.1, 1.1)] * 3), atol=1e-5)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"filter_widths": [3, 4]}, "filter widths 3,4 are not all odd"),
        ({"filter_widths": []}, "filter widths of no number"),
        ({"channels": 15}, "channels 15 are not an even number"),
        ({"dropout": 1.0}, "dropout 1.0 is not a rate"),
        ({"filter_widths": [3, 3, 3], "num_frames": 9}, "3,3,3 look 13 frames away, a clip has 9: .* 14 frames or more"),
        ({"filter_widths": [3, 3], "num_frames": 8, "causal": True}, "look 8 frames away, a clip has 8"),
        ({"denoiser": "transformer"}, "denoiser 'transformer' is unknown; choose one of mixste, videopose"),
        ({"depth": 3}, "model config has depth, which videopose does not; it has .*channels"),
    ],
)
def test_a_model_that_cannot_be_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    make_model({"denoiser": "videopose", **fields})


@pytest.mark.parametrize(
    "form, num_frames, message", [("valid", 8, "give 9 or more"), ("strided", 10, "a multiple of 9"), ("dense", 9, "is unknown")]
)
def test_frames_that_a_form_cannot_take_are_refused(form, num_frames, message):
  model, variables = tiny()
  with pytest.raises(ValueError, match=message):
    model.apply(variables, *inputs(num_frames), form=form)


PRESETS = f"{ROOT}/experiments/presets"
VIDEOPOSE = ("--denoiser=videopose", "--channels=16", "--filter_widths=3")


def check_evaluation(base, data: str) -> None:
  """A plain base is scored alike with one hypothesis and with several, which all agree."""
  dataset = ("--dataset=synthetic_motion/source_gt", "--split=test[:2%]", "--hypotheses=2", "--sampling_steps=2")
  run_well("evaluate", data, f"--run={base}", *dataset)
  row = json.loads((base / "evaluations.jsonl").read_text())
  np.testing.assert_allclose(row["mpjpe_mm"], json.loads((base / "metrics.json").read_text())["base"]["mpjpe_mm"], rtol=1e-4)


@pytest.mark.parametrize("plain", [False, pytest.param(True, marks=pytest.mark.long)])
def test_videopose_trains_and_adapts_through_the_command_line(plain, data, tmp_path):
  run_well("adapt", f"--flagfile={PRESETS}/smoke.flags", data, f"--workdir={tmp_path}", *VIDEOPOSE, f"--diffusion={not plain}")
  read = lambda name: json.loads((tmp_path / name).read_text())
  model, results = read("base/config.json")["model"], read("metrics.json")
  assert model["denoiser"] == "videopose" and model.get("diffusion", True) != plain
  assert read("config.json")["adapt"]["target_rule"] == lora.CONVOLUTIONS
  assert results["adapted"]["mpjpe_mm"] != results["source_only"]["mpjpe_mm"]
  if plain:
    check_evaluation(tmp_path / "base", data)


def test_a_plain_mixste_trains_and_evaluates_through_the_command_line(data, tmp_path):
  run_well("pretrain", f"--flagfile={PRESETS}/smoke_base.flags", data, f"--workdir={tmp_path}", "--diffusion=false")
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["model"]["diffusion"] is False and "denoiser" not in config["model"]
  check_evaluation(tmp_path, data)


def test_flags_of_a_network_that_cannot_be_end_in_one_line(tmp_path):
  line = error_of("pretrain", f"--workdir={tmp_path}/run", "--denoiser=videopose", "--filter_widths=3,x")
  assert "--filter_widths=3,x are not whole numbers" in line and not (tmp_path / "run").exists()
