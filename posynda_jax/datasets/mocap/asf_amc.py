"""Joint positions from Acclaim skeletons (ASF) and motions (AMC), the formats of CMU and HDM05.

Frame: the capture room, right-handed, Y up, metres. One file unit is 1 / `length` inches. A bone turns by C M C^-1,
where C comes from its `axis` in the ASF and M from its angles in the AMC. It ends at start + R direction length, where
`direction` is in room axes at rest. The parser reads the subset of the format that the two databases use (degrees,
rotations, a root given as TX TY TZ RX RY RZ) and refuses other files with ValueError.
"""

import dataclasses
import re

import numpy as np
from scipy.spatial.transform import Rotation

INCH_M = 0.0254
ROOT = "root"
_ROOT_ORDER = ("tx", "ty", "tz", "rx", "ry", "rz")
_FIRST, _SECOND = (re.compile(rf"^[ \t]*{frame}[ \t]*$", re.M) for frame in (1, 2))
_KEYWORD = re.compile(r"^[ \t]*:(\w+).*$", re.M)
_BLOCK = re.compile(r"^[ \t]*begin[ \t]*$(.*?)^[ \t]*end[ \t]*$", re.M | re.S | re.I)


@dataclasses.dataclass(frozen=True)
class Bone:
  """A bone: `offset` [3] (m) from start to end at rest, `axis` C, and the names of its AMC values ("rx", ...)."""

  parent: str | None
  offset: np.ndarray
  axis: Rotation
  dof: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Skeleton:
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

  Raises ValueError that begins with `name` and gives the first frame and bone that cannot be read.
  """
  try:
    return _columns(text.replace("\r", "\n"), skeleton, stride)
  except ValueError as error:
    raise ValueError(f"{name}: {error}; fetch the file again") from error


def _columns(text: str, skeleton: Skeleton, stride: int) -> dict[str, np.ndarray]:
  first = _FIRST.search(text)
  if first is None or ":DEGREES" not in text[: first.start()].upper():
    raise ValueError("no ':DEGREES' header followed by frame 1, so this is not an AMC motion")
  second = _SECOND.search(text, first.end())
  frame = text[first.start() : second.start() if second else None].split()
  layout = _layout(frame, skeleton)
  tokens, width = text[first.start() :].split(), len(frame)
  num_frames = len(tokens) // width
  table = np.array(tokens[: num_frames * width]).reshape(num_frames, width)
  # Every frame begins with its number and repeats the bones of the first.
  names = [column for _, column, _ in layout]
  whole = (table[:, names] == table[0, names]).all(1) & (table[:, 0] == np.arange(1, num_frames + 1).astype(str))
  if not whole.all() or len(tokens) % width:
    broken = 1 + np.argmin(np.append(whole, False))
    raise ValueError(f"frame {broken} does not have the bones and values of frame 1 (truncated file?)")
  values = {bone: table[::stride, column + 1 : column + 1 + n].astype(np.float64) for bone, column, n in layout}
  for bone, angles in values.items():
    if not np.isfinite(angles).all():
      raise ValueError(f"bone {bone!r} has a value that is not a finite number")
  return values


def _layout(frame: list[str], skeleton: Skeleton) -> list[tuple[str, int, int]]:
  """(bone, column of its name, number of values) in one frame's tokens. Raises ValueError for another skeleton's."""
  layout, column = [], 1
  while column < len(frame):
    bone = frame[column]
    if bone not in skeleton.bones:
      raise ValueError(f"frame 1 has {bone!r} where a bone of the skeleton is expected")
    layout.append((bone, column, len(skeleton.bones[bone].dof)))
    column += 1 + layout[-1][2]
  missing = [bone for bone, b in skeleton.bones.items() if b.dof and bone not in {x[0] for x in layout}]
  if missing or column != len(frame):
    raise ValueError(f"frame 1 is incomplete (no values for {', '.join(missing) or bone})")
  return layout


def joint_ends(skeleton: Skeleton, motion: dict[str, np.ndarray], bones=None) -> dict[str, np.ndarray]:
  """Room positions [f 3] (m) of the root and of the end of each bone, by forward kinematics over all frames at once.

  `bones` limits the work to these bones and their ancestors. Raises ValueError for a bone that the skeleton lacks.
  """
  if missing := [bone for bone in bones or () if bone not in skeleton.bones]:
    raise ValueError(f"the skeleton has no bone {', '.join(missing)}; it has {', '.join(skeleton.bones)}")
  ends, turns = {}, {}
  for name in skeleton.bones if bones is None else _with_ancestors(skeleton, bones):
    bone = skeleton.bones[name]
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


def _with_ancestors(skeleton: Skeleton, bones) -> list[str]:
  """The bones and their ancestors, parents first."""
  wanted = set()
  for bone in bones:
    while bone is not None and bone not in wanted:
      wanted.add(bone)
      bone = skeleton.bones[bone].parent
  return [bone for bone in skeleton.bones if bone in wanted]
