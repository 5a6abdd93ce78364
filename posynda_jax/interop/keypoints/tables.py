"""Keypoints in CSV files. Known names of joints give the layout and the order; else the file's own order counts.

    frame, person, nose_x, nose_y, nose_score, left_eye_x, ...   wide: the columns of a joint share its name or number
    frame, person, landmark, x, y, visibility                    long: a row for each joint
"""

import array
import csv
import itertools
import os
import re
import sys

import numpy as np

from posynda_jax.interop.keypoints import fields, joint_names, json_stream, numbering
from posynda_jax.interop.keypoints.detections import Collector, Detections, is_counter, notes_on_unknown

MAX_NAMES = 10_000  # columns, or names of joints in a column: 136 joints of 18 people, x, y, z and a score
_FRAMES = (fields.FRAME, fields.IMAGE, fields.TIME, r"(unnamed0|index)?")  # the last: of pandas
_AXES = {"x": 0, "y": 1} | dict.fromkeys(joint_names.SCORES, 2)
_AXES |= {"z": 3} | dict.fromkeys(("depth", "w", "h", "width", "height"), 4)  # depth cameras write depth
_FILLERS = {"px", "pixel", "pixels", "keypoint", "keypoints", "kp", "kpt", "landmark", "joint", "point", "coord"}
_WORDS = dict.fromkeys(("", "none", "null", "na", "n/a", "-"), "nan") | {"true": "1", "false": "0"}  # in cells
_Z = re.compile(r"-?\d+(\.\d*)?(e[-+]?\d+)?").fullmatch  # a cell of z
_COMMENT = re.compile(r"#(?![,;\t])|\"?sep=([,;\t| ])\"?\s*$")


def read(path, layout=None) -> list[Detections]:
  """The detections of a CSV file. Raises ValueError for other columns, and for a file that is no table."""
  if (size := os.path.getsize(path)) > json_stream.MAX_BYTES:
    raise ValueError(f"{path} has {size:,} bytes, more than {json_stream.MAX_BYTES:,}: cut the video into pieces")
  with open(path, "rb") as file:
    encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
  try:  # names of joints are ASCII, so Latin-1 needs no encoding of its own
    with open(path, newline="", encoding=encoding, errors="replace") as file:
      return _read(path, layout, _rows(file))
  except csv.Error as error:
    raise ValueError(f"{path} is no table of text ({error}): not CSV, or damaged") from error


def read_json(path, layout=None) -> list[Detections]:
  """The detections of a table that pandas' `to_json(orient="split")` wrote. Raises as `read`."""
  reader, head, index = json_stream.Reader(path), [], []
  for key in reader.members():
    if key == "columns":
      head = ["_".join(map(str, name)) if isinstance(name, list) else str(name) for name in reader.value()]
    elif key == "index":
      index = reader.value()
    elif key == "data":
      rows = ([place, *row] for place, row in itertools.zip_longest(index, reader.elements()))
      lines = (",".join(map(_cell, row)) for row in itertools.chain([["index", *head]], rows))
      return _read(path, layout, csv.reader(lines))
    else:
      reader.value()
  raise ValueError(f"{path} has 'columns' and no 'data' after it: expected what pandas' orient='split' writes")


def _cell(value) -> str:
  return "" if value is None else str(value).replace(",", " ").replace('"', " ")


def _rows(file):
  """A csv.reader of rows with decimal points. Comments and `sep=;` become blank lines, which keeps the line numbers."""
  first = next((line for line in file if line.strip() and not line.startswith("#")), "")
  delimiter = given[1] if (given := _COMMENT.match(first)) else max(",;\t", key=first.count)
  file.seek(0)
  lines = ("\n" if _COMMENT.match(line) else line if delimiter == "," else line.replace(",", ".") for line in file)
  return csv.reader(lines, delimiter=delimiter)


def _head(path, rows) -> list[tuple[str, str]]:
  """(individual or "", name) of each column. DeepLabCut has rows of individuals, body parts and axes."""
  levels, axes = {}, []
  for row in filter(None, rows):
    if len(row) > MAX_NAMES:
      raise ValueError(f"{path} has {len(row):,} columns, more than {MAX_NAMES:,}: not a table of joints")
    levels[row[0].strip().lower()] = axes = [cell.strip() for cell in row]
    if not levels.keys() <= {"scorer", "individuals", "bodyparts"}:
      break
  if "bodyparts" not in levels:
    return [("", name) for name in axes]
  columns = [*zip(levels.get("individuals", [""] * len(axes)), levels["bodyparts"], axes)]
  index = next((i for i, (_, part, axis) in enumerate(columns) if i and (part or axis)), 1)  # 3 where people labelled
  names = [*[""] * (index - 2), "video", "frame"][-index:]
  return [*(("", name) for name in names), *((one, f"{part}_{axis}") for one, part, axis in columns[index:])]


