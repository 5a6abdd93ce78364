"""The skeletons that a detector found in one video, in one form for all file formats."""

import dataclasses
import functools
import re
from collections.abc import Sequence

import numpy as np

from posynda_jax.geometry import layouts
from posynda_jax.interop.keypoints import joint_names, numbering
from posynda_jax.interop.keypoints.fields import MOVIES

MAX_DETECTIONS = 2_000_000  # some 11 hours of two people at 25 frames a second
MOST_SCORE = 100.0  # median score from which numbers are no scores
PERCENT = 20.0  # median from which scores up to 100 are percentages; raw scores of detectors reach 7, logits 30


@dataclasses.dataclass(frozen=True)
class Detections:
  """n skeletons of j joints. A joint that the detector lost is NaN with score 0, and other scores end at 1.

  Detectors write a lost joint as (0, 0), as a negative number twice such as (-1, -1), as NaN or with score 0.
  Percentages become shares.
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
  fps: float | None = None  # as the file says, or its time stamps
  notes: tuple[str, ...] = ()  # what a user should know of how the file was read

  def __post_init__(self):
    points, scores = self.points.astype(np.float32), self.scores.astype(np.float32)
    known = scores[np.isfinite(scores) & (scores > 0)]
    if len(known) and np.median(known) > PERCENT and known.max() <= 100:
      scores = scores / 100
    alike = points[..., 0] == points[..., 1]
    lost = ~np.isfinite(points).all(-1) | alike & ((points[..., 0] == 0) | (points[..., 0] <= -1)) | ~(scores > 0)
    object.__setattr__(self, "points", np.where(lost[..., None], np.float32(np.nan), points))
    object.__setattr__(self, "scores", np.where(lost, np.float32(0), np.minimum(scores, np.float32(1))))


class Collector:
  """Collects skeletons one by one while a file is read. Without `layout`, the number of joints gives it."""

  def __init__(self, label, layout: str | None = None):
    self.label, self.layout = label, layout  # `label` names the file in errors
    self.resolution: tuple[float, float] | None = None
    self.times, self.unit = False, None  # whether frames are time stamps, and how many are in a second; None: unknown
    self.listed: set[int | float] = set()  # frames of the file, also those without people
    self.videos: set[str] = set()  # that fields of the file name
    self.depths: list[float] = []  # of `see_depths`
    self.joints: list[str] = []  # names of all joints, where the file lists them once
    self.notes: dict[str, None] = {}  # what a user should know, once each
    self._counted, self._by_names = layout is None, False  # by the number or names of all joints
    self._frames, self._persons, self._joints = [], [], []
    self._names, self._named = {}, None  # names of images, in the order of the file

  def name_layout(self, layout: str | None) -> None:
    """Sets the layout that the file names, unless a layout is known already."""
    if self.layout is None and layout is not None:
      self.layout, self._counted = layout, False

  def place(self, joints: list, names: Sequence[str]) -> list:
    """Joints x, y, score in the order of the layout that their `names` show; as they are if the names show none or
    another than the given one.

    Names the layout. A joint that no name shows is lost. Raises ValueError for a name that comes twice, where unknown
    names may be those of missing joints, and where all names are another layout's.
    """
    if len(joints) != len(names):
      raise ValueError(f"{self.label} has {len(joints)} joints and {len(names)} names of joints")
    places = _find(tuple(names), self.layout, self._by_names)
    if places is None:
      self.notes |= dict.fromkeys(notes_on_unknown(names, self.layout))
      return joints
    means = layouts.LAYOUTS[places.layout].means if places.layout else ()
    lacks = any(places.of[joint] is None for row in means for joint in row)
    if lacks and places.unknown and not self._by_names:
      unknown = f"joints {', '.join(map(repr, places.unknown[:4]))} among those of {places.layout}"
      raise ValueError(f"{self.label} names {unknown}: rename them as left_wrist, or name the order with --layout")
    self.name_layout(places.layout)
    self._by_names |= bool(means) and not lacks
    lost = [None] * (len(joints[0]) - 1) + [0]
    return [lost if place is None else joints[place] for place in places.of]

  def place_scored(self, joints: list, scores: list | None, names: Sequence[str]) -> tuple[list, list | None]:
    """Joints [j k] and their scores [j], which may be None, in the order of `place`."""
    if scores is None:
      return self.place(joints, names), None
    both = self.place([[*joint, score] for joint, score in zip(joints, scores, strict=True)], names)
    return [joint[:-1] for joint in both], [joint[-1] for joint in both]

  def where(self, frame) -> str:
    """The file and the frame in one line."""
    return f"{self.label}, frame {' '.join(str(frame).split())[:80]}"

  def list_frame(self, frame):
    """The frame as a number or an image's name, counted as one of the file. A time as text becomes seconds. Raises
    ValueError for another value.
    """
    if isinstance(frame, str) and (time := numbering.as_time(frame)) is not None:
      self.times, self.unit, frame = True, 1, time
    if isinstance(frame, float) and frame.is_integer() and not self.times:
      frame = int(frame)
    if isinstance(frame, str):
      self.name(frame)
    elif self.times and isinstance(frame, int | float) and 0 <= frame < float("inf"):
      self.listed.add(float(frame))
    elif _is_frame(frame):
      self.listed.add(frame)
    else:
      raise ValueError(f"{self.where(frame)}: {_FRAMES}")
    return frame

  def add(self, frame, keypoints, scores=None, person=None, canvas=None) -> None:
    """Adds a skeleton: flat x, y, score or x, y, or x, y pairs and `scores`. `frame` is a number or an image's name;
    `canvas` is its width and height, of which coordinates up to 2 are shares.

    Raises ValueError for another form, another number of joints, or too many detections.
    """
    where = self.where(frame)
    try:
      values = np.asarray(keypoints, np.float32)
      if scores is not None and values.shape[1:] == (3,):
        own, are_flags = values[:, 2], set(values[:, 2]) <= {0, 1, 2}
        if not are_flags and not np.array_equal(own, np.asarray(scores, np.float32).ravel(), equal_nan=True):
          raise ValueError(f"{len(values)} joints of 3 numbers and a score apart: 3D poses? give its 2D output")
        values = values[:, :2]
      is_flat_pairs = values.ndim == 1 and not self._is_known(values.size / 3) and self._is_known(values.size / 2)
      if is_flat_pairs and values.size % 3 == 1 and self._is_known(values.size // 3) and min(
          values[3::3].max(), values[2::3].max()) <= 1 < values.max():
        raise ValueError(f"{values.size} numbers, one more than x, y, score of {values.size // 3} joints: leave it out")
      if scores is None and (values.shape[1:] == (2,) or is_flat_pairs):
        scores = np.ones(values.size // 2)
      values = values.reshape(-1, 3 if scores is None else 2)
      if scores is None and ((values[:, 2] < 0) & (values[:, 2] != -1)).any():
        raise ValueError("negative numbers where scores are expected: 3D poses? give its 2D output")
      if scores is not None:
        values = np.concatenate([values, np.asarray(scores, np.float32).reshape(-1, 1)], 1)
      if canvas is not None:
        self.resolution = canvas
        if np.nan_to_num(np.abs(values[:, :2])).max(initial=0) <= 2:
          values = values * np.float32([*canvas, 1])
      while isinstance(person, list):
        person = person[0] if person else None
      person = int(person) if isinstance(person, int | float) and person >= 0 else None  # -1: not tracked
    except (ValueError, TypeError, IndexError, OverflowError) as error:
      what = f"keypoints of the wrong form ({' '.join(str(error).split())})"
      raise ValueError(f"{where}: {what}; expected x, y and a score for each joint") from error
    self.layout = self.layout or layouts.BY_COUNT.get(len(values))
    known = {layouts.LAYOUTS[self.layout].num_joints: self.layout} if self.layout else layouts.BY_COUNT
    if len(values) not in known:
      expected = ", ".join(f"{count} ({name})" for count, name in known.items())
      raise ValueError(f"{where} has {len(values)} joints, expected {expected}; see --layout")
    frame = self.list_frame(frame)
    self._named = isinstance(frame, str) if self._named is None else self._named
    if self._named is not isinstance(frame, str):
      raise ValueError(f"{where}: {_FRAMES}")
    frame = self.name(frame) if self._named else frame
    if len(self._frames) == MAX_DETECTIONS:
      raise ValueError(f"{self.label} has more than {MAX_DETECTIONS:,} detections: cut the video into pieces")
    self._frames.append(frame)
    self._persons.append(person)
    self._joints.append(values[: layouts.LAYOUTS[self.layout].used].copy())  # a view would keep face and hands

  @property
  def has_any(self) -> bool:
    """Whether a skeleton was added."""
    return bool(self._frames)

  def _is_known(self, num_joints: float) -> bool:
    return num_joints == layouts.LAYOUTS[self.layout].num_joints if self.layout else num_joints in layouts.BY_COUNT

  def name(self, image: str) -> int:
    """The place of an image's name among those of the file; images without people count too."""
    return self._names.setdefault(image, len(self._names))

  def finish(self, **fields) -> list[Detections]:
    """Detections of each video that the images' names tell apart, with more of its `fields`; of one without names.

    Numbers of people are kept if every skeleton has one. Raises ValueError for several videos without images' names,
    and where third numbers are no scores.
    """
    self._check_videos()
    if self._named and len(self._names) > 1 and not numbering.have_numbers(self._names):
      self.notes["images' names hold no frame number: their order in the file, or of their ids, counts"] = None
    fields = fields | {"notes": (*fields.get("notes", ()), *self.notes)}
    timed = self.times and not self._named
    frames = np.array(self._frames, float if timed else np.int64)
    if timed:
      every = np.unique([*self.listed])
      numbers, rate = numbering.from_times(every, self.label, self.unit)
      frames = numbers[np.searchsorted(every, frames)]
      fields = fields | {"fps": fields.get("fps") or rate}
    joints = np.stack(self._joints) if self._joints else np.zeros((0, 17, 3), np.float32)
    self._check_scores(joints)
    layout = self.layout
    if self._counted and layout is not None:
      seen = np.where((joints[..., 2:] > 0) & (joints[..., :2] != 0), joints[..., :2], np.nan)
      layout = layouts.told_apart(seen, layout, self.label)
    person = None if None in self._persons or not self._persons else np.array(self._persons)
    numbered = {"": (frames, len(self.listed) or None)}
    if self._named:  # frames are places of names: each video gives its own names their numbers, and others -1
      numbered = {
          video: (np.array([frame.get(name, -1) for name in self._names])[frames], len(frame))
          for video, frame in numbering.videos(self._names).items()
      }
    fields, found = {"resolution": self.resolution, "normalised": _are_shares(joints[..., :2])} | fields, []
    for video, (number, num_frames) in numbered.items():
      of_video, own = number >= 0, {"num_frames": num_frames} | fields
      found.append(Detections(
          number[of_video], joints[of_video, :, :2], joints[of_video, :, 2], layout,
          None if person is None else person[of_video], **own | {"sequence": fields.get("sequence") or video}))
    return found

  def _check_videos(self) -> None:
    """Raises ValueError for several videos, unless their numbers only count the frames."""
    movies = {name for name in self._names if name.lower().endswith(MOVIES)}
    are_many = len(self.videos) > 1 and not is_counter(self.videos, len(self.listed))
    if len(movies) > 1 or are_many and not self._named:
      found = sorted(movies or self.videos)
      raise ValueError(f"{self.label} names {len(found)} videos ({', '.join(found[:4])}): keep the frames of one")

  def see_depths(self, depths, points) -> None:
    """Keeps the least of depths [n j] of each skeleton that is as deep as 3D poses in the unit of its points [n j 2+]:
    metres beside px are flat. A 2D detector's z is negative before the hips.
    """
    depths, points = np.asarray(depths, float), np.asarray(points, float)[..., :2]
    wide = np.ptp(points, axis=1).max(-1, initial=0)
    self.depths += depths.min(1, initial=np.inf)[np.ptp(depths, axis=1) > 0.05 * wide].tolist()

  def _check_scores(self, joints: np.ndarray) -> None:
    """Raises ValueError for joints [n j 3] whose third number is no score, and for depths of 3D poses."""
    scores = joints[..., 2][joints[..., 2] > 0]
    if len(joints) and not len(scores) and (np.nan_to_num(joints[..., :2]) != 0).any():
      zero = "every joint has score 0, which means not detected"
      raise ValueError(f"{self.label}: {zero}: write the detector's scores, or leave them out")
    first = joints[..., 0][joints[..., 2] > 0]  # of each joint: x, or its score
    if len(scores) and np.median(scores) > MOST_SCORE and (scores.max() > 1000 or np.nanmedian(np.abs(first)) <= 1):
      what = f"numbers like {np.median(scores):.4g} where scores are expected, after x and y"
      raise ValueError(f"{self.label} has {what}: 3D poses? give their 2D; scores before x and y? put them last")
    if len(self.depths) > len(joints) / 2 and np.mean(np.array(self.depths) > 2) > 0.95:
      what = f"z of {np.median(self.depths):.4g} and more for all joints"
      raise ValueError(f"{self.label} has {what}: 3D poses? give their 2D output; a depth camera's? leave z out")


