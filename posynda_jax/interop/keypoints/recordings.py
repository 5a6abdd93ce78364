"""Records of one person from a detector's file: every frame from the first to the last detection, in Human3.6M-17.

The report counts what was interpolated, guessed or never detected, and all of that has confidence 0.
"""

import dataclasses
import pathlib

import numpy as np

from posynda_jax.geometry import layouts, skeleton
from posynda_jax.interop.keypoints import arrays, cleaning, formats, numbering, people
from posynda_jax.interop.keypoints.detections import Detections

GUESSED_FPS = 30.0
LEAST_FRAMES = 10  # in which a person is seen who counts where all are asked for
PERCENT = 100  # largest coordinate that may be a percentage
CORNER = 0.5  # share of width and height: a person who is never beyond both was probably detected on a smaller video
UNITLESS = ("plain", "csv", "json", "keypoints_scores")  # formats that may hold px or shares
UNSURE = 0.4  # share of exchanged joints of limbs from which either labelling of the sides may be right


@dataclasses.dataclass(frozen=True)
class Options:
  """Facts about the video that its file does not hold. Raises ValueError for impossible ones."""

  resolution: tuple[float, float] | None = None  # width, height (px); None: as the file says
  intrinsics: tuple[float, ...] | None = None  # fx, fy, cx, cy, or these and k1, k2, k3, p1, p2 (px); None: guessed
  fps: float | None = None  # None: GUESSED_FPS
  layout: str | None = None  # one of LAYOUTS; None: as the file says
  format: str | None = None  # one of FORMATS; None: recognised
  person: str = "auto"  # "auto", the person's place in the list of the report, or "all": a recording of each
  sequence: str | None = None  # name of one video of several
  up: tuple[float, ...] | None = None  # against gravity in the camera's axes: 0, -1, 0 of a level one; None: unknown
  mend: bool = True  # whether sides that the detector exchanged are exchanged back, and joints that jump interpolated

  def __post_init__(self):
    if self.resolution is not None and not (len(self.resolution) == 2 and _all_positive(self.resolution)):
      raise ValueError(f"resolution {self.resolution} is not a width and a height in px")
    if self.intrinsics is not None:
      finite = np.isfinite(self.intrinsics).all()
      if len(self.intrinsics) not in (4, 9) or not finite or not _all_positive(self.intrinsics[:2]):
        expected = "fx,fy,cx,cy[,k1,k2,k3,p1,p2] in px with positive fx, fy"
        raise ValueError(f"intrinsics {self.intrinsics} are not {expected}")
    if self.up is not None and not (np.shape(self.up) == (3,) and 0 < np.linalg.norm(self.up) < np.inf):
      raise ValueError(f"up {self.up} is not a direction x,y,z in the camera's axes: a level camera has 0,-1,0")
    if self.fps is not None and not _all_positive(self.fps):
      raise ValueError(f"fps {self.fps} is not a positive number of frames a second")
    if self.person not in ("auto", "all") and not self.person.isdecimal():
      raise ValueError(f"person {self.person!r} is neither auto, all nor a number from 0")
    for name, value, known in (("layout", self.layout, layouts.LAYOUTS), ("format", self.format, formats.FORMATS)):
      if value is not None and value not in known:
        raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")


def _all_positive(values) -> bool:
  return bool(np.isfinite(values).all() and np.min(values) > 0)


@dataclasses.dataclass(frozen=True)
class Recording:
  """One person of one video."""

  record: dict  # as `datasets.record` has it, without poses
  frames: np.ndarray  # [T] numbers of the frames in the video
  report: dict  # what was read, chosen, interpolated and guessed
  other: "Recording | None" = None  # the same with all sides exchanged, where either may be right


def read(path, options: Options) -> list[Recording]:
  """A recording of each video in a file or folder, and with `person` "all" of each person of it.

  Raises FileNotFoundError, and ValueError of one line.
  """
  path = pathlib.Path(path).expanduser()
  name, found = formats.read(path, options.format, options.layout)
  if options.sequence is not None:
    known = [one.sequence for one in found]
    found = [one for one in found if one.sequence == options.sequence]
    if not found:
      names = ", ".join(known) or "one without a name"
      raise ValueError(f"{path} has no sequence {options.sequence!r}; it has {names}")
  how = "given" if options.format else "recognised"
  report = {"format": name, "format_was": how}
  return [person for one in found for person in _people(one, path, report, options)]


