"""Acclaim skeletons (ASF) and motions (AMC), as CMU and HDM05 publish them, to joint positions in metres.

Frame: the capture room, right-handed, Y up. A bone turns by C M C^-1, C from its `axis` angles and M from its values in
the AMC, and ends at start + R direction length, `direction` being in room axes at rest. One length unit is 1 / `length`
inches. Only what the two databases use is read (degrees, rotation values, a root given as TX TY TZ RX RY RZ); other
files are refused with ValueError.
"""

import dataclasses
import re

import numpy as np

from posynda_jax.datasets.mocap import rotations

INCH_M = 0.0254
ROOT = "root"
_ROOT_ORDER = ("tx", "ty", "tz", "rx", "ry", "rz")
_FIRST, _SECOND = (re.compile(rf"^[ \t]*{frame}[ \t]*$", re.M) for frame in (1, 2))


@dataclasses.dataclass(frozen=True)
class Bone:
  """A bone: `offset` [3] (m) from start to end at rest, `axis` C [3 3], and what its AMC values turn ("rx", ..)."""

  parent: str | None
  offset: np.ndarray
  axis: np.ndarray
  dof: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Skeleton:
  """Bones by name, every parent before its children, the root first; `metres` is the length of one file unit."""

  bones: dict[str, Bone]
  metres: float


def parse_asf(text: str, name: str = "ASF file") -> Skeleton:
  """The skeleton in the text of an ASF file. Raises ValueError that begins with `name`."""
  try:
    return _skeleton(_sections(text))
  except (KeyError, IndexError, ValueError) as error:
    what = f"no {error}" if isinstance(error, KeyError) else str(error)
    raise ValueError(f"{name}: not a complete ASF skeleton ({what}); fetch the file again") from error


def _skeleton(sections: dict[str, list[list[str]]]) -> Skeleton:
  units = {line[0].lower(): line[1] for line in sections["units"]}
  if units["angle"].lower() != "deg":
    raise ValueError(f"angles in {units['angle']!r}, expected deg")
  metres = INCH_M / float(units["length"])
  root = {line[0].lower(): line[1:] for line in sections["root"]}
  if tuple(x.lower() for x in root["order"]) != _ROOT_ORDER:
    raise ValueError(f"root order {' '.join(root['order'])}, expected TX TY TZ RX RY RZ")
  start = metres * np.array(root["position"], np.float64)
  bones = {ROOT: Bone(None, start, _axis(root["orientation"] + root["axis"]), _ROOT_ORDER)}
  fields = dict(_bones(sections["bonedata"]))
  (begin, *_), *links, (end, *_) = sections["hierarchy"]
  if (begin.lower(), end.lower()) != ("begin", "end"):
    raise ValueError("a hierarchy that does not run from begin to end")
  for parent, *children in links:
    if parent not in bones:
      raise ValueError(f"bone {parent!r} has children before it has a parent")
    bones |= {child: _bone(parent, fields[child], metres) for child in children}
  if len(bones) == 1:
    raise ValueError("an empty hierarchy")
  return Skeleton(bones, metres)


def _bone(parent: str, field: dict[str, list[str]], metres: float) -> Bone:
  direction = np.array(field["direction"], np.float64)
  dof = tuple(x.lower() for x in field.get("dof", ()))
  if not set(dof) <= {"rx", "ry", "rz"}:
    raise ValueError(f"degrees of freedom {' '.join(dof)}, expected rotations only")
  return Bone(parent, metres * float(field["length"][0]) * direction, _axis(field["axis"]), dof)


def _sections(text: str) -> dict[str, list[list[str]]]:
  """Lines of tokens under each `:keyword`; the rest of a keyword's own line is dropped."""
  sections = {}
  lines = []
  for line in text.replace("\r", "\n").split("\n"):
    tokens = line.split()
    if not tokens or tokens[0].startswith("#"):
      continue
    if tokens[0].startswith(":"):
      lines = sections.setdefault(tokens[0][1:].lower(), [])
    else:
      lines.append(tokens)
  return sections


def _bones(lines: list[list[str]]):
  """(name, {field: tokens}) of each begin .. end block."""
  field = {}
  for key, *values in lines:
    key = key.lower()
    if key == "begin":
      field = {}
    elif key == "end":
      yield field["name"][0], field
    else:
      field[key] = values


def _axis(tokens: list[str]) -> np.ndarray:
  """C [3 3] of "x y z XYZ": about the first letter's axis first."""
  *degrees, order = tokens
  return _turn(order.upper(), [np.float64(x) for x in degrees])


def _turn(order, degrees) -> np.ndarray:
  """Turns about the named axes one after the other, the first named first: the rightmost factor."""
  return rotations.compose(rotations.axis_rotation(a, d) for a, d in list(zip(order, degrees, strict=True))[::-1])