def _split(name: str) -> tuple[str, int | None, int]:
  """("nose", 0, 0) for nose_x, x_nose, noseX, nose (x), nose_x_px, and ("", 0, 0) for x. Unknown words have axis None.

  The last number orders a joint's words for a score, the least of which counts.
  """
  words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", name).lower())
  words = [word for word in words if word not in _FILLERS]
  for *joint, last in (words, words[1:] + words[:1]) if words else ():
    if last in _AXES:
      # A joint's other words for an axis are no part of its name: nose_visibility_score.
      rank = joint_names.SCORES.index(last) if _AXES[last] == 2 else 0
      return "_".join(word for word in joint if word not in _AXES or len(word) == 1), _AXES[last], rank
  return "_".join(words[:-1]), None, 0


def _boxes(names: list[str]) -> list[int]:
  """The columns x1, y1, x2, y2 of a box beside joints whose columns are named otherwise."""
  bare = [i for i, name in enumerate(names) if re.fullmatch(r"[xy]_?\d+", name.strip().lower())]
  return bare if sorted(re.sub(r"\W|_", "", names[i].lower()) for i in bare) == ["x1", "x2", "y1", "y2"] else []


def _shown(names) -> str:
  return ", ".join(" ".join(name.split())[:24] for name in names[:6]) + f" and {len(names) - 6} more" * (len(names) > 6)


def _read(path, layout, rows) -> list[Detections]:
  head = _head(path, rows)
  names, columns = [name for _, name in head], {}
  boxes = _boxes(names)
  parts = [
      (*_split(name), individual, column) for column, (individual, name) in enumerate(head) if column not in boxes]
  for joint, axis, _, individual, column in sorted(parts, key=lambda one: one[2]):
    columns.setdefault((individual, joint), {}).setdefault(axis, column)
  pairs = {key: axes for key, axes in columns.items() if {0, 1} <= set(axes)}
  individuals = list(dict.fromkeys(individual for individual, joint in pairs if joint))
  joints = [joint for individual, joint in pairs if joint and individual == individuals[0]]
  individuals = [one for one in individuals if all((one, joint) in pairs for joint in joints)]
  long = fields.places(names, *fields.JOINT)[:1] if ("", "") in pairs and len(joints) < joint_names.LEAST else []
  frames = fields.places(names, *_FRAMES[: 3 if long else 4])
  if not (frames if long else joints):
    expected = "expected a first line of names, like frame, x_0, y_0, x_1, ... or frame, landmark, x, y"
    raise ValueError(f"{path} has columns {_shown(names)}: {expected}; add it, or convert the file to npz")
  people = [column for column in fields.places(names, *fields.PERSON) if column not in long][:1]
  videos = fields.places(names, fields.VIDEO)[:1]
  slots = [pairs["", ""]] if long else [pairs[one, joint] for one in individuals for joint in joints]
  depths = [axes[3] for axes in slots if 3 in axes]
  cells, numbers, values = _cells(path, rows, [*frames, *people, *long, *videos, *depths], slots)
  videos += [i for i in frames if cells[i] and all(cell.lower().endswith(fields.MOVIES) for cell in cells[i])]
  frames = [i for i in frames if long or fields.matches(names[i], fields.FRAME) or len({*cells[i]}) > 1]
  frames.sort(key=lambda i: (not fields.matches(names[i], fields.FRAME), len({*cells[i]}) == 1))  # totals come last
  persons = _people(cells[people[0]]) if people else [None] * len(values)
  joints = [re.sub(r"\.0+$|^.*\.(?=\D)", "", cell) for cell in cells[long[0]]] if long else joints  # PoseLandmark.NOSE
  if (num_names := len(set(joints))) > MAX_NAMES:
    raise ValueError(f"{path} names {num_names:,} joints, more than {MAX_NAMES:,}: not a table of joints")
  joint_list = list(dict.fromkeys(joints))
  found = joint_names.find(joint_list, layout)
  unknown = notes_on_unknown(joint_list, layout) if found is None else []
  found = found or joint_names.Places(None, tuple(range(len(joint_list))))
  places = [-1 if place is None else place for place in found.of]
  collector = Collector(path, layout or found.layout)
  if depths and all(_Z(cell) for column in depths for cell in cells[column]):
    collector.see_depths(np.array([cells[column] for column in depths], float).T, values)
  numbers, collector.times = _frames(path, names[frames[0]], cells[frames[0]]) if frames else (numbers, False)
  of_video = {*cells[videos[0]]} - {""} if videos else ()
  if len(of_video) > 1 and not is_counter(of_video, len({*numbers})):
    are_images = isinstance(numbers[0], str) and not collector.times
    if not are_images or len({*zip(numbers, cells[videos[0]])}) > len({*numbers}):  # else their names tell videos apart
      column, shown = _shown([names[videos[0]]]), _shown(sorted(of_video))
      raise ValueError(f"{path} has {len(of_video)} videos in column {column} ({shown}): keep the rows of one")
  notes = ["times were read as frames"] * collector.times + ["no column has frames: every row is one"] * (not frames)
  notes += unknown
  notes += [f"names of no joint were passed over: {_shown(found.unknown)}"] if found.unknown else []
  if not people and not long and (start := _restart(numbers)) is not None:
    notes.append(f"frame numbers start again at {start}: two videos in one file?")
  if others := [names[axes[None]] for axes in slots if not long and None in axes and 2 not in axes]:
    notes.append(f"columns without a known word for a score were passed over: {_shown(others)}")
  known = set()
  for number, person, body in _of_joints(path, numbers, persons, joints, places, values[:, 0]) if long else (
      (number, who if len(individuals) == 1 else i, np.append(body, [[np.nan] * 3], 0)[places])  # -1: no column
      for number, who, row in zip(numbers, persons, values) for i, body in enumerate(np.split(row, len(individuals)))):
    if (key := hash((number, person, body.tobytes()))) not in known:  # a repeated row counts once
      known.add(key)
      collector.add(number, body[:, :2], body[:, 2], person)
  return collector.finish(notes=tuple(notes))


