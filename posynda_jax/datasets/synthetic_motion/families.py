"""Procedural human motion: families of movement, each of which draws joint angles of one performance.

A family is a function `(rng, t) -> Angles`: t [f] in seconds, angles in degrees with the signs of `kinematics`. Joint
limits, forward kinematics and the contact with the floor then give positions. No motion is recorded, so it carries no
licence and no subject's identity.
"""

import numpy as np

from posynda_jax.datasets.synthetic_motion import kinematics
from posynda_jax.datasets.synthetic_motion.body import Body
from posynda_jax.datasets.synthetic_motion.kinematics import SIDES, Angles
from posynda_jax.datasets.synthetic_motion.signals import bump, drift, ease, excursions, keyframes
from posynda_jax.datasets.synthetic_motion.stance import (
    ARM_POSES,
    TALKING,
    added,
    draw_arm,
    draw_sides,
    get_arm,
    idle,
    with_arm,
    with_arms,
    with_leg,
)

# Textbook gait curves at tenths of a stride from heel strike, degrees: thigh to the vertical, knee flexion.
_WALK = np.array([(21, 17, 8, -3, -13, -19, -13, 5, 19, 24), (5, 16, 18, 12, 8, 12, 36, 60, 50, 20)], float)
_RUN = np.array([(27, 20, 4, -13, -22, -17, 1, 22, 34, 33), (16, 34, 38, 26, 15, 40, 78, 96, 72, 32)], float)


def _gait(curves: np.ndarray, phase: np.ndarray) -> np.ndarray:
  """The periodic curves [2 10] at `phase` [f] rad, by their Fourier series [2 f]."""
  waves = np.fft.rfft(curves)[:, :5] / 5
  return waves[:, :1].real / 2 + (waves[:, 1:] @ np.exp(1j * np.arange(1, 5)[:, None] * phase)).real


def _within(phase: np.ndarray, start: float, end: float) -> np.ndarray:
  """1 between the cycle's fractions `start` and `end`, else 0, with soft edges."""
  middle, half = np.pi * (start + end), np.pi * (end - start)
  return 0.5 + 0.5 * np.tanh(6 * (np.cos(phase - middle) - np.cos(half)))


