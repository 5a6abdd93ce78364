"""Small MPI-INF-3DHP files for the tests, as its owners write them, and the content that a reader must return.

Each writer returns {(sequence, camera): view}, in H36M-17 order by joint names. Frame and valid counts are those of
`tables`, which tests make smaller. `spoil` may change the content before it is written.
"""

import pathlib
from collections.abc import Callable, Iterable

import h5py
import numpy as np
import scipy.io

from posynda_jax.datasets.mpi_inf_3dhp import tables
from posynda_jax.geometry import camera_tables, skeleton
from tests.datasets import dummy

NAMES = (  # mpii_get_joint_set.m, `all`
    "spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top", "left_clavicle", "left_shoulder",
    "left_elbow", "left_wrist", "left_hand", "right_clavicle", "right_shoulder", "right_elbow", "right_wrist",
    "right_hand", "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe", "right_hip", "right_knee",
    "right_ankle", "right_foot", "right_toe",
)  # fmt: skip
RELEVANT = (  # mpii_get_joint_set.m, `relevant`: the order of the test set and of the processed files
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
_RENAMED = {"hip": "pelvis", "thorax": "neck", "neck": "head", "head": "head_top"}
PLACES = [NAMES.index(_RENAMED.get(name, name)) for name in skeleton.JOINTS]  # of the H36M joints among NAMES
UNIVERSAL_SCALE = 1.0467  # of univ_annot3 about the pelvis (TS5)
CALIBRATION = """name          {}
  sensor      10 10
  size        2048 2048
  animated    0
  intrinsic   {:.7g} 0 {:.7g} 0 0 {:.7g} {:.7g} 0 0 0 1 0 0 0 0 1 
  extrinsic   1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1 
  radial      0
"""
Spoil = Callable[[dict], None]


def write_train(folder, sequence: str, extra_rows: int = 3, spoil: Spoil | None = None) -> dict:
  """Writes `<sequence>/annot.mat` and `camera.calibration`. The rows after the last frame are far from the others.

  `spoil` gets {"annot2", "annot3", "univ_annot3": 14 arrays [rows 28 c], "calibration": text}.
  """
  num_frames = tables.TRAIN[sequence][0]
  views = [_train_view(sequence, camera, num_frames + extra_rows) for camera in range(14)]
  truth = {(sequence, camera): _truth(view, num_frames) for camera, view in enumerate(views)}
  content: dict = {name: [view[name] for view in views] for name in ("annot2", "annot3", "univ_annot3")}
  blocks = (CALIBRATION.format(i, *view["intrinsics"][[0, 2, 1, 3]]) for i, view in enumerate(views))
  content["calibration"] = "Skeletool Camera Calibration File V1.0\n" + "".join(blocks)
  if spoil:
    spoil(content)
  place = pathlib.Path(folder) / sequence
  place.mkdir(parents=True, exist_ok=True)
  (place / "camera.calibration").write_text(content.pop("calibration"))
  cells = {name: np.empty((len(arrays), 1), object) for name, arrays in content.items()}
  for name, arrays in content.items():
    cells[name][:, 0] = [x.reshape(len(x), -1) for x in arrays]
  scipy.io.savemat(place / "annot.mat", cells | {"cameras": np.arange(14)[None]}, do_compression=True)
  return truth


def write_test(folder, sequence: str, seed: int = 0, spoil: Spoil | None = None) -> dict:
  """Writes `<sequence>/annot_data.mat`. `spoil` gets its arrays by name, as h5py shapes them."""
  content, truth = _test_sequence(sequence, seed)
  if spoil:
    spoil(content)
  path = pathlib.Path(folder) / sequence / "annot_data.mat"
  path.parent.mkdir(parents=True, exist_ok=True)
  with h5py.File(path, "w", userblock_size=512) as file:
    for name, array in content.items():
      file[name] = array
  with path.open("r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\0\2IM")
  return {(sequence, 0): truth}


def write_processed(folder, suffix: str, sequences: Iterable[str], annotation="univ_annot3", spoil=None) -> dict:
  """Writes `data_{train,test}_3dhp<suffix>.npz` as P-STMO's scripts do. `spoil` gets the nested dict of each."""
  data, truth = {"train": {}, "test": {}}, {}
  order = [NAMES.index(name) for name in RELEVANT]
  for sequence in sequences:
    if sequence in tables.TEST:
      content, truth[sequence, 0] = _test_sequence(sequence, 0, annotation)
      arrays = {"data_2d": content["annot2"], "data_3d": content[annotation], "valid": content["valid_frame"]}
      data["test"][sequence] = {name: array.squeeze() for name, array in arrays.items()}
      truth[sequence, 0]["activity"] *= 0
      continue
    num_frames, fps = tables.TRAIN[sequence]
    views = {camera: _train_view(sequence, camera, num_frames) for camera in tables.CAMERAS["vnect"]}
    truth |= {(sequence, camera): _truth(view, num_frames, annotation) for camera, view in views.items()}
    data["train"][sequence.replace("/", " ")] = [
        {str(camera): {"data_2d": view["annot2"][:, order], "data_3d": view[annotation][:, order]}
         for camera, view in views.items()}, fps,
    ]  # fmt: skip
  for part, content in data.items():
    if content:
      if spoil:
        spoil(content)
      np.savez_compressed(pathlib.Path(folder) / f"data_{part}_3dhp{suffix}.npz", data=content)
  return truth


def _train_view(sequence: str, camera: int, num_rows: int) -> dict[str, np.ndarray]:
  """The arrays of a training camera: annotations [rows 28 c], and the intrinsics with the digits of the text."""
  rng = np.random.default_rng(camera)
  intrinsics = np.round(rng.normal([1497.5, 1497, 1024, 1024], [2, 2, 15, 15]), 3)
  motion = _walk(np.random.default_rng(list(tables.TRAIN).index(sequence)), num_rows)
  motion[tables.TRAIN[sequence][0] :] += 300
  return _project(motion, camera * 2.4, intrinsics) | {"intrinsics": intrinsics}


def _test_sequence(sequence: str, seed: int, annotation: str = "annot3") -> tuple[dict, dict]:
  """The arrays of an `annot_data.mat` as h5py shapes them, and the view they hold."""
  num_frames, num_valid = tables.TEST[sequence]
  number, frames, valid = list(tables.TEST).index(sequence), np.arange(num_frames), np.zeros(num_frames, bool)
  valid[np.arange(num_valid) * num_frames // num_valid] = True
  intrinsics = np.array(camera_tables.DHP_TEST_INTRINSICS[sequence][1][:4])
  scale = np.where(frames // 8 % 2, 0.96, 1.05) if sequence == "TS6" else UNIVERSAL_SCALE  # TS6 has two performers
  arrays = _project(_walk(np.random.default_rng([seed, number]), num_frames), number, intrinsics, scale)
  truth = _truth(arrays | {"intrinsics": intrinsics}, num_frames, annotation)
  truth |= {"valid": valid, "activity": 1 + frames * 7 // num_frames}
  arrays = {name: array[:, [NAMES.index(joint) for joint in RELEVANT]] for name, array in arrays.items()}
  arrays |= {"valid_frame": 1.0 * valid, "activity_annotation": 1.0 * truth["activity"]}
  return {name: array[:, None] for name, array in arrays.items()}, truth


def _walk(rng: np.random.Generator, num_frames: int) -> np.ndarray:
  """World poses [f 28 3] (mm, y up) of a walk whose pelvis also moves up and down, so that its camera can be fitted."""
  poses = 1000 * dummy.walk(rng, num_frames, fps=10.0).astype(np.float64)
  poses[..., 1] += 150 * np.sin(np.arange(num_frames) * max(0.2, 24 / num_frames))[:, None]
  return dummy.among(poses, PLACES, len(NAMES))


def _project(points: np.ndarray, azimuth: float, intrinsics: np.ndarray, scale=UNIVERSAL_SCALE) -> dict:
  """annot2, annot3 and univ_annot3 of world points [f 28 3] for a camera that points at the room from 4.5 m."""
  centre = np.array([4500 * np.sin(azimuth), 1400, 4500 * np.cos(azimuth)])
  forward = np.array([0, 900, 0]) - centre
  right = np.cross(forward, [0, 1, 0])
  rotation = np.stack([right, np.cross(forward, right), forward])  # rows: right, down, forward
  poses = (points - centre) @ (rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).T
  pelvis = poses[:, NAMES.index("pelvis")][:, None]
  return {
      "annot2": intrinsics[:2] * poses[..., :2] / poses[..., 2:] + intrinsics[2:],
      "annot3": poses,
      "univ_annot3": pelvis + np.reshape(scale, (-1, 1, 1)) * (poses - pelvis),
  }


def _truth(view: dict, num_frames: int, annotation: str = "annot3") -> dict:
  return {
      "keypoints_px": view["annot2"][:num_frames, PLACES].astype(np.float32),
      "poses_camera_m": (view[annotation][:num_frames, PLACES] / 1000).astype(np.float32),
      "intrinsics": view["intrinsics"],
      "valid": np.ones(num_frames, bool),
      "activity": np.zeros(num_frames, np.int32),
  }
