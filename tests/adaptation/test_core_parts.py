"""The parts of geometry, peft and diffusion inside pretraining, adaptation, scoring and the command line."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.adaptation import adapt, pretrain, synthesis, tensors_file
from posynda_jax.data import pipeline
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import camera, skeleton, virtual_camera
from posynda_jax.peft import counting, deltas, lora
from posynda_jax.runtime import checkpoint, parallel
from tests import ROOT, scene
from tests.adaptation.test_adaptation import batch
from tests.diffusion.test_videopose import KEYPOINTS, POSES, tiny
from tests.experiments.test_experiments import error_of, run_well
from tests.geometry.test_virtual_camera import VIEW, clips
from tests.tolerance import assert_close

PRESETS = f"{ROOT}/experiments/presets"


def test_poses_lifted_through_a_virtual_camera_are_in_the_real_cameras_axes():
  clip = clips()
  truth = skeleton.root_centre(virtual_camera.render_clip(clip, VIEW)[0]["poses"])
  config = evaluate.EvaluateConfig(view=tuple(VIEW.tolist()))
  poses, own = (
      evaluate.lift(lambda keypoints, noisy, t: truth, clip, jax.random.key(0), c)
      for c in (config, evaluate.EvaluateConfig())
  )
  assert_close(poses[0], skeleton.root_centre(clip["poses"]))
  assert np.abs(own[0] - poses[0]).max() > 0.05
  assert "virtual camera" in evaluate.protocol("a/b_gt", "test", 15.0, config)["view"]


@pytest.mark.parametrize("view", [(), tuple(VIEW.tolist())])
def test_the_bones_of_unlabelled_people_are_measured_in_their_2d(view):
  """The lifted poses have the right directions and the source's bones. The 2D is of people with other bones."""
  rng = np.random.default_rng(0)
  ratio = np.r_[0, rng.uniform(0.7, 1.3, 16)]
  ratio[[2, 3, 5, 6]] = 1  # legs of the source's length
  ratio[list(skeleton.LEFT)] = ratio[list(skeleton.RIGHT)]
  theirs = synthesis.resize(jnp.asarray(scene.poses((64, 9), 5)), jnp.asarray(ratio))
  own = np.array(skeleton.bone_lengths(theirs)).mean((0, 1)) / ratio[1:]
  keypoints = np.float32(camera.project(theirs, np.tile(scene.INTRINSICS, (64, 1))))
  ones = {"confidence": np.ones((9, 17), np.float32), "valid": np.ones(9, np.float32)}
  tracks = [pipeline.Track({"keypoints": x, "intrinsics": scene.INTRINSICS} | ones, {}) for x in keypoints]
  source = pipeline.ClipSource(tracks, 9)
  clip = source.take(range(64)) | {"poses": theirs}
  rendered = virtual_camera.render_clip(clip, view)[0] if view else clip
  lifted = skeleton.root_centre(synthesis.resize(rendered["poses"], jnp.asarray(1 / np.maximum(ratio, 0.1))))

  def denoise(keypoints, noisy, t):
    which = ((keypoints[:, None] - rendered["keypoints"][None]) ** 2).sum((2, 3, 4)).argmin(1)
    return lifted[which]

  config = evaluate.EvaluateConfig(view=view, batch_size=8)
  found = evaluate.find_body(lambda weights: denoise, None, source, tuple(own.tolist()), config)
  np.testing.assert_allclose(np.array(found) / own, ratio[1:], rtol=0.06)


def adapted(model, base, config, num_devices: int = 1):
  """State, frozen base and metrics after two steps."""
  devices = jax.local_devices()[:num_devices]
  static = dict(model=model, config=config, rig=None, tx=adapt.make_optimizer(config))
  step = parallel.make_parallel_step(functools.partial(adapt.adapt_step, **static), devices)
  state = adapt.init_state(jax.random.key(0), base, config)
  state, frozen, key = parallel.replicate((state, base, jax.random.key(1)), devices)
  for _ in range(2):
    state, metrics = step(state, frozen, parallel.shard(batch(), num_devices), key)
  return state, frozen, metrics


@pytest.mark.parametrize("rule", deltas.RULES)
def test_adaptation_by_deltas_moves_only_what_the_rule_chooses_and_survives_a_file(rule, tmp_path):
  model, base = scene.tiny_model(3)
  state, _, _ = adapted(model, base, adapt.AdaptConfig(tune=rule, bias=False, learning_rate=1e-2))
  assert "lora" not in state.adapter and set(state.adapter["delta"]) == set(deltas.init(base, rule))
  assert not np.any(state.adapter["bias"])
  tuned = flatten_dict(adapt.merge(base, state.adapter, 1.0)["params"], sep="/")
  moved = {path for path, leaf in flatten_dict(base["params"], sep="/").items() if (leaf != tuned[path]).any()}
  assert moved and (moved == set(state.adapter["delta"]) or rule == "full")
  tensors_file.save_adapter(tmp_path / "a.safetensors", jax.device_get(state.adapter), "b" * 16, {"tune": rule})
  found, settings = tensors_file.load_adapter(tmp_path / "a.safetensors", "b" * 16)
  jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(state.adapter))
  assert settings == {"tune": rule}


