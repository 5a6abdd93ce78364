"""Keypoints in npz and npy files: VideoPose3D, Detectron, video-to-pose3D, MHFormer's demo, MediaPipe, plain arrays.

Every reader is `(path, layout or None) -> list of Detections`, one for each video. The restricted unpickler reads
object arrays.
"""

import dataclasses
import zipfile

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.geometry import layouts, skeleton
from posynda_jax.interop.keypoints import detections, numbering
from posynda_jax.interop.keypoints.detections import Detections

# Names of arrays by which `recognise` knows a format.
_NAMES = {
    "videopose3d": {"positions_2d"}, "detectron": {"boxes", "keypoints", "metadata"}, "video_to_pose3d": {"kpts"},
    "mhformer": {"reconstruction"},
}
_SCORES = ("scores", "keypoint_scores", "confidence", "confidences", "conf", "visibility")
_FRAMES = ("frames", "frame_ids", "frame_numbers", "frame_indices", "frame_idx", "frame_id", "frame")
_MEDIAPIPE = ((33, 4), (33, 3), (132,))  # shapes of a frame
_LEFT = {"coco17": [1, 3, 5, 7, 9, 11, 13, 15], "h36m17": sorted(skeleton.LEFT)}


def load(path) -> dict:
  """The arrays of an npz file or of a dictionary by name; the array of an npy file under the empty name."""
  with open(path, "rb") as file:
    is_npy = file.read(6) == b"\x93NUMPY"
  value = safe_pickle.load_npy(path) if is_npy else safe_pickle.load_npz(path)
  return value if isinstance(value, dict) else {"": value}


def _get(data: dict, name: str, path):
  if name not in data:
    known = ", ".join(map(repr, data)) or "none"
    raise ValueError(f"{path} has no array {name!r} but {known}: not of this format, see --format")
  return data[name]


def videopose3d(path, layout=None) -> list[Detections]:
  """VideoPose3D's 2D files: `positions_2d` {video: {"custom": [(T,17,2)]}} or {subject: {action: [one a camera]}}."""
  data = load(path)
  positions, metadata = _get(data, "positions_2d", path), data.get("metadata", {})
  dictionaries = [positions, metadata, *(positions.values() if isinstance(positions, dict) else ())]
  if not all(isinstance(value, dict) for value in dictionaries):
    raise ValueError(f"{path}: positions_2d and metadata are not dictionaries by video: not VideoPose3D's 2D format")
  layout = layout or _symmetry_layout(metadata.get("keypoints_symmetry"), path)
  sizes = metadata.get("video_metadata", {})
  found = []
  for video, actions in positions.items():
    size = _size(sizes.get(video)) if isinstance(sizes, dict) else None
    for action, views in actions.items():
      for i, points in enumerate(views):
        name = video if action == "custom" and len(views) == 1 else f"{video}/{action}/{i}"
        found.append(detections.dense(points, f"{path}, {name}", layout, sequence=name, resolution=size))
  if not found:
    raise ValueError(f"{path} holds no video: run VideoPose3D's prepare_data_2d_custom.py again")
  return found


def _size(metadata) -> tuple[float, float] | None:
  """Width and height of the video; None if the metadata do not have them."""
  has_size = isinstance(metadata, dict) and {"w", "h"} <= set(metadata)
  return (float(metadata["w"]), float(metadata["h"])) if has_size else None


def _symmetry_layout(symmetry, path) -> str:
  """The layout with the left joints symmetry[0]. Raises ValueError if there is none."""
  left = [] if symmetry is None else sorted(int(i) for i in symmetry[0])
  if left not in _LEFT.values():
    raise ValueError(f"{path}: its metadata do not tell the joint order (left joints {left}): name it with --layout")
  return next(name for name, joints in _LEFT.items() if joints == left)


