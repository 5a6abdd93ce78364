"""Keypoints in npz and npy files: VideoPose3D, Detectron, video-to-pose3D, MHFormer's demo, MediaPipe, plain arrays.

Every reader is `(path, layout or None) -> list of Detections`, one for each video. The restricted unpickler reads
object arrays.
"""

import zipfile

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.geometry import layouts, skeleton
from posynda_jax.interop.keypoints import detections
from posynda_jax.interop.keypoints.detections import Detections

# Names of arrays by which `recognise` knows a format.
_NAMES = {
    "videopose3d": {"positions_2d"}, "detectron": {"boxes", "keypoints"}, "video_to_pose3d": {"kpts"},
    "mhformer": {"reconstruction"}, "keypoints_scores": {"keypoints", "scores"},
}
_MEDIAPIPE = ((33, 4), (33, 3))  # shapes of a frame
_LEFT = {"coco17": [1, 3, 5, 7, 9, 11, 13, 15], "h36m17": sorted(skeleton.LEFT)}


def load(path) -> dict:
  """The arrays of an npz file by name; the array of an npy file under the empty name."""
  with open(path, "rb") as file:
    is_npy = file.read(6) == b"\x93NUMPY"
  return {"": safe_pickle.load_npy(path)} if is_npy else safe_pickle.load_npz(path)


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
  return [detections.dense(_get(load(path), "kpts", path), f"{path}, kpts", layout or "coco17")]


def mhformer(path, layout=None) -> list[Detections]:
  """The 2D input of the demos of MHFormer and MotionAGFormer: `reconstruction` (people,T,17,2), Human3.6M-17."""
  points = np.asarray(_get(load(path), "reconstruction", path))
  if points.shape[-1] != 2:
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
  number of joints gives the order; 17 are COCO's. `resolution`, `fps` and `tracked` (a person keeps the place in the
  arrays) are read where they are.
  """
  data = load(path)
  points, scores = (np.asarray(_get(data, name, path)) for name in ("keypoints", "scores"))
  if scores.shape == points.shape[:-1] + (1,):
    scores = scores[..., 0]
  if points.ndim not in (3, 4) or points.shape[-1] != 2 or scores.shape != points.shape[:-1]:
    expected = "expected (T, [people,] joints, 2) and (T, [people,] joints)"
    raise ValueError(f"{path} has keypoints {points.shape} and scores {scores.shape}, {expected}")
  collector = detections.Collector(path, layout)
  points, scores = (points, scores) if points.ndim == 4 else (points[:, None], scores[:, None])
  tracked = bool(np.any(data.get("tracked", False)))
  for t, i in np.ndindex(scores.shape[:2]):
    if not tracked or (scores[t, i] > 0).any():
      collector.add(t, points[t, i], scores[t, i], i if tracked else None)
  said = {name: tuple(map(float, np.ravel(data[name]))) for name in ("resolution", "fps") if name in data}
  return collector.finish(
      num_frames=len(points), fps=said.get("fps", (None,))[0], resolution=said.get("resolution"))


def plain(path, layout=None) -> list[Detections]:
  """One array (T, joints, 2 or 3) in an npz or npy file, in the order of `layout`."""
  points = _only_array(load(path), path)
  if layout is None:
    known = "|".join(layouts.LAYOUTS)
    raise ValueError(f"{path} is a plain array {points.shape}: name its joint order with --layout={known}")
  return [detections.dense(points, str(path), layout)]


def mediapipe(path, layout=None) -> list[Detections]:
  """MediaPipe's 33 landmarks (T,33,3|4): x, y as shares of width and height, z, visibility. NaN or 0: nobody."""
  points = np.asarray(_only_array(load(path), path))
  if points.ndim != 3 or points.shape[1:] not in _MEDIAPIPE:
    raise ValueError(f"{path} has shape {points.shape}, expected MediaPipe's (T, 33, 3 or 4): x, y, z, visibility")
  points = points[..., [0, 1, 3] if points.shape[2] == 4 else [0, 1]]
  return [detections.dense(points, str(path), layout or "mediapipe33", normalised=True)]


def _only_array(data: dict, path):
  arrays = {name: value for name, value in data.items() if isinstance(value, np.ndarray) and value.ndim >= 2}
  if len(arrays) != 1:
    found = f"{len(arrays)} arrays of keypoints ({', '.join(arrays)})"
    raise ValueError(f"{path} has {found}: expected one, (T, joints, 2 or 3)")
  return next(iter(arrays.values()))


def recognise(path) -> str:
  """The format's name, by the names of the arrays, or by the shape of a single array. Raises ValueError."""
  try:
    with zipfile.ZipFile(path) as archive:
      names = {name.removesuffix(".npy") for name in archive.namelist()}
  except zipfile.BadZipFile:  # an npy file; or a damaged npz, for which `load` raises
    names = set()
  for name, wanted in _NAMES.items():
    if wanted <= names:
      return name
  return "mediapipe" if np.shape(_only_array(load(path), path))[1:] in _MEDIAPIPE else "plain"
