"""From joint angles over time to joint positions on the floor: forward kinematics, joint limits, planted feet.

Angles are degrees (as in tables of anatomy), one array [f] a degree of freedom, in a dict with the names of `LIMITS`; a
missing name is zero. The world is right-handed, y up, floor y = 0, metres; with heading 0 the subject looks along z and
its left is x. Positive means: pitch forward, roll to the subject's right (left side up), yaw to the left; flexion forward
(knee: heel to the seat), abduction away from the body, twist and rotation inwards.
"""

import numpy as np

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
# Heading: degrees. Hop: metres above the ground contact. Heel: metres, how high the heel of a foot that carries is. Swing:
# from 0 to 1, a foot near the floor that carries nothing.
UNLIMITED = ("heading", "hop", "left_heel", "right_heel", "left_swing", "right_swing")

_SMOOTHING_S = 0.03  # standard deviation of the smoothing that follows the limits
_CONTACT_M = 0.015  # points within about this height of the lowest one share the ground contact
_FLIGHT_M = 0.01  # above about this hop the feet carry nothing
_INERTIA_S = 0.05
_KNEE_CLEARANCE_M = 0.06
_CLAVICLE_DEG = 12.5  # shoulders rise with the arm: by this at arm horizontal, by twice this overhead


def smooth(x: np.ndarray, fps: float, seconds: float) -> np.ndarray:
  """`x` [f ...] averaged over time by a Gaussian with standard deviation `seconds`; ends are held."""
  reach = max(int(np.ceil(3 * seconds * fps)), 1)
  kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * fps)) ** 2)
  padded = np.concatenate([np.repeat(x[:1], reach, 0), x, np.repeat(x[-1:], reach, 0)])
  flat = padded.reshape(len(padded), -1)
  columns = [np.convolve(flat[:, i], kernel / kernel.sum(), mode="valid") for i in range(flat.shape[1])]
  return np.stack(columns, -1).reshape(x.shape)


def limited(angles: Angles, fps: float) -> Angles:
  """All degrees of freedom within `LIMITS` and without kinks. Raises ValueError for an unknown name.

  Smoothing comes second: an average of values inside the limits is inside them.
  """
  if unknown := set(angles) - set(LIMITS) - set(UNLIMITED):
    raise ValueError(f"unknown degrees of freedom: {', '.join(sorted(unknown))}")
  zero = np.zeros_like(next(iter(angles.values())))
  full = {name: np.clip(angles.get(name, zero), *limit) for name, limit in LIMITS.items()}
  full |= {name: angles.get(name, zero) for name in UNLIMITED}
  return {name: smooth(value, fps, _SMOOTHING_S) for name, value in full.items()}


def _rotation(axis: int, degrees: np.ndarray) -> np.ndarray:
  """Rotations [f 3 3] by `degrees` [f] about coordinate axis 0, 1 or 2, counter-clockwise."""
  c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
  out = np.zeros(degrees.shape + (3, 3))
  i, j = (axis + 1) % 3, (axis + 2) % 3
  out[..., axis, axis] = 1
  out[..., i, i], out[..., i, j], out[..., j, i], out[..., j, j] = c, -s, s, c
  return out


def _turn(pitch, yaw, roll) -> np.ndarray:
  """Forward pitch, then roll, then yaw, as seen from the moving part."""
  return _rotation(0, pitch) @ _rotation(2, roll) @ _rotation(1, yaw)


def forward(body: Body, angles: Angles) -> np.ndarray:
  """Joint positions [f 17 3] with the root at the origin, for a complete dict of angles (see `limited`)."""
  a = angles
  pelvis = _rotation(1, a["heading"]) @ _turn(a["pelvis_pitch"], 0 * a["heading"], a["pelvis_roll"])
  # The spine bends in two places: below the spine joint and at it.
  half_spine = _turn(a["spine_pitch"] / 2, a["spine_yaw"] / 2, a["spine_roll"] / 2)
  waist = pelvis @ half_spine
  chest = waist @ half_spine
  neck = chest @ _turn(a["neck_pitch"], a["neck_yaw"], a["neck_roll"])
  frames = {7: waist, 8: chest, 9: neck, 10: neck}
  for side, sign, hip, shoulder in (("left", 1, 4, 11), ("right", -1, 1, 14)):
    s = {name: a[f"{side}_{name}"] for name in _LIMBS}
    thigh = pelvis @ _turn(-s["hip_flexion"], -sign * s["hip_rotation"], sign * s["hip_abduction"])
    arm = _turn(-s["shoulder_flexion"], -sign * s["shoulder_twist"], sign * s["shoulder_abduction"])
    raised = 1 - arm[:, 1, 1]  # 0 for a hanging arm, 1 horizontal, 2 overhead
    frames |= {hip: pelvis, hip + 1: thigh, hip + 2: thigh @ _rotation(0, s["knee"])}
    frames[shoulder] = chest @ _rotation(2, sign * _CLAVICLE_DEG * raised)
    frames |= {shoulder + 1: chest @ arm, shoulder + 2: chest @ arm @ _rotation(0, -s["elbow"])}
  poses = np.zeros((len(a["heading"]), 17, 3))
  for joint, parent in enumerate(skeleton.PARENTS):
    if parent >= 0:
      poses[:, joint] = poses[:, parent] + frames[joint] @ body.offsets[joint]
  return poses


def planted(poses: np.ndarray, body: Body, angles: Angles, fps: float) -> np.ndarray:
  """Poses [f 17 3] of any root, moved so that they stand on the floor and the foot that carries does not slide.

  Heights: a soft minimum over ankles and knees (less their clearance) rests on y = 0, so nothing sinks in and a change of
  the carrying foot has no jerk; the hop is added. The path follows from contact: the root moves against the carrying
  points, and coasts where it hops. So a gait's speed comes from its angles. The path is centred on the origin.
  """
  relative = poses - poses[:, :1]
  contacts = (2, 3, 5, 6)
  knee = np.full(len(poses), _KNEE_CLEARANCE_M)
  clearance = np.stack([knee, body.ankle_height + angles["right_heel"], knee, body.ankle_height + angles["left_heel"]], -1)
  height = relative[:, contacts, 1] - clearance  # f 4
  lowest = height.min(-1, keepdims=True)
  carry = np.exp(-(height - lowest) / _CONTACT_M)
  soft_minimum = lowest[:, 0] - _CONTACT_M * np.log(carry.sum(-1))
  carry *= 1.001 - np.stack([0 * knee, angles["right_swing"], 0 * knee, angles["left_swing"]], -1)
  carry /= carry.sum(-1, keepdims=True)
  carry = (carry[1:] + carry[:-1]) / 2
  steps = -(carry[..., None] * np.diff(relative[:, contacts], axis=0)).sum(1)  # f-1 3
  ground = (np.exp(-angles["hop"] / _FLIGHT_M) + 1e-3)[1:, None]
  steps = smooth(ground * steps, fps, _INERTIA_S) / smooth(ground, fps, _INERTIA_S)
  root = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, 0)])
  root -= (root.max(0) + root.min(0)) / 2
  root[:, 1] = angles["hop"] - soft_minimum
  return relative + root[:, None]