def parse_amc(text: str, skeleton: Skeleton, stride: int = 1, name: str = "AMC file") -> dict[str, np.ndarray]:
  """Values [f n] of every `stride`-th frame for each bone with n > 0, in file units and degrees.

  Raises ValueError that begins with `name` and tells the frame and the bone where the text stops making sense.
  """
  text = text.replace("\r", "\n")
  first = _FIRST.search(text)
  if first is None or ":DEGREES" not in text[: first.start()].upper():
    raise ValueError(f"{name}: no ':DEGREES' header followed by frame 1; this is not an AMC motion, fetch it again")
  second = _SECOND.search(text, first.end())
  frame = text[first.start() : second.start() if second else None].split()
  # Every frame repeats the lines of the first, so a column of values is every width-th token: no loop over lines.
  tokens, width = text[first.start() :].split(), len(frame)
  layout = _layout(frame, skeleton, name)
  num_frames = len(tokens) // width
  whole = len(tokens) == num_frames * width and tokens[::width] == [str(i + 1) for i in range(num_frames)]
  if not whole or any(tokens[column::width] != [bone] * num_frames for bone, column, _ in layout):
    raise ValueError(_locate(tokens, width, layout, name))
  step = stride * width
  try:
    columns = {
        bone: np.array([list(map(float, tokens[column + 1 + i :: step])) for i in range(n)]).T
        for bone, column, n in layout
    }
  except ValueError as error:
    raise ValueError(f"{name}: {error}; the file is damaged, fetch it again") from error
  for bone, values in columns.items():
    if not np.isfinite(values).all():
      raise ValueError(f"{name}: bone {bone!r} has a value that is not a finite number; fetch the file again")
  return columns


def _layout(frame: list[str], skeleton: Skeleton, name: str) -> list[tuple[str, int, int]]:
  """(bone, column of its name, number of values) for one frame's tokens, checked against the skeleton."""
  layout = []
  column = 1
  while column < len(frame):
    bone = frame[column]
    if bone not in skeleton.bones:
      raise ValueError(f"{name}: frame 1 has {bone!r} where a bone of the skeleton is expected; fetch the file again")
    layout.append((bone, column, len(skeleton.bones[bone].dof)))
    column += 1 + layout[-1][2]
  missing = [bone for bone, b in skeleton.bones.items() if b.dof and bone not in {x[0] for x in layout}]
  if missing or column != len(frame):
    raise ValueError(
        f"{name}: frame 1 is incomplete (no values for {', '.join(missing) or bone}); fetch the file again"
    )
  return layout


def _locate(tokens: list[str], width: int, layout, name: str) -> str:
  """What is wrong with the first frame that does not repeat the layout of frame 1."""
  for frame, start in enumerate(range(0, len(tokens), width), 1):
    if tokens[start] != str(frame):
      return f"{name}: found {tokens[start]!r} where frame {frame} should begin; the file is damaged, fetch it again"
    for bone, column, n in layout:
      got = tokens[start + column : start + column + 1 + n]
      if len(got) < 1 + n or got[0] != bone:
        return f"{name}: frame {frame} ends or breaks off at bone {bone!r} (truncated file?); fetch it again"
  return f"{name}: frames do not repeat the layout of frame 1; fetch it again"


def joint_ends(skeleton: Skeleton, motion: dict[str, np.ndarray], bones=None) -> dict[str, np.ndarray]:
  """Room positions [f 3] (m) of the end of each bone, and of the root, by forward kinematics over all frames at once.

  `bones` limits the work to these and what they hang on. Raises ValueError for a bone the skeleton lacks.
  """
  missing = [bone for bone in bones or () if bone not in skeleton.bones]
  if missing:
    raise ValueError(f"the skeleton has no bone {', '.join(missing)}; it has {', '.join(skeleton.bones)}")
  ends, turns = {}, {}
  for name in skeleton.bones if bones is None else _with_parents(skeleton, bones):
    bone = skeleton.bones[name]
    if name == ROOT:
      ends[name] = bone.offset + skeleton.metres * motion[ROOT][:, :3]
      turns[name] = bone.axis @ _turn("XYZ", motion[ROOT][:, 3:].T) @ bone.axis.T
      continue
    turns[name] = turns[bone.parent]
    if bone.dof:
      own = _turn(*zip(*sorted(zip((x[1].upper() for x in bone.dof), motion[name].T), key=lambda pair: pair[0])))
      turns[name] = turns[name] @ (bone.axis @ own @ bone.axis.T)
    ends[name] = ends[bone.parent] + turns[name] @ bone.offset
  return ends


def _with_parents(skeleton: Skeleton, bones) -> list[str]:
  """The bones and all they hang on, parents first."""
  wanted = set()
  for bone in bones:
    while bone is not None and bone not in wanted:
      wanted.add(bone)
      bone = skeleton.bones[bone].parent
  return [bone for bone in skeleton.bones if bone in wanted]
