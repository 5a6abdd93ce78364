"""Keypoints in CSV files: a row for each frame, or a row for each joint of a frame.

    frame, x_0, y_0, score_0, x_1, ...      wide: the columns of a joint share its name or number
    frame, landmark, x, y, visibility       long: frames and joints in the order of the rows

Joints come in the order of their first appearance, and their number gives the layout.
"""

import csv
import os
import re

import numpy as np

from posynda_jax.interop.keypoints import json_stream
from posynda_jax.interop.keypoints.detections import Collector, Detections

_FRAMES = ("frame", "frame_id", "frame_number", "frame_index", "frame_idx", "frameid", "timestamp_ms", "time_ms", "")
_PEOPLE = ("person", "person_id", "track_id", "id", "idx")
_JOINTS = ("landmark", "landmark_id", "landmark_index", "joint", "joint_id", "keypoint", "keypoint_id", "name", "part")
_SCORES = ("score", "conf", "confidence", "visibility", "likelihood", "s", "c", "v")
_AXES = {"x": 0, "y": 1} | dict.fromkeys(_SCORES, 2)


def read(path, layout=None) -> list[Detections]:
  """The detections of a CSV file. Raises ValueError for other columns, and for a file that is no table."""
  if (size := os.path.getsize(path)) > json_stream.MAX_BYTES:
    raise ValueError(f"{path} has {size:,} bytes, more than {json_stream.MAX_BYTES:,}: cut the video into pieces")
  try:
    with open(path, newline="", encoding="utf-8-sig") as file:
      dialect = "excel-tab" if "\t" in file.readline() else "excel"
      file.seek(0)
      rows = csv.reader(file, dialect)
      head = [name.strip().lower() for name in next(rows, [])]
      return _read(path, layout, head, rows)
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f"{path} is no table of text ({error}): not CSV, or damaged") from error


def _read(path, layout, head: list[str], rows) -> list[Detections]:
  frame = next((i for i, name in enumerate(head) if name in _FRAMES), None)
  person = next((i for i, name in enumerate(head) if name in _PEOPLE), None)
  joint = next((i for i, name in enumerate(head) if name in _JOINTS), None)
  columns = _columns(head)
  if joint is not None and {0, 1} <= set(columns.get("", {})):
    joints = [columns[""]]  # one of each row
  elif not (joints := [axes for name, axes in columns.items() if name and {0, 1} <= set(axes)]):
    shown = ", ".join(head[:6]) + (", ..." if len(head) > 6 else "")
    raise ValueError(
        f"{path} has columns {shown}: expected x_0, y_0, x_1, ... or frame, landmark, x, y; or convert it to npz")
  found: dict[tuple, list] = {}
  for line, row in enumerate(rows, 2):
    if row:
      values = found.setdefault(_keys(path, line, row, frame, person), [])
      values += [_numbers(path, line, row, axes) for axes in joints]
  collector = Collector(path, layout)
  for (number, who), values in found.items():
    points = np.array(values, np.float32)
    collector.add(number, points[:, :2], points[:, 2], who)
  return collector.finish(normalised=collector.are_shares)


def _columns(head: list[str]) -> dict[str, dict[int, int]]:
  """{joint: {axis: column}} of names such as x_0, 0_x, nose_x and nose.score; the joint of x alone is ""."""
  found: dict[str, dict[int, int]] = {}
  for column, name in enumerate(head):
    for pattern in (r"(?P<joint>|.*[_. ]|.*\d)(?P<axis>[a-z]+)", r"(?P<axis>[a-z]+)[_. ]?(?P<joint>\d+)"):
      match = re.fullmatch(pattern, name)
      if match and match["axis"] in _AXES:
        found.setdefault(match["joint"].rstrip("_. "), {}).setdefault(_AXES[match["axis"]], column)
        break
  return found


def _numbers(path, line: int, row: list[str], columns: dict[int, int]) -> list[float]:
  """x, y and score; NaN for an empty cell, score 1 where no column has it."""
  try:
    return [float(row[columns[axis]] or "nan") if axis in columns else 1.0 for axis in range(3)]
  except (ValueError, IndexError) as error:
    raise ValueError(f"{path}, line {line}: {error}; expected numbers in every column of a joint") from error


def _keys(path, line: int, row: list[str], frame: int | None, person: int | None) -> tuple[int, int | None]:
  try:
    number = line - 2 if frame is None else int(float(row[frame]))
    return number, None if person is None or not row[person] else int(float(row[person]))
  except (ValueError, IndexError, OverflowError) as error:
    raise ValueError(f"{path}, line {line}: {error}; expected whole numbers of frame and person") from error
