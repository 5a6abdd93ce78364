"""The processed npz files that lifting code shares: P-STMO's layout (`data_{train,test}_3dhp.npz`) and D3DP's (`..._ori.npz`).

They hold no camera. The test cameras are tabled; a training camera's focal lengths and centre are fitted to the track of the
pelvis, the one joint that `annot3` and `univ_annot3` share, so that the other sixteen can tell which annotation a file holds.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.datasets.mpi_inf_3dhp import raw, tables, views
from posynda_jax.datasets.mpi_inf_3dhp.views import Fault

PELVIS = 14
MIN_SPREAD = 0.01  # of x/z along the track: less, and focal length and centre cannot be told apart


def files(folder, suffix: str) -> dict[str, pathlib.Path]:
  """The npz files of the variant ("" or "_ori") that lie in the folder."""
  paths = {part: pathlib.Path(folder) / f"data_{part}_3dhp{suffix}.npz" for part in ("train", "test")}
  return {part: path for part, path in paths.items() if path.is_file()}


def sequences(folder, suffix: str) -> dict[str, Callable[[], Iterator[tuple[int, dict]]]]:
  """A reader of (camera, view) for every sequence of the files in the folder, as `raw.sequences`.

  Raises Fault, or ValueError naming the global of a file that is not plain data.
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


def _read_train(where: str, sequence: str, value) -> Iterator[tuple[int, dict]]:
  """`[{camera as text: {"data_2d", "data_3d"}}, fps]`."""
  num_frames, fps = tables.TRAIN[sequence]
  if not isinstance(value, list | tuple | np.ndarray) or len(value) != 2 or not isinstance(value[0], dict):
    raise Fault(where, f"is {type(value).__name__}, expected [cameras, frames a second]")
  if value[1] != fps:
    raise Fault(where, f"says {value[1]} frames a second, {sequence} has {fps}")
  if set(value[0]) != {str(camera) for camera in tables.CAMERAS["vnect"]}:
    raise Fault(where, f"has the cameras {', '.join(map(str, value[0]))}, expected {tables.CAMERAS['vnect']}")
  for camera, arrays in value[0].items():
    here = f"{where}, camera {camera}"
    keypoints, poses = _arrays(here, arrays, num_frames)
    intrinsics = fit_intrinsics(here, keypoints[:, PELVIS], poses[:, PELVIS])
    yield int(camera), views.make_view(
        here, keypoints, poses, "dhp17", intrinsics=intrinsics, intrinsics_from="fit", resolution=tables.TRAIN_RESOLUTION
    )


def _read_test(where: str, sequence: str, value) -> Iterator[tuple[int, dict]]:
  """`{"data_2d", "data_3d", "valid"}`; there is no activity."""
  num_frames = tables.TEST[sequence][0]
  keypoints, poses = _arrays(where, value, num_frames)
  valid = value.get("valid")
  if np.shape(valid) != (num_frames,):
    raise Fault(where, f"valid has the shape {np.shape(valid)}, expected ({num_frames},)")
  yield 0, raw.make_test_view(where, sequence, {"annot2": keypoints, "annot3": poses, "valid_frame": valid})


def _arrays(where: str, arrays, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
  if not isinstance(arrays, dict):
    raise Fault(where, f"is {type(arrays).__name__}, expected a dict with data_2d and data_3d")
  points = []
  for name, shape in (("data_2d", (17, 2)), ("data_3d", (17, 3))):
    got = arrays.get(name)
    if not isinstance(got, np.ndarray) or got.shape[1:] != shape or got.dtype.kind != "f":
      raise Fault(where, f"{name} has the shape {np.shape(got)}, expected {(num_frames, *shape)} of floats")
    if len(got) != num_frames:
      raise Fault(where, f"{name} has {len(got)} frames, expected {num_frames}: frame-count mismatch")
    points.append(got)
  return points[0], points[1]


def fit_intrinsics(where: str, track_px: np.ndarray, track_mm: np.ndarray) -> np.ndarray:
  """fx fy cx cy (px) that best project a track [T 3] of camera-frame points onto [T 2]: least squares, axis by axis.

  Raises Fault where the track is too short a path to tell, or no pinhole camera explains it.
  """
  slopes = np.asarray(track_mm[:, :2], np.float64) / track_mm[:, 2:]
  if not np.isfinite(slopes).all() or slopes.std(0).min() < MIN_SPREAD:
    raise Fault(where, "the pelvis stays in its place or leaves the camera's frame: its camera cannot be found")
  fits = [np.linalg.lstsq(np.stack([m, np.ones_like(m)], 1), px, rcond=None)[0] for m, px in zip(slopes.T, track_px.T)]
  intrinsics = np.array(fits).T.ravel()
  error = np.linalg.norm(intrinsics[:2] * slopes + intrinsics[2:] - track_px, axis=-1).mean()
  if not error < views.ANNOT3_BELOW_PX:
    raise Fault(where, f"no camera projects the pelvis onto its 2D: {error:.3g} px is the best", "check units and joint orders")
  return intrinsics
