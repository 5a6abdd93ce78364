"""Joint positions on the floor from joint angles over time: limits, forward kinematics, planted feet.

Angles are in degrees, one array [f] a degree of freedom, in a dict with the names of `LIMITS`; a missing name is zero.
The world is right-handed, metres, y up, floor y = 0. At heading 0 the subject faces z and its left is x. Positive
directions are: pitch forward, roll to the subject's right (left side up), yaw to the left, flexion forward (knee: heel
to the seat), abduction away from the body, twist and rotation inwards.
"""

import math

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from posynda_jax.datasets.synthetic_motion.body import Body
from posynda_jax.geometry import skeleton

Angles = dict[str, np.ndarray]

SIDES = ("left", "right")
_TRUNK = {
    "pelvis_pitch": (-20, 85), "pelvis_roll": (-20, 20), "spine_pitch": (-25, 60), "spine_roll": (-30, 30),
    "spine_yaw": (-45, 45), "neck_pitch": (-40, 45), "neck_roll": (-25, 25), "neck_yaw": (-65, 65),
}
_LIMBS = {
    "hip_flexion": (-25, 125), "hip_abduction": (-20, 50), "hip_rotation": (-35, 30), "knee": (2, 145),
    "shoulder_flexion": (-50, 175), "shoulder_abduction": (-40, 175), "shoulder_twist": (-85, 85), "elbow": (3, 145),
}
LIMITS = _TRUNK | {f"{side}_{name}": limit for side in SIDES for name, limit in _LIMBS.items()}
# Heading: degrees. Hop: metres above the ground contact. Heel: height (m) of the heel of a foot that carries. Swing: 1
# for a foot near the floor that does not carry, else 0.
UNLIMITED = ("heading", "hop", "left_heel", "right_heel", "left_swing", "right_swing")

_SMOOTHING_S = 0.03  # standard deviation of the smoothing after the limits
_CONTACT_M = 0.015  # points within about this height of the lowest one share the ground contact
_FLIGHT_M = 0.01  # the feet carry nothing above about this hop
_INERTIA_S = 0.05
_KNEE_CLEARANCE_M = 0.06
_CLAVICLE_DEG = 12.5  # elevation of the shoulder at a horizontal arm; twice this overhead


def smooth(x: np.ndarray, fps: float, seconds: float) -> np.ndarray:
  """`x` [f ...] averaged over time by a Gaussian with standard deviation `seconds`; the ends are held."""
  sigma = seconds * fps
  return ndimage.gaussian_filter1d(x, sigma, axis=0, mode="nearest", radius=max(math.ceil(3 * sigma), 1))


def limited(angles: Angles, fps: float) -> Angles:
  """All degrees of freedom within `LIMITS`, then smooth, because an average of values inside them is inside them."""
  zero = np.zeros_like(next(iter(angles.values())))
  full = {name: np.clip(angles.get(name, zero), *limit) for name, limit in LIMITS.items()}
  full |= {name: angles.get(name, zero) for name in UNLIMITED}
  return {name: smooth(value, fps, _SMOOTHING_S) for name, value in full.items()}


def _turn(axes: str, *degrees: np.ndarray) -> Rotation:
  """Rotations [f] about the axes of the moving part, one after the other."""
  return Rotation.from_euler(axes, np.stack(degrees, -1), degrees=True)


def forward(body: Body, angles: Angles) -> np.ndarray:
  """Joint positions [f 17 3] with the root at the origin, for a complete dict of angles (see `limited`)."""
  a = angles
  pelvis = _turn("YXZ", a["heading"], a["pelvis_pitch"], a["pelvis_roll"])
  # The spine bends in two places: below the spine joint and at it.
  half_spine = _turn("XZY", a["spine_pitch"] / 2, a["spine_roll"] / 2, a["spine_yaw"] / 2)
  waist = pelvis * half_spine
  chest = waist * half_spine
  neck = chest * _turn("XZY", a["neck_pitch"], a["neck_roll"], a["neck_yaw"])
  frames = {7: waist, 8: chest, 9: neck, 10: neck}
  for side, sign, hip, shoulder in (("left", 1, 4, 11), ("right", -1, 1, 14)):
    s = {name: a[f"{side}_{name}"] for name in _LIMBS}
    thigh = pelvis * _turn("XZY", -s["hip_flexion"], sign * s["hip_abduction"], -sign * s["hip_rotation"])
    arm = _turn("XZY", -s["shoulder_flexion"], sign * s["shoulder_abduction"], -sign * s["shoulder_twist"])
    raised = 1 - arm.apply([0, 1, 0])[:, 1]  # 0 for a hanging arm, 1 horizontal, 2 overhead
    frames |= {hip: pelvis, hip + 1: thigh, hip + 2: thigh * _turn("X", s["knee"])}
    frames[shoulder] = chest * _turn("Z", sign * _CLAVICLE_DEG * raised)
    frames |= {shoulder + 1: chest * arm, shoulder + 2: chest * arm * _turn("X", -s["elbow"])}
  poses = np.zeros((len(a["heading"]), 17, 3))
  for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
    poses[:, joint] = poses[:, parent] + frames[joint].apply(body.offsets[joint])
  return poses


def planted(poses: np.ndarray, body: Body, angles: Angles, fps: float) -> np.ndarray:
  """Poses [f 17 3] with any root, moved so that they stand on the floor and the foot that carries does not slide.

  Height: a soft minimum over ankles and knees, less their clearance, is at y = 0, which avoids a jerk when the
  carrying foot changes. The hop is added. Path: the root moves against the carrying points and keeps its velocity in a
  hop, so the angles of a gait decide its speed. The path is centred on the origin.
  """
  relative = poses - poses[:, :1]
  contacts = (2, 3, 5, 6)
  clearance = np.full((len(poses), 4), _KNEE_CLEARANCE_M)
  clearance[:, 1] = body.ankle_height + angles["right_heel"]
  clearance[:, 3] = body.ankle_height + angles["left_heel"]
  height = relative[:, contacts, 1] - clearance  # f 4
  lowest = height.min(-1, keepdims=True)
  carry = np.exp(-(height - lowest) / _CONTACT_M)
  soft_minimum = lowest[:, 0] - _CONTACT_M * np.log(carry.sum(-1))
  swing = np.zeros_like(carry)
  swing[:, 1], swing[:, 3] = angles["right_swing"], angles["left_swing"]
  carry *= 1.001 - swing
  carry /= carry.sum(-1, keepdims=True)
  carry = (carry[1:] + carry[:-1]) / 2
  steps = -(carry[..., None] * np.diff(relative[:, contacts], axis=0)).sum(1)  # f-1 3
  ground = (np.exp(-angles["hop"] / _FLIGHT_M) + 1e-3)[1:, None]
  steps = smooth(ground * steps, fps, _INERTIA_S) / smooth(ground, fps, _INERTIA_S)
  root = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, 0)])
  root -= (root.max(0) + root.min(0)) / 2
  root[:, 1] = angles["hop"] - soft_minimum
  return relative + root[:, None]
