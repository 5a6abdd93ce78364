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
RNG = np.random.default_rng(0)
JOINTS, INSIDE, OUTSIDE = (0.3 * RNG.normal(size=shape).astype(np.float32) for shape in ((17, 17), (5, 64), (64, 3)))
POSES, NOISE = scene.poses((4, 3)), RNG.normal(size=(4, 3, 17, 3))
KEYS = jax.random.split(jax.random.key(0), 4)


def denoise(keypoints, noisy, t):
  """A denoiser that mixes joints, frames and coordinates, and compiles fast."""
  x = JOINTS @ jnp.tanh(jnp.concatenate([keypoints, noisy], -1) @ INSIDE)
  return (x + x.mean(1, keepdims=True)) @ OUTSIDE / 9 + t[:, None, None, None] / 2000


@pytest.mark.parametrize("num_steps, num_iterations", [(1000, 1), (1000, 7), (1000, 26), (100, 100), (50, 3)])
def test_visited_steps_fall_from_the_last_to_minus_one_and_each_has_its_noise_level(num_steps, num_iterations):
  schedule = process.cosine_schedule(num_steps)
  assert (np.diff(schedule.alpha_bar) < 0).all() and schedule.alpha_bar[-1] < 1e-5 and schedule.alpha_bar[0] > 0.99
  times = process.ddim_times(num_steps, num_iterations)
  assert times[0] == num_steps - 1 and times[-1] == -1 and len(times) == num_iterations + 1
  assert (np.diff(times) < 0).all()
  with pytest.raises(ValueError, match=f"1 to {num_steps}"):
    process.ddim_times(num_steps, num_steps + 1)
  steps = process.ddim_steps(schedule, num_iterations)
  assert_close(steps.a**2 + steps.c**2 + steps.sigma**2, np.ones(num_iterations))
  assert steps.a[-1] == 1 and steps.c[-1] == 0 and steps.sigma[-1] == 0


def test_a_ddim_steps_implied_noise_is_the_noise_of_q_sample():
  x_0, steps = 0.1 * POSES, process.ddim_steps(SCHEDULE, 4)
  for i, t in enumerate(steps.t):
    x_t = process.q_sample(SCHEDULE, x_0, np.full(4, t), NOISE)
    _, implied = sampler.ddim_step(x_t, x_0, jax.tree.map(lambda values: values[i], steps), np.zeros(x_0.shape))
    np.testing.assert_allclose(implied, NOISE, atol=1e-3)


def test_ddim_returns_the_answer_of_a_denoiser_that_always_gives_it():
  def propose(keys, num_iterations):
    steps = process.ddim_steps(SCHEDULE, num_iterations)
    return sampler.propose(keys, lambda *_: jnp.asarray(POSES / 9), POSES[..., :2], steps, 4)

  for poses in jax.jit(lambda keys: [propose(keys, num_iterations) for num_iterations in (1, 2, 5)])(KEYS):
    np.testing.assert_array_equal(poses, np.broadcast_to(POSES / 9, (4, *POSES.shape)))


def test_vmapped_hypotheses_equal_a_loop_over_them_and_do_not_depend_on_the_batch():
  keypoints, steps = POSES[..., :2], process.ddim_steps(SCHEDULE, 3)

  @jax.jit
  def alone(keys, h):
    noise = [sampler.clip_noise(jax.random.fold_in(key, h), (3, 17, 3), steps) for key in keys]
    init, step_noise = jnp.stack([n[0] for n in noise]), jnp.stack([n[1] for n in noise], 1)
    return sampler.sample(denoise, keypoints[2:], init, steps, step_noise)["pred_x0"][-1]

  together = jax.jit(lambda keys: sampler.propose(keys, denoise, keypoints, steps, 3))(KEYS)
  assert together.std(0).max() > 0
  assert_close(jnp.stack([alone(KEYS[2:], h) for h in range(3)]), together[:, 2:])


def test_hypotheses_may_have_keypoints_of_their_own():
  steps, keypoints = process.ddim_steps(SCHEDULE, 2), jnp.asarray(POSES[..., :2])
  each = jnp.stack([keypoints, keypoints + 0.1, 2 * keypoints])

  @functools.partial(jax.jit, static_argnums=1)
  def propose(keypoints, chunk=0):
    return sampler.propose(KEYS, denoise, keypoints, steps, 3, chunk)

  own = propose(each)
  for h, shared in enumerate(each):
    assert_close(own[h], propose(shared)[h])
  assert_close(propose(each, 2), own)


