"""From a detector's file to the package's records: one person, every frame from first to last sighting, Human3.6M-17.

Nothing is made up silently: what was interpolated, guessed or never seen is counted in the report and has confidence 0.
"""

import dataclasses
import math
import pathlib

import numpy as np

from posynda_jax.geometry import skeleton
from posynda_jax.interop.keypoints import detections, formats, layouts, people
from posynda_jax.interop.keypoints.detections import Detections

MAX_FRAMES = 1_000_000
GUESSED_FPS = 30.0


@dataclasses.dataclass(frozen=True)
class Options:
  """What the file does not tell. `intrinsics` are 4 or 9 numbers in px; None means the stated guess, as for `fps`."""

  resolution: tuple[float, float] | None = None  # (w, h) px
  intrinsics: tuple[float, ...] | None = None
  fps: float | None = None
  layout: str | None = None
  rule: str = "simple"
  format: str | None = None
  person: str = "auto"
  sequence: str | None = None

  def __post_init__(self):
    positive = lambda values: all(math.isfinite(v) and v > 0 for v in values)
    if self.resolution is not None and not (len(self.resolution) == 2 and positive(self.resolution)):
      raise ValueError(f"resolution {self.resolution} is not a width and a height in px")
    if self.intrinsics is not None:
      finite = np.isfinite(self.intrinsics).all()
      if len(self.intrinsics) not in (4, 9) or not finite or not positive(self.intrinsics[:2]):
        raise ValueError(f"intrinsics {self.intrinsics} are not fx,fy,cx,cy[,k1,k2,k3,p1,p2] in px with positive fx, fy")
    if self.fps is not None and not positive([self.fps]):
      raise ValueError(f"fps {self.fps} is not a positive number of frames a second")
    if self.person != "auto" and not self.person.isdecimal():
      raise ValueError(f"person {self.person!r} is neither auto nor a number from 0")
    for name, value, known in (
        ("layout", self.layout, layouts.LAYOUTS), ("joint rule", self.rule, layouts.RULES),
        ("format", self.format, formats.FORMATS),
    ):
      if value is not None and value not in known:
        raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")


@dataclasses.dataclass(frozen=True)
class Recording:
  """A `record` as of `datasets.record` without poses, the numbers of its `frames` [T] in the video, and the report on both."""

  record: dict
  frames: np.ndarray
  report: dict


def read(path, options: Options) -> list[Recording]:
  """The chosen person of every video in a file or folder. Raises FileNotFoundError; ValueError, one line, for all else."""
  path = pathlib.Path(path).expanduser()
  name = options.format or formats.recognise(path)
  found = formats.read(path, name, options.layout)
  if options.sequence is not None:
    known = [one.sequence for one in found]
    found = [one for one in found if one.sequence == options.sequence]
    if not found:
      raise ValueError(f"{path} has no sequence {options.sequence!r}; it has {', '.join(known) or 'one without a name'}")
  how = "given" if options.format else "recognised"
  return [_recording(one, path, {"format": name, "format_was": how}, options) for one in found]


def from_array(points: np.ndarray, options: Options, label: str = "keypoints") -> Recording:
  """The recording of one person's keypoints [T j 2] or, with scores, [T j 3], in px and the order of `options.layout`.

  NaN, (0, 0) or score 0 mean unseen. Raises ValueError, one line, for another shape or unit.
  """
  found = detections.dense(points, label, options.layout)
  if found.layout is None:
    raise ValueError(f"the joint order of {label} is not given; name its layout, one of {', '.join(layouts.LAYOUTS)}")
  return _recording(found, pathlib.Path(label), {"format": "array", "format_was": "given"}, options)


def _recording(found: Detections, path: pathlib.Path, report: dict, options: Options) -> Recording:
  label = f"{path}, {found.sequence}" if found.sequence else str(path)
  resolution = _resolution(found, label, options)
  ranked = people.find(found, label)
  index = people.choose(ranked, options.person, label)
  rows = ranked[index].rows
  points = found.points[rows].astype(np.float64) * (resolution if found.normalised else 1)
  _check_units(points, resolution, label)
  frames = found.frame[rows]
  points, scores, seen, filled = fill(frames, points, found.scores[rows], label)
  keypoints, confidence = layouts.to_h36m(points, scores, found.layout, options.rule)
  never = _place_unseen(keypoints)
  warnings = _warnings(keypoints, confidence, never, options, resolution)
  intrinsics = options.intrinsics or (max(resolution), max(resolution), resolution[0] / 2, resolution[1] / 2)
  report |= {
      "path": str(path), "sequence": found.sequence,
      "layout": found.layout, "joint_rule": layouts.rule_name(found.layout, options.rule),
      "people": people.describe(ranked), "num_people": len(ranked), "person": index, "person_id": ranked[index].number,
      "frames": len(seen), "first_frame": int(frames[0]), "last_frame": int(frames[-1]), "video_frames": found.num_frames,
      "mean_confidence": round(float(confidence[seen].mean()), 4), **filled, "never_seen": never,
      "intrinsics": "given" if options.intrinsics else "guessed: focal length = longest side, centre of the image",
      "fps": "given" if options.fps else f"guessed: {GUESSED_FPS:g}", "warnings": warnings,
  }
  record = {
      "keypoints_px": keypoints.astype(np.float32), "confidence": confidence.astype(np.float32), "valid": seen,
      "intrinsics": np.array([*intrinsics, *[0.0] * (9 - len(intrinsics))], np.float32),
      "resolution": np.array(resolution, np.float32), "fps": np.float32(options.fps or GUESSED_FPS),
      "subject": f"person {index}", "action": "own", "camera": report["intrinsics"].partition(":")[0],
      "sequence": f"{path.name}/{found.sequence}" if found.sequence else path.name,
  }
  return Recording(record, np.arange(frames[0], frames[-1] + 1), report)