def from_array(points: np.ndarray, options: Options, label: str = "keypoints") -> Recording:
  """The recording of one person's keypoints [T j 2] (px), or [T j 3] with scores, in the order of `options.layout`.

  NaN, (0, 0) or score 0 mark joints that were not detected. Raises ValueError, one line, for another shape or unit.
  """
  if options.layout is None:
    known = ", ".join(layouts.LAYOUTS)
    raise ValueError(f"the joint order of {label} is not given; name its layout, one of {known}")
  points = np.asarray(points)
  if points.ndim != 3 or points.shape[-1] not in (2, 3) or points.dtype.kind not in "fiu":
    raise ValueError(f"{label} has shape {points.shape} of {points.dtype}, expected numbers (T, joints, 2 or 3)")
  (found,) = arrays.of_frames(points, label, options.layout, normalised=False)
  return from_detections(found, options, label)


def from_detections(found: Detections, options: Options, label: str, format_name: str = "array") -> Recording:
  """The recording of a person among detections that were made in this process. Raises as `from_array`."""
  return _people(found, pathlib.Path(label), {"format": format_name, "format_was": "given"}, options)[0]


def _label(path: pathlib.Path, found: Detections) -> str:
  """What errors call a video."""
  return f"{path}, {found.sequence}" if found.sequence else str(path)


def _people(found: Detections, path: pathlib.Path, report: dict, options: Options) -> list[Recording]:
  """The chosen person of one video, or all who are seen in LEAST_FRAMES frames and more, the longest first."""
  label = _label(path, found)
  resolution = _resolution(found, label, options)
  numbers, rate, every = numbering.count(found.frame, label, found.num_frames)
  notes, fps = found.notes, found.fps or rate
  if every > 1:
    kept = f"frame numbers go up by {every}: frames are counted among these, at {every} times less than the video's fps"
    notes = (*notes, f"{kept}; if --fps is the rate of these frames, give {every} times as much")
  elif (numbers != found.frame).any():
    notes = (*notes, "frame numbers were read as time stamps, one frame each")
  found = dataclasses.replace(found, frame=numbers, resolution=resolution, fps=fps, notes=notes)
  report = report | {"frame_step": every}
  largest = np.abs(found.points[np.isfinite(found.points)]).max(initial=0)
  if not found.normalised and 2 < largest <= PERCENT < min(resolution) / 4:
    raise ValueError(f"{label} has no coordinate beyond {largest:.3g}, expected px: percentages of the image? multiply "
                     "x by its width / 100 and y by its height / 100")
  ranked = people.find(found, label)
  if options.person != "all":
    return [_recording(found, ranked, people.choose(ranked, options.person, label), path, report, options)]
  made = [_recording(found, ranked, 0, path, report, options)]
  for index in range(1, len(ranked)):
    try:
      one = _recording(found, ranked, index, path, report, options)
    except ValueError:  # a ghost of the detector, as outside the image
      continue
    if one.record["valid"].sum() >= LEAST_FRAMES:
      made.append(one)
  return made