def detectron(path, layout=None) -> list[Detections]:
  """Detectron's dump: `boxes[t][1]` (n,5), `keypoints[t][1]` (n,4,17) = x, y, logit, probability of n people."""
  data = load(path)
  boxes, keypoints, metadata = (_get(data, name, path) for name in ("boxes", "keypoints", "metadata"))
  collector = detections.Collector(path, layout or "coco17")
  if np.ndim(boxes) < 1 or np.ndim(keypoints) < 1 or len(boxes) != len(keypoints):
    raise ValueError(f"{path}: boxes and keypoints have not one entry a frame: not a whole Detectron dump")
  for t in range(len(keypoints)):
    if len(boxes[t]) < 2 or len(keypoints[t]) < 2:
      raise ValueError(f"{path}, frame {t}: expected one entry a class, [[], people]: not a Detectron dump of persons")
    if len(boxes[t][1]) == 0:  # nobody was found
      continue
    people = np.asarray(keypoints[t][1])
    if people.ndim != 3 or people.shape[1] != 4:
      raise ValueError(f"{path}, frame {t}: keypoints have shape {people.shape}, expected (people, 4, 17)")
    for person in people:
      collector.add(t, person[:2].T, person[3])
  return collector.finish(num_frames=len(keypoints), resolution=_size(metadata))


def video_to_pose3d(path, layout=None) -> list[Detections]:
  """video-to-pose3D's npz: `kpts` (T,17,2)."""
  data, layout = load(path), layout or "coco17"
  return _dense(data, _frames(_get(data, "kpts", path), layout, f"{path}, kpts"), f"{path}, kpts", layout)


def mhformer(path, layout=None) -> list[Detections]:
  """The 2D input of the demos of MHFormer and MotionAGFormer: `reconstruction` (people,T,17,2), Human3.6M-17, or with
  three numbers x, y (px) and score.
  """
  points = np.asarray(_get(load(path), "reconstruction", path))
  if points.shape[-1:] != (2,) and not _has_scores(points):
    raise ValueError(f"{path} has shape {points.shape}: a demo's 3D output; give its 2D input, (people, T, 17, 2)")
  people = points[None] if points.ndim == 3 else points
  if not len(people):
    raise ValueError(f"{path} has shape {points.shape}: no person in it")
  parts = [detections.dense(one, f"{path}, reconstruction", layout or "h36m17") for one in people]
  joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("frame", "points", "scores")}
  person = np.repeat(np.arange(len(parts)), len(parts[0].frame))
  return [Detections(**joined, person=person, layout=parts[0].layout, num_frames=parts[0].num_frames)]


def keypoints_scores(path, layout=None) -> list[Detections]:
  """Arrays `keypoints` (T,j,2) and `scores` (T,j), or (T,people,j,2) and (T,people,j), as rtmlib's users save them. The
  number of joints gives the order; 17 are COCO's. `resolution`, `fps`, `frames` (their numbers) and `tracked` (a person
  keeps the place in the arrays) are read where they are.
  """
  data = load(path)
  name = next((name for name in _SCORES if name in data), "scores")
  points = _stack(_get(data, "keypoints", path), 2, path)
  scores = _stack(_get(data, name, path), 1, path)
  points = points[..., :2] if points.shape[-1] == 3 and np.array_equal(points[..., 2], scores, True) else points
  if scores.shape == points.shape[:-1] + (1,):
    scores = scores[..., 0]
  if points.ndim not in (3, 4) or points.shape[-1] != 2 or scores.shape != points.shape[:-1]:
    expected = "expected (T, [people,] joints, 2) and (T, [people,] joints)"
    raise ValueError(f"{path} has keypoints {points.shape} and {name} {scores.shape}, {expected}")
  collector = detections.Collector(path, layout)
  points, scores = (points, scores) if points.ndim == 4 else (points[:, None], scores[:, None])
  tracked, numbers = bool(np.any(data.get("tracked", False))), _numbers(data, len(points)).tolist()
  for t, i in np.ndindex(scores.shape[:2]):
    collector.list_frame(numbers[t])
    if not tracked or (scores[t, i] > 0).any():
      collector.add(numbers[t], points[t, i], scores[t, i], i if tracked else None)
  said = {name: tuple(map(float, np.ravel(data[name]))) for name in ("resolution", "fps") if name in data}
  return collector.finish(
      fps=said.get("fps", (None,))[0], resolution=said.get("resolution"), normalised=collector.are_shares)


