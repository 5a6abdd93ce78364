"""One sequence as figures, films and pages take it: poses, 2D input and camera.

Axes: T frames, H hypotheses, 17 joints in Human3.6M-17 order. Poses are root-relative, in metres, in the camera frame
(x right, y down, z forward). NaN marks an absent joint or frame.
"""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.geometry import skeleton

_SAME = ("keypoints_px", "confidence", "intrinsics", "resolution")  # names in the file and of PoseSequence
CHOSEN, TRUTH = "#e0282e", "#111111"
# Each colour has a contrast of at least 3:1 to white and to the dark background of the page.
PALETTE = ("#2b83ba", "#d97706", "#1b9e77", "#9467bd", "#9c8b00", "#1398a8", "#a6611a", "#c56aa0", "#7f7f7f")


@dataclasses.dataclass(frozen=True)
class PoseSequence:
  """Poses of T frames with their 2D input and camera.

  The first of `poses` is drawn red and measured first; the others are methods to compare. Raises ValueError for arrays
  of other shapes, infinite values, and an fps that is not positive.
  """

  poses: Mapping[str, np.ndarray]  # name -> [T 17 3]
  keypoints_px: np.ndarray  # the 2D input [T 17 2]
  intrinsics: np.ndarray  # [9] in px, as in `camera`
  resolution: Sequence[float]  # (width, height) in px
  fps: float
  hypotheses: np.ndarray | None = None  # [H T 17 3]
  truth: np.ndarray | None = None  # [T 17 3]; without it only the reprojection error is measured
  confidence: np.ndarray | None = None  # [T 17], weight of each joint where roots are solved; default: ones
  sigma_m: np.ndarray | None = None  # [T 17], how far off each joint of the first pose may be
  valid: np.ndarray | None = None  # [T], False in frames without a detection; default: True
  first_frame: int = 0  # number of the first frame in its video
  doubts: Sequence[tuple[int, int, str]] = ()  # (first, last, why) of frames, by number, that are not trusted
  pictures: Sequence[tuple[int, bytes]] = ()  # (number, JPEG) of some frames of the video, which the page shows
  title: str = "Poses"  # heading of the page
  notes: Mapping[str, str] = dataclasses.field(default_factory=dict)  # protocol, file and guesses, listed on the page
  chosen_name: str = "chosen"  # name of the first pose in a figure of hypotheses

  def __post_init__(self):
    num_frames = len(self.keypoints_px)
    # The class is frozen, so computed defaults are set through `object`.
    for name, shape, dtype in (("confidence", (num_frames, 17), np.float32), ("valid", num_frames, bool)):
      given = getattr(self, name)
      object.__setattr__(self, name, np.ones(shape, dtype) if given is None else np.asarray(given, dtype))
    if not self.poses or not num_frames:
      raise ValueError("no poses to show: give at least one named pose [T 17 3], with T of 1 or more")
    if not (np.isfinite(self.fps) and self.fps > 0):
      raise ValueError(f"fps {self.fps}: expected a positive rate")
    arrays = [("keypoints", self.keypoints_px, (num_frames, 17, 2)), ("intrinsics", self.intrinsics, (9,))]
    arrays += [] if self.sigma_m is None else [("sigma", self.sigma_m, (num_frames, 17))]
    for name, values, shape in [*arrays, *((name, pose, (num_frames, 17, 3)) for name, _, _, pose in self.series())]:
      if np.shape(values) != shape:
        raise ValueError(f"{name} of shape {np.shape(values)}: expected {shape}")
      if np.isinf(values).any():
        raise ValueError(f"{name} has infinite values: mark absent joints with NaN")

  def series(self) -> list[tuple[str, str, str, np.ndarray]]:
    """(Name, kind, colour, pose [T 17 3]) of all poses, then all hypotheses, then the ground truth."""
    hypotheses, colours = () if self.hypotheses is None else self.hypotheses, itertools.cycle(PALETTE)
    drawn = [(f"hypothesis {h}", "hypothesis", next(colours), pose) for h, pose in enumerate(hypotheses, 1)]
    poses = [(name, "pose", next(colours) if i else CHOSEN, pose) for i, (name, pose) in enumerate(self.poses.items())]
    truth = [] if self.truth is None else [("ground truth", "truth", TRUTH, self.truth)]
    return poses + drawn + truth

  def first_seconds(self, seconds: float) -> "PoseSequence":
    """The sequence without the frames after its first `seconds`; at least one frame."""
    first = slice(max(1, round(seconds * self.fps)))
    return dataclasses.replace(
        self, keypoints_px=self.keypoints_px[first], confidence=self.confidence[first], valid=self.valid[first],
        poses={name: pose[first] for name, pose in self.poses.items()},
        hypotheses=None if self.hypotheses is None else self.hypotheses[:, first],
        sigma_m=None if self.sigma_m is None else self.sigma_m[first],
        truth=None if self.truth is None else self.truth[first],
    )


