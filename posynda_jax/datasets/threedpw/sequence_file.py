"""Reader of one 3DPW sequence file: a Python 2 pickle of plain arrays, read by the restricted unpickler and checked.

Lengths are metres in the dataset's own world frame, image positions are px. `T` is the number of images. DATASETS.md
section 3 lists the keys.
"""

import io
from typing import NamedTuple

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.datasets.licensed import Fault

FPS = 30.0  # rate of the images, and of `poses`, `jointPositions` and `poses2d`; the *_60Hz keys are not read
RESOLUTIONS = ((1920, 1080), (1080, 1920))
_PER_ACTOR = ("poses", "trans", "betas", "genders", "poses2d", "jointPositions", "campose_valid")
_KEYS = ("sequence", "cam_poses", "cam_intrinsics", *_PER_ACTOR)


class Actor(NamedTuple):
  """One person: SMPL-24 joints and SMPL parameters in the world frame, OpenPose detections, and the aligned frames."""

  joints_world_m: np.ndarray  # [T 24 3]
  detections: np.ndarray  # [T 18 3]: x, y in px, confidence; zeros where nothing was detected
  valid: np.ndarray  # [T] bool: `campose_valid`, the camera is aligned to the image of this actor
  poses: np.ndarray  # [T 72] axis angles
  trans_m: np.ndarray  # [T 3]
  betas: np.ndarray  # [10]
  gender: str  # m or f


class Sequence(NamedTuple):
  """One video: its camera, and one or two actors of T frames each."""

  name: str
  intrinsics: np.ndarray  # [9] px: fx fy cx cy and five zeros
  resolution: tuple[int, int]
  world_to_camera: np.ndarray  # [T 4 4]
  actors: tuple[Actor, ...]


def parse(content: bytes, label: str) -> Sequence:
  """The sequence in the bytes of a `<sequence>.pkl`.

  Raises ValueError that begins with `label` for a pickle that is damaged or not plain data, for a missing key, and for
  shapes, frame counts or a camera that are not 3DPW's.
  """
  data = safe_pickle.load(io.BytesIO(content), label, "latin1")
  try:
    return _sequence(data if isinstance(data, dict) else {})
  except (ValueError, TypeError) as error:
    raise Fault(label, str(error), "fetch sequenceFiles.zip again, or leave the sequence out") from error


def _sequence(data: dict) -> Sequence:
  if missing := [key for key in _KEYS if key not in data]:
    raise ValueError(f"has no {', '.join(missing)}")
  counts = {key: len(data[key]) for key in _PER_ACTOR}
  if len(set(counts.values())) > 1 or counts["poses"] not in (1, 2):
    raise ValueError(f"has not one or two actors in every key: {counts}")
  world_to_camera = _array("cam_poses", data["cam_poses"], (-1, 4, 4))
  intrinsics, resolution = _camera(_array("cam_intrinsics", data["cam_intrinsics"], (3, 3)))
  people = zip(*(data[key] for key in _PER_ACTOR))
  actors = tuple(_actor(dict(zip(_PER_ACTOR, person)), len(world_to_camera)) for person in people)
  return Sequence(str(data["sequence"]), intrinsics, resolution, world_to_camera, actors)


def _actor(data: dict, frames: int) -> Actor:
  if data["genders"] not in ("m", "f"):
    raise ValueError(f"gender {data['genders']!r} is neither m nor f")
  betas = np.ravel(np.asarray(data["betas"], np.float64))
  if len(betas) < 10:
    raise ValueError(f"betas has {len(betas)} values, expected 10 or more")
  return Actor(
      joints_world_m=_array("jointPositions", data["jointPositions"], (frames, 72)).reshape(frames, 24, 3),
      detections=_array("poses2d", data["poses2d"], (frames, 3, 18)).transpose(0, 2, 1),
      valid=_array("campose_valid", data["campose_valid"], (frames,)) > 0,
      poses=_array("poses", data["poses"], (frames, 72)),
      trans_m=_array("trans", data["trans"], (frames, 3)),
      betas=betas[:10],
      gender=data["genders"],
  )


def _array(key: str, value, shape: tuple[int, ...]) -> np.ndarray:
  """`value` in float64 with exactly `shape`; -1 stands for any positive length. Raises ValueError."""
  array = np.asarray(value, np.float64)
  if array.ndim != len(shape) or not all(n == m or (m == -1 and n > 0) for n, m in zip(array.shape, shape)):
    raise ValueError(f"{key} has shape {array.shape}, expected {shape} (cam_poses has the number of frames)")
  return array


def _camera(matrix: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
  """(intrinsics [9], resolution): the principal point, near the image's centre, decides portrait or landscape."""
  fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
  if not np.allclose(matrix, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]) or not min(fx, fy) > 0:
    raise ValueError(f"cam_intrinsics {matrix.tolist()} is not [[fx 0 cx] [0 fy cy] [0 0 1]]")
  for w, h in RESOLUTIONS:
    if abs(cx - w / 2) < 0.1 * w and abs(cy - h / 2) < 0.1 * h:
      return np.array([fx, fy, cx, cy, 0, 0, 0, 0, 0]), (w, h)
  raise ValueError(f"principal point ({cx:.1f}, {cy:.1f}) is the centre of neither a 1920x1080 nor a 1080x1920 image")
