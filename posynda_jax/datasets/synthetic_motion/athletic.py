"""Families of athletic motion: squatting, kicking, jumping, lunging.

A family is a function `(rng, t) -> Angles`: t [f] seconds, angles in degrees with the signs of `kinematics`.
"""

import numpy as np

from posynda_jax.datasets.synthetic_motion.kinematics import SIDES, Angles
from posynda_jax.datasets.synthetic_motion.signals import bump, drift, excursions
from posynda_jax.datasets.synthetic_motion.stance import added, draw_arm, get_arm, idle, with_arm, with_arms, with_leg


def squatting(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Goes down on both legs, from a dip to a deep squat, arms forward or free."""
  depth = excursions(rng, t, lambda: rng.uniform(0.35, 1.0), (0.6, 1.1), (0.1, 0.9))[:, 0]
  lean, wide = rng.uniform(20, 42), rng.uniform(2, 18)
  angles = added(
      idle(rng, t), pelvis_pitch=depth * lean, spine_pitch=depth * rng.uniform(0, 18), neck_pitch=-depth * lean * 0.7
  )
  for side in SIDES:
    angles = with_leg(angles, side, 4 + depth * 102, 4 + depth * rng.uniform(28, 34))
    angles = added(angles, **{f"{side}_hip_abduction": depth * wide, f"{side}_hip_rotation": -depth * wide * 0.6})
  if rng.random() < 0.5:
    return with_arms(rng, t, angles, rest=0.4)
  for side in SIDES:
    angles = added(angles, **{f"{side}_shoulder_flexion": 80 * depth})
  return angles


# Degrees of the free leg at full reach: hip flexion, hip abduction, knee; then the trunk's pitch against it.
_KICKS = np.array(
    [(80, 4, 8, -10), (98, 6, 105, 0), (8, 45, 5, 0), (-24, 4, 25, 28), (-15, 4, 100, 8), (65, 30, 70, 0)], float
)


def kicking(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Stands on one leg and raises or kicks with the other: forward, knee up, sideways, back."""
  side = SIDES[rng.integers(2)]
  other, sign = SIDES[1 - SIDES.index(side)], 1 if side == "left" else -1
  move_s, hold_s = ((0.35, 0.6), (0.0, 0.3)) if rng.random() < 0.5 else ((0.7, 1.2), (0.3, 1.2))
  draw = lambda: np.append(_KICKS[rng.integers(len(_KICKS))] * rng.uniform(0.6, 1.05), 1.0)
  flexion, abduction, knee, pitch, on = excursions(rng, t, draw, move_s, hold_s).T
  angles = idle(rng, t)
  # The free leg leaves the floor at once, bent, whatever it does later.
  clear = 4 * on * (1 - on) * 25
  lean = sign * (5 * on + 0.25 * abduction)  # away from the free leg: its hip rises
  angles = added(angles, pelvis_pitch=pitch * 0.6, spine_pitch=pitch * 0.4, pelvis_roll=lean, spine_roll=-0.4 * lean)
  angles = added(angles, **{
      f"{side}_hip_flexion": flexion + clear * 0.5 + pitch * 0.3, f"{side}_hip_abduction": abduction,
      f"{side}_knee": knee + clear,
      f"{other}_hip_flexion": pitch * 0.6, f"{other}_hip_abduction": np.abs(lean) - 7 * on,
  })
  balance = rng.uniform(15, 75)
  for one in SIDES:
    opposite = 0.4 * flexion * (1 if one == other else -0.5)
    for name, amount in (("shoulder_flexion", opposite), ("shoulder_abduction", balance * on), ("elbow", 15 * on)):
      angles = added(angles, **{f"{one}_{name}": amount})
  return with_arms(rng, t, angles, ("chest", "hip", "side", "goalpost"), rest=0.1) if rng.random() < 0.3 else angles


def jumping(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Jumps again and again: from a crouch with an arm swing, or jumping jacks."""
  angles = idle(rng, t)
  jacks = rng.random() < 0.45
  phase = 2 * np.pi * (rng.random() + rng.uniform(0.75, 1.0) * t) + drift(rng, t, 0.2)
  if jacks:
    wide, crouch = 0.5 - 0.5 * np.cos(phase), 0.5 + 0.5 * np.cos(2 * phase)
    angles["hop"] = rng.uniform(0.05, 0.12) * np.sin(phase) ** 2
    high, knees = rng.uniform(95, 155), rng.uniform(10, 28)
    for side in SIDES:
      angles = with_leg(angles, side, 4 + knees * crouch / 2, 4 + knees * crouch / 2)
      angles = added(angles, **{f"{side}_hip_abduction": 20 * wide, f"{side}_shoulder_abduction": high * wide})
    return angles
  crouch, flight = bump(phase, 0.0, 0.13), bump(phase, 0.36, 0.085)
  depth, tuck, arms = rng.uniform(30, 75), rng.uniform(0, 70), rng.uniform(30, 140)
  angles["hop"] = rng.uniform(0.12, 0.35) * flight
  angles = added(angles, pelvis_pitch=35 * crouch + 0.15 * tuck * flight, spine_pitch=12 * crouch, neck_pitch=-20 * crouch)
  angles = added(angles, heading=rng.normal(0, 25) * t)
  for side in SIDES:
    thigh = 4 + depth * 0.85 * crouch + 0.8 * tuck * flight
    angles = with_leg(angles, side, thigh, 4 + depth * 0.5 * crouch + 0.7 * tuck * flight)
    swing = arms * bump(phase, 0.33, 0.11) - 30 * bump(phase, 0.0, 0.12)
    angles = added(angles, **{f"{side}_shoulder_flexion": swing, f"{side}_shoulder_abduction": 0.12 * arms * flight})
  return angles


def lunging(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Steps out into a lunge or sideways into one, the other leg stretched or its knee near the floor, and back."""
  side = SIDES[rng.integers(2)]
  other, sign = SIDES[1 - SIDES.index(side)], 1 if side == "left" else -1
  sideways = rng.random() < 0.35
  depth = excursions(rng, t, lambda: rng.uniform(0.55, 1.0), (0.7, 1.1), (0.3, 1.2))[:, 0]
  step = 4 * depth * (1 - depth)
  pitch = rng.uniform(20, 35) if sideways else rng.uniform(-3, 22)
  angles = added(idle(rng, t), pelvis_pitch=depth * pitch * 0.6, spine_pitch=depth * pitch * 0.4, spine_yaw=drift(rng, t, 18))
  if sideways:
    angles = with_leg(angles, side, 4 + 68 * depth + 12 * step, 4 + 28 * depth + 16 * step)
    angles = with_leg(angles, other, 4 + 4 * depth, 4 + 0 * depth)
    angles = added(angles, **{f"{side}_hip_abduction": 16 * depth, f"{other}_hip_abduction": 36 * depth})
    angles = added(angles, pelvis_roll=-sign * 6 * depth, spine_roll=sign * 4 * depth)
  else:
    knee = rng.uniform(30, 85)
    angles = with_leg(angles, side, 4 + 76 * depth + 14 * step, 4 + 8 * depth + 26 * step)
    angles = with_leg(angles, other, 4 - 22 * depth, 4 + (knee + 22) * depth)
  if rng.random() < 0.6:
    names = ("overhead", "side", "front", "hip", "side_high", "point")
    pose = {one: draw_arm(rng, names) for one in SIDES}
    for one in SIDES:
      on = depth[:, None]
      angles = with_arm(angles, one, (1 - on) * get_arm(angles, one) + on * pose[side if rng.random() < 0.6 else one])
  return angles
