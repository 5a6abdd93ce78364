"""Small MPI-INF-3DHP files for the tests, as its owners write them, and the content that a reader must return.

Each writer returns {(sequence, camera): view}, in H36M-17 order by joint names. Frame and valid counts are those of
`tables`, which tests make smaller. `spoil` may change the arrays before they are written.
"""

import pathlib
from collections.abc import Callable, Iterable

import h5py
import numpy as np
import scipy.io

from posynda_jax.datasets import dummy
from posynda_jax.datasets.mpi_inf_3dhp import tables
from posynda_jax.geometry import skeleton

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
H36M = [_RENAMED.get(name, name) for name in skeleton.JOINTS]
PLACES = [NAMES.index(name) for name in H36M]
UNIVERSAL_SCALE = 1.0467  # of univ_annot3 about the pelvis (TS5)
Spoil = Callable[[dict], None]


def write_train(folder, sequence: str, extra_rows: int = 3, spoil: Spoil | None = None) -> dict:
  """Writes `<sequence>/annot.mat` and `camera.calibration`. The rows after the last frame are far from the others.

  `spoil` gets {"annot2", "annot3", "univ_annot3": 14 arrays [rows 28 c], "calibration": text}.
  """
  num_frames, rng = tables.TRAIN[sequence][0], _generator(sequence)
  motion = _walk(rng, num_frames + extra_rows)
  motion[num_frames:] += 300
  cameras = [_train_camera(rng, camera) for camera in range(14)]
  content: dict = {"annot3": [_in_camera(motion, extrinsic) for _, extrinsic in cameras]}
  content["annot2"] = [_project(poses, intrinsics) for poses, (intrinsics, _) in zip(content["annot3"], cameras)]
  content["univ_annot3"] = [_universal(poses, NAMES) for poses in content["annot3"]]
  content["calibration"] = calibration_text(cameras)
  truth = {
      (sequence, camera): _view(px[:num_frames], poses[:num_frames], NAMES, intrinsics)
      for camera, (px, poses, (intrinsics, _)) in enumerate(zip(content["annot2"], content["annot3"], cameras))
  }
  if spoil:
    spoil(content)
  place = pathlib.Path(folder) / sequence
  place.mkdir(parents=True, exist_ok=True)
  (place / "camera.calibration").write_text(content.pop("calibration"))
  cells = {name: np.empty((len(arrays), 1), object) for name, arrays in content.items()}
  for name, arrays in content.items():
    cells[name][:, 0] = [x.reshape(len(x), -1) for x in arrays]
  ids = {"cameras": np.arange(14)[None], "frames": np.arange(len(motion))[:, None]}
  scipy.io.savemat(place / "annot.mat", {**cells, **ids}, do_compression=True)
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
      file.create_dataset(name, data=array).attrs["MATLAB_class"] = np.bytes_("double")
    crops = file.create_dataset("bb_crop", (len(content["valid_frame"]), 1), h5py.ref_dtype)
    crops.attrs["MATLAB_class"] = np.bytes_("cell")
    for frame in range(len(crops)):
      crops[frame, 0] = file.create_dataset(f"#refs#/{frame}", data=np.zeros((34, 1))).ref
  with path.open("r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\0\2IM")
  return {(sequence, 0): truth}


def write_processed_train(path, sequences: Iterable[str], annotation: str = "univ_annot3", spoil=None) -> dict:
  """Writes `data_train_3dhp*.npz` as P-STMO's data_to_npz_3dhp.py does. `spoil` gets the nested dict."""
  order, data, truth = [NAMES.index(name) for name in RELEVANT], {}, {}
  for sequence in sequences:
    (num_frames, fps), rng = tables.TRAIN[sequence], _generator(sequence)
    motion, views = _walk(rng, num_frames), {}
    for camera in tables.CAMERAS["vnect"]:
      intrinsics, extrinsic = _train_camera(rng, camera)
      poses = _in_camera(motion, extrinsic)
      px = _project(poses, intrinsics)
      poses = _universal(poses, NAMES) if annotation == "univ_annot3" else poses
      views[str(camera)] = {"data_2d": px[:, order], "data_3d": poses[:, order]}
      truth[sequence, camera] = _view(px, poses, NAMES, intrinsics)
    data[sequence.replace("/", " ")] = [views, fps]
  if spoil:
    spoil(data)
  np.savez_compressed(path, data=data)
  return truth


def write_processed_test(path, sequences: Iterable[str], annotation: str = "univ_annot3") -> dict:
  """Writes `data_test_3dhp*.npz` as P-STMO's data_to_npz_3dhp_test.py does."""
  data, truth = {}, {}
  for sequence in sequences:
    content, view = _test_sequence(sequence)
    px, poses, valid = (content[name].squeeze() for name in ("annot2", annotation, "valid_frame"))
    data[sequence] = {"data_2d": px, "data_3d": poses, "valid": valid}
    truth[sequence, 0] = _view(px, poses, RELEVANT, view["intrinsics"]) | {"valid": valid > 0}
  np.savez_compressed(path, data=data)
  return truth


