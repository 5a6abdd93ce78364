"""Reader of the processed npz files: P-STMO's layout (`data_{train,test}_3dhp.npz`) and D3DP's (`..._ori.npz`).

They hold no camera. The test cameras are tabled. A training camera is fitted to the track of the pelvis, the only joint
that `annot3` and `univ_annot3` share; the other sixteen joints then decide which annotation a file holds.
"""

import functools
import pathlib
from collections.abc import Callable

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.datasets.licensed import Fault
from posynda_jax.datasets.mpi_inf_3dhp import raw, tables, views

PELVIS = 14
MIN_SPREAD = 0.01  # deviation of x/z along the track below which focal length and centre cannot be separated


def files(folder, suffix: str) -> dict[str, pathlib.Path]:
  """The npz files of the variant ("" or "_ori") in the folder."""
  paths = {part: pathlib.Path(folder) / f"data_{part}_3dhp{suffix}.npz" for part in ("train", "test")}
  return {part: path for part, path in paths.items() if path.is_file()}


def sequences(folder, suffix: str) -> dict[str, Callable[[], raw.Views]]:
  """A function for each sequence in the files that reads its views, as `raw.sequences`.

  Raises Fault, or the ValueError of `safe_pickle.load_npz`.
  """
  found = {}
  for part, path in files(folder, suffix).items():
    content = safe_pickle.load_npz(path).get("data")
    if not isinstance(content, dict):
      raise Fault(path, f"`data` is {type(content).__name__}, expected a dict of sequences")
    known, read = (tables.TRAIN, _read_train) if part == "train" else (tables.TEST, _read_test)
    for key, value in content.items():
      sequence = "/".join(str(key).split())
      if sequence not in known:
        raise Fault(path, f"sequence {key!r} is unknown, expected one of {', '.join(known)}")
      found[sequence] = functools.partial(read, f"{path}, {key}", sequence, value)
  return {sequence: found[sequence] for sequence in (*tables.TRAIN, *tables.TEST) if sequence in found}


def _read_train(where: str, sequence: str, value) -> raw.Views:
  """Views of `[{camera as text: {"data_2d", "data_3d"}}, fps]`."""
  num_frames, fps = tables.TRAIN[sequence]
  if not isinstance(value, list | tuple | np.ndarray) or len(value) != 2 or not isinstance(value[0], dict):
    raise Fault(where, f"is {type(value).__name__}, expected [cameras, frames a second]")
  cameras, of_file = value
  if of_file != fps:
    raise Fault(where, f"says {of_file} frames a second, {sequence} has {fps}")
  if set(cameras) != set(map(str, tables.CAMERAS["vnect"])):
    raise Fault(where, f"has the cameras {', '.join(map(str, cameras))}, expected {tables.CAMERAS['vnect']}")
  for number, arrays in cameras.items():
    here = f"{where}, camera {number}"
    keypoints, poses = _arrays(here, arrays, num_frames)
    intrinsics = fit_intrinsics(here, keypoints[:, PELVIS], poses[:, PELVIS])
    camera = views.Camera(intrinsics, "fit", tables.TRAIN_RESOLUTION)
    yield int(number), views.make_view(here, keypoints, poses, "dhp17", camera)


def _read_test(where: str, sequence: str, value) -> raw.Views:
  """The view of `{"data_2d", "data_3d", "valid"}`, which has no activity."""
  num_frames = tables.TEST[sequence][0]
  keypoints, poses = _arrays(where, value, num_frames)
  valid = value.get("valid")
  if np.shape(valid) != (num_frames,):
    raise Fault(where, f"valid has the shape {np.shape(valid)}, expected ({num_frames},)")
  yield 0, raw.make_test_view(where, sequence, {"annot2": keypoints, "annot3": poses, "valid_frame": valid})


def _arrays(where: str, arrays, num_frames: int) -> list[np.ndarray]:
  if not isinstance(arrays, dict):
    raise Fault(where, f"is {type(arrays).__name__}, expected a dict with data_2d and data_3d")
  for name, shape in (("data_2d", (num_frames, 17, 2)), ("data_3d", (num_frames, 17, 3))):
    got = arrays.get(name)
    if not isinstance(got, np.ndarray) or got.shape != shape or got.dtype.kind != "f":
      raise Fault(where, f"{name} has the shape {np.shape(got)}, expected {shape} of floats")
  return [arrays["data_2d"], arrays["data_3d"]]


def fit_intrinsics(where: str, track_px: np.ndarray, track_mm: np.ndarray) -> np.ndarray:
  """fx fy cx cy (px) that best project a track [T 3] of camera-frame points onto [T 2]: least squares for each axis.

  Raises Fault if the track is too short a path, or no pinhole camera projects it onto the 2D.
  """
  slopes = np.asarray(track_mm[:, :2], np.float64) / track_mm[:, 2:]
  if not np.isfinite(slopes).all() or slopes.std(0).min() < MIN_SPREAD:
    raise Fault(where, "the pelvis stays in its place or is behind the camera: its camera cannot be fitted")
  focal, centre = np.transpose([np.polyfit(slope, px, 1) for slope, px in zip(slopes.T, track_px.T)])
  error = np.linalg.norm(focal * slopes + centre - track_px, axis=-1).mean()
  if not error < views.ANNOT3_BELOW_PX:
    what = f"no camera projects the pelvis onto its 2D: {error:.3g} px is the least error"
    raise Fault(where, what, "check units and joint orders")
  return np.concatenate([focal, centre])
