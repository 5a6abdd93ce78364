"""Laws of the diffusion process, the sampler, and the choice among hypotheses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.geometry import camera, skeleton
from tests import scene
from tests.tolerance import assert_close

SCHEDULE = process.cosine_schedule(1000)


@functools.cache
def tiny():
  """A small denoiser, compiled once for all tests."""
  model, params = scene.tiny_model()
  return jax.jit(functools.partial(model.apply, params))


def test_a_ddim_steps_implied_noise_is_the_noise_of_q_sample():
  x_0, noise = scene.poses((4, 3)) * 0.1, np.random.default_rng(0).normal(size=(4, 3, 17, 3))
  steps = process.ddim_steps(SCHEDULE, 4)
  for i, t in enumerate(steps.t):
    x_t = process.q_sample(SCHEDULE, x_0, jnp.full(4, t), noise)
    _, implied = sampler.ddim_step(x_t, x_0, jax.tree.map(lambda values: values[i], steps), jnp.zeros_like(x_t))
    np.testing.assert_allclose(implied, noise, atol=1e-3)


def test_the_last_step_is_almost_pure_noise_and_the_first_almost_clean():
  assert SCHEDULE.alpha_bar[-1] < 1e-6 and SCHEDULE.alpha_bar[0] > 0.9999
  assert (np.diff(SCHEDULE.alpha_bar) < 0).all() and SCHEDULE.betas.max() <= 0.999


@pytest.mark.parametrize("num_steps, num_iterations", [(1000, 1), (1000, 7), (1000, 26), (100, 100), (50, 3)])
def test_visited_steps_fall_from_the_last_to_minus_one(num_steps, num_iterations):
  times = process.ddim_times(num_steps, num_iterations)
  assert times[0] == num_steps - 1 and times[-1] == -1 and len(times) == num_iterations + 1
  assert (np.diff(times) < 0).all()
  with pytest.raises(ValueError, match=f"1 to {num_steps}"):
    process.ddim_times(num_steps, num_steps + 1)


@pytest.mark.parametrize("num_iterations", [1, 2, 5, 20])
def test_the_noise_a_ddim_step_keeps_and_adds_is_the_noise_level_of_the_next_step(num_iterations):
  steps = process.ddim_steps(SCHEDULE, num_iterations)
  assert_close(steps.a**2 + steps.c**2 + steps.sigma**2, np.ones(num_iterations))
  assert steps.a[-1] == 1 and steps.c[-1] == 0 and steps.sigma[-1] == 0


@pytest.mark.parametrize("num_iterations", [1, 2, 5])
def test_ddim_returns_the_answer_of_a_denoiser_that_always_gives_it(num_iterations):
  truth = skeleton.root_centre(scene.poses((2, 3)))
  steps = process.ddim_steps(SCHEDULE, num_iterations)
  keys = jax.random.split(jax.random.key(0), 2)
  poses = sampler.propose(keys, lambda keypoints, noisy, t: jnp.asarray(truth), truth[..., :2], steps, 4)
  np.testing.assert_array_equal(poses, np.broadcast_to(truth, (4, 2, 3, 17, 3)))


def test_vmapped_hypotheses_equal_a_loop_over_them_and_do_not_depend_on_the_batch():
  keypoints, keys = jnp.asarray(scene.poses((4, 3))[..., :2]), jax.random.split(jax.random.key(0), 4)
  steps = process.ddim_steps(SCHEDULE, 3)
  together = sampler.propose(keys, tiny(), keypoints, steps, 3)
  assert together.std(0).max() > 0
  assert_close(sampler.propose(keys[2:], tiny(), keypoints[2:], steps, 3), together[:, 2:])
  for h in range(3):
    noise = [sampler.clip_noise(jax.random.fold_in(key, h), (3, 17, 3), steps) for key in keys]
    init, step_noise = jnp.stack([n[0] for n in noise]), jnp.stack([n[1] for n in noise], 1)
    assert_close(sampler.sample(tiny(), keypoints, init, steps, step_noise)["pred_x0"][-1], together[h])


def test_clips_and_hypotheses_take_turns_in_the_mirror_image():
  keypoints, keys = jnp.asarray(scene.poses((2, 3))[..., :2]), jax.random.split(jax.random.key(0), 2)
  steps = process.ddim_steps(SCHEDULE, 2)
  both = sampler.propose(keys, tiny(), keypoints, steps, 4, mirrored=jnp.array([0, 1]))
  straight = sampler.propose(keys, tiny(), keypoints, steps, 4)
  in_mirror = skeleton.flip(sampler.propose(keys, tiny(), skeleton.flip(keypoints), steps, 4))
  assert np.abs(straight - in_mirror).max() > 1e-3
  for clip, first in enumerate((straight, in_mirror)):
    second = in_mirror if clip == 0 else straight
    assert_close(both[::2, clip], first[::2, clip])
    assert_close(both[1::2, clip], second[1::2, clip])


def test_noise_of_another_deviation_is_unit_noise_on_poses_in_that_unit(monkeypatch):
  """The process in metres with noise of 0.25 m is D3DP's, with unit noise, on poses / 0.25 m and a clamp / 0.25 m."""
  keypoints, keys = jnp.zeros((2, 3, 17, 2)), jax.random.split(jax.random.key(0), 2)
  target = jnp.asarray(0.1 * scene.poses((2, 3)))

  def propose(std, unit):
    steps = process.ddim_steps(process.Diffusion(1000, std).schedule, 3)
    return sampler.propose(keys, lambda _, noisy, t: 0.2 * noisy + target / unit, keypoints, steps, 2)

  in_metres = propose(0.25, 1.0)
  assert np.abs(np.asarray(in_metres)).max() < process.CLAMP and np.asarray(in_metres).std(0).max() > 1e-3
  monkeypatch.setattr(process, "CLAMP", process.CLAMP / 0.25)
  assert_close(in_metres, 0.25 * propose(1.0, 0.25))