def plain(path, layout=None) -> list[Detections]:
  """One array (T, joints, 2 or 3) in an npz or npy file, in the order of `layout`; px, or shares of width and height.

  MoveNet writes y before x. Shares of a person who would lie on the side are read so, with a note.
  """
  data = load(path)
  points = _only_array(data, path)
  if layout is None:
    known = "|".join(layouts.LAYOUTS)
    raise ValueError(f"{path} is a plain array {points.shape}: name its joint order with --layout={known}")
  points, notes = _frames(points, layout, path), ()
  values = points[..., :2][np.isfinite(points[..., :2])]
  normalised = detections.are_shares(values) and bool(((values >= 0) & (values <= 1)).mean() > 0.98)
  if normalised and layout == "coco17" and points.shape[-1] == 3:
    down = points[:, :, [11, 12], :2].mean(2) - points[:, :, [5, 6], :2].mean(2)  # from the shoulders to the hips
    down = np.median(down[np.isfinite(down).all(-1)], 0)
    if down[0] > 2 * abs(down[1]):
      points = points[..., [1, 0, 2]]
      notes = ("read as y, x, score, as MoveNet writes it: as x, y the person would lie on the side",)
  return _dense(data, points, str(path), layout, normalised=normalised, notes=notes)


def mediapipe(path, layout=None) -> list[Detections]:
  """MediaPipe's 33 landmarks (T,33,3|4): x, y as shares of width and height or px, z, visibility. NaN or 0: nobody.

  The third of three numbers is the visibility where all are from 0 to 1.
  """
  data = load(path)
  points = _only_array(data, path)
  if _shape(points) not in _MEDIAPIPE:
    raise ValueError(f"{path} has shape {points.shape}, expected MediaPipe's (T, 33, 3 or 4): x, y, z, visibility")
  points = _frames(points, "mediapipe33", path)
  third = points[..., 2][np.isfinite(points[..., 2])]
  is_score = points.shape[-1] == 3 and third.any() and ((third >= 0) & (third <= 1)).all()
  points = points[..., [0, 1, 3] if points.shape[-1] == 4 else [0, 1, 2] if is_score else [0, 1]]
  shares = detections.are_shares(points[..., :2])
  return _dense(data, points, str(path), layout or "mediapipe33", normalised=shares)


def _shape(points: np.ndarray) -> tuple[int, ...]:
  """The shape of a frame without axes of length 1."""
  return tuple(length for length in points.shape[1:] if length != 1)


def _has_scores(points: np.ndarray) -> bool:
  """Whether points [... 3] are x, y in px and a score, and no 3D poses."""
  if points.shape[-1:] != (3,) or points.dtype.kind not in "fiu" or not points.size:
    return False
  return bool(np.median(np.abs(points[..., :2])) > 2 and points[..., 2].min() >= 0 and points[..., 2].max() <= 1)


def _stack(value, axes: int, path) -> np.ndarray:
  """One array [T people ...] of an array of `axes` axes for each person of each frame. A frame may be None, and its
  people may come and go: they are NaN. Other arrays stay. Raises ValueError for arrays of several shapes.
  """
  array = np.asarray(value)
  if array.dtype != object or array.ndim != 1:
    return array
  try:
    frames = [np.zeros(0) if one is None else np.asarray(one) for one in array]
  except ValueError as error:
    raise ValueError(f"{path} has frames that are not one array each: {error}") from error
  frames = [one[None] if one.ndim == axes else one for one in frames]
  shapes = {one.shape[1:] for one in frames if one.size}
  if len(shapes) != 1 or any(one.size and (one.ndim != axes + 1 or one.dtype.kind not in "fiu") for one in frames):
    expected = f"expected numbers (people, {'joints, 2 or 3' if axes == 2 else 'joints'}) or None in each frame"
    raise ValueError(f"{path} has frames of shapes {sorted(shapes)[:3]}, {expected}")
  most = max(len(one) for one in frames if one.size)
  if most * len(frames) > detections.MAX_DETECTIONS:
    raise ValueError(f"{path} has more than {detections.MAX_DETECTIONS:,} detections: cut the video into pieces")
  found = np.full((len(frames), most, *shapes.pop()), np.nan, np.float32)
  for t, one in enumerate(frames):
    if one.size:
      found[t, : len(one)] = one
  return found


