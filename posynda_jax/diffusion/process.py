"""The diffusion process as data: schedules, q_sample (Eq. 7), x_0 <-> noise and the DDIM coefficients.

`t` is the integer diffusion step, 0 .. T-1, and nothing else; t = T-1 is all but pure noise. Everything that is computed
once is computed on the host in float64 and cast at the end: in float32, 1 - alpha_bar' - sigma^2 of the first DDIM step
loses all its digits and can come out negative.
"""

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

CLAMP = 1.1  # metres: no root-relative joint is farther from the root (D3DP)


@flax.struct.dataclass
class Schedule:
  """Per-step arrays [T] of a variance-preserving process; float64 on the host, float32 once traced."""

  betas: np.ndarray
  alpha_bar: np.ndarray

  @property
  def num_steps(self) -> int:
    return len(self.betas)

  @property
  def sqrt_alpha_bar(self):
    return np.sqrt(self.alpha_bar)

  @property
  def sqrt_one_minus_alpha_bar(self):
    return np.sqrt(1 - self.alpha_bar)

  @property
  def sqrt_recip_alpha_bar(self):
    return np.sqrt(1 / self.alpha_bar)

  @property
  def sqrt_recipm1_alpha_bar(self):
    return np.sqrt(1 / self.alpha_bar - 1)

  @property
  def posterior_variance(self):
    previous = np.append(1.0, self.alpha_bar[:-1])
    return self.betas * (1 - previous) / (1 - self.alpha_bar)


def cosine_schedule(num_steps: int = 1000, s: float = 0.008) -> Schedule:
  """Cosine schedule of `num_steps` steps with beta limited to 0.999 (float64)."""
  x = np.arange(num_steps + 1, dtype=np.float64) / num_steps
  abar = np.cos((x + s) / (1 + s) * np.pi / 2) ** 2
  abar /= abar[0]
  betas = np.clip(1 - abar[1:] / abar[:-1], 0, 0.999)
  return Schedule(betas=betas, alpha_bar=np.cumprod(1 - betas))


def _at(values: np.ndarray, t, ndim: int):
  """values[t] in float32 with trailing axes added up to `ndim`."""
  picked = jnp.asarray(values, jnp.float32)[t]
  return picked.reshape(picked.shape + (1,) * (ndim - picked.ndim))


def q_sample(schedule: Schedule, x_0: Float[Array, "b f j 3"], t: Int[Array, "b"], noise: Float[Array, "b f j 3"]):
  """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise (Eq. 7)."""
  mean = _at(schedule.sqrt_alpha_bar, t, x_0.ndim) * x_0
  return mean + _at(schedule.sqrt_one_minus_alpha_bar, t, x_0.ndim) * noise


def noise_from_x0(schedule: Schedule, x_t, t, x_0):
  """The noise that, with `x_0`, gives `x_t`: (x_t / sqrt(alpha_bar) - x_0) / sqrt(1 / alpha_bar - 1)."""
  scaled = _at(schedule.sqrt_recip_alpha_bar, t, x_t.ndim) * x_t
  return (scaled - x_0) / _at(schedule.sqrt_recipm1_alpha_bar, t, x_t.ndim)


def x0_from_noise(schedule: Schedule, x_t, t, noise):
  """Inverse of `noise_from_x0`."""
  scaled = _at(schedule.sqrt_recip_alpha_bar, t, x_t.ndim) * x_t
  return scaled - _at(schedule.sqrt_recipm1_alpha_bar, t, x_t.ndim) * noise


def clamp(x):
  """Limits to [-1.1, 1.1] metres: what the denoiser is fed and what it may return."""
  return jnp.clip(x, -CLAMP, CLAMP)


def ddim_times(num_steps: int, num_iterations: int) -> np.ndarray:
  """The K+1 visited steps, from T-1 down, ending with -1: evenly spaced, truncated toward zero, in exact arithmetic."""
  if not 1 <= num_iterations <= num_steps:
    raise ValueError(f"{num_iterations} sampling iterations of a {num_steps}-step schedule: choose 1 to {num_steps}")
  rising = [-1] + [i * num_steps // num_iterations - 1 for i in range(1, num_iterations + 1)]
  return np.array(rising[::-1], np.int64)


@flax.struct.dataclass
class DdimSteps:
  """Coefficients [K] of each DDIM step: from t to t_next, noise = (recip x - x0) / recipm1, x' = a x0 + c noise + sigma z."""

  t: np.ndarray
  recip: np.ndarray
  recipm1: np.ndarray
  a: np.ndarray
  c: np.ndarray
  sigma: np.ndarray


def ddim_steps(schedule: Schedule, num_iterations: int, eta: float = 1.0) -> DdimSteps:
  """Coefficients of K = `num_iterations` DDIM steps; the last step ends at x_0 (a = 1, c = sigma = 0)."""
  times = ddim_times(schedule.num_steps, num_iterations)
  t, t_next = times[:-1], times[1:]
  abar = schedule.alpha_bar[t]
  abar_next = np.where(t_next >= 0, schedule.alpha_bar[t_next], 1.0)
  sigma = eta * np.sqrt((1 - abar / abar_next) * (1 - abar_next) / (1 - abar))
  c = np.sqrt(np.maximum(1 - abar_next - sigma**2, 0))
  cast = lambda x: np.asarray(x, np.float32)
  return DdimSteps(
      t=t.astype(np.int32), recip=cast(np.sqrt(1 / abar)), recipm1=cast(np.sqrt(1 / abar - 1)),
      a=cast(np.sqrt(abar_next)), c=cast(c), sigma=cast(sigma),
  )