def _recording(
    found: Detections, ranked: list[people.Person], index: int, path: pathlib.Path, report: dict, options: Options
) -> Recording:
  """One of the people of a video whose resolution is known."""
  label = _label(path, found)
  resolution, fps = found.resolution, (options.fps or found.fps or GUESSED_FPS) / report["frame_step"]
  rows = ranked[index].rows
  points = found.points[rows].astype(np.float64) * (resolution if found.normalised else 1)
  _check_units(points, resolution, label)
  frames = found.frame[rows]
  points, scores = cleaning.drop_untrusted(points, found.scores[rows], report["format"])
  points, scores, seen, filled = cleaning.fill(frames, points, scores, fps, label)
  keypoints, confidence = layouts.convert(points, scores, found.layout)
  exchanged = cleaning.find_exchanged(keypoints, seen & options.mend)
  if exchanged.any():
    keypoints, confidence = cleaning.exchange(keypoints, confidence, exchanged, fps)
  jumps = cleaning.find_jumps(keypoints, seen & options.mend, fps)
  if jumps.any():
    keypoints, confidence = cleaning.interpolate(keypoints, confidence, jumps, fps)
  of_limbs = exchanged[:, skeleton.LEFT + skeleton.RIGHT]
  unsure = of_limbs.mean() > UNSURE
  why = "check --layout"
  if not (found.scores[rows] >= (least := cleaning.least_score(report["format"]))).any():
    why = f"every score is below {least:g}, the least that counts; leave the scores out if they are on another scale"
  never = cleaning.complete(keypoints, label, why)
  intrinsics = options.intrinsics or (max(resolution), max(resolution), resolution[0] / 2, resolution[1] / 2)
  guess = "guessed: focal length = longest side, centre of the image"
  report = report | {
      "path": str(path), "sequence": found.sequence,
      "layout": found.layout, "joint_rule": layouts.rule_name(found.layout),
      "people": people.describe(ranked), "num_people": len(ranked),
      "person": index, "person_id": ranked[index].number,
      "frames": len(seen), "first_frame": int(frames[0]), "last_frame": int(frames[-1]),
      "video_frames": found.num_frames,
      "mean_confidence": round(float(confidence[seen].mean()), 4), **filled, "never_seen": never,
      "exchanged_frames": int(exchanged.any(-1).sum()), "jumps": int(jumps.any(-1).sum()),
      "intrinsics": "given" if options.intrinsics else guess,
      "fps": "given" if options.fps else "read" if found.fps else f"guessed: {GUESSED_FPS:g}",
  }
  guesses = (
      (found.normalised and report["format"] in UNITLESS, "no coordinate is above 2: read as shares of the image"),
      (options.resolution and (np.nanmax(points, (0, 1)) < np.multiply(CORNER, resolution)).all(),
       "every joint is in the upper left quarter: detected on a smaller video? then --resolution is its size"),
      (options.intrinsics is None, f"intrinsics not given: focal length guessed as {max(resolution):g} px, the longest "
       "side; distances from the camera are as far off as it is"),
      (report["fps"].startswith("guessed"), f"fps not given: {GUESSED_FPS:g} assumed"),
      (never, f"never seen, placed where a standing person has them: {', '.join(never)}"),
      (exchanged.any(), _exchanged(report["exchanged_frames"])),
      (doubles := ranked[index].doubles, f"found twice in {doubles:,} frames: the surer skeleton counts"),
      (jumps.any(), f"joints jump away and back in {report['jumps']:,} frames: interpolated"),
      (unsure, "either labelling of the sides may be right: `lift` takes the one that the base reprojects better"),
  )
  report["warnings"] = [*found.notes, *(warning for is_so, warning in guesses if is_so)]
  record = {
      "keypoints_px": keypoints.astype(np.float32), "confidence": confidence.astype(np.float32), "valid": seen,
      "intrinsics": np.array([*intrinsics, *[0.0] * (9 - len(intrinsics))], np.float32),
      "resolution": np.array(resolution, np.float32), "fps": np.float32(fps),
      "subject": f"person {index}", "action": "own", "camera": report["intrinsics"].partition(":")[0],
      "sequence": f"{path.name}/{found.sequence}" if found.sequence else path.name, "first_frame": int(frames[0]),
  }
  if options.up is not None:
    record["up"] = np.array(options.up) / np.linalg.norm(options.up)
  made = Recording(record, np.arange(frames[0], frames[-1] + 1), report)
  if not unsure:
    return made
  names, count = ("keypoints_px", "confidence"), int((~of_limbs[seen]).any(-1).sum())
  mirrored = record | dict(zip(names, cleaning.mirror(*map(record.get, names)), strict=True))
  said = {_exchanged(report["exchanged_frames"]): _exchanged(count)}
  of_other = report | {"exchanged_frames": count, "warnings": [said.get(line, line) for line in report["warnings"]]}
  return dataclasses.replace(made, other=dataclasses.replace(made, record=mirrored, report=of_other))


def _exchanged(count: int) -> str:
  return f"left and right were exchanged in {count:,} frames: exchanged back"


def _resolution(found: Detections, label: str, options: Options) -> tuple[float, float]:
  """The size of the video. One that the file states counts if the joints lie inside it, as in no network's input."""
  if found.resolution and options.resolution and tuple(found.resolution) != tuple(options.resolution):
    points = found.points[np.isfinite(found.points).all(-1)]
    if found.normalised or (points <= found.resolution).all(-1).mean() > 0.9:
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
    shares = f"no coordinate beyond {largest:.3g}: shares of the image"
    or_3d = "; or 3D poses in metres? give their 2D" if (seen < 0).mean() > 0.25 else ""
    raise ValueError(f"{label} has {shares}, expected px; multiply by its size{or_3d}")
  inside = ((seen >= 0) & (seen <= resolution)).all(-1).mean()
  if inside < 0.5:
    outside = "{:.0f}% of its joints outside {:g}x{:g} px".format(100 * (1 - inside), *resolution)
    raise ValueError(f"{label} has {outside}: give the --resolution of the video that was detected on")