def _frames(value, layout: str, path) -> np.ndarray:
  """An array [T people j 2|3|4] of one with other axes of length 1, or with all numbers of a frame in one axis."""
  points, joints = _stack(value, 2, path), layouts.LAYOUTS[layout].num_joints
  if points.ndim == 2 and points.shape[1] in (2 * joints, 3 * joints, 4 * joints):
    points = points.reshape(len(points), joints, -1)
  while points.ndim > 4 and 1 in points.shape[1:-2]:
    points = points.squeeze(1 + points.shape[1:-2].index(1))
  if points.ndim == 4 and points.shape[0] == 1:
    points = points[0]
  points = points[:, None] if points.ndim == 3 else points
  if points.ndim != 4 or points.shape[-1] not in (2, 3, 4) or points.dtype.kind not in "fiu":
    expected = "expected numbers (T, joints, 2 or 3)"
    raise ValueError(f"{path} has shape {np.shape(value)} of {points.dtype}, {expected}")
  return points


def _numbers(data: dict, length: int) -> np.ndarray:
  """The numbers of the frames [length], as an array of the file says; from 0 without one."""
  for name in _FRAMES:
    numbers = np.asarray(data.get(name))
    if numbers.shape == (length,) and numbers.dtype.kind in "fiu" and (numbers == np.round(numbers)).all():
      return numbers.clip(-1, numbering.MAX_FRAME + 1).astype(np.int64)
  return np.arange(length)


def _dense(data: dict, points: np.ndarray, label: str, layout: str, **fields) -> list[Detections]:
  """Detections of an array [T people j 2|3], with the numbers of frames that the file's other arrays have."""
  found = detections.dense(points.reshape(-1, *points.shape[2:]), label, layout, **fields)
  numbers = _numbers(data, len(points))
  if not ((numbers >= 0) & (numbers <= numbering.MAX_FRAME)).all():
    raise ValueError(f"{label} has frame numbers from {numbers.min()}, expected 0 to {numbering.MAX_FRAME:,}")
  return [dataclasses.replace(found, frame=numbers.repeat(points.shape[1]), num_frames=len(points))]


def _only_array(data: dict, path) -> np.ndarray:
  arrays = {str(name): value for name, value in data.items() if isinstance(value, np.ndarray) and (
      value.ndim >= 2 or value.ndim == 1 and value.dtype == object)}
  if len(arrays) != 1 and "keypoints" not in arrays:
    found = f"{len(arrays)} arrays of keypoints ({', '.join(arrays)})"
    raise ValueError(f"{path} has {found}: expected one, (T, joints, 2 or 3)")
  return arrays.get("keypoints", next(iter(arrays.values())))


def recognise(path) -> str:
  """The format's name, by the names of the arrays, or by the shape of a single array. Raises ValueError."""
  try:
    with zipfile.ZipFile(path) as archive:
      names = {name.removesuffix(".npy") for name in archive.namelist()}
  except zipfile.BadZipFile:  # an npy file; or a damaged npz, for which `load` raises
    names = set(map(str, load(path)))
  for name, wanted in _NAMES.items():
    if wanted <= names:
      return name
  if "keypoints" in names and names & set(_SCORES):
    return "keypoints_scores"
  return "mediapipe" if _shape(_only_array(load(path), path)) in _MEDIAPIPE else "plain"