def _resolution(found: Detections, label: str, options: Options) -> tuple[float, float]:
  if found.resolution and options.resolution and tuple(found.resolution) != tuple(options.resolution):
    size, given = ("{:g}x{:g}".format(*pair) for pair in (found.resolution, options.resolution))
    raise ValueError(f"{label} was made at {size} by its own metadata, --resolution says {given}: leave the flag out")
  resolution = options.resolution or found.resolution
  if resolution is None:
    raise ValueError(f"{label} does not tell the size of the video: give --resolution=WIDTHxHEIGHT in px")
  return tuple(map(float, resolution))


def _check_units(points: np.ndarray, resolution: tuple[float, float], label: str) -> None:
  """Raises ValueError for coordinates that are not px of this resolution."""
  seen = points[np.isfinite(points).all(-1)]
  if (largest := np.abs(seen).max()) <= 2:
    raise ValueError(f"{label} has no coordinate beyond {largest:.3g}: shares of the image, expected px; multiply by its size")
  inside = ((seen >= 0) & (seen <= resolution)).all(-1).mean()
  if inside < 0.5:
    outside = "{:.0f}% of its joints outside {:g}x{:g} px".format(100 * (1 - inside), *resolution)
    raise ValueError(f"{label} has {outside}: give the --resolution of the video that was detected on")


def fill(frames: np.ndarray, points: np.ndarray, scores: np.ndarray, label="keypoints"):
  """Every frame from the first to the last: (points [T j 2], scores [T j], seen [T], counts), lost joints interpolated linearly.

  Before its first and after its last sighting a joint stays where it was. What is filled has score 0. A joint that is never seen
  stays NaN. `frames` [n] increase. Raises ValueError for a span of more than MAX_FRAMES.
  """
  length = int(frames[-1] - frames[0]) + 1
  if length > MAX_FRAMES:
    span = f"frames {frames[0]:,} to {frames[-1]:,}"
    raise ValueError(f"{label} runs over {span}, more than {MAX_FRAMES:,}: number the frames one by one")
  at = frames - frames[0]
  out = np.full((length, *points.shape[1:]), np.nan)
  for joint in range(points.shape[1]):
    known = np.isfinite(points[:, joint]).all(-1)
    if known.any():
      for axis in (0, 1):
        out[:, joint, axis] = np.interp(np.arange(length), at[known], points[known, joint, axis])
  all_scores = np.zeros(out.shape[:2], scores.dtype)
  all_scores[at] = scores
  seen = np.zeros(length, bool)
  seen[at] = True
  counts = {
      "interpolated_frames": int(length - len(at)),
      "longest_gap": int(np.diff(at).max(initial=1)) - 1,
      "lost_joints_percent": round(100 * float((scores == 0).mean()), 2),
  }
  return out, all_scores, seen, counts


def _place_unseen(keypoints: np.ndarray) -> list[str]:
  """Puts joints [T 17 2] that no frame shows (NaN) on the nearest joint towards the hip, in place. Returns their names."""
  never = [j for j in range(17) if np.isnan(keypoints[0, j]).any()]
  if skeleton.ROOT in never:
    rest = [j for j in range(17) if j not in never]
    if not rest:
      raise ValueError("no joint of Human3.6M-17 is seen in any frame: check --layout")
    keypoints[:, skeleton.ROOT] = keypoints[:, rest].mean(1)
  for j in never:
    if j != skeleton.ROOT:
      keypoints[:, j] = keypoints[:, skeleton.PARENTS[j]]
  return [skeleton.JOINTS[j] for j in never]


def _warnings(keypoints, confidence, never, options: Options, resolution) -> list[str]:
  """What a reader of the result must know, in plain words."""
  found = []
  if options.intrinsics is None:
    guess = f"{max(resolution):g} px, the longest side"
    found.append(f"intrinsics not given: focal length guessed as {guess}; distances from the camera are as far off as it is")
  if options.fps is None:
    found.append(f"fps not given: {GUESSED_FPS:g} assumed")
  if never:
    found.append(f"never seen, placed on the next joint towards the hip: {', '.join(never)}")
  upright = keypoints[:, 10, 1] < keypoints[:, 0, 1]
  if upright.mean() < 0.5:
    found.append(f"the head is below the hip in {100 * (1 - upright.mean()):.0f}% of the frames: check --layout")
  return found