def test_hypotheses_in_chunks_are_the_same_and_take_the_memory_of_a_chunk():
  keypoints, keys = jnp.zeros((4, 9, 17, 2)), jax.random.split(jax.random.key(1), 4)
  (model, params), steps = scene.tiny_model(9), process.ddim_steps(SCHEDULE, 2)
  denoise = functools.partial(model.apply, params)

  @functools.cache
  def compiled(num_hypotheses, chunk):
    propose = jax.jit(lambda keys: sampler.propose(keys, denoise, keypoints, steps, num_hypotheses, chunk))
    return propose.lower(keys).compile()

  def memory(*args):
    return compiled(*args).memory_analysis().temp_size_in_bytes

  for chunk in (2, 3):
    assert_close(compiled(8, chunk)(keys), compiled(8, 0)(keys))
  hypothesis_bytes = 4 * keypoints.size // 2 * 3
  assert memory(32, 2) - memory(8, 2) < 24 * 4 * hypothesis_bytes < memory(8, 0) - memory(8, 2)


def test_a_flip_averaged_denoiser_commutes_with_the_flip():
  denoise = sampler.with_flip(tiny())
  keypoints, noisy = jnp.asarray(scene.poses((2, 3))[..., :2]), jnp.asarray(scene.poses((2, 3), seed=1))
  t = jnp.array([3, 900])
  mirrored = skeleton.flip(denoise(skeleton.flip(keypoints), skeleton.flip(noisy), t))
  assert_close(mirrored, denoise(keypoints, noisy, t))


def test_the_true_pose_is_chosen_at_every_granularity():
  absolute, intrinsics = scene.poses((4, 3), 5), np.tile(scene.INTRINSICS, (4, 1))
  keypoints, confidence = camera.project(absolute, intrinsics), np.ones((4, 3, 17), np.float32)
  truth = skeleton.root_centre(absolute)
  wrong = truth + 0.2 * np.random.default_rng(0).normal(size=(2,) + truth.shape)
  poses = jnp.stack([wrong[0], truth, wrong[1]])
  roots = hypotheses.solve_roots(poses, keypoints, intrinsics, confidence)
  errors = hypotheses.reprojection_error(poses, roots, keypoints, intrinsics)
  for by in ("sequence", "frame"):
    index = hypotheses.choose(errors, confidence, by)
    assert (index == 1).all()
    np.testing.assert_array_equal(hypotheses.pick(poses, index), truth)
  true_root = jnp.asarray(absolute)[None, ..., 0, :]  # a wrong root can favour a wrong joint
  errors = hypotheses.reprojection_error(poses, true_root, keypoints, intrinsics)
  assert (hypotheses.choose(errors, confidence, "joint")[..., 1:] == 1).mean() > 0.95


@pytest.mark.parametrize("confidence, chosen", [([1.0, 1.0], 1), ([1.0, 0.0], 0)])
def test_a_joint_without_confidence_has_no_influence(confidence, chosen):
  errors = jnp.array([[0.1, 9.0], [0.2, 0.0]]).reshape(2, 1, 1, 2)
  assert (hypotheses.choose(errors, jnp.array(confidence).reshape(1, 1, 2), "frame") == chosen).all()
