"""Procedural human motion: a body performs a family of movement on a floor.

A family draws joint angles over time. Joint limits, forward kinematics and the contact with the floor give positions.
No motion is recorded, so it carries no licence and no subject's identity.
"""

import numpy as np

from posynda_jax.datasets.synthetic_motion import families, kinematics
from posynda_jax.datasets.synthetic_motion.body import Body


def draw_angles(rng: np.random.Generator, family: str, num_frames: int, fps: float) -> kinematics.Angles:
  """Joint angles (degrees, all of `kinematics.LIMITS`, within them) of one performance of `family`.

  Raises ValueError for an unknown family.
  """
  if family not in families.FAMILIES:
    raise ValueError(f"motion family {family!r} is unknown; choose one of {', '.join(families.FAMILIES)}")
  return kinematics.limited(families.FAMILIES[family](rng, np.arange(num_frames) / fps), fps)


def draw_motion(rng: np.random.Generator, body: Body, family: str, num_frames: int, fps: float) -> np.ndarray:
  """Joint positions [f 17 3] float32 of one performance of `family` by `body`, around the origin.

  Metres, y up, floor y = 0. Raises ValueError for an unknown family.
  """
  angles = draw_angles(rng, family, num_frames, fps)
  return kinematics.planted(kinematics.forward(body, angles), body, angles, fps).astype(np.float32)
