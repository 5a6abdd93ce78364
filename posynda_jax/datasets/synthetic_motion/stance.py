"""What all families of motion start from: a person who stands and idles, and the poses arms pass through.

Angles are degrees with the signs of `kinematics`; an arm is a row of four of them, in the order of `ARM`.
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


def added(angles: Angles, **changes: np.ndarray) -> Angles:
  """`angles` with `changes` added to what is there."""
  return angles | {name: angles.get(name, 0) + value for name, value in changes.items()}


def get_arm(angles: Angles, side: str) -> np.ndarray:
  """The arm [f 4] of a side."""
  return np.stack([angles[f"{side}_{name}"] for name in ARM], -1)


def with_arm(angles: Angles, side: str, arm: np.ndarray) -> Angles:
  """`angles` with the arm [f 4] of a side replaced."""
  return angles | {f"{side}_{name}": arm[:, i] for i, name in enumerate(ARM)}


def with_leg(angles: Angles, side: str, thigh, shin) -> Angles:
  """`angles` with a leg set by pitches in the world: `thigh` brings the knee before the hip, `shin` before the ankle."""
  return angles | {f"{side}_hip_flexion": thigh + angles["pelvis_pitch"], f"{side}_knee": thigh + shin}


def draw_arm(rng: np.random.Generator, names: tuple[str, ...]) -> np.ndarray:
  """An arm [4] near one of the poses `names`."""
  return np.array(ARM_POSES[names[rng.integers(len(names))]]) + rng.normal(0, (10, 8, 8, 8))


def idle(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Stands, shifts weight, looks around, arms hang."""
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


def with_arms(rng, t, angles: Angles, names=TALKING, rest=0.3, move_s=(0.45, 1.1), hold_s=(0.1, 1.2)) -> Angles:
  """`angles` with arms that pass through poses of `names`, together or each on its own.

  `rest` is the chance that an arm on its own is left as it was; times are those of `signals.keyframes`.
  """
  draw = lambda i: draw_arm(rng, names)
  together = keyframes(rng, t, draw, move_s, hold_s) if rng.random() < 0.35 else None
  for side in SIDES:
    if together is not None or rng.random() > rest:
      arm = keyframes(rng, t, draw, move_s, hold_s) if together is None else together + rng.normal(0, 5, 4)
      beat = drift(rng, t, 1, rng.uniform(1.0, 2.5))[:, None] * np.array([4, 4, 6, 8])
      angles = with_arm(angles, side, arm + beat)
  return angles
