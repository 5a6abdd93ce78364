"""Keypoints in npz and npy files: VideoPose3D, Detectron, video-to-pose3D, MHFormer's demo, MediaPipe, plain arrays.

Every reader is `(path, layout or None) -> list of Detections`, one for each video. The restricted unpickler reads
object arrays.
"""

import dataclasses
import zipfile

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.geometry import layouts, skeleton
from posynda_jax.interop.keypoints import fields, joint_names, numbering
from posynda_jax.interop.keypoints.detections import Collector, Detections

# Names of arrays by which `recognise` knows a format.
_NAMES = {
    "videopose3d": {"positions_2d"}, "detectron": {"boxes", "keypoints", "metadata"}, "video_to_pose3d": {"kpts"},
    "mhformer": {"reconstruction"},
}
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
        found += of_frames(points, f"{path}, {name}", layout, sequence=name, resolution=size, normalised=False)
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
  """Detectron's dump: `keypoints[t][1]` (n,4,17) = x, y, logit, probability of n people; [t][0] is another class."""
  data, frames = load(path), []
  for t, classes in enumerate(_get(data, "keypoints", path)):
    people = np.asarray(classes[1]) if len(classes) > 1 else np.ones(1)
    if people.size and (people.ndim != 3 or people.shape[1] != 4):
      raise ValueError(f"{path}, frame {t}: expected [[], people (n, 4, 17)]: not a Detectron dump of persons")
    frames.append(people[:, [0, 1, 3]].swapaxes(1, 2) if people.size else None)
  return of_frames(frames, path, layout or "coco17", resolution=_size(data.get("metadata")))


def video_to_pose3d(path, layout=None) -> list[Detections]:
  """video-to-pose3D's npz: `kpts` (T,17,2)."""
  data = load(path)
  return _of_array(data, _get(data, "kpts", path), path, layout or "coco17", normalised=False)


def mhformer(path, layout=None) -> list[Detections]:
  """The 2D input of the demos of MHFormer and MotionAGFormer: `reconstruction` (people,T,17,2), Human3.6M-17, or with
  three numbers x, y (px) and score.
  """
  points = np.asarray(_get(load(path), "reconstruction", path))
  last = points[..., -1]
  scored = points.shape[-1:] == (3,) and points.size and np.median(np.abs(points[..., :2])) > 2  # else poses in m
  if points.shape[-1:] != (2,) and not (scored and last.min() >= 0 and last.max() <= 1):
    raise ValueError(f"{path} has shape {points.shape}: a demo's 3D output; give its 2D input, (people, T, 17, 2)")
  frames = points if points.ndim == 3 else np.moveaxis(points, 0, 1)
  return of_frames(frames, f"{path}, reconstruction", layout or "h36m17", tracked=True, normalised=False)


def keypoints_scores(path, layout=None) -> list[Detections]:
  """Arrays `keypoints` (T,j,2) and `scores` (T,j), or (T,people,j,2) and (T,people,j), as rtmlib's users save them. The
  number of joints gives the order; 17 are COCO's. `resolution`, `fps`, `frames` (their numbers) and `tracked` (a person
  keeps the place in the arrays) are read where they are.
  """
  data = load(path)
  name = _name_of_scores(data) or next((name for name in joint_names.SCORES if name in data), "scores")
  points, scores = _get(data, "keypoints", path), _get(data, name, path)
  if np.ndim(points) < 1 or np.shape(points)[:1] != np.shape(scores)[:1]:
    shapes = f"keypoints {np.shape(points)} and {name} {np.shape(scores)}"
    raise ValueError(f"{path} has {shapes}: expected (T, [people,] joints, 2) and (T, [people,] joints)")
  said = {name: tuple(map(float, np.ravel(data[name]))) for name in ("resolution", "fps") if name in data}
  names = next((np.ravel(data[name]) for name in data if fields.matches(str(name), fields.NAMES)), ())
  numbers, rate = _numbers(data, len(points), path)
  return of_frames(
      points, path, layout, scores, numbers, bool(np.any(data.get("tracked", False))), names,
      fps=said.get("fps", (rate,))[0], resolution=said.get("resolution"))


