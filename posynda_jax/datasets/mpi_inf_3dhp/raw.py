"""Reader of the official files: `annot.mat` and `camera.calibration` (training), `annot_data.mat` (test).

`annot.mat` is a MATLAB v5 file with one cell a camera. `annot_data.mat` is v7.3, which is HDF5 with reversed axes:
MATLAB's 2 x 17 x 1 x N is (N, 1, 17, 2) here. The number of rows is checked against the published frame counts.
"""

import functools
import pathlib
import struct
import zlib
from collections.abc import Callable, Iterator

import h5py
import numpy as np
import scipy.io

from posynda_jax.datasets.licensed import Fault
from posynda_jax.datasets.mpi_inf_3dhp import tables, views
from posynda_jax.geometry import camera_tables

NUM_CAMERAS = 14
MAX_CALIBRATION_BYTES = 2**20
# get_testset.sh unpacks the test set two folders down.
TEST_FOLDERS = ("", "mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set")

Views = Iterator[tuple[int, dict]]  # (camera, view)


def files(folder) -> dict[str, pathlib.Path]:
  """The annotation file of each sequence in the folder, in the order of the tables."""
  folder = pathlib.Path(folder)
  places = {sequence: [folder / sequence / "annot.mat"] for sequence in tables.TRAIN}
  places |= {name: [folder / below / name / "annot_data.mat" for below in TEST_FOLDERS] for name in tables.TEST}
  found = {sequence: next(filter(pathlib.Path.is_file, paths), None) for sequence, paths in places.items()}
  return {sequence: path for sequence, path in found.items() if path}


def sequences(folder, cameras: tuple[int, ...]) -> dict[str, Callable[[], Views]]:
  """A function for each sequence in the folder that reads its views. The function raises Fault."""
  train = functools.partial(read_train, cameras=cameras)
  return {
      sequence: functools.partial(train if sequence in tables.TRAIN else read_test, path, sequence)
      for sequence, path in files(folder).items()
  }


def read_train(path: pathlib.Path, sequence: str, cameras: tuple[int, ...]) -> Views:
  """Views of a training sequence, cut to its published frame count. Raises Fault."""
  calibration_path = path.with_name("camera.calibration")
  calibration, cells = read_calibration(calibration_path), _read_mat(path)
  ids = cells["cameras"].ravel().tolist()
  if ids != list(range(NUM_CAMERAS)):
    raise Fault(path, f"its cameras are {ids}, expected 0 to {NUM_CAMERAS - 1} in order")
  for number in cameras:
    where = f"{path}, camera {number}"
    if number not in calibration:
      raise Fault(calibration_path, f"camera {number} is missing among {sorted(calibration)}")
    camera = calibration[number]
    if camera.resolution != tables.TRAIN_RESOLUTION:
      sizes = "%dx%d, expected %dx%d" % (*camera.resolution, *tables.TRAIN_RESOLUTION)
      raise Fault(where, f"its calibration is for {sizes}")
    keypoints, poses = (_cell(cells, name, number, where, tables.TRAIN[sequence][0]) for name in ("annot2", "annot3"))
    yield number, views.make_view(where, keypoints, poses, "dhp28", camera)


def _read_mat(path: pathlib.Path) -> dict[str, np.ndarray]:
  names = ("annot2", "annot3", "cameras")
  _check_whole(path)
  errors = (ValueError, TypeError, LookupError, OSError, NotImplementedError, MemoryError, zlib.error,
            scipy.io.matlab.MatReadError)
  try:
    content = scipy.io.loadmat(path, variable_names=names)
  except errors as error:
    raise Fault(path, f"is not a readable MATLAB file ({error})") from error
  if missing := [name for name in names if name not in content]:
    raise Fault(path, f"holds no {missing[0]}, expected {', '.join(names)}")
  return content


def _check_whole(path: pathlib.Path) -> None:
  """Raises Fault unless MATLAB v5 variables fill the file. SciPy stops reading after the variables it is asked for."""
  size, position = path.stat().st_size, 128
  with path.open("rb") as file:
    head = file.read(128)
    version, order = struct.unpack("2s2s", head[124:].ljust(4, b"\0"))
    if (version, order) == (b"\0\2", b"IM"):
      raise Fault(path, "is a MATLAB v7.3 file, expected the published v5 one")
    if order not in (b"IM", b"MI") or 0 in head[:4]:  # SciPy would take zeros for v4, whose sizes nothing bounds
      raise Fault(path, f"has {size:,} bytes and does not begin as a MATLAB v5 file")
    while position < size:
      file.seek(position)
      position += 8 + struct.unpack("<4xI" if order == b"IM" else ">4xI", file.read(8).ljust(8, b"\0"))[0]
  if position != size:
    raise Fault(path, f"has {size:,} bytes, its variables need {position:,}: the download broke off")


