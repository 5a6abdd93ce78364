"""BVH motion files to joint positions and rotations, in the file's own length unit, frame and joint names.

A joint's rotation is the product of its rotation channels in the order the file names them, the first leftmost; a
position channel replaces that component of OFFSET. End sites are passed over.
"""

import dataclasses

import numpy as np

from posynda_jax.datasets.mocap import rotations


@dataclasses.dataclass(frozen=True)
class Joint:
  """A joint of the hierarchy: its parent's index (-1 for the root), `offset` [3], channels such as "Zrotation"."""

  name: str
  parent: int
  offset: np.ndarray
  channels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Bvh:
  """Joints, parents first; `values` [f c] of all their channels in that order (degrees for turns); frames a second."""

  joints: tuple[Joint, ...]
  values: np.ndarray
  fps: float


def parse_bvh(text: str, name: str = "BVH file") -> Bvh:
  """The motion in the text of a BVH file. Raises ValueError that begins with `name`."""
  head, keyword, body = text.partition("MOTION")
  tokens = head.split()
  if not keyword or tokens[:1] != ["HIERARCHY"]:
    raise ValueError(f"{name}: expected HIERARCHY .. MOTION ..; this is not a whole BVH file, fetch it again")
  try:
    joints = _hierarchy(tokens)
    frames, count, frame, time, seconds, *values = body.split()
    if (frames, frame, time) != ("Frames:", "Frame", "Time:") or not float(seconds) > 0:
      raise ValueError("MOTION does not begin with 'Frames: n' and 'Frame Time: s'")
    shape = int(count), sum(len(joint.channels) for joint in joints)
    if len(values) != shape[0] * shape[1]:
      raise ValueError(f"{len(values)} values where {shape[0]} frames of {shape[1]} channels are announced")
    values = np.array(list(map(float, values))).reshape(shape)
    if not np.isfinite(values).all():
      raise ValueError("a value that is not a finite number")
  except (ValueError, IndexError) as error:
    raise ValueError(f"{name}: {error}; the file is truncated or damaged, fetch it again") from error
  return Bvh(joints, values, 1 / float(seconds))


def _hierarchy(tokens: list[str]) -> tuple[Joint, ...]:
  joints = []
  open_joints = []  # index of each joint whose brace is open; None for an end site
  current = None
  i = 1
  while i < len(tokens):
    word = tokens[i]
    if word in ("ROOT", "JOINT"):
      current = len(joints)
      joints.append(Joint(tokens[i + 1], open_joints[-1] if open_joints else -1, np.zeros(3), ()))
      i += 2
    elif word == "End":
      current = None
      i += 2
    elif word == "{":
      open_joints.append(current)
      i += 1
    elif word == "}":
      open_joints.pop()
      i += 1
    elif word == "OFFSET":
      if open_joints[-1] is not None:
        joints[-1] = dataclasses.replace(joints[-1], offset=np.array(tokens[i + 1 : i + 4], np.float64))
      i += 4
    elif word == "CHANNELS":
      end = i + 2 + int(tokens[i + 1])
      joints[-1] = dataclasses.replace(joints[-1], channels=tuple(tokens[i + 2 : end]))
      i = end
    else:
      raise ValueError(f"unexpected {word!r} in HIERARCHY")
  if open_joints or not joints:
    raise ValueError("HIERARCHY does not close")
  return tuple(joints)


def forward(motion: Bvh) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """World positions [f 3] and rotations [f 3 3] of every joint by name. Raises ValueError for an unknown channel."""
  positions, turns = [], []
  column = 0
  for joint in motion.joints:
    local = np.tile(joint.offset, (len(motion.values), 1))
    own = []
    for channel in joint.channels:
      axis, kind = channel[:1].upper(), channel[1:].lower()
      if axis not in ("X", "Y", "Z") or kind not in ("position", "rotation"):
        raise ValueError(f"joint {joint.name!r} has the unknown channel {channel!r}")
      if kind == "position":
        local[:, "XYZ".index(axis)] = motion.values[:, column]
      else:
        own.append(rotations.axis_rotation(axis, motion.values[:, column]))
      column += 1
    own = np.broadcast_to(rotations.compose(own), (len(local), 3, 3))
    if joint.parent < 0:
      positions.append(local)
      turns.append(own)
    else:
      parent = turns[joint.parent]
      positions.append(positions[joint.parent] + (parent @ local[:, :, None])[:, :, 0])
      turns.append(parent @ own)
  names = [joint.name for joint in motion.joints]
  return dict(zip(names, positions)), dict(zip(names, turns))
