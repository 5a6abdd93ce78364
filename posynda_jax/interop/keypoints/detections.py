"""What a detector found in one video, whatever file it came in: skeletons with their frame, and gathering them one by one."""

import dataclasses
import os
import re
from collections.abc import Iterable

import numpy as np

from posynda_jax.interop.keypoints import layouts

MAX_DETECTIONS = 2_000_000  # some 11 hours of two people at 25 frames a second
MAX_FRAME = 10**9


class UnknownFormat(ValueError):
  """A file or folder of no known format. `formats.recognise` adds the known ones to the message."""


@dataclasses.dataclass(frozen=True)
class Detections:
  """n skeletons: `frame` [n] (0-based, as the file counts), `points` [n j 2], `scores` [n j]; `person` [n] where the file tells.

  Points are px, or shares of width and height where `normalised`. `layout` is None where the file cannot tell it. A joint the
  detector lost is NaN with score 0.
  """

  frame: np.ndarray
  points: np.ndarray
  scores: np.ndarray
  layout: str | None
  person: np.ndarray | None = None
  sequence: str = ""  # the video's name inside a file of several
  num_frames: int | None = None
  resolution: tuple[float, float] | None = None
  normalised: bool = False

  def __post_init__(self):
    """Detectors write a lost joint as (0, 0), as NaN or with score 0: all become NaN with score 0; others end in 0..1."""
    points, scores = self.points.astype(np.float32), self.scores.astype(np.float32)
    lost = ~np.isfinite(points).all(-1) | (points == 0).all(-1) | ~(scores > 0)
    object.__setattr__(self, "points", np.where(lost[..., None], np.float32(np.nan), points))
    object.__setattr__(self, "scores", np.where(lost, np.float32(0), np.minimum(scores, np.float32(1))))


class Collector:
  """Detections one at a time, as a file is read. `label` names the file in errors; without `layout` the joints' number tells."""

  def __init__(self, label, layout: str | None = None):
    self.label, self.layout = label, layout
    self._frames, self._persons, self._joints = [], [], []
    self._names, self._named = {}, None  # of images, in the order they came

  def add(self, frame, keypoints, scores=None, person=None) -> None:
    """A skeleton: flat x, y, score or x, y pairs with `scores`. `frame` is a number, or the image's name. Raises ValueError."""
    where = f"{self.label}, frame {frame}"
    try:
      values = np.asarray(keypoints, np.float32).reshape(-1, 3 if scores is None else 2)
      if scores is not None:
        values = np.concatenate([values, np.asarray(scores, np.float32).reshape(-1, 1)], 1)
      person = None if person is None else int(np.ravel(person)[0])
    except (ValueError, TypeError, IndexError, OverflowError) as error:
      what = "x, y, score for each joint" if scores is None else "x, y and one score for each joint"
      raise ValueError(f"{where}: keypoints of the wrong form ({' '.join(str(error).split())}); expected {what}") from error
    self.layout = self.layout or layout_of(len(values), where)
    expected = layouts.LAYOUTS[self.layout].num_joints
    if len(values) != expected:
      raise ValueError(f"{where} has {len(values)} joints, expected the {expected} of {self.layout}: is --layout right?")
    self._named = isinstance(frame, str) if self._named is None else self._named
    if self._named is not isinstance(frame, str) or not (self._named or _is_frame(frame)):
      raise ValueError(f"{where}: expected frame numbers from 0 to {MAX_FRAME:,} throughout, or images' names throughout")
    if self._named:
      frame = self._names.setdefault(frame, len(self._names))
    if len(self._frames) == MAX_DETECTIONS:
      raise ValueError(f"{self.label} has more than {MAX_DETECTIONS:,} detections: cut the video into pieces")
    self._frames.append(frame)
    self._persons.append(person)
    self._joints.append(values[: layouts.LAYOUTS[self.layout].used].copy())  # a view would keep face and hands

  def finish(self, **fields) -> Detections:
    """All of them; persons are kept only where every detection tells its own. `fields` as in `Detections`."""
    frames = np.array(self._frames, np.int64)
    if self._names:
      frames = np.array(frame_numbers(self._names))[frames]
    joints = np.stack(self._joints) if self._joints else np.zeros((0, 17, 3), np.float32)
    person = None if None in self._persons or not self._persons else np.array(self._persons)
    return Detections(frames, joints[..., :2], joints[..., 2], self.layout, person, **fields)


def _is_frame(number) -> bool:
  return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_FRAME


def dense(points: np.ndarray, label: str, layout: str | None, person=None, **fields) -> Detections:
  """Detections of an array [T j 2|3] (x, y and perhaps score): one skeleton in every frame. Raises ValueError."""
  try:
    points = np.asarray(points)
  except ValueError as error:
    raise ValueError(f"{label} is not one array ({error}), expected numbers (T, joints, 2 or 3)") from error
  if points.ndim != 3 or points.shape[-1] not in (2, 3) or points.dtype.kind not in "fiu":
    raise ValueError(f"{label} has shape {points.shape} of {points.dtype}, expected numbers (T, joints, 2 or 3)")
  if layout is not None and points.shape[1] != layouts.LAYOUTS[layout].num_joints:
    raise ValueError(f"{label} has {points.shape[1]} joints, layout {layout} has {layouts.LAYOUTS[layout].num_joints}")
  if len(points) > MAX_DETECTIONS:
    raise ValueError(f"{label} has more than {MAX_DETECTIONS:,} frames: cut the video into pieces")
  scores = points[..., 2] if points.shape[-1] == 3 else np.ones(points.shape[:2], np.float32)
  if (scores < 0).any():
    raise ValueError(f"{label} has negative numbers where scores are expected: 3D poses? give 2D keypoints (T, joints, 2 or 3)")
  frame = np.arange(len(points))
  person = None if person is None else np.full(len(points), person)
  return Detections(frame, points[..., :2], scores, layout, person, num_frames=len(points), **fields)


def layout_of(num_joints: int, label) -> str:
  """The detector layout of that many joints. Raises ValueError that lists the known ones."""
  if num_joints not in layouts.BY_COUNT:
    known = ", ".join(f"{count} ({name})" for count, name in layouts.BY_COUNT.items())
    raise ValueError(f"{label} has {num_joints} joints; expected one of {known}, or name the layout with --layout")
  return layouts.BY_COUNT[num_joints]


def frame_numbers(names: Iterable[str]) -> list[int]:
  """A frame number for each file or image name: the last number in it, or its place among the sorted names where one has none
  or two have the same."""
  names = list(names)
  numbers = [re.findall(r"\d+", os.path.basename(name).partition(".")[0]) for name in names]
  found = [int(n[-1][-18:]) if n else None for n in numbers]
  if None in found or len(set(found)) < len(found) or max(found, default=0) > MAX_FRAME:
    order = {name: i for i, name in enumerate(sorted(names))}
    return [order[name] for name in names]
  return found
