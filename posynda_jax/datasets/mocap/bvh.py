"""Joint positions and rotations from BVH motion files, in the file's own length unit, frame and joint names.

A joint's rotation is the product of its rotation channels in the file's order, the first leftmost. A position channel
replaces that component of OFFSET. The end site of joint X is the joint X_End, which does not turn.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

# A joint or an end site up to its children, or a closing brace.
_NODE = re.compile(
    r"(ROOT|JOINT|End)\s+(\S+)\s*{\s*OFFSET((?:\s+\S+){3})"
    r"(?:\s+CHANNELS\s+\d+((?i:\s+[XYZ](?:position|rotation))*))?|}"
)


class Joint(NamedTuple):
  """A joint of the hierarchy: its parent's index (-1 for the root), `offset` [3], channels such as "Zrotation"."""

  name: str
  parent: int
  offset: np.ndarray
  channels: tuple[str, ...]


class Bvh(NamedTuple):
  """Joints, parents first; `values` [f c] of all their channels in that order (angles in degrees); `fps`."""

  joints: tuple[Joint, ...]
  values: np.ndarray
  fps: float


def parse_bvh(text: str, name: str = "BVH file") -> Bvh:
  """The motion in the text of a BVH file. Raises ValueError that begins with `name`."""
  head, keyword, body = text.partition("MOTION")
  _, hierarchy, head = head.partition("HIERARCHY")
  if not (keyword and hierarchy):
    raise ValueError(f"{name}: expected HIERARCHY .. MOTION ..; this is not a whole BVH file, fetch it again")
  try:
    joints = _hierarchy(head)
    frames, count, frame, time, seconds, *values = body.split()
    if (frames, frame, time) != ("Frames:", "Frame", "Time:") or not float(seconds) > 0:
      raise ValueError("MOTION does not begin with 'Frames: n' and 'Frame Time: s'")
    shape = int(count), sum(len(joint.channels) for joint in joints)
    if len(values) != shape[0] * shape[1]:
      raise ValueError(f"expected {shape[0]} frames of {shape[1]} channels, found {len(values)} values")
    values = np.array(list(map(float, values))).reshape(shape)
    if not np.isfinite(values).all():
      raise ValueError("a value that is not a finite number")
  except (ValueError, IndexError) as error:
    raise ValueError(f"{name}: {error}; the file is truncated or damaged, fetch it again") from error
  return Bvh(joints, values, 1 / float(seconds))


def _hierarchy(text: str) -> tuple[Joint, ...]:
  joints = []
  open_joints = []  # index of each joint whose brace is open
  for node in _NODE.finditer(text):
    keyword, name, offset, channels = node.groups()
    if not keyword:  # a closing brace
      open_joints.pop()
      continue
    parent = open_joints[-1] if open_joints else -1
    open_joints.append(len(joints))
    name = f"{joints[parent].name}_End" if keyword == "End" else name
    joints.append(Joint(name, parent, np.array(offset.split(), np.float64), tuple((channels or "").split())))
  if unknown := _NODE.sub("", text).split():
    raise ValueError(f"unexpected {unknown[0]!r} in HIERARCHY")
  if open_joints or not joints:
    raise ValueError("HIERARCHY does not close")
  return tuple(joints)


def forward(motion: Bvh) -> tuple[dict[str, np.ndarray], dict[str, Rotation]]:
  """World positions [f 3] and rotations [f] of every joint by name."""
  positions, rotations = {}, {}
  columns = iter(motion.values.T)
  for joint in motion.joints:
    local = np.tile(joint.offset, (len(motion.values), 1))
    axes, degrees = "", []
    for channel in joint.channels:
      axis = channel[0].upper()
      if channel[1:].lower() == "position":
        local[:, "XYZ".index(axis)] = next(columns)
      else:
        axes += axis
        degrees.append(next(columns))
    # Upper case: each channel turns about an axis that the channels before it have turned.
    own = Rotation.from_euler(axes, np.stack(degrees, -1), degrees=True) if axes else Rotation.identity(len(local))
    if joint.parent >= 0:
      parent = motion.joints[joint.parent].name
      local, own = positions[parent] + rotations[parent].apply(local), rotations[parent] * own
    positions[joint.name], rotations[joint.name] = local, own
  return positions, rotations
