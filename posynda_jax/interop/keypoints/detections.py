"""The skeletons that a detector found in one video, in one form for all file formats."""

import dataclasses
import os
import re
from collections.abc import Iterable

import numpy as np

from posynda_jax.geometry import layouts

MAX_DETECTIONS = 2_000_000  # some 11 hours of two people at 25 frames a second
MAX_FRAME = 10**9


@dataclasses.dataclass(frozen=True)
class Detections:
  """n skeletons of j joints. A joint that the detector lost is NaN with score 0, and other scores end at 1.

  Detectors write a lost joint as (0, 0), as NaN or with score 0.
  """

  frame: np.ndarray  # [n], from 0, as numbered in the file
  points: np.ndarray  # [n j 2] px, or shares of width and height if `normalised`
  scores: np.ndarray  # [n j]
  layout: str | None  # None if the file does not name it
  person: np.ndarray | None = None  # [n] the detector's numbers of people
  sequence: str = ""  # name of the video in a file of several
  num_frames: int | None = None
  resolution: tuple[float, float] | None = None  # width, height (px)
  normalised: bool = False

  def __post_init__(self):
    points, scores = self.points.astype(np.float32), self.scores.astype(np.float32)
    lost = ~np.isfinite(points).all(-1) | (points == 0).all(-1) | ~(scores > 0)
    object.__setattr__(self, "points", np.where(lost[..., None], np.float32(np.nan), points))
    object.__setattr__(self, "scores", np.where(lost, np.float32(0), np.minimum(scores, np.float32(1))))


class Collector:
  """Collects skeletons one by one while a file is read. Without `layout`, the number of joints gives it."""

  def __init__(self, label, layout: str | None = None):
    self.label, self.layout = label, layout  # `label` names the file in errors
    self._frames, self._persons, self._joints = [], [], []
    self._names, self._named = {}, None  # names of images, in the order of the file

  def add(self, frame, keypoints, scores=None, person=None) -> None:
    """Adds a skeleton: flat x, y, score, or x, y pairs and `scores`. `frame` is a number or an image's name.

    Raises ValueError for another form, another number of joints, or too many detections.
    """
    where = f"{self.label}, frame {frame}"
    try:
      values = np.asarray(keypoints, np.float32).reshape(-1, 3 if scores is None else 2)
      if scores is not None:
        values = np.concatenate([values, np.asarray(scores, np.float32).reshape(-1, 1)], 1)
      person = None if person is None else int(np.ravel(person)[0])
    except (ValueError, TypeError, IndexError, OverflowError) as error:
      what = f"keypoints of the wrong form ({' '.join(str(error).split())})"
      raise ValueError(f"{where}: {what}; expected x, y and a score for each joint") from error
    self.layout = self.layout or layouts.BY_COUNT.get(len(values))
    known = {layouts.LAYOUTS[self.layout].num_joints: self.layout} if self.layout else layouts.BY_COUNT
    if len(values) not in known:
      expected = ", ".join(f"{count} ({name})" for count, name in known.items())
      raise ValueError(f"{where} has {len(values)} joints, expected {expected}; see --layout")
    self._named = isinstance(frame, str) if self._named is None else self._named
    if self._named is not isinstance(frame, str) or not (self._named or _is_frame(frame)):
      numbers = f"frame numbers from 0 to {MAX_FRAME:,}"
      raise ValueError(f"{where}: expected {numbers} throughout, or images' names throughout")
    if self._named:
      frame = self._names.setdefault(frame, len(self._names))
    if len(self._frames) == MAX_DETECTIONS:
      raise ValueError(f"{self.label} has more than {MAX_DETECTIONS:,} detections: cut the video into pieces")
    self._frames.append(frame)
    self._persons.append(person)
    self._joints.append(values[: layouts.LAYOUTS[self.layout].used].copy())  # a view would keep face and hands

  def finish(self, **fields) -> Detections:
    """The collected Detections, with more of its `fields`. Numbers of people are kept if every skeleton has one."""
    frames = np.array(self._frames, np.int64)
    if self._names:
      frames = np.array(frame_numbers(self._names))[frames]
    joints = np.stack(self._joints) if self._joints else np.zeros((0, 17, 3), np.float32)
    person = None if None in self._persons or not self._persons else np.array(self._persons)
    return Detections(frames, joints[..., :2], joints[..., 2], self.layout, person, **fields)


def _is_frame(number) -> bool:
  return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_FRAME


def dense(points: np.ndarray, label: str, layout: str | None, **fields) -> Detections:
  """Detections of an array [T j 2] of x, y or [T j 3] with scores, one skeleton a frame. Raises ValueError.

  `fields` are more fields of Detections.
  """
  expected = "expected numbers (T, joints, 2 or 3)"
  try:
    points = np.asarray(points)
  except ValueError as error:
    raise ValueError(f"{label} is not one array ({error}), {expected}") from error
  if points.ndim != 3 or points.shape[-1] not in (2, 3) or points.dtype.kind not in "fiu":
    raise ValueError(f"{label} has shape {points.shape} of {points.dtype}, {expected}")
  if layout is not None and points.shape[1] != layouts.LAYOUTS[layout].num_joints:
    raise ValueError(f"{label} has {points.shape[1]} joints, layout {layout} has {layouts.LAYOUTS[layout].num_joints}")
  if len(points) > MAX_DETECTIONS:
    raise ValueError(f"{label} has more than {MAX_DETECTIONS:,} frames: cut the video into pieces")
  scores = points[..., 2] if points.shape[-1] == 3 else np.ones(points.shape[:2], np.float32)
  if (scores < 0).any():
    raise ValueError(f"{label} has negative numbers where scores are expected: 3D poses? give 2D keypoints")
  return Detections(np.arange(len(points)), points[..., :2], scores, layout, num_frames=len(points), **fields)


def frame_numbers(names: Iterable[str]) -> list[int]:
  """A frame number for each name of a file or image: the last number in it.

  If a name has no number, or two have the same, the names are numbered from 0 in sorted order.
  """
  names = list(names)
  numbers = [re.findall(r"\d+", os.path.basename(name).partition(".")[0]) for name in names]
  found = [int(n[-1][-18:]) if n else None for n in numbers]
  if None in found or len(set(found)) < len(found) or max(found, default=0) > MAX_FRAME:
    order = {name: i for i, name in enumerate(sorted(names))}
    return [order[name] for name in names]
  return found
