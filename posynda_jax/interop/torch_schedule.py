"""The noise schedule that a D3DP checkpoint carries: 12 buffers that follow from T, made of our schedule and checked."""

from collections.abc import Mapping

import numpy as np

from posynda_jax.diffusion import process

MAX_STEPS = 100_000


def buffers(num_steps: int) -> dict[str, np.ndarray]:
  """D3DP's 12 buffers (float64) of our cosine schedule, under its names."""
  schedule = process.cosine_schedule(num_steps)
  betas, abar, before = schedule.betas, schedule.alpha_bar, np.append(1.0, schedule.alpha_bar[:-1])
  return {
      "betas": betas, "alphas_cumprod": abar, "alphas_cumprod_prev": before, "sqrt_alphas_cumprod": np.sqrt(abar),
      "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - abar), "log_one_minus_alphas_cumprod": np.log(1 - abar),
      "sqrt_recip_alphas_cumprod": schedule.sqrt_recip_alpha_bar, "sqrt_recipm1_alphas_cumprod": schedule.sqrt_recipm1_alpha_bar,
      "posterior_variance": schedule.posterior_variance,
      "posterior_log_variance_clipped": np.log(np.maximum(schedule.posterior_variance, 1e-20)),
      "posterior_mean_coef1": betas * np.sqrt(before) / (1 - abar),
      "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - abar),
  }


NAMES = frozenset(buffers(2))


def check(found: Mapping[str, np.ndarray], label: str) -> int | None:
  """T of a checkpoint's schedule buffers, None where it has none. Raises ValueError where they are not our cosine schedule's."""
  if not found:
    return None
  shapes = {np.shape(value) for value in found.values()}
  num_steps = min(shapes)[0] if len(shapes) == 1 and len(min(shapes)) == 1 else 0
  if not 1 <= num_steps <= MAX_STEPS:
    raise ValueError(f"{label}: its schedule buffers have shapes {sorted(shapes)[:3]}, expected (T,) for all of them")
  ours = buffers(num_steps)
  for name, value in found.items():
    if not np.allclose(np.asarray(value, np.float64), ours[name], rtol=1e-4, atol=1e-6):
      raise ValueError(f"{label}: its buffer {name} is not that of the cosine schedule of {num_steps} steps, the only one used "
                       "here: a network trained under another noise schedule would answer wrongly")
  return num_steps
