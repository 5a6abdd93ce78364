"""Frame numbers of files and images by their names, and of numbers that a detector wrote.

The frame is the number that varies from name to name, wherever it stands: 440 of `cam1.0440.json`, 7 of
`walk_007_cam2.png`. Names that differ elsewhere belong to several videos.
"""

import collections
import re
from collections.abc import Iterable, Sequence

import numpy as np

MAX_FRAME = 10**9
_TAILS = re.compile(r"(?:_keypoints|_rendered|_predictions?)?(?:\.[A-Za-z][A-Za-z0-9]{0,4})?$")  # endings of names
_LONGEST = 1000  # step between numbers of successive frames
_LEAST_STAMP, _MOST_STAMP = 8, 125  # ms between frames of 125 and 8 frames a second


def natural(name: str) -> list:
  """Key that sorts `clip_2` before `clip_10`."""
  return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d{1,18})", name)]


def videos(names: Iterable[str]) -> dict[str, dict[str, int]]:
  """{video: {name: frame}} of the names of files or images; one video has the name "".

  Names without numbers, and names that repeat a frame, are numbered from 0 in natural order.
  """
  by_text = collections.defaultdict(dict)
  for name in dict.fromkeys(names):
    stem = _TAILS.sub("", name.replace("\\", "/").rpartition("/")[2])
    by_text[re.sub(r"\d+", "#", stem)][name] = [int(number[-18:]) for number in re.findall(r"\d+", stem)]
  found: dict[str, dict[str, int]] = {}
  for text, numbers in by_text.items():
    found |= _split(text, numbers)
  if all(len(frames) == 1 for frames in found.values()):  # no two names are alike: one video in natural order
    found = {"": {name: i for i, name in enumerate(sorted(sum(map(list, found.values()), []), key=natural))}}
  if len(found) == 1:
    return {"": next(iter(found.values()))}
  return dict(sorted(found.items()))


def _split(text: str, numbers: dict[str, list[int]]) -> dict[str, dict[str, int]]:
  """{video: {name: frame}} of names that differ in their numbers alone."""
  table = np.array(list(numbers.values()), np.int64).reshape(len(numbers), -1)
  if not table.size:
    return {text: {name: i for i, name in enumerate(sorted(numbers, key=natural))}}
  column = _frame_column(table)
  found: dict[str, dict[str, int]] = collections.defaultdict(dict)
  for name, row in zip(numbers, table, strict=True):
    shown = ["" if i == column else str(number) for i, number in enumerate(row)]
    video = "".join(part + number for part, number in zip(text.split("#"), [*shown, ""], strict=True))
    found[video.strip("_-. ")][name] = int(row[column])
  for video, frames in found.items():
    if len(set(frames.values())) < len(frames) or max(frames.values()) > MAX_FRAME:
      found[video] = {name: i for i, name in enumerate(sorted(frames, key=natural))}
  return found


def _frame_column(table: np.ndarray) -> int:
  """The column of the frame among the numbers [names columns] in names."""
  varying = [column for column in range(table.shape[1]) if len(np.unique(table[:, column])) > 1]
  if not varying:
    return table.shape[1] - 1
  alone = [column for column in varying if len(np.unique(table[:, column])) == len(table)]
  if alone:  # every name has its own number here; of several such columns, the one that counts by ones
    return max(alone, key=lambda column: (np.diff(np.sort(table[:, column])) == 1).mean())

  def num_videos(column):
    return len(np.unique(table[:, [other for other in varying if other != column]], axis=0))

  return min(reversed(varying), key=num_videos)


def count(numbers: Sequence[int] | np.ndarray, label) -> tuple[np.ndarray, float | None]:
  """(frame numbers, frame rate or None) of the numbers [n] that a detector wrote, in any order.

  Numbers that grow by ones, or a little faster, are frames and stay. Others that grow evenly, as time stamps in
  milliseconds do, become consecutive frames, with their rate. Raises ValueError for ids of images.
  """
  numbers = np.asarray(numbers, np.int64)
  distinct = np.unique(numbers)
  steps = np.diff(distinct)
  if not len(steps) or np.median(steps) <= 1 or steps.mean() <= _LEAST_STAMP:
    return numbers, None
  usual = float(np.median(steps))
  regular = np.abs(steps - usual * np.maximum(np.round(steps / usual), 1)) <= max(1.0, 0.1 * usual)
  if regular.mean() < 0.8 or usual > _LONGEST:
    span = f"{len(distinct):,} frames numbered from {distinct[0]:,} to {distinct[-1]:,}"
    raise ValueError(
        f"{label} has {span}, at irregular steps: ids of images and not frames of a video? number them one by one")
  mean = float((steps / np.maximum(np.round(steps / usual), 1)).mean())
  frames = np.cumsum(np.r_[0, np.maximum(np.round(steps / mean), 1)]).astype(np.int64)
  return frames[np.searchsorted(distinct, numbers)], 1000 / mean if mean <= _MOST_STAMP else None
