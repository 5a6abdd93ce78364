"""Common parts of all families of motion: edits of joint angles, a standing and idling person, and arm poses.

Angles are in degrees with the signs of `kinematics`. An arm is a row of four angles in the order of `ARM`.
"""

import numpy as np

from posynda_jax.datasets.synthetic_motion.kinematics import SIDES, Angles
from posynda_jax.datasets.synthetic_motion.signals import drift, keyframes

ARM = ("shoulder_flexion", "shoulder_abduction", "shoulder_twist", "elbow")
ARM_POSES = {
    "hang": (5, 10, 10, 15), "front": (85, 5, 0, 12), "overhead": (165, 10, 0, 15), "side": (0, 88, 0, 12),
    "side_high": (5, 140, 0, 15), "goalpost": (0, 85, -75, 90), "hip": (-20, 45, 75, 95), "phone": (40, 25, 25, 138),
    "mouth": (45, 5, 35, 130), "crossed": (30, 0, 60, 95), "point": (75, 25, 0, 6), "wave": (10, 75, -65, 75),
    "carry": (20, 8, 10, 90), "back": (-35, 15, 10, 20), "chest": (55, 15, 60, 110), "head": (15, 105, -65, 122),
}
TALKING = ("hang", "front", "side", "hip", "phone", "mouth", "crossed", "point", "wave", "carry", "chest", "head")


def added(angles: Angles, side: str | None = None, **changes: np.ndarray) -> Angles:
  """`angles` plus `changes`. With a `side`, the names of the changes are those of its limbs."""
  prefix = f"{side}_" if side else ""
  return angles | {prefix + name: angles.get(prefix + name, 0) + value for name, value in changes.items()}


def get_arm(angles: Angles, side: str) -> np.ndarray:
  """The arm [f 4] of a side."""
  return np.stack([angles[f"{side}_{name}"] for name in ARM], -1)


def with_arm(angles: Angles, side: str, arm: np.ndarray) -> Angles:
  """`angles` with the arm [f 4] of a side replaced."""
  return angles | {f"{side}_{name}": arm[:, i] for i, name in enumerate(ARM)}


def with_leg(angles: Angles, side: str, thigh, shin) -> Angles:
  """`angles` with a leg set by its pitches in the world. Positive pitches: knee before hip, shin before ankle."""
  return angles | {f"{side}_hip_flexion": thigh + angles["pelvis_pitch"], f"{side}_knee": thigh + shin}


def draw_arm(rng: np.random.Generator, names: tuple[str, ...]) -> np.ndarray:
  """An arm [4] near one of the poses `names`."""
  return np.array(ARM_POSES[names[rng.integers(len(names))]]) + rng.normal(0, (10, 8, 8, 8))


def draw_sides(rng: np.random.Generator) -> tuple[str, str, int]:
  """A random side, the other side, and the sign of the first: 1 for left, -1 for right."""
  return (("left", "right", 1), ("right", "left", -1))[rng.integers(2)]


def idle(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """A person who stands, shifts weight and looks around, with hanging arms."""
  size = rng.uniform(0.5, 1.5)
  angles = {
      "heading": rng.uniform(0, 360) + drift(rng, t, 4),
      "hop": np.zeros_like(t),
      "pelvis_pitch": rng.normal(2, 2) + drift(rng, t, 2 * size),
      "pelvis_roll": drift(rng, t, 2 * size),
      "spine_pitch": rng.normal(4, 5) + drift(rng, t, 4 * size),
      "spine_roll": drift(rng, t, 3 * size),
      "spine_yaw": drift(rng, t, 6 * size),
      "neck_pitch": rng.normal(0, 6) + drift(rng, t, 6 * size),
      "neck_roll": drift(rng, t, 4 * size),
      "neck_yaw": keyframes(rng, t, lambda i: rng.normal(0, 18), (0.4, 0.9), (0.3, 2.0))[:, 0],
  }
  shift, stance = drift(rng, t, 3 * size), rng.uniform(1, 9)
  for side, sign in (("left", 1), ("right", -1)):
    knee = rng.uniform(4, 12) + drift(rng, t, 3)
    angles = with_leg(angles, side, knee / 2, knee / 2)
    angles[f"{side}_hip_abduction"] = stance + sign * (shift - angles["pelvis_roll"])
    angles[f"{side}_hip_rotation"] = rng.normal(-8, 5) + 0 * t  # toes out
    arm = np.array(ARM_POSES["hang"]) + rng.normal(0, (5, 2, 8, 5))
    angles = with_arm(angles, side, arm + np.stack([drift(rng, t, s * size) for s in (5, 2, 6, 5)], -1))
  return angles


def with_arms(rng, t, angles: Angles, names=TALKING, rest=0.3) -> Angles:
  """`angles` with arms that pass through poses of `names`, together or independently.

  `rest` is the probability that an independent arm does not move.
  """

  def draw_path():
    return keyframes(rng, t, lambda i: draw_arm(rng, names), (0.45, 1.1), (0.1, 1.2))

  together = draw_path() if rng.random() < 0.35 else None
  for side in SIDES:
    if together is not None or rng.random() > rest:
      arm = draw_path() if together is None else together + rng.normal(0, 5, 4)
      beat = drift(rng, t, 1, rng.uniform(1.0, 2.5))[:, None] * np.array([4, 4, 6, 8])
      angles = with_arm(angles, side, arm + beat)
  return angles
