"""Joint positions from Acclaim skeletons (ASF) and motions (AMC), the formats of CMU and HDM05.

Frame: the capture room, right-handed, Y up, metres. One file unit is 1 / `length` inches. A bone turns by C M C^-1,
where C comes from its `axis` in the ASF and M from its angles in the AMC. It ends at start + R direction length, where
`direction` is in room axes at rest. The parser reads the subset of the format that the two databases use (degrees,
rotations, a root given as TX TY TZ RX RY RZ) and refuses other files with ValueError.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

INCH_M = 0.0254
ROOT = "root"
_ROOT_ORDER = ("tx", "ty", "tz", "rx", "ry", "rz")
_KEYWORD = re.compile(r"^[ \t]*:(\w+).*$", re.M)
_BLOCK = re.compile(r"^[ \t]*begin[ \t]*$(.*?)^[ \t]*end[ \t]*$", re.M | re.S | re.I)


class Bone(NamedTuple):
  """A bone: `offset` [3] (m) from start to end at rest, `axis` C, and the names of its AMC values ("rx", ...)."""

  parent: str | None
  offset: np.ndarray
  axis: Rotation
  dof: tuple[str, ...]


class Skeleton(NamedTuple):
  """Bones by name, the root first and every parent before its children. `metres` is the length of one file unit."""

  bones: dict[str, Bone]
  metres: float


def parse_asf(text: str, name: str = "ASF file") -> Skeleton:
  """The skeleton in the text of an ASF file. Raises ValueError that begins with `name`."""
  text = re.sub(r"^[ \t]*#.*$", "", text.replace("\r", "\n"), flags=re.M)
  _, *parts = _KEYWORD.split(text)
  try:
    return _skeleton({keyword.lower(): section for keyword, section in zip(parts[::2], parts[1::2])})
  except (KeyError, IndexError, ValueError) as error:
    reason = f"no {error}" if isinstance(error, KeyError) else str(error)
    raise ValueError(f"{name}: not a complete ASF skeleton ({reason}); fetch the file again") from error


def _skeleton(sections: dict[str, str]) -> Skeleton:
  units, root = _fields(sections["units"]), _fields(sections["root"])
  if units["angle"][0].lower() != "deg":
    raise ValueError(f"angles in {units['angle'][0]!r}, expected deg")
  metres = INCH_M / float(units["length"][0])
  if tuple(x.lower() for x in root["order"]) != _ROOT_ORDER:
    raise ValueError(f"root order {' '.join(root['order'])}, expected TX TY TZ RX RY RZ")
  start = metres * np.array(root["position"], np.float64)
  bones = {ROOT: Bone(None, start, _axis(root["orientation"] + root["axis"]), _ROOT_ORDER)}
  fields = {field["name"][0]: field for field in map(_fields, _BLOCK.findall(sections["bonedata"]))}
  for links in _BLOCK.findall(sections["hierarchy"]):
    for parent, *children in filter(None, map(str.split, links.split("\n"))):
      if parent not in bones:
        raise ValueError(f"bone {parent!r} has children before it has a parent")
      bones |= {child: _bone(parent, fields[child], metres) for child in children}
  if len(bones) == 1:
    raise ValueError("no hierarchy from begin to end")
  return Skeleton(bones, metres)


def _fields(text: str) -> dict[str, list[str]]:
  """The tokens of each line by its first token in lower case."""
  return {key.lower(): values for key, *values in filter(None, map(str.split, text.split("\n")))}


def _bone(parent: str, field: dict[str, list[str]], metres: float) -> Bone:
  dof = tuple(x.lower() for x in field.get("dof", ()))
  if not set(dof) <= {"rx", "ry", "rz"}:
    raise ValueError(f"degrees of freedom {' '.join(dof)}, expected rotations only")
  offset = metres * float(field["length"][0]) * np.array(field["direction"], np.float64)
  return Bone(parent, offset, _axis(field["axis"]), dof)


def _axis(tokens: list[str]) -> Rotation:
  """C from the tokens "x y z XYZ". The first letter's axis turns first."""
  *degrees, order = tokens
  return Rotation.from_euler(order.lower(), [float(x) for x in degrees], degrees=True)  # lower case: fixed axes


def parse_amc(text: str, skeleton: Skeleton, stride: int = 1, name: str = "AMC file") -> dict[str, np.ndarray]:
  """Values [f n] of every `stride`-th frame for each bone with n > 0, in file units and degrees.

  Raises ValueError that begins with `name` and gives the first frame or bone that cannot be read.
  """
  try:
    return _columns(re.split(":DEGREES", text, maxsplit=1, flags=re.I)[1].split(), skeleton, stride)
  except IndexError as error:
    raise ValueError(f"{name}: no ':DEGREES' header, so this is not an AMC motion; fetch the file again") from error
  except ValueError as error:
    raise ValueError(f"{name}: {error}; fetch the file again") from error


def _columns(tokens: list[str], skeleton: Skeleton, stride: int) -> dict[str, np.ndarray]:
  columns, width = {}, 1  # bone -> column of its name among the tokens of a frame, which begins with its number
  while width < len(tokens) and tokens[width] in skeleton.bones and tokens[width] not in columns:
    bone = tokens[width]
    columns[bone] = width
    width += 1 + len(skeleton.bones[bone].dof)
  if missing := [bone for bone, b in skeleton.bones.items() if b.dof and bone not in columns]:
    end = repr(tokens[width]) if width < len(tokens) else "the end"
    raise ValueError(f"frame 1 has no values for {', '.join(missing)} before {end}")
  num_frames = len(tokens) // width
  table = np.array(tokens[: num_frames * width]).reshape(num_frames, width)
  # Every frame repeats the bones of the first.
  names = list(columns.values())
  whole = (table[:, names] == table[:1, names]).all(1) & (table[:, 0] == np.arange(1, num_frames + 1).astype(str))
  if not whole.all() or len(tokens) % width:
    broken = 1 + np.argmin(np.append(whole, False))
    raise ValueError(f"frame {broken} does not have the bones and values of frame 1 (truncated file?)")
  values = {bone: table[::stride, at + 1 : at + 1 + len(skeleton.bones[bone].dof)] for bone, at in columns.items()}
  values = {bone: angles.astype(np.float64) for bone, angles in values.items()}
  for bone, angles in values.items():
    if not np.isfinite(angles).all():
      raise ValueError(f"bone {bone!r} has a value that is not a finite number")
  return values


def joint_ends(skeleton: Skeleton, motion: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Room positions [f 3] (m) of the root and of the end of each bone, by forward kinematics over all frames at once."""
  ends, turns = {}, {}
  for name, bone in skeleton.bones.items():
    angles = [x for x in sorted(bone.dof) if x.startswith("r")]  # X turns first, then Y, then Z
    if angles:
      degrees = motion[name][:, [bone.dof.index(x) for x in angles]]
      own = Rotation.from_euler("".join(x[1] for x in angles), degrees, degrees=True)
      own = bone.axis * own * bone.axis.inv()
    if name == ROOT:
      ends[name], turns[name] = bone.offset + skeleton.metres * motion[ROOT][:, :3], own
    else:
      turns[name] = turns[bone.parent] * own if angles else turns[bone.parent]
      ends[name] = ends[bone.parent] + turns[name].apply(bone.offset)
  return ends
