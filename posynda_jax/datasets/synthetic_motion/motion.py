"""Procedural human motion: a family of movement, performed by a body on a floor.

The families draw joint angles over time; joint limits, forward kinematics and the contact with the floor, which also
decides the way travelled, follow here. Nothing is recorded motion, so it carries no licence and no subject's identity.
"""

from collections.abc import Callable

import numpy as np

from posynda_jax.datasets.synthetic_motion import athletic, everyday, kinematics
from posynda_jax.datasets.synthetic_motion.body import Body

FAMILIES: dict[str, Callable] = {
    family.__name__: family
    for family in (
        everyday.locomotion, everyday.gesturing, everyday.reaching, everyday.sitting, everyday.turning, everyday.bending,
        athletic.squatting, athletic.kicking, athletic.jumping, athletic.lunging,
    )
}


def draw_angles(rng: np.random.Generator, family: str, num_frames: int, fps: float) -> kinematics.Angles:
  """Joint angles (degrees, all of `kinematics.LIMITS`, within them) of one performance of `family`.

  Raises ValueError for an unknown family.
  """
  if family not in FAMILIES:
    raise ValueError(f"motion family {family!r} is unknown; choose one of {', '.join(FAMILIES)}")
  return kinematics.limited(FAMILIES[family](rng, np.arange(num_frames) / fps), fps)


def perform(body: Body, angles: kinematics.Angles, fps: float) -> np.ndarray:
  """Joint positions [f 17 3] float32 of `body` going through `angles`: metres, y up, floor y = 0, path around the origin."""
  poses = kinematics.forward(body, angles)
  return kinematics.planted(poses, body, angles, fps).astype(np.float32)


def draw_motion(rng: np.random.Generator, body: Body, family: str, num_frames: int, fps: float) -> np.ndarray:
  """Joint positions [f 17 3] of one performance of `family` by `body`; frames and units as in `perform`."""
  return perform(body, draw_angles(rng, family, num_frames, fps), fps)