def plain(path, layout=None) -> list[Detections]:
  """One array (T, joints, 2 or 3) in an npz or npy file, in the order of `layout`; px, or shares of width and height.

  MoveNet writes y before x. Shares of a person who would lie on the side are read so, with a note.
  """
  data = load(path)
  points = _only_array(data, path)
  if layout is None:
    known = "|".join(layouts.LAYOUTS)
    raise ValueError(f"{path} is a plain array {points.shape}: name its joint order with --layout={known}")
  return [_as_shares(found, layout, points) for found in _of_array(data, points, path, layout)]


def _as_shares(found: Detections, layout: str, points) -> Detections:
  """Detections of an array of `points`, as shares if they are, and with MoveNet's y and x exchanged."""
  seen = found.points[np.isfinite(found.points)]
  normalised = found.normalised and bool(((seen >= 0) & (seen <= 1)).mean() > 0.98)
  last = np.shape(next((one for one in points if np.size(one) > 1), ()))[-1:]
  if normalised and layout == "coco17" and last not in ((2,), (34,)):
    down = found.points[:, [11, 12]].mean(1) - found.points[:, [5, 6]].mean(1)  # from the shoulders to the hips
    down = np.median(down[np.isfinite(down).all(-1)], 0)
    if down[0] > 2 * abs(down[1]):
      note = "read as y, x, score, as MoveNet writes it: as x, y the person would lie on the side"
      found = dataclasses.replace(found, points=found.points[..., ::-1], notes=(*found.notes, note))
  return dataclasses.replace(found, normalised=normalised)


def mediapipe(path, layout=None) -> list[Detections]:
  """MediaPipe's 33 landmarks (T,33,3|4): x, y as shares of width and height or px, z, visibility. NaN or 0: nobody.

  The third of three numbers is the visibility where all are from 0 to 1, or to 100: z is negative in some joints.
  """
  data = load(path)
  points = _only_array(data, path)
  if _shape(points) not in _MEDIAPIPE:
    raise ValueError(f"{path} has shape {points.shape}, expected MediaPipe's (T, 33, 3 or 4): x, y, z, visibility")
  points = without_numbers(points.reshape(len(points), 33, -1))
  if points.shape[-1] == 2:
    return _of_array(data, points, path, layout or "mediapipe33")
  third = points[..., 2][np.isfinite(points[..., 2])]
  is_score = points.shape[-1] == 3 and third.any() and ((third >= 0) & (third <= 100)).all()
  points = points[..., [0, 1, 3] if points.shape[-1] == 4 else [0, 1, 2] if is_score else [0, 1]]
  return _of_array(data, points, path, layout or "mediapipe33")


def _shape(points: np.ndarray) -> tuple[int, ...]:
  """The shape of a frame without axes of length 1."""
  return tuple(length for length in points.shape[1:] if length != 1)


def _name_of_scores(data: dict) -> str | None:
  """The name of the array of joints' scores. Numbers of whole people do not count, nor do flags beside scores in
  `keypoints`.
  """
  points = np.asarray(data.get("keypoints"))
  axes = points.shape[-1] if points.ndim > 1 else 2
  for name in joint_names.SCORES if axes != 4 else ():
    scores = np.asarray(data.get(name))
    is_flag = axes == 3 and scores.dtype.kind in "biuf" and np.isin(scores, (0, 1, 2)).all()
    if scores.ndim and not is_flag and (scores.dtype == object or scores.ndim >= max(2, points.ndim - 1)):
      return name
  return None


def _numbers(data: dict, length: int, path) -> tuple[list[int] | list[str], float | None]:
  """(numbers of the frames or names of their images, frame rate or None), as an array of frames, of images or of times
  that go up says; from 0 else.
  """
  for pattern in (fields.FRAME, fields.IMAGE, fields.TIME):
    for name in (name for name in data if fields.matches(str(name), pattern)):
      numbers = np.asarray(data[name])
      if numbers.shape == (length,) and (texts := _texts(numbers)) and (
          pattern != fields.TIME or all(numbering.as_time(one) is not None for one in texts)):
        return texts, None
      if numbers.shape == (length,) and numbers.dtype.kind in "fiu" and (length == 1 or np.ptp(numbers)):
        if pattern == fields.TIME and (np.diff(numbers.astype(float)) > 0).all():
          frames, rate = numbering.from_times(numbers, path)
          return frames.tolist(), rate
        if pattern != fields.TIME and (numbers == np.round(numbers)).all():
          return numbers.clip(-1, numbering.MAX_FRAME + 1).astype(np.int64).tolist(), None
  return list(range(length)), None


