"""Laws of the diffusion process and the sampler."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.diffusion import process, sampler
from posynda_jax.geometry import skeleton
from tests import scene

SCHEDULE = process.cosine_schedule(1000)


def test_noise_and_x0_invert_each_other():
  x_0, noise = scene.poses((4, 3)) * 0.1, np.random.default_rng(0).normal(size=(4, 3, 17, 3))
  t = jnp.array([0, 10, 500, 900])
  x_t = process.q_sample(SCHEDULE, x_0, t, noise)
  np.testing.assert_allclose(process.noise_from_x0(SCHEDULE, x_t, t, x_0)[1:], noise[1:], atol=1e-3)
  np.testing.assert_allclose(process.x0_from_noise(SCHEDULE, x_t, t, jnp.asarray(noise)), x_0, atol=1e-3)


def test_last_step_is_all_but_noise_and_first_all_but_clean():
  assert SCHEDULE.alpha_bar[-1] < 1e-6 and SCHEDULE.alpha_bar[0] > 0.9999
  assert (np.diff(SCHEDULE.alpha_bar) < 0).all() and SCHEDULE.betas.max() <= 0.999


@pytest.mark.parametrize("num_steps, num_iterations", [(1000, 1), (1000, 7), (1000, 26), (100, 100), (50, 3)])
def test_visited_steps_fall_from_the_last_to_minus_one(num_steps, num_iterations):
  times = process.ddim_times(num_steps, num_iterations)
  assert times[0] == num_steps - 1 and times[-1] == -1 and len(times) == num_iterations + 1
  assert (np.diff(times) < 0).all()


def test_too_many_sampling_iterations_are_refused():
  with pytest.raises(ValueError, match="1 to 100"):
    process.ddim_times(100, 101)


@pytest.mark.parametrize("num_iterations", [1, 2, 5, 20])
def test_ddim_coefficients_keep_the_variance(num_iterations):
  """What the step keeps of the noise, plus what it adds, is the noise level of the next step."""
  steps = process.ddim_steps(SCHEDULE, num_iterations)
  np.testing.assert_allclose(steps.a**2 + steps.c**2 + steps.sigma**2, 1, atol=1e-6)
  assert steps.a[-1] == 1 and steps.c[-1] == 0 and steps.sigma[-1] == 0
  assert np.isfinite(steps.c).all()


@pytest.mark.parametrize("num_iterations", [1, 2, 5])
def test_a_denoiser_that_knows_the_answer_makes_ddim_return_it(num_iterations):
  truth = skeleton.root_centre(scene.poses((2, 3)))
  steps = process.ddim_steps(SCHEDULE, num_iterations)
  keys = jax.random.split(jax.random.key(0), 2)
  poses = sampler.propose(keys, lambda keypoints, noisy, t: jnp.asarray(truth), truth[..., :2], steps, 4)
  assert poses.shape == (4, 2, 3, 17, 3)
  np.testing.assert_allclose(poses, np.broadcast_to(truth, poses.shape), atol=1e-6)


def test_vmapped_hypotheses_equal_a_loop_over_them():
  model, params = scene.tiny_model()
  denoise = lambda *inputs: model.apply(params, *inputs)
  keypoints = jnp.asarray(scene.poses((2, 3))[..., :2])
  steps = process.ddim_steps(SCHEDULE, 3)
  keys = jax.random.split(jax.random.key(0), 2)
  together = sampler.propose(keys, denoise, keypoints, steps, 3)
  for h in range(3):
    noise = [sampler.clip_noise(jax.random.fold_in(key, h), (3, 17, 3), 3) for key in keys]
    init, step_noise = jnp.stack([n[0] for n in noise]), jnp.stack([n[1] for n in noise], 1)
    alone = sampler.sample(denoise, keypoints, init, steps, step_noise)["pred_x0"][-1]
    np.testing.assert_allclose(together[h], alone, atol=1e-5)
  assert together.std(0).max() > 0


def test_hypotheses_in_chunks_are_the_same_and_take_the_memory_of_a_chunk():
  model, params = scene.tiny_model(9)
  keypoints, keys = jnp.zeros((4, 9, 17, 2)), jax.random.split(jax.random.key(1), 4)
  steps = process.ddim_steps(process.cosine_schedule(1000), 2)

  def compiled(num_hypotheses, chunk):
    propose = lambda keys: sampler.propose(keys, functools.partial(model.apply, params), keypoints, steps, num_hypotheses, chunk)
    return jax.jit(propose).lower(keys).compile()

  whole, pairs, uneven = compiled(8, 0), compiled(8, 2), compiled(8, 3)
  np.testing.assert_allclose(pairs(keys), whole(keys), atol=1e-5)  # other batches, other rounding
  np.testing.assert_allclose(uneven(keys), whole(keys), atol=1e-5)
  memory = lambda program: program.memory_analysis().temp_size_in_bytes
  many = memory(compiled(32, 2))
  answers = 4 * 4 * 9 * 17 * 3  # bytes of one hypothesis of all clips
  assert many - memory(pairs) < 4 * 24 * answers < memory(whole) - memory(pairs)


def test_a_clips_hypotheses_do_not_depend_on_its_batch():
  model, params = scene.tiny_model()
  denoise = lambda *inputs: model.apply(params, *inputs)
  keypoints = jnp.asarray(scene.poses((4, 3))[..., :2])
  steps = process.ddim_steps(SCHEDULE, 2)
  keys = jax.random.split(jax.random.key(0), 4)
  whole = sampler.propose(keys, denoise, keypoints, steps, 2)
  part = sampler.propose(keys[2:], denoise, keypoints[2:], steps, 2)
  np.testing.assert_allclose(whole[:, 2:], part, atol=1e-5)


def test_flip_averaged_denoiser_commutes_with_the_flip():
  model, params = scene.tiny_model()
  denoise = sampler.with_flip(lambda *inputs: model.apply(params, *inputs))
  keypoints, noisy = jnp.asarray(scene.poses((2, 3))[..., :2]), jnp.asarray(scene.poses((2, 3), seed=1))
  t = jnp.array([3, 900])
  mirrored = skeleton.flip(denoise(skeleton.flip(keypoints), skeleton.flip(noisy), t))
  np.testing.assert_allclose(mirrored, denoise(keypoints, noisy, t), atol=1e-5)
