"""The diffusion process as data: the schedule, q_sample (Eq. 7) and the DDIM coefficients.

`t` is the integer diffusion step, 0 .. T-1. At t = T-1 a sample is almost pure noise. Coefficients are computed on
the host in float64 and cast at the end, because in float32 the first DDIM step's 1 - alpha_bar' - sigma^2 can become
negative.
"""

import dataclasses
from typing import NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

CLAMP = 1.1  # metres: no root-relative joint is farther from the root (D3DP)


@dataclasses.dataclass(frozen=True)
class Diffusion:
  """A base's process: T = `num_steps`, and the standard deviation (m) of its noise.

  Poses stay in metres. Noise of 1 m, as D3DP has it, is four times a pose's own deviation; noise of 0.25 m gives
  poses and noise equal variance, which is D3DP's process on poses of unit variance.
  """

  num_steps: int = 1000
  noise_std: float = 1.0

  @property
  def schedule(self) -> "Schedule":
    return cosine_schedule(self.num_steps, noise_std=self.noise_std)


class Schedule(NamedTuple):
  """Float64 arrays [T] of a variance-preserving process, and the standard deviation (m) of its noise."""

  betas: np.ndarray
  alpha_bar: np.ndarray
  noise_std: float

  @property
  def num_steps(self) -> int:
    return len(self.betas)


def cosine_schedule(num_steps: int = 1000, s: float = 0.008, noise_std: float = 1.0) -> Schedule:
  """Cosine schedule of `num_steps` steps, with beta limited to 0.999."""
  x = np.arange(num_steps + 1, dtype=np.float64) / num_steps
  abar = np.cos((x + s) / (1 + s) * np.pi / 2) ** 2
  abar /= abar[0]
  betas = np.clip(1 - abar[1:] / abar[:-1], 0, 0.999)
  return Schedule(betas, np.cumprod(1 - betas), noise_std)


def q_sample(
    schedule: Schedule, x_0: Float[Array, "b f j 3"], t: Int[Array, "b"], noise: Float[Array, "b f j 3"]
) -> Float[Array, "b f j 3"]:
  """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise (Eq. 7). `noise` has the schedule's deviation."""

  def at_t(values):
    return jnp.asarray(np.sqrt(values), jnp.float32)[t, None, None, None]

  return at_t(schedule.alpha_bar) * x_0 + at_t(1 - schedule.alpha_bar) * noise


def clamp(x):
  """Poses limited to [-1.1, 1.1] metres, as the denoiser takes and returns them."""
  return jnp.clip(x, -CLAMP, CLAMP)


def ddim_times(num_steps: int, num_iterations: int) -> np.ndarray:
  """The K+1 visited steps from T-1 down to -1: evenly spaced, truncated toward zero, in exact arithmetic."""
  if not 1 <= num_iterations <= num_steps:
    raise ValueError(f"{num_iterations} sampling iterations of a {num_steps}-step schedule: choose 1 to {num_steps}")
  return np.arange(num_iterations, -1, -1) * num_steps // num_iterations - 1


@flax.struct.dataclass
class DdimSteps:
  """Coefficients [K] of the DDIM steps: noise = (recip x_t - x_0) / recipm1, x_next = a x_0 + c noise + sigma z.

  `noise_std` (m): deviation of the start noise and of z.
  """

  t: np.ndarray
  recip: np.ndarray
  recipm1: np.ndarray
  a: np.ndarray
  c: np.ndarray
  sigma: np.ndarray
  noise_std: float = flax.struct.field(pytree_node=False, default=1.0)


def ddim_steps(schedule: Schedule, num_iterations: int, eta: float = 1.0) -> DdimSteps:
  """Coefficients (float32) of K = `num_iterations` DDIM steps. The last step returns x_0: a = 1 and c = sigma = 0."""
  times = ddim_times(schedule.num_steps, num_iterations)
  t, t_next = times[:-1], times[1:]
  abar = schedule.alpha_bar[t]
  abar_next = np.where(t_next >= 0, schedule.alpha_bar[t_next], 1.0)
  sigma = eta * np.sqrt((1 - abar / abar_next) * (1 - abar_next) / (1 - abar))
  c = np.sqrt(np.maximum(1 - abar_next - sigma**2, 0))
  values = np.sqrt(1 / abar), np.sqrt(1 / abar - 1), np.sqrt(abar_next), c, sigma
  return DdimSteps(t.astype(np.int32), *np.float32(values), noise_std=schedule.noise_std)