_find = functools.lru_cache(64)(joint_names.find)  # each frame of a file has the same names
_FRAMES = f"expected frame numbers from 0 to {numbering.MAX_FRAME:,} throughout, or images' names throughout"


def is_counter(videos, num_frames: int) -> bool:
  """Whether the "videos" only count the frames, or the rows."""
  return len(videos) >= num_frames > 1 and all(re.fullmatch(r"[\d.]+", one) for one in videos)


def _are_shares(values: np.ndarray) -> bool:
  """Whether coordinates of any shape are shares of the image's width and height. A few may lie far outside."""
  values = values[np.isfinite(values) & (values != 0)]
  return len(values) > 0 and float(np.median(np.abs(values))) <= 2 and float((values < 0).mean()) < 0.4


def notes_on_unknown(names: Sequence[str], layout: str | None) -> list[str]:
  """The note on names of joints that are not known. Numbers, equal names and a given layout need none."""
  are_words = 1 < len(set(names)) == len(names) and all(any(map(str.isalpha, name)) for name in names)
  shown = ", ".join(map(repr, names[:4]))
  note = f"joints have unknown names ({shown}, ...): their order counts; rename them as left_wrist"
  return [note] if layout is None and are_words else []


def _is_frame(number) -> bool:
  return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= numbering.MAX_FRAME