def spread_frames(valid: np.ndarray, count: int) -> np.ndarray:
  """At most `count` frame numbers, evenly spaced over the frames where `valid` [T] is True."""
  frames = np.flatnonzero(valid)
  return np.unique(frames[np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]])


def from_record(record: Mapping, poses: Mapping[str, np.ndarray], **fields) -> PoseSequence:
  """The sequence of a labelled record and of `poses`; `fields` are further fields of PoseSequence.

  The ground truth is NaN in frames that are not valid.
  """
  truth = np.where(record["valid"][:, None, None], skeleton.root_centre(record["poses_camera_m"]), np.nan)
  same = {name: record[name] for name in ("keypoints_px", "confidence", "valid", "intrinsics", "resolution")}
  return PoseSequence(poses=poses, truth=truth, fps=float(record["fps"]), **same, **fields)


def read_lifted(path) -> PoseSequence:
  """The sequence in an npz file of `experiments.lift`.

  Raises FileNotFoundError where the file is missing, and ValueError for another kind of file.
  """
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise FileNotFoundError(f"{path} does not exist: give the npz file that experiments.lift wrote")
  try:
    data = safe_pickle.load_npz(file)
    if strange := [name for name, array in data.items() if not isinstance(array, np.ndarray) or array.dtype == object]:
      raise ValueError(f"{strange[0]} is no array of numbers or text")
  except ValueError as error:
    raise ValueError(f"{path} cannot be read as an npz of arrays: give the file that experiments.lift wrote") from error
  if missing := sorted({*_SAME, "detected", "fps", "frame", "metadata", "pose_root_m"} - set(data)):
    raise ValueError(f"{path} is an npz of another kind: it lacks {', '.join(missing)}, which experiments.lift writes")
  try:
    return _lifted(data, file)
  except (ValueError, TypeError, AttributeError, LookupError) as error:
    what = " ".join(str(error).split())
    raise ValueError(f"{path} has arrays that experiments.lift does not write ({what}): lift again") from error


def _lifted(data: dict[str, np.ndarray], file: pathlib.Path) -> PoseSequence:
  metadata, hypotheses = json.loads(str(data["metadata"])), data.get("hypotheses_root_m")
  name = "lifted" if hypotheses is None else f"lifted, select={metadata['selection']}"
  notes = {
      name.replace("_", " "): "; ".join(map(str, value)) if isinstance(value, list) else str(value)
      for name, value in metadata.items() if name not in ("sequence", "untrusted")
  }
  doubts = [(one["first"], one["last"], one["why"]) for one in metadata.get("untrusted", ())]
  if "picture_frames" in data:
    jpegs = np.split(data["picture_bytes"], data["picture_ends"][:-1])
    pictures = [(int(frame), jpeg.tobytes()) for frame, jpeg in zip(data["picture_frames"], jpegs, strict=True)]
  else:
    pictures = []
  shown = metadata.get("sequence") or pathlib.Path(metadata.get("path", file)).name
  return PoseSequence(
      poses={name: data["pose_root_m"]}, hypotheses=hypotheses, sigma_m=data.get("sigma_m"), valid=data["detected"],
      fps=float(data["fps"]), first_frame=int(data["frame"][0]), title=f"Lifted: {shown}", notes=notes,
      chosen_name=name, doubts=doubts, pictures=pictures, **{name: data[name] for name in _SAME},
  )


def find_record(records: Iterable[Mapping], where: str, sequence: str | None, camera: str | None) -> Mapping:
  """The first record of that sequence and camera; None matches all.

  Raises ValueError that lists the choices; `where` names the dataset in it.
  """
  cameras: dict[str, list[str]] = {}
  for record in records:
    if sequence in (None, record["sequence"]) and camera in (None, record["camera"]):
      return record
    cameras.setdefault(record["sequence"], []).append(record["camera"])
  if sequence is not None and sequence not in cameras:
    some = ", ".join(list(cameras)[:8]) + (", ..." if len(cameras) > 8 else "")
    raise ValueError(f"{where} has no sequence {sequence}: choose one of {some}")
  known = dict.fromkeys(sum(cameras.values(), []) if sequence is None else cameras[sequence])
  raise ValueError(f"camera {camera} has no view of {sequence or where}: choose one of {', '.join(known)}")
