"""From noise to poses: one DDIM step, the loop over K steps, and H hypotheses by vmap.

A sampler takes any denoiser of the contract below and does not depend on its network. Noise is an argument of every
function but `propose`, which draws it.
"""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from posynda_jax.diffusion.process import DdimSteps, clamp
from posynda_jax.geometry import skeleton


class Denoiser(Protocol):
  """Predicts the clean pose x_0 from 2D keypoints (i = 2, or 5 of a canonical camera), a noisy pose and the step t."""

  def __call__(
      self, keypoints: Float[Array, "b f j i"], noisy: Float[Array, "b f j 3"], t: Int[Array, "b"]
  ) -> Float[Array, "b f j 3"]: ...


def with_flip(denoise: Denoiser, left=skeleton.LEFT, right=skeleton.RIGHT) -> Denoiser:
  """A denoiser that averages its output with the mirrored output for mirrored input (D3DP)."""
  flip = functools.partial(skeleton.flip, left=left, right=right)
  return lambda x_2d, noisy, t: (denoise(x_2d, noisy, t) + flip(denoise(flip(x_2d), flip(noisy), t))) / 2


def predict(denoise: Denoiser, keypoints, x_t, t) -> Float[Array, "b f j 3"]:
  """x_0 as inference computes it: input and output clamped, one t for the whole batch. Channels that a denoiser
  gives beside the pose stay as they are.
  """
  answer = denoise(keypoints, clamp(x_t), jnp.full(x_t.shape[0], t, jnp.int32))
  return jnp.concatenate([clamp(answer[..., :3]), answer[..., 3:]], -1) if answer.shape[-1] > 3 else clamp(answer)


def ddim_step(x_t, x_0, step: DdimSteps, noise):
  """The state at the next visited step and the implied noise, from the state (not clamped) and the predicted x_0."""
  implied = (step.recip * x_t - x_0) / step.recipm1
  return step.a * x_0 + step.c * implied + step.sigma * noise, implied


def sample(
    denoise: Denoiser, keypoints: Float[Array, "b f j i"], init_noise: Float[Array, "b f j 3"], steps: DdimSteps,
    step_noise: Float[Array, "k-1 b f j 3"],
) -> dict[str, Float[Array, "k b f j 3"]]:
  """K DDIM steps from `init_noise`: x_t (before each step), pred_x0 and pred_noise, with K first."""
  step_noise = jnp.concatenate([step_noise, jnp.zeros_like(init_noise)[None]])  # the last step adds none

  def body(x_t, inputs):
    step, noise = inputs
    x_0 = predict(denoise, keypoints, x_t, step.t)
    x_next, implied = ddim_step(x_t, x_0[..., :3], step, noise)
    return x_next, {"x_t": x_t, "pred_x0": x_0, "pred_noise": implied}

  steps = jax.tree.map(jnp.asarray, steps)
  return jax.lax.scan(body, init_noise, (steps, step_noise))[1]


def clip_noise(key: Array, shape: tuple[int, ...], steps: DdimSteps) -> tuple[Array, Array]:
  """Start noise [f j 3] and step noise [k-1 f j 3] (m) of one hypothesis of one clip."""
  init_key, step_key = jax.random.split(key)
  std, num_steps = steps.noise_std, len(steps.t) - 1
  return std * jax.random.normal(init_key, shape), std * jax.random.normal(step_key, (num_steps,) + shape)


def propose(
    keys: Array, denoise: Denoiser, keypoints: Float[Array, "*h b f j i"], steps: DdimSteps, num_hypotheses: int,
    chunk: int = 0,
) -> Float[Array, "h b f j 3"]:
  """H hypotheses of the clean pose, vmapped over H noise samples with the denoiser's weights unmapped.

  `keypoints` are shared by the hypotheses, or each has its own. `keys` [b] belong to the clips, so a clip's
  hypotheses depend neither on its batch nor on its device. `chunk` hypotheses are computed at a time, which bounds the
  memory; 0 computes all at once. Channels that the denoiser gives beside the pose come with it.
  """
  shape = keypoints.shape[-3:-1] + (3,)

  def hypothesis(h):
    def noise(key):
      return clip_noise(jax.random.fold_in(key, h), shape, steps)

    init_noise, step_noise = jax.vmap(noise, out_axes=(0, 1))(keys)  # over clips
    own = keypoints[h] if keypoints.ndim == 5 else keypoints
    return sample(denoise, own, init_noise, steps, step_noise)["pred_x0"][-1]

  if 0 < chunk < num_hypotheses:
    return jax.lax.map(hypothesis, jnp.arange(num_hypotheses), batch_size=chunk)
  return jax.vmap(hypothesis)(jnp.arange(num_hypotheses))