def test_adapting_videopose_moves_neither_base_nor_statistics_and_its_state_holds_neither():
  model, base = tiny(num_frames=3, filter_widths=(3, 1))
  config = adapt.AdaptConfig(rank=2, target_rule=adapt.TARGET_RULES["videopose"], learning_rate=1e-2)
  state, frozen, metrics = adapted(model, base, config, 2)
  assert checkpoint.digest(jax.device_get(frozen)) == checkpoint.digest(base) and metrics["teacher_spread_mm"] > 0
  assert set(state.adapter["lora"]) == set(lora.targets(base, lora.CONVOLUTIONS))
  assert all(jnp.abs(entry["b"]).max() > 0 for entry in state.adapter["lora"].values())
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert sum(leaf.size for leaf in moments) == 2 * counting.count(state.adapter)


def test_pretraining_videopose_averages_its_statistics_and_optimises_none():
  (model, start), sgd, devices = tiny(), optax.sgd(0.1, momentum=0.9), jax.local_devices()[:2]
  static = dict(model=model, config=pretrain.PretrainConfig(loss="mse", ema=0.5), rig=None, tx=sgd)
  step = parallel.make_parallel_step(functools.partial(pretrain.pretrain_step, **static), devices)
  state = pretrain.PretrainState(np.int32(0), start, start, sgd.init({"params": start["params"]}))
  state, key = parallel.replicate((state, jax.random.key(1)), devices)
  source = {"keypoints": KEYPOINTS, "poses": POSES, "valid": np.ones(POSES.shape[:2], np.float32)}
  state, _ = step(state, (), parallel.shard({"source": source}, 2), key)
  assert_close(state.ema, jax.tree.map(lambda first, last: (first + last) / 2, start, state.params), updates=1)
  state = jax.eval_shape(lambda: pretrain.init_state(jax.random.key(0), model, pretrain.PretrainConfig()))
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert sum(leaf.size for leaf in moments) == 2 * counting.count(state.params["params"])


def check_evaluation(base, data: str) -> None:
  """A plain base has the same score with one hypothesis and with several, which all agree."""
  dataset = ("--dataset=synthetic_motion/source_gt", "--split=test[:2%]", "--hypotheses=2", "--sampling_steps=2")
  run_well("evaluate", data, f"--run={base}", *dataset)
  row, metrics = (json.loads((base / name).read_text()) for name in ("evaluations.jsonl", "metrics.json"))
  np.testing.assert_allclose(row["mpjpe_mm"], metrics["base"]["mpjpe_mm"], rtol=1e-4)


@pytest.mark.parametrize("plain", [False, pytest.param(True, marks=pytest.mark.long)])
def test_videopose_trains_and_adapts_through_the_command_line(plain, data, tmp_path):
  flags = ("--denoiser=videopose", "--channels=16", "--filter_widths=3", f"--diffusion={not plain}")
  run_well("adapt", f"--flagfile={PRESETS}/smoke.flags", data, f"--workdir={tmp_path}", *flags)
  base, config, results = (
      json.loads((tmp_path / name).read_text()) for name in ("base/config.json", "config.json", "metrics.json")
  )
  assert base["model"]["denoiser"] == "videopose" and base["model"].get("diffusion", True) != plain
  assert config["adapt"]["target_rule"] == lora.CONVOLUTIONS
  assert results["adapted"]["mpjpe_mm"] != results["source_only"]["mpjpe_mm"]
  if plain:
    check_evaluation(tmp_path / "base", data)


def test_a_plain_mixste_trains_and_evaluates_through_the_command_line(data, tmp_path):
  flags = (f"--flagfile={PRESETS}/smoke_base.flags", data, f"--workdir={tmp_path}", "--diffusion=false")
  run_well("pretrain", *flags)
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["model"]["diffusion"] is False and "denoiser" not in config["model"]
  check_evaluation(tmp_path, data)


def test_flags_of_an_invalid_network_end_in_one_line(tmp_path):
  line = error_of("pretrain", f"--workdir={tmp_path}/run", "--denoiser=videopose", "--filter_widths=3,x")
  assert "--filter_widths=3,x are not whole numbers" in line and not (tmp_path / "run").exists()