def calibration_text(cameras) -> str:
  """`camera.calibration`: seven lines a camera, numbers with seven digits."""
  lines = ["Skeletool Camera Calibration File V1.0"]
  for number, ((fx, fy, cx, cy), (rotation, translation)) in enumerate(cameras):
    intrinsic = [fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    extrinsic = [*np.concatenate([rotation, translation[:, None]], 1).ravel(), 0, 0, 0, 1]
    lines += [
        f"name          {number}", "  sensor      10 10", "  size        2048 2048", "  animated    0",
        "  intrinsic   " + " ".join(f"{x:.7g}" for x in intrinsic) + " ",
        "  extrinsic   " + " ".join(f"{x:.7g}" for x in extrinsic) + " ",
        "  radial      0",
    ]  # fmt: skip
  return "\n".join(lines) + "\n"


def _test_sequence(sequence: str, seed: int = 0) -> tuple[dict, dict]:
  """The arrays of an `annot_data.mat` as h5py shapes them, and the view they hold."""
  (num_frames, num_valid), rng = tables.TEST[sequence], _generator(sequence, seed)
  order = [NAMES.index(name) for name in RELEVANT]
  poses = _in_camera(_walk(rng, num_frames), _look_at(rng.uniform(0, 6), 1400))[:, order]
  if sequence in ("TS5", "TS6"):
    intrinsics = _from_mm(8.770747185, 0.993236423, (-0.104908645, 0.104899704), (10, 5.625), (1920, 1080))
  else:
    intrinsics = _from_mm(7.32506, 1.00044, (-0.0322884, 0.0929296), (10, 10), (2048, 2048))
  px, frames, valid = _project(poses, intrinsics), np.arange(num_frames), np.zeros(num_frames, bool)
  valid[np.arange(num_valid) * num_frames // num_valid] = True
  activity = 1 + frames * 7 // num_frames
  scale = np.where(frames // 8 % 2, 0.96, 1.05) if sequence == "TS6" else UNIVERSAL_SCALE  # TS6 has two performers
  arrays = {"annot2": px, "annot3": poses, "univ_annot3": _universal(poses, RELEVANT, scale)}
  arrays |= {"valid_frame": valid.astype(np.float64), "activity_annotation": activity.astype(np.float64)}
  view = _view(px, poses, RELEVANT, intrinsics) | {"valid": valid, "activity": activity}
  return {name: array[:, None] for name, array in arrays.items()}, view


def _generator(sequence: str, seed: int = 0) -> np.random.Generator:
  return np.random.default_rng([seed, [*tables.TRAIN, *tables.TEST].index(sequence)])


def _walk(rng: np.random.Generator, num_frames: int) -> np.ndarray:
  """World poses [f 28 3] (mm, y up) of a walk whose pelvis also moves up and down, so that its camera can be fitted."""
  poses = 1000 * dummy.walk(rng, num_frames, fps=max(1, min(10, num_frames / 4))).astype(np.float64)
  poses[..., 1] += 150 * np.sin(np.arange(num_frames) * max(0.2, 24 / num_frames))[:, None]
  return dummy.among(poses, PLACES, len(NAMES))


def _train_camera(rng: np.random.Generator, number: int):
  """(fx fy cx cy with the digits of the text, extrinsic) of a training camera; the last three are at the ceiling."""
  focal = 1497.5 + rng.uniform(-3, 3)
  intrinsics = (focal, focal - rng.uniform(0, 1), 1024 + rng.uniform(-30, 30), 1024 + rng.uniform(-30, 30))
  return np.array([float(f"{x:.7g}") for x in intrinsics]), _look_at(number * 2.4, 2800 if number > 10 else 1400)


def _look_at(azimuth: float, height_mm: float) -> tuple[np.ndarray, np.ndarray]:
  """World-to-camera rotation and translation (mm) of a camera that points at the middle of the room from 4.5 m."""
  centre = np.array([4500 * np.sin(azimuth), height_mm, 4500 * np.cos(azimuth)])
  forward = np.array([0, 900, 0]) - centre
  right = np.cross(forward, [0, 1, 0])
  rotation = np.stack([right, np.cross(forward, right), forward])  # rows: right, down, forward
  rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
  return rotation, -rotation @ centre


def _from_mm(focal: float, aspect: float, offset, sensor, size) -> np.ndarray:
  """fx fy cx cy in px of a test camera, from the numbers of its calibration file."""
  (sensor_w, sensor_h), (w, h) = sensor, size
  fx = focal / sensor_w * w
  return np.array([fx, fx * aspect, w / 2 + offset[0] / sensor_w * w, h / 2 + offset[1] / sensor_h * h])


def _in_camera(points: np.ndarray, extrinsic) -> np.ndarray:
  rotation, translation = extrinsic
  return points @ rotation.T + translation


def _project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
  return intrinsics[:2] * points[..., :2] / points[..., 2:] + intrinsics[2:]


def _universal(poses: np.ndarray, names, scale=UNIVERSAL_SCALE) -> np.ndarray:
  pelvis = poses[:, names.index("pelvis")][:, None]
  return pelvis + np.reshape(scale, (-1, 1, 1)) * (poses - pelvis)


def _view(px: np.ndarray, poses_mm: np.ndarray, names, intrinsics) -> dict:
  order = [names.index(name) for name in H36M]
  poses = (poses_mm[:, order] / 1000).astype(np.float32)
  valid, activity = np.ones(len(poses), bool), np.zeros(len(poses), np.int32)
  return {
      "keypoints_px": px[:, order].astype(np.float32), "poses_camera_m": poses, "intrinsics": intrinsics,
      "valid": valid, "activity": activity,
  }  # fmt: skip