def locomotion(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """A walk or a run along a turning path, seldom backwards, with swinging or busy arms."""
  runs, backwards = rng.random() < 0.25, rng.random() < 0.08
  (rate_low, rate_high), sizes = ((1.2, 1.45), (0.7, 0.95)) if runs else ((0.7, 1.1), (0.65, 1.1))
  rate, size = rng.uniform(rate_low, rate_high), rng.uniform(*sizes)
  # A stride is one cycle. The left heel strikes at phase 0.
  phase = 2 * np.pi * (rng.random() + rate * t * (-1 if backwards else 1)) + drift(rng, t, 0.2)
  # Degrees a second. A curved path stays in a room.
  curve = rng.choice((-1, 1)) * (rng.uniform(50, 85) if runs else rng.uniform(20, 60))
  curve = curve + drift(rng, t, 35, 5.0)
  swing, sway = size * np.cos(phase), size * np.sin(phase)
  angles = idle(rng, t)
  angles["pelvis_pitch"] = (rng.uniform(6, 12) if runs else rng.uniform(0, 5)) + 1.5 * np.cos(2 * phase)
  angles["pelvis_roll"] = 3 * sway - 0.04 * curve
  heading = np.cumsum(curve) * (t[1] - t[0]) - 5 * swing
  angles = added(angles, heading=heading, spine_yaw=9 * swing, spine_roll=-3 * sway, neck_yaw=0.15 * curve)
  style = rng.uniform(0.5, 1.3)
  for side, sign, p in (("left", 1, phase), ("right", -1, phase + np.pi)):
    thigh, knee = _gait(_RUN if runs else _WALK, p) * size
    angles |= {f"{side}_hip_flexion": thigh + angles["pelvis_pitch"], f"{side}_knee": knee + 3}
    angles[f"{side}_hip_abduction"] = rng.uniform(-1, 3) + drift(rng, t, 1) - 0.7 * sign * angles["pelvis_roll"]
    angles[f"{side}_heel"] = size**2 * (0.05 * bump(p, 0.32, 0.1) if runs else 0.06 * bump(p, 0.52, 0.1))
    angles[f"{side}_swing"] = _within(p, 0.40, 0.98) if runs else _within(p, 0.62, 0.98)
    reach, bent = (32, rng.uniform(75, 105)) if runs else (20, rng.uniform(12, 35))
    angles[f"{side}_shoulder_flexion"] = rng.normal(0, 5) - reach * style * np.cos(p)
    angles[f"{side}_elbow"] = bent - 10 * style * np.cos(p) + drift(rng, t, 4)
  if runs:  # in the air before each heel strike
    angles["hop"] = rng.uniform(0.03, 0.07) * (0.5 + 0.5 * np.cos(2 * (phase + 0.4))) ** 2
    return angles
  return with_arms(rng, t, angles, rest=0.5) if rng.random() < 0.3 else angles


def gesturing(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """A standing person who talks with the arms: points, waves, phones, eats, arms crossed, wide or raised."""
  names = TALKING if rng.random() < 0.7 else tuple(ARM_POSES)
  angles = with_arms(rng, t, idle(rng, t), names, rest=0.15)
  if rng.random() < 0.4:
    side, waves = SIDES[rng.integers(2)], excursions(rng, t, lambda: 1.0, (0.5, 0.8), (1.0, 2.5))
    beat = 25 * np.sin(2 * np.pi * rng.uniform(1.0, 1.8) * t)[:, None] * np.array([0, 0, 1, 0.6])
    angles = with_arm(angles, side, (1 - waves) * get_arm(angles, side) + waves * (draw_arm(rng, ("wave",)) + beat))
  return angles


def reaching(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Reaches with one or both arms, high, level, low or across. The trunk follows; the knees bend for low targets."""
  both = rng.random() < 0.3
  side, _, sign = draw_sides(rng)

  def draw():
    height, across = rng.uniform(-1, 1), rng.uniform(-1, 1) * (not both)
    low, high = max(-height, 0), max(height, 0)
    arm = (95 + 65 * height, 25 - 40 * across + 15 * high, 10 * across, rng.uniform(5, 30))
    # A yaw to the left brings the right arm across.
    trunk = (4 + 45 * low, -sign * (8 * high - 18 * across), -sign * 30 * across, 30 * low, -25 * height)
    return np.array([1, *arm, *trunk, 45 * low])

  moves = excursions(rng, t, draw, (0.6, 1.2), (0.2, 0.8))
  on, arm, (spine, roll, yaw, pelvis, neck, knees) = moves[:, :1], moves[:, 1:5], moves[:, 5:].T
  angles = idle(rng, t)
  for one in SIDES if both else (side,):
    angles = with_arm(angles, one, (1 - on) * get_arm(angles, one) + arm)
  angles = added(angles, spine_pitch=spine, spine_roll=roll * (not both), spine_yaw=yaw)
  angles = added(angles, pelvis_pitch=pelvis, neck_pitch=neck, neck_yaw=0.5 * yaw)
  for one in SIDES:
    stand = angles[f"{one}_knee"] / 2
    angles = with_leg(angles, one, stand + 0.6 * knees, stand + 0.4 * knees)
  return angles


def sitting(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Sitting down, talking in the seat, getting up. Seats vary in height; legs are under, before or crossed."""
  angles = idle(rng, t)
  stays = rng.random() < 0.5
  down = np.ones_like(t) if stays else excursions(rng, t, lambda: 1.0, (0.9, 1.4), (0.8, 2.5))[:, 0]
  passing = 4 * down * (1 - down)
  thigh, lean = rng.uniform(68, 96), rng.uniform(-12, 14)
  angles = added(
      angles, pelvis_pitch=down * lean + passing * 32, spine_pitch=down * (drift(rng, t, 9) + 6) + passing * 8,
      spine_yaw=down * drift(rng, t, 10), neck_pitch=-passing * 20,
  )
  crossed = SIDES[rng.integers(2)] if rng.random() < 0.35 else None
  for side in SIDES:
    shin = rng.uniform(-22, 18) + drift(rng, t, 5)
    angles = with_leg(angles, side, 5 + down * thigh, 4 + down * shin)
    angles = added(angles, side, hip_abduction=down * rng.uniform(0, 14))
    if side == crossed:
      over = down * ease((t - rng.uniform(-3, 3)) / 0.9)
      angles = added(angles, side, hip_flexion=16 * over, hip_abduction=-20 * over, hip_rotation=-12 * over)
    on_thigh = np.array([35, 12, 25, 62]) + rng.normal(0, 6, 4)
    angles = with_arm(angles, side, get_arm(angles, side) + down[:, None] * (on_thigh - np.array(ARM_POSES["hang"])))
  return with_arms(rng, t, angles, rest=0.45)


def turning(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Turns on the spot with small steps. The head and the trunk turn before the feet."""
  stops = np.cumsum(rng.choice((-1, 1), len(t)) * rng.uniform(50, 190, len(t)))
  heading = keyframes(rng, t, lambda i: stops[i], (0.9, 1.6), (0.3, 1.2))[:, 0]
  rate = np.gradient(heading, t)  # degrees a second
  steps, lead = np.tanh(np.abs(rate) / 50), np.tanh(rate / 120)
  angles = added(idle(rng, t), heading=heading, spine_yaw=18 * lead, neck_yaw=22 * lead)
  phase = 2 * np.pi * rng.uniform(0.9, 1.3) * t
  for side, p in (("left", phase), ("right", phase + np.pi)):
    lift = steps * bump(p, 0.5, 0.11)
    angles = added(angles, side, hip_flexion=26 * lift, hip_abduction=3 * lift, knee=50 * lift)
  return with_arms(rng, t, angles, rest=0.5) if rng.random() < 0.5 else angles


# Degrees at full reach: pelvis pitch, spine pitch, spine roll, spine yaw, knees, shoulder flexion, shoulder abduction.
_BENDS = np.array([
    (55, 42, 0, 0, 12, 70, 0), (70, 45, 0, 0, 70, 85, 5), (25, 30, 0, 0, 5, 20, 5), (-12, -20, 0, 0, 18, 40, 30),
    (0, 5, 26, 5, 3, 0, 15), (0, 5, -26, -5, 3, 0, 15), (5, 8, 0, 42, 6, 30, 30), (5, 8, 0, -42, 6, 30, 30),
    (35, 35, 12, 25, 20, 50, 20), (35, 35, -12, -25, 20, 50, 20),
], float)


def bending(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Bows, pick-ups from the floor, leans back or sideways, twists. The arms hang, stretch or follow."""

  def draw():
    return _BENDS[rng.integers(len(_BENDS))] * rng.uniform(0.55, 1.05)

  pelvis, spine, roll, yaw, knees, flexion, abduction = excursions(rng, t, draw, (0.7, 1.3), (0.2, 1.0)).T
  angles = added(idle(rng, t), pelvis_pitch=pelvis, pelvis_roll=0.3 * roll)
  angles = added(angles, spine_pitch=spine, spine_roll=roll, spine_yaw=yaw, neck_pitch=-0.2 * spine, neck_yaw=0.4 * yaw)
  for side, sign in (("left", 1), ("right", -1)):
    stand, back = angles[f"{side}_knee"] / 2, 0.12 * pelvis  # the seat moves back as the trunk moves forward
    angles = with_leg(angles, side, stand + 0.6 * knees - back, stand + 0.4 * knees + back)
    angles = added(angles, side, hip_abduction=-sign * 0.3 * roll)
  if rng.random() < 0.3:
    return with_arms(rng, t, angles, ("overhead", "side", "side_high", "hip", "head", "crossed"), rest=0.1)
  for side in SIDES:
    angles = added(angles, side, shoulder_flexion=flexion, shoulder_abduction=abduction)
  return angles


def squatting(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """A dip to a deep squat on both legs, arms forward or free."""
  depth = excursions(rng, t, lambda: rng.uniform(0.35, 1.0), (0.6, 1.1), (0.1, 0.9))[:, 0]
  lean, wide = rng.uniform(20, 42), rng.uniform(2, 18)
  angles, spine = idle(rng, t), depth * rng.uniform(0, 18)
  angles = added(angles, pelvis_pitch=depth * lean, spine_pitch=spine, neck_pitch=-depth * lean * 0.7)
  for side in SIDES:
    angles = with_leg(angles, side, 4 + depth * 102, 4 + depth * rng.uniform(28, 34))
    angles = added(angles, side, hip_abduction=depth * wide, hip_rotation=-depth * wide * 0.6)
  if rng.random() < 0.5:
    return with_arms(rng, t, angles, rest=0.4)
  for side in SIDES:
    angles = added(angles, side, shoulder_flexion=80 * depth)
  return angles


# Degrees of the free leg at full reach: hip flexion, hip abduction, knee. Then the trunk's pitch that balances it.
_KICKS = np.array(
    [(80, 4, 8, -10), (98, 6, 105, 0), (8, 45, 5, 0), (-24, 4, 25, 28), (-15, 4, 100, 8), (65, 30, 70, 0)], float
)


def kicking(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Kicks and raises of one leg, while the other stands: forward, knee up, sideways, back."""
  side, other, sign = draw_sides(rng)
  move_s, hold_s = ((0.35, 0.6), (0.0, 0.3)) if rng.random() < 0.5 else ((0.7, 1.2), (0.3, 1.2))

  def draw():
    return np.append(_KICKS[rng.integers(len(_KICKS))] * rng.uniform(0.6, 1.05), 1.0)

  flexion, abduction, knee, pitch, on = excursions(rng, t, draw, move_s, hold_s).T
  angles = idle(rng, t)
  clear = 4 * on * (1 - on) * 25  # the free leg bends at once, so that it leaves the floor
  lean = sign * (5 * on + 0.25 * abduction)  # away from the free leg, whose hip rises
  angles = added(angles, pelvis_pitch=pitch * 0.6, spine_pitch=pitch * 0.4, pelvis_roll=lean, spine_roll=-0.4 * lean)
  thigh = flexion + clear * 0.5 + pitch * 0.3
  angles = added(angles, side, hip_flexion=thigh, hip_abduction=abduction, knee=knee + clear)
  angles = added(angles, other, hip_flexion=pitch * 0.6, hip_abduction=np.abs(lean) - 7 * on)
  balance = rng.uniform(15, 75) * on
  for one, share in ((other, 1), (side, -0.5)):
    swing = 0.4 * flexion * share
    angles = added(angles, one, shoulder_flexion=swing, shoulder_abduction=balance, elbow=15 * on)
  return with_arms(rng, t, angles, ("chest", "hip", "side", "goalpost"), rest=0.1) if rng.random() < 0.3 else angles


def jumping(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Repeated jumps: from a crouch with an arm swing, or jumping jacks."""
  angles, jacks = idle(rng, t), rng.random() < 0.45
  phase = 2 * np.pi * (rng.random() + rng.uniform(0.75, 1.0) * t) + drift(rng, t, 0.2)
  if jacks:
    wide, crouch = 0.5 - 0.5 * np.cos(phase), 0.5 + 0.5 * np.cos(2 * phase)
    angles["hop"] = rng.uniform(0.05, 0.12) * np.sin(phase) ** 2
    high, knees = rng.uniform(95, 155), rng.uniform(10, 28)
    for side in SIDES:
      bent = 4 + knees * crouch / 2
      angles = with_leg(angles, side, bent, bent)
      angles = added(angles, side, hip_abduction=20 * wide, shoulder_abduction=high * wide)
    return angles
  crouch, flight = bump(phase, 0.0, 0.13), bump(phase, 0.36, 0.085)
  depth, tuck, arms = rng.uniform(30, 75), rng.uniform(0, 70), rng.uniform(30, 140)
  angles["hop"] = rng.uniform(0.12, 0.35) * flight
  pitch = 35 * crouch + 0.15 * tuck * flight
  heading = rng.normal(0, 25) * t
  angles = added(angles, pelvis_pitch=pitch, spine_pitch=12 * crouch, neck_pitch=-20 * crouch, heading=heading)
  for side in SIDES:
    thigh = 4 + depth * 0.85 * crouch + 0.8 * tuck * flight
    angles = with_leg(angles, side, thigh, 4 + depth * 0.5 * crouch + 0.7 * tuck * flight)
    swing = arms * bump(phase, 0.33, 0.11) - 30 * bump(phase, 0.0, 0.12)
    angles = added(angles, side, shoulder_flexion=swing, shoulder_abduction=0.12 * arms * flight)
  return angles


def lunging(rng: np.random.Generator, t: np.ndarray) -> Angles:
  """Lunges forward or sideways and back, the other leg stretched or its knee near the floor."""
  side, other, sign = draw_sides(rng)
  sideways = rng.random() < 0.35
  depth = excursions(rng, t, lambda: rng.uniform(0.55, 1.0), (0.7, 1.1), (0.3, 1.2))[:, 0]
  step = 4 * depth * (1 - depth)
  pitch = depth * (rng.uniform(20, 35) if sideways else rng.uniform(-3, 22))
  angles = added(idle(rng, t), pelvis_pitch=pitch * 0.6, spine_pitch=pitch * 0.4, spine_yaw=drift(rng, t, 18))
  if sideways:
    angles = with_leg(angles, side, 4 + 68 * depth + 12 * step, 4 + 28 * depth + 16 * step)
    angles = with_leg(angles, other, 4 + 4 * depth, 4 + 0 * depth)
    angles = added(added(angles, side, hip_abduction=16 * depth), other, hip_abduction=36 * depth)
    angles = added(angles, pelvis_roll=-sign * 6 * depth, spine_roll=sign * 4 * depth)
  else:
    knee = rng.uniform(30, 85)
    angles = with_leg(angles, side, 4 + 76 * depth + 14 * step, 4 + 8 * depth + 26 * step)
    angles = with_leg(angles, other, 4 - 22 * depth, 4 + (knee + 22) * depth)
  if rng.random() < 0.6:
    pose = {one: draw_arm(rng, ("overhead", "side", "front", "hip", "side_high", "point")) for one in SIDES}
    on = depth[:, None]
    for one in SIDES:
      target = pose[side if rng.random() < 0.6 else one]
      angles = with_arm(angles, one, (1 - on) * get_arm(angles, one) + on * target)
  return angles


FAMILIES = {
    family.__name__: family
    for family in (locomotion, gesturing, reaching, sitting, turning, bending, squatting, kicking, jumping, lunging)
}


def draw_motion(rng: np.random.Generator, body: Body, family: str, num_frames: int, fps: float) -> np.ndarray:
  """Joint positions [f 17 3] float32 of one performance of `family` by `body`, around the origin.

  Metres, y up, floor y = 0.
  """
  angles = kinematics.limited(FAMILIES[family](rng, np.arange(num_frames) / fps), fps)
  return kinematics.planted(kinematics.forward(body, angles), body, angles, fps).astype(np.float32)
