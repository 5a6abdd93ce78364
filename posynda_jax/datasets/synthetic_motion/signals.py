"""Smooth random signals over time for procedural motion.

`t` [f] is time in seconds, from 0. The only source of randomness is the NumPy Generator `rng`.
"""

from collections.abc import Callable

import numpy as np

Range = tuple[float, float]


def drift(rng: np.random.Generator, t: np.ndarray, size: float, period_s: float = 4.0) -> np.ndarray:
  """A slow random signal [f] within +-`size`: three sinusoids, the slowest of about `period_s`."""
  rates = np.array([1.0, 1.7, 2.6]) * rng.uniform(0.8, 1.25, 3) / period_s
  phases = rng.uniform(0, 2 * np.pi, 3)
  return size * np.sin(2 * np.pi * t[:, None] * rates + phases) @ np.array([0.55, 0.3, 0.15])


def ease(u: np.ndarray) -> np.ndarray:
  """Minimum-jerk passage from 0 (u <= 0) to 1 (u >= 1)."""
  u = np.clip(u, 0, 1)
  return u**3 * (10 - 15 * u + 6 * u**2)


def keyframes(
    rng: np.random.Generator, t: np.ndarray, draw: Callable[[int], np.ndarray], move_s: Range, hold_s: Range
) -> np.ndarray:
  """Values [f d] that hold at `draw(0)`, `draw(1)`, ... and pass from each to the next with `ease`.

  A passage lasts a time in the range `move_s`, a hold one in `hold_s`. The first passage may start before t = 0.
  """
  value = np.atleast_1d(np.asarray(draw(0), float))
  out = np.tile(value, (len(t), 1))
  start, count = rng.uniform(-0.5, 0.5) * move_s[1], 1
  while start < t[-1]:
    target = np.atleast_1d(np.asarray(draw(count), float))
    duration = rng.uniform(*move_s)
    out += ease((t - start) / duration)[:, None] * (target - value)
    value, count, start = target, count + 1, start + duration + rng.uniform(*hold_s)
  return out


def excursions(rng: np.random.Generator, t: np.ndarray, draw: Callable[[], np.ndarray], move_s: Range, hold_s: Range):
  """`keyframes` [f d] that alternate between zero and values of `draw`. The first is either, at random."""
  first = rng.integers(2)
  return keyframes(rng, t, lambda i: draw() * ((i + first) % 2), move_s, hold_s)


def bump(phase: np.ndarray, centre: float, width: float) -> np.ndarray:
  """A periodic bump [f] of height 1. `phase` is in radians, `centre` and `width` (standard deviation) in cycles."""
  return np.exp((np.cos(phase - 2 * np.pi * centre) - 1) / (2 * np.pi * width) ** 2)
