"""Lifted motion as a BVH file for Blender and game engines: a Human3.6M-17 hierarchy with rotations.

Joints come in a level frame: x right, y up, z towards the camera (`geometry.gravity.stand`). Offsets are mean bone
lengths along a T-pose that faces +Z. A bone keeps its direction in every frame, but BVH gives it one length for
all frames. Hip and thorax have several bones, and one rotation cannot aim them all. Such a joint takes the rotation
nearest to all of them. Each of its bones has another joint at the same place, such as `hip_to_spine`, for the rest of
the rotation.

BVH names no unit. The default is centimetres, as game engines expect; Blender's importer then takes scale 0.01.
"""

import pathlib
import warnings

import numpy as np
from scipy.spatial.transform import Rotation

from posynda_jax.geometry import skeleton

UNITS = {"cm": 100.0, "m": 1.0}
_CHANNELS = "Zrotation Xrotation Yrotation"
_RIGHT, _UP = np.array([-1.0, 0, 0]), np.array([0, 1.0, 0])
# The T-pose: the direction of each joint from its parent.
_REST = np.array([
    _UP, _RIGHT, -_UP, -_UP, -_RIGHT, -_UP, -_UP, _UP, _UP, _UP, _UP, -_RIGHT, -_RIGHT, -_RIGHT, _RIGHT, _RIGHT, _RIGHT
])  # fmt: skip


def write(path, joints: np.ndarray, fps: float, unit: str = "cm") -> float:
  """The largest distance (m) of a joint from its place in the file of absolute joints [T 17 3] (m, y up).

  It is 0 if bones keep their lengths. Raises ValueError for non-finite poses, another shape, or an unknown unit.
  """
  poses = np.asarray(joints, np.float64)
  if poses.ndim != 3 or poses.shape[1:] != (17, 3) or not len(poses) or not np.isfinite(poses).all():
    raise ValueError(f"poses of shape {poses.shape} are not finite (T, 17, 3) with T of 1 or more")
  if unit not in UNITS or not fps > 0:
    raise ValueError(f"unit {unit!r}, fps {fps}: expected {' or '.join(UNITS)}, and a positive rate")
  bones = poses[:, 1:] - poses[:, np.array(skeleton.PARENTS[1:])]
  lengths = np.linalg.norm(bones, axis=-1)
  mean = lengths.mean(0)
  directions = np.divide(bones, lengths[..., None], out=np.zeros_like(bones), where=lengths[..., None] > 1e-9)
  offsets = np.concatenate([np.zeros((1, 3)), mean[:, None] * _REST[1:]]) + 0.0  # no minus zeros
  lines, rotations = _walk(offsets, directions)
  values = np.concatenate([poses[:, 0] * UNITS[unit], *(_angles(r) for r in rotations)], 1)
  head = "\n".join(lines).format(*offsets.ravel() * UNITS[unit])
  with open(pathlib.Path(path), "w", encoding="ascii") as file:
    file.write(f"HIERARCHY\n{head}\nMOTION\nFrames: {len(poses)}\nFrame Time: {1 / fps:.9g}\n")
    np.savetxt(file, values, fmt="%.6f")
  placed = poses.copy()
  for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
    placed[:, joint] = placed[:, parent] + mean[joint - 1] * directions[:, joint - 1]
  return float(np.linalg.norm(placed - poses, axis=-1).max())


def _walk(offsets: np.ndarray, directions: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
  """Lines of the hierarchy, with fields for the numbers of `offsets`, and its joints' local rotations [T 3 3]."""
  lines, rotations = [], []

  def add(name: str, joint: int | None, turn: np.ndarray, frame: np.ndarray, children: list[int], depth: int) -> None:
    """Adds a joint and its children. `turn` and `frame`, of the joint and its parent, are rotations from the world."""
    pad = "  " * depth
    place = "0 0 0" if joint is None else " ".join(f"{{{3 * joint + axis}:.6f}}" for axis in range(3))
    channels = f"3 {_CHANNELS}" if depth else f"6 Xposition Yposition Zposition {_CHANNELS}"
    kind = "JOINT" if depth else "ROOT"
    lines.extend([f"{pad}{kind} {name}", f"{pad}{{{{", f"{pad}  OFFSET {place}", f"{pad}  CHANNELS {channels}"])
    rotations.append(np.swapaxes(frame, -1, -2) @ turn)
    for child in children:
      if len(children) > 1:  # a joint of its own that aims this bone
        aim = _swing(turn @ _REST[child], directions[:, child - 1]) @ turn
        add(f"{name}_to_{skeleton.JOINTS[child]}", None, aim, turn, [child], depth + 1)
      else:
        hang(child, turn, depth + 1)
    if not children:
      lines.extend([f"{pad}  End Site", f"{pad}  {{{{", f"{pad}    OFFSET 0 0 0", f"{pad}  }}}}"])
    lines.append(f"{pad}}}}}")

  def hang(joint: int, frame: np.ndarray, depth: int) -> None:
    children = [c for c, parent in enumerate(skeleton.PARENTS) if parent == joint]
    if len(children) == 1:
      turn = _swing(frame @ _REST[children[0]], directions[:, children[0] - 1]) @ frame
    elif children:
      turn = _nearest_rotation(offsets[children], directions[:, [c - 1 for c in children]])
    else:
      turn = frame
    add(skeleton.JOINTS[joint], joint, turn, frame, children, depth)

  hang(skeleton.ROOT, np.broadcast_to(np.eye(3), (len(directions), 3, 3)), 0)
  return lines, rotations


def _swing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """The least rotations [T 3 3] from unit vectors a [T 3] to b [T 3]; the identity where b is zero."""
  half = a + b
  size = np.linalg.norm(half, axis=-1, keepdims=True)
  aside = np.cross(a, np.where(np.abs(a[:, :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0]))  # an axis across a, for half turns
  half = np.divide(half, size, out=np.zeros_like(half), where=size > 1e-7)
  quaternion = np.concatenate([np.cross(a, half), (a * half).sum(-1, keepdims=True)], -1)  # x, y, z, w
  quaternion = np.where(size > 1e-7, quaternion, np.pad(aside, ((0, 0), (0, 1))))
  quaternion = np.where(b.any(-1, keepdims=True), quaternion, [0.0, 0, 0, 1])
  return Rotation.from_quat(quaternion).as_matrix()


def _nearest_rotation(rest: np.ndarray, directions: np.ndarray) -> np.ndarray:
  """Rotations [T 3 3] that bring the offsets [n 3] nearest to the directions [T n 3] (Kabsch)."""
  u, _, vt = np.linalg.svd(np.swapaxes(directions, -1, -2) @ rest)
  u[..., 2] *= np.linalg.det(u @ vt)[:, None]
  return u @ vt


def _angles(rotations: np.ndarray) -> np.ndarray:
  """Degrees [T 3] about Z, X and Y of rotations [T 3 3], without jumps of a full turn between frames."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # X a quarter turn: SciPy warns, and sets Y to 0
    angles = Rotation.from_matrix(rotations).as_euler("ZXY")
  return np.degrees(np.unwrap(angles, axis=0))
