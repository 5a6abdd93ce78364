"""Which way is up in a lifted video, and poses that stand on a floor.

A single camera does not show gravity. People do: over the frames in which somebody stands or walks, the hips are above
the ankles.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

CAMERA_UP = np.array([0.0, -1.0, 0.0])  # of a level camera: the image's y axis points down
_HIP, _THORAX, _KNEES, _ANKLES = 0, 8, [2, 5], [3, 6]
_STRAIGHT = 0.92  # least length from hips to ankles, as a share of the legs' length, of somebody who stands
_IN_LINE = np.cos(np.radians(35))  # of legs and trunk
LEAST_FRAMES = 10
SURE_DEG = 12.0  # largest median angle between a frame's own up and that of the video
_ROUNDS = 20  # of the geometric median


@dataclasses.dataclass(frozen=True)
class Up:
  """A unit vector in the camera's axes; whether it was found or only assumed; the median angle (degrees) between it and
  the upright frames, NaN if there are none; their number.
  """

  vector: Float[np.ndarray, "3"]
  is_sure: bool
  spread_deg: float
  frames: int


def find_up(poses: Float[np.ndarray, "t 17 3"], trusted: np.ndarray | None = None) -> Up:
  """The up of a video's poses (m, camera's axes), of the frames `trusted` [t]: the geometric median, over frames of
  upright people, of the direction from ankles to hips. Without such frames it is the camera's.
  """
  legs = poses[:, _HIP] - poses[:, _ANKLES].mean(1)
  trunk = poses[:, _THORAX] - poses[:, _HIP]
  whole = sum(np.linalg.norm(poses[:, a] - poses[:, b], axis=-1).mean(-1)
              for a, b in ((_KNEES, _ANKLES), (_KNEES, [1, 4])))
  length, unit = np.linalg.norm(legs, axis=-1), _unit(legs)
  upright = (length > _STRAIGHT * whole) & ((unit * _unit(trunk)).sum(-1) > _IN_LINE)
  if trusted is not None:
    upright &= trusted
  found = unit[upright]
  if len(found) < LEAST_FRAMES:
    return Up(CAMERA_UP, False, float("nan"), int(upright.sum()))
  middle = _unit(found.mean(0))
  for _ in range(_ROUNDS):
    weight = 1 / np.maximum(np.linalg.norm(found - middle, axis=-1), 1e-3)
    middle = _unit((weight[:, None] * found).sum(0))
  spread = float(np.median(angle_deg(found, middle)))
  return Up(middle, spread < SURE_DEG, spread, len(found))


def up_of_motion(poses: np.ndarray, world: np.ndarray) -> np.ndarray:
  """The up [3] in the camera's axes of poses [T 17 3] that render a part of the motion `world` [S 17 3], Y up."""

  def shape(motion):
    return np.linalg.norm(motion[:, 3] - motion[:, 13], axis=-1)

  windows = np.lib.stride_tricks.sliding_window_view(shape(world), len(poses))
  first = int(np.abs(windows - shape(poses)).sum(-1).argmin())
  part = world[first : first + len(poses)]
  a, b = ((x - x[:, :1]).reshape(-1, 3) for x in (part, poses))
  u, _, vt = np.linalg.svd(a.T @ b)
  return (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T @ np.array([0.0, 1.0, 0.0])


def angle_deg(a: Float[np.ndarray, "*n 3"], b: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
  """Angles (degrees) between unit vectors."""
  return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def pitched(degrees: float) -> Float[np.ndarray, "3"]:
  """Up in the axes of a camera that looks `degrees` below the horizon, and is not rolled."""
  pitch = np.radians(degrees)
  return np.array([0.0, -np.cos(pitch), -np.sin(pitch)])


def levelling(up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
  """The rotation from the camera's axes to those of a level camera (x right, y down, z ahead) that looks the same way,
  where `up` is against gravity. Where the camera looks straight down, ahead is the top of its image.
  """
  ahead = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < 0.99 else np.array([0.0, np.sign(up[2]), 0.0])
  ahead = _unit(ahead - (ahead @ up) * up)
  return np.stack([np.cross(ahead, up), -up, ahead])


def stand(joints: Float[np.ndarray, "t 17 3"], up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "t 17 3"]:
  """Joints (m, camera's axes, absolute) in a level frame: x right, y up, z towards the camera, which is at x = z = 0.
  The floor, y = 0, is at the lowest ankles, of which a twentieth may be lower.
  """
  level = joints @ levelling(up).T * [1, -1, -1]
  level[..., 1] -= np.nanquantile(level[:, _ANKLES, 1].min(-1), 0.05)
  return level


def _unit(vectors: np.ndarray) -> np.ndarray:
  return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


ANGLES = {  # name -> two bones (from, to), between which the angle is: 0 where the limb is straight, or the arm hangs
    "right_knee": ((1, 2), (2, 3)), "left_knee": ((4, 5), (5, 6)),
    "right_hip": ((8, 0), (1, 2)), "left_hip": ((8, 0), (4, 5)),
    "right_elbow": ((14, 15), (15, 16)), "left_elbow": ((11, 12), (12, 13)),
    "right_shoulder": ((8, 0), (14, 15)), "left_shoulder": ((8, 0), (11, 12)),
}


def joint_angles(poses: Float[np.ndarray, "t 17 3"]) -> dict[str, Float[np.ndarray, "t"]]:
  """Degrees of flexion of ANGLES."""
  found = {}
  for name, bones in ANGLES.items():
    one, other = (_unit(poses[:, to] - poses[:, start]) for start, to in bones)
    found[name] = angle_deg(one, other)
  return found