def _cell(content: dict, name: str, camera: int, where: str, num_frames: int) -> np.ndarray:
  """One camera's points [num_frames 28 2 or 3] of a MATLAB cell array (14, 1) of (rows, 28 * coordinates)."""
  where, cells, coordinates = f"{where}, {name}", content[name], 2 if name == "annot2" else 3
  if cells.dtype != object or cells.shape != (NUM_CAMERAS, 1):
    raise Fault(where, f"is {cells.dtype}{cells.shape}, expected a cell array ({NUM_CAMERAS}, 1)")
  rows = cells[camera, 0]
  if rows.ndim != 2 or rows.shape[1] != 28 * coordinates or rows.dtype.kind != "f":
    raise Fault(where, f"is {rows.dtype}{rows.shape}, expected floats ({num_frames}, {28 * coordinates})")
  if len(rows) < num_frames:
    raise Fault(where, f"has {len(rows)} rows, expected {num_frames} frames: frame-count mismatch")
  return rows[:num_frames].reshape(num_frames, 28, coordinates)


def read_calibration(path: pathlib.Path) -> dict[int, views.Camera]:
  """The camera of each id in a `camera.calibration`, which is read by keyword. Raises Fault."""
  if not path.is_file():
    raise Fault(path, "is missing, expected beside annot.mat")
  if path.stat().st_size > MAX_CALIBRATION_BYTES:
    raise Fault(path, f"has {path.stat().st_size:,} bytes, expected a few thousand")
  blocks: list[dict[str, list[str]]] = []
  header, *lines = path.read_text(errors="replace").splitlines() or [""]
  if not header.startswith("Skeletool Camera Calibration File"):
    raise Fault(path, f"begins with {header[:40]!r}, expected Skeletool Camera Calibration File")
  for words in filter(None, map(str.split, lines)):
    if words[0] == "name":
      blocks.append({})
    if blocks:
      blocks[-1][words[0]] = words[1:]
  try:
    return {int(block["name"][0]): _camera(block) for block in blocks}
  except (KeyError, IndexError, ValueError, OverflowError) as error:
    what = f"one of its {len(blocks)} camera blocks is not whole ({type(error).__name__}: {error})"
    raise Fault(path, what) from error


def _camera(block: dict[str, list[str]]) -> views.Camera:
  matrix = np.array(block["intrinsic"], np.float64).reshape(4, 4)
  if any(float(x) for x in block["radial"]):
    raise ValueError(f"radial {' '.join(block['radial'])}, expected 0")
  width, height = (int(float(x)) for x in block["size"])
  return views.Camera(matrix[[0, 1, 0, 1], [0, 1, 2, 2]], "calibration", (width, height))


def read_test(path: pathlib.Path, sequence: str) -> Views:
  """The one view of a test sequence. Raises Fault."""
  num_frames = tables.TEST[sequence][0]
  names = {"annot2": (1, 17, 2), "annot3": (1, 17, 3), "valid_frame": (1,), "activity_annotation": (1,)}
  arrays = {}
  try:
    with h5py.File(path) as file:
      for name, shape in names.items():
        if name not in file:
          raise Fault(path, f"holds no {name}, expected {', '.join(names)}")
        if (found := file[name].shape) != (num_frames, *shape):
          raise Fault(path, f"{name} is {found}, expected {(num_frames, *shape)} of {num_frames} frames")
        arrays[name] = file[name][()].squeeze(1)
  except (OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
    raise Fault(path, f"is not a whole MATLAB v7.3 (HDF5) file ({error})") from error
  yield 0, make_test_view(path, sequence, arrays)


def make_test_view(where, sequence: str, arrays: dict[str, np.ndarray]) -> dict:
  """A test view of `annot2`, `annot3`, `valid_frame` and, where there is one, `activity_annotation`. Raises Fault."""
  valid, activity = arrays["valid_frame"], arrays.get("activity_annotation")
  if not np.isin(valid, (0, 1)).all():
    raise Fault(where, f"valid_frame holds {np.unique(valid)[:4].tolist()}, expected 0 and 1")
  if activity is not None and not np.isin(activity, range(len(tables.ACTIVITIES))).all():
    raise Fault(where, f"activity_annotation holds {np.unique(activity)[:9].tolist()}, expected 1 to 7")
  resolution, intrinsics = camera_tables.DHP_TEST_INTRINSICS[sequence]
  camera = views.Camera(np.array(intrinsics[:4]), "table", resolution)
  activity = None if activity is None else activity.astype(np.int32)
  return views.make_view(where, arrays["annot2"], arrays["annot3"], "dhp17", camera, valid.astype(bool), activity)