def _cells(path, rows, wanted: list[int], slots) -> tuple[dict[int, list[str]], list[int], np.ndarray]:
  """(cells of the `wanted` columns, lines below the names, x, y, score [rows slots 3]); score 1 without its column."""
  cells, lines, values = {column: [] for column in wanted}, [], array.array("f")
  for line, row in enumerate(rows):
    if any(cell.strip() for cell in row):
      try:
        for axes in slots:
          found = [row[axes[axis]].strip() if axis in axes else "1" for axis in range(3)]
          values.extend(float(_WORDS.get(cell.lower(), cell)) for cell in found)
        for column in wanted:
          cells[column].append(sys.intern(row[column].strip()))
      except (ValueError, IndexError) as error:
        what = f"line {rows.line_num} of {len(row)} cells: {str(error)[:80]}"
        raise ValueError(f"{path}, {what}; expected a number or no text in every column of a joint") from error
      lines.append(line)
  return cells, lines, np.array(values, np.float32).reshape(-1, len(slots), 3)


def _frames(path, name: str, cells: list[str]) -> tuple[list, bool]:
  """(number, time as text or image's name of each row's frame, whether they are times)."""
  if cells and all(numbering.as_time(cell) is not None for cell in cells):
    return cells, True
  try:
    numbers = [sum(60.0**i * float(part) for i, part in enumerate(cell.split(":", 2)[::-1])) for cell in cells]
  except ValueError as error:
    if "" in cells or re.fullmatch(r"[-+.\d]+", cells[0]):
      raise ValueError(f"{path}, column {_shown([name])}: {str(error)[:60]}; expected numbers in every row") from error
    return cells, False
  times = np.clip(numbers, 0, 1e12)
  steps = np.median([1, *np.diff(np.unique(times))])
  are_times = (times % 1 != 0).any() and steps < 1 or fields.matches(name, fields.TIME)
  return [int(number) if number.is_integer() else number for number in numbers], bool(are_times)


def _people(cells: list[str]) -> list[int | None]:
  """Numbers of people; names are numbered in the order of the file."""
  known = [cell for cell in dict.fromkeys(cells) if cell.lower() not in ("nan", *_WORDS)]
  are_numbers = all(re.fullmatch(r"-?\d{1,9}(\.0*)?", cell) for cell in known)
  return list(map({cell: int(float(cell)) if are_numbers else i for i, cell in enumerate(known)}.get, cells))


def _restart(numbers: list) -> int | None:
  """The first frame number that lies before half of those above it, in a file that otherwise goes up; None without
  one.
  """
  if not numbers or isinstance(numbers[0], str):
    return None
  down = np.flatnonzero(np.diff(numbers) < 0) + 1
  return numbers[down[0]] if 0 < len(down) < 10 and numbers[down[0]] < np.median(numbers[: down[0]]) else None


def _of_joints(path, numbers, persons, joints: list[str], places: list[int], values: np.ndarray):
  """Yields (frame, person, points [j 3]) of values [rows 3]; a joint without a row is NaN."""
  if len({*zip(numbers[:10_000], persons)}) == min(len(persons), 10_000) > 1:  # the "people" number joints or rows
    persons = [None] * len(persons)
  names = list(dict.fromkeys(joints))
  joint_of = {names[place]: joint for joint, place in enumerate(places) if place >= 0}
  bodies: dict[tuple, dict[int, int]] = {}  # {joint: row}
  for row, (number, person, name) in enumerate(zip(numbers, persons, joints)):
    body = bodies.setdefault((number, person), {})
    if name in joint_of and (other := body.setdefault(joint_of[name], row)) != row:
      if not np.array_equal(values[row], values[other], equal_nan=True):
        raise ValueError(f"{path}, frame {number} has joint {_shown([name])} twice: expected a column person, too")
  for (number, person), body in bodies.items():
    points = np.full((len(places), 3), np.nan, np.float32)
    points[list(body)] = values[list(body.values())]
    yield number, person, points
