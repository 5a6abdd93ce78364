"""Laws of pretraining and of the source clips that it renders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import pretraining
from posynda_jax.adaptation.sources import render_source
from posynda_jax.geometry import rigs
from posynda_jax.peft import counting
from posynda_jax.runtime import parallel
from tests import scene
from tests.adaptation.batches import FRAMES, gradients, target_clips
from tests.diffusion.test_videopose import inputs, tiny
from tests.tolerance import assert_close

MOTION = {
    "motion": np.stack([scene.motion(FRAMES, seed) for seed in range(8)]), "valid": np.ones((8, FRAMES), np.float32),
}


def pretrain(model, params, config, source: dict, num_devices: int, rig=None):
  """The state after one step from a copy of `params`, because the step takes its state's buffers."""
  params, ema = (jax.tree.map(np.array, params) for _ in range(2))
  devices = jax.local_devices()[:num_devices]
  one = functools.partial(pretraining.pretrain_step, model=model, config=config, rig=rig)
  opt_state = pretraining.make_optimizer(config).init({"params": params["params"]})
  state = pretraining.PretrainState(jnp.zeros((), jnp.int32), params, ema, opt_state)
  state, key = parallel.replicate((state, jax.random.key(1)), devices)
  data = parallel.shard({"source": source}, num_devices)
  return jax.device_get(parallel.make_parallel_step(one, devices)(state, (), data, key)[0])


EVERYTHING = {"turned": 0.5, "reproportioned": 0.5, "hidden": 0.5, "detected_share": 0.5}


def test_devices_that_share_a_batch_make_the_update_of_one():
  model, params = scene.tiny_model(FRAMES, inputs=5)
  config = pretraining.PretrainConfig(warmup_steps=0, **EVERYTHING)
  rig = rigs.get_rig("h36m_rig+wild_rig")
  one, four = (pretrain(model, params, config, MOTION, num, rig) for num in (1, 4))
  assert_close(gradients(four), gradients(one), updates=1)
  assert np.abs(one.params["params"]["head"]["kernel"] - params["params"]["head"]["kernel"]).max() > 1e-4


def test_pretraining_videopose_averages_its_statistics_and_optimises_none():
  model, start = tiny()
  config = pretraining.PretrainConfig(loss="mse", ema=0.5, warmup_steps=0)
  keypoints, poses, _ = inputs()
  source = target_clips(poses) | {"keypoints": keypoints, "poses": poses}
  state = pretrain(model, start, config, source, 2)
  assert_close(state.ema, jax.tree.map(lambda first, last: (first + last) / 2, start, state.params), updates=1)
  before, after = (jax.tree.leaves(params["batch_stats"]) for params in (start, state.params))
  assert max(np.abs(first - last).max() for first, last in zip(before, after, strict=True)) > 1e-3
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if np.ndim(leaf)]
  assert counting.count(moments) == 2 * counting.count(state.params["params"])


def test_the_detected_share_of_clips_has_a_detectors_errors_and_the_others_none():
  keys, rig = jax.random.split(jax.random.key(4), 200), rigs.get_rig("h36m_rig")
  motion = {"motion": jnp.broadcast_to(scene.motion(3), (200, 3, 17, 3)), "valid": jnp.ones((200, 3))}
  exact, mixed = (render_source(keys, motion, rig, share) for share in (0.0, 0.3))
  np.testing.assert_array_equal(exact["poses"], mixed["poses"])
  touched = (np.asarray(exact["keypoints"]) != np.asarray(mixed["keypoints"])).any((1, 2, 3))
  assert 0.2 < touched.mean() < 0.4
  error = np.linalg.norm(np.asarray(mixed["keypoints"] - exact["keypoints"]), axis=-1)[touched]
  assert 0.001 < np.median(error) < 0.02  # a hundredth of a person's box, in half widths of the image


def test_muon_trains_large_kernels_and_adamw_the_rest():
  """A convolution's kernel moves as the matrix of all its inputs, so all its singular values are alike."""
  shapes = {"dense": (32, 64), "convolution": (3, 32, 64), "narrow": (32, 3), "short": (1, 16, 64)}
  kernels = {name: {"kernel": jax.random.normal(jax.random.key(1), shape)} for name, shape in shapes.items()}
  kernels |= {"dense_bias": {"bias": jnp.ones(64)}, "place": {"positions": jnp.ones((1, 64, 64))}}
  numbers = pretraining.muon_kernels(kernels)
  found = {name: next(iter(its.values())) is not None for name, its in numbers.items()}
  assert {name for name, its in found.items() if its} == {"dense", "convolution"}
  config = pretraining.PretrainConfig(muon_rate=1.0, decay="exponential", weight_decay=0.0)
  optimizer = pretraining.make_optimizer(config)
  moved = jax.jit(lambda grads: optimizer.update(grads, optimizer.init(kernels), kernels)[0])(kernels)
  values = np.linalg.svd(np.reshape(moved["convolution"]["kernel"], (-1, 64)), compute_uv=False)
  assert 0.6 < values.min() / values.max()


@pytest.mark.parametrize("field, value", [("decay", "step"), ("loss", "l1")])
def test_unknown_settings_list_the_choices(field, value):
  with pytest.raises(ValueError, match=f"{field} '{value}' is unknown; choose one of"):
    pretraining.PretrainConfig(**{field: value})


def test_a_doubt_head_states_the_deviations_of_errors_across_and_along_depth_and_changes_no_pose():
  deviations = np.array([0.01, 0.01, 0.04], np.float32)
  error = jnp.asarray(np.random.default_rng(0).normal(size=(64, 9, 17, 3)) * deviations)
  stated = jnp.log(jnp.asarray(deviations[1:]))

  def loss(log_deviation):
    return pretraining.doubt_loss(error, jnp.broadcast_to(log_deviation, (64, 9, 17, 2))).mean()

  assert float(jnp.abs(jax.grad(loss)(stated)).max()) < 0.05  # least at the true deviations
  assert float(loss(stated)) < min(float(loss(stated + change)) for change in (0.3, -0.3))

  with_doubt, params = scene.tiny_model(FRAMES, doubt=True)
  without, config = with_doubt.clone(doubt=False), pretraining.PretrainConfig(warmup_steps=0, clip_norm=1e9)
  bare = {"params": {name: part for name, part in params["params"].items() if name != "doubt"}}
  learnt, plain = (pretrain(model, tree, config, MOTION, 1, rigs.get_rig("h36m_rig")).params["params"]
                   for model, tree in ((with_doubt, params), (without, bare)))
  assert np.abs(learnt["doubt"]["kernel"] - params["params"]["doubt"]["kernel"]).max() > 1e-4
  assert_close({name: part for name, part in learnt.items() if name != "doubt"}, plain, updates=1)