def test_noise_of_another_deviation_is_unit_noise_on_poses_in_that_unit(monkeypatch):
  """The process in metres with noise of 0.25 m is D3DP's, with unit noise, on poses / 0.25 m and a clamp / 0.25 m."""

  def propose(std, unit):
    steps = process.ddim_steps(process.Diffusion(1000, std).schedule, 3)

    def denoise(_, noisy, t):
      return 0.2 * noisy + 0.1 * POSES / unit

    return np.asarray(jax.jit(lambda keys: sampler.propose(keys, denoise, POSES[..., :2], steps, 2))(KEYS))

  in_metres = propose(0.25, 1.0)
  assert np.abs(in_metres).max() < process.CLAMP and in_metres.std(0).max() > 1e-3
  monkeypatch.setattr(process, "CLAMP", process.CLAMP / 0.25)
  assert_close(in_metres, 0.25 * propose(1.0, 0.25))


def test_hypotheses_in_chunks_are_the_same_and_take_the_memory_of_a_chunk(monkeypatch):
  def clip_noise(key, shape, steps):  # threefry takes seconds to compile
    wave = jnp.sin(jax.random.key_data(key).sum() % 99 + jnp.arange(np.prod(shape)).reshape(shape))
    return wave, wave[None]

  monkeypatch.setattr(sampler, "clip_noise", clip_noise)
  steps = process.ddim_steps(SCHEDULE, 2)

  @functools.cache
  def compiled(num_hypotheses, chunk):
    propose = jax.jit(lambda keys: sampler.propose(keys, denoise, POSES[..., :2], steps, num_hypotheses, chunk))
    return propose.lower(KEYS).compile()

  def memory(*args):
    return compiled(*args).memory_analysis().temp_size_in_bytes

  assert_close(compiled(8, 3)(KEYS), compiled(8, 0)(KEYS))
  assert memory(32, 3) - memory(8, 3) < 24 * 4 * POSES.nbytes < 5 * (memory(8, 0) - memory(8, 3))


def test_a_flip_averaged_denoiser_commutes_with_the_flip():
  flipped, t = jax.jit(sampler.with_flip(denoise)), np.full(4, 900)
  mirrored = skeleton.flip(flipped(skeleton.flip(POSES[..., :2]), skeleton.flip(NOISE), t))
  assert_close(mirrored, flipped(POSES[..., :2], NOISE, t))
  assert np.abs(mirrored - denoise(POSES[..., :2], NOISE, t)).max() > 1e-3


def test_the_true_pose_is_chosen_at_every_granularity():
  intrinsics, confidence = np.tile(scene.INTRINSICS, (4, 1)), np.ones((4, 3, 17), np.float32)
  truth = skeleton.root_centre(POSES)
  wrong = truth + 0.2 * RNG.normal(size=(2,) + truth.shape)
  poses = np.stack([wrong[0], truth, wrong[1]])

  @jax.jit
  def errors():
    """With the roots that fit best, and with the true root, because a wrong root can favour a wrong joint."""
    keypoints, true_root = camera.project(POSES, intrinsics), POSES[None, ..., 0, :]
    solved = hypotheses.solve_roots(poses, keypoints, intrinsics, confidence)
    return [hypotheses.reprojection_error(poses, root, keypoints, intrinsics) for root in (solved, true_root)]

  solved, exact = errors()
  for by in ("sequence", "frame"):
    index = hypotheses.choose(solved, confidence, by)
    assert (index == 1).all()
    np.testing.assert_array_equal(hypotheses.pick(poses, index), np.float32(truth))
  assert (hypotheses.choose(exact, confidence, "joint")[..., 1:] == 1).mean() > 0.95
  with pytest.raises(ValueError, match="selection 'video' is unknown; choose one of sequence, frame, joint"):
    hypotheses.choose(solved, confidence, "video")


@pytest.mark.parametrize("confidence, chosen", [([1.0, 1.0], 1), ([1.0, 0.0], 0)])
def test_a_joint_without_confidence_has_no_influence(confidence, chosen):
  errors = np.array([[0.1, 9.0], [0.2, 0.0]]).reshape(2, 1, 1, 2)
  assert (hypotheses.choose(errors, np.array(confidence).reshape(1, 1, 2), "frame") == chosen).all()