def _texts(values: np.ndarray) -> list[str]:
  """Values [n] as text, one for each frame; empty if they are none, or repeat."""
  listed = values.tolist() if values.dtype.kind in "OSU" else []
  listed = [one.decode(errors="replace") if isinstance(one, bytes) else one for one in listed]
  return listed if all(isinstance(one, str) for one in listed) and len({*listed}) == len(listed) > 1 else []


def _of_array(data: dict, value, path, layout: str, **more) -> list[Detections]:
  """Detections of an array [T [people] j 2|3], with the numbers of frames that the file's other arrays have."""
  points = np.asarray(value)
  while points.ndim > 3 and points.shape[0] == 1:  # people, or a batch, first
    points = points[0]
  if points.ndim < 1:
    raise ValueError(f"{path} holds {points.dtype}, expected numbers (T, joints, 2 or 3)")
  numbers, rate = _numbers(data, len(points), path)
  return of_frames(points, path, layout, numbers=numbers, **{"fps": rate} | more)


def _only_array(data: dict, path) -> np.ndarray:
  arrays = {str(name): value for name, value in data.items() if isinstance(value, np.ndarray) and (
      value.ndim >= 2 or value.ndim == 1 and value.dtype == object)}
  if len(arrays) != 1 and "keypoints" not in arrays:
    found = f"{len(arrays)} arrays of keypoints ({', '.join(arrays)})"
    raise ValueError(f"{path} has {found}: expected one, (T, joints, 2 or 3)")
  return arrays.get("keypoints", next(iter(arrays.values())))


def of_frames(
    frames, label, layout: str | None, scores=None, numbers=None, tracked=False, names=(), **fields
) -> list[Detections]:
  """Detections of arrays [j 2|3] or [people j 2|3], one for each frame, or with all numbers of a person in one axis.

  None, or an empty array, is a frame without people. `scores` has an array [[people] j] for each frame, `numbers` the
  number of each frame, `names` those of the joints; `tracked` says that a person keeps the place in the arrays.
  `fields` are more fields of Detections. Raises ValueError.
  """
  collector = Collector(label, layout)
  for t, frame in enumerate(frames):
    number = collector.list_frame(t if numbers is None else numbers[t])
    if frame is None or not np.size(frame):
      continue
    try:
      bodies = without_numbers(np.asarray(frame, np.float32))
      bodies = bodies.reshape(-1, *bodies.shape[-2 if bodies.shape[-1] in (2, 3) else -1 :])
      of_bodies = [None] * len(bodies) if scores is None else np.reshape(scores[t], (len(bodies), -1))
    except (ValueError, TypeError, IndexError) as error:
      what = f"{collector.where(number)}: {' '.join(str(error).split())}"
      raise ValueError(f"{what}; expected numbers ([people,] joints, 2 or 3), and a score for each joint") from error
    for i, (body, own) in enumerate(zip(bodies, of_bodies)):
      if len(names):
        scored = None if own is None else own.tolist()
        body, own = collector.place_scored(body.tolist(), scored, list(map(str, names)))
      collector.add(number, body, own, i if tracked else None)
  return collector.finish(**fields)


def without_numbers(values: np.ndarray) -> np.ndarray:
  """Joints [... j k] without the first of their numbers where it only counts them, from 0."""
  counts = values.ndim > 1 and values.shape[-1] > 2 and values.shape[-2] > 2
  return values[..., 1:] if counts and (values[..., 0] == np.arange(values.shape[-2])).all() else values


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
  if "keypoints" in names and names & set(joint_names.SCORES) and _name_of_scores(load(path)):
    return "keypoints_scores"
  return "mediapipe" if _shape(_only_array(load(path), path)) in _MEDIAPIPE else "plain"
