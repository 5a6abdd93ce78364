"""Small files exactly as the owners of MPI-INF-3DHP write them, of a person who walks, and the truth that they hold.

Every writer returns {(sequence, camera): view}: what a reader must give back, in H36M-17 order found by joint names. Frame
and valid counts are those of `tables`, which tests make smaller. `spoil` may change the arrays before they are written.
"""

import pathlib
from collections.abc import Callable, Iterable

import h5py
import numpy as np
import scipy.io

from posynda_jax.datasets.mpi_inf_3dhp import tables

# mpii_get_joint_set.m, `all`: joint -> (parent, offset from it in mm: x to the person's left, y up, z forward).
JOINTS = {
    "spine3": ("spine2", (0, 90, 0)), "spine4": ("spine3", (0, 90, 0)), "spine2": ("spine", (0, 90, 0)),
    "spine": ("pelvis", (0, 90, -10)), "pelvis": (None, (0, 0, 0)), "neck": ("spine4", (0, 120, 10)),
    "head": ("neck", (0, 90, 30)), "head_top": ("head", (0, 150, 0)),
    "left_clavicle": ("neck", (30, -40, 0)), "left_shoulder": ("left_clavicle", (140, 0, 0)),
    "left_elbow": ("left_shoulder", (20, -290, 0)), "left_wrist": ("left_elbow", (0, -250, 0)),
    "left_hand": ("left_wrist", (0, -90, 0)),
    "right_clavicle": ("neck", (-30, -40, 0)), "right_shoulder": ("right_clavicle", (-140, 0, 0)),
    "right_elbow": ("right_shoulder", (-20, -290, 0)), "right_wrist": ("right_elbow", (0, -250, 0)),
    "right_hand": ("right_wrist", (0, -90, 0)),
    "left_hip": ("pelvis", (100, -30, 0)), "left_knee": ("left_hip", (0, -420, 0)),
    "left_ankle": ("left_knee", (0, -410, 0)), "left_foot": ("left_ankle", (0, -60, 100)), "left_toe": ("left_foot", (0, 0, 60)),
    "right_hip": ("pelvis", (-100, -30, 0)), "right_knee": ("right_hip", (0, -420, 0)),
    "right_ankle": ("right_knee", (0, -410, 0)), "right_foot": ("right_ankle", (0, -60, 100)),
    "right_toe": ("right_foot", (0, 0, 60)),
}
NAMES = list(JOINTS)
RELEVANT = (  # mpii_get_joint_set.m, `relevant`: the order of the test set and of the processed files
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)
H36M = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "neck", "head",
    "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)
UNIVERSAL_SCALE = 1.0467  # of univ_annot3 about the pelvis (TS5)
Spoil = Callable[[dict], None]


def write_train(folder, sequence: str, seed: int = 0, extra_rows: int = 3, spoil: Spoil | None = None) -> dict:
  """Writes `<sequence>/annot.mat` and `camera.calibration`. Rows past the last frame hold another motion.

  `spoil` gets {"annot2", "annot3", "univ_annot3": 14 arrays [rows 28 c], "calibration": text}.
  """
  num_frames = tables.TRAIN[sequence][0]
  rng = np.random.default_rng([seed, list(tables.TRAIN).index(sequence)])
  motion = np.concatenate([_walk(rng, num_frames), _walk(rng, extra_rows) + 300])
  cameras = [_train_camera(rng, camera) for camera in range(14)]
  content: dict = {"annot3": [_seen_from(motion, extrinsic) for _, extrinsic in cameras]}
  content["annot2"] = [_project(poses, intrinsics) for poses, (intrinsics, _) in zip(content["annot3"], cameras)]
  content["univ_annot3"] = [_universal(poses, NAMES) for poses in content["annot3"]]
  content["calibration"] = calibration_text(cameras)
  truth = {
      (sequence, camera): _view(content["annot2"][camera], content["annot3"][camera], NAMES, cameras[camera][0], num_frames)
      for camera in range(14)
  }
  if spoil:
    spoil(content)
  place = pathlib.Path(folder) / sequence
  place.mkdir(parents=True, exist_ok=True)
  (place / "camera.calibration").write_text(content.pop("calibration"))
  cells = {name: _cell_array([x.reshape(len(x), -1) for x in arrays]) for name, arrays in content.items()}
  ids = {"cameras": np.arange(14)[None], "frames": np.arange(len(motion))[:, None]}
  scipy.io.savemat(place / "annot.mat", {**cells, **ids}, do_compression=True)
  return truth


def write_test(folder, sequence: str, seed: int = 0, spoil: Spoil | None = None) -> dict:
  """Writes `<sequence>/annot_data.mat`. `spoil` gets its arrays by name, as h5py shapes them."""
  content, truth = _test_sequence(sequence, seed)
  if spoil:
    spoil(content)
  place = pathlib.Path(folder) / sequence
  place.mkdir(parents=True, exist_ok=True)
  with h5py.File(place / "annot_data.mat", "w", userblock_size=512) as file:
    for name, array in content.items():
      file.create_dataset(name, data=array).attrs["MATLAB_class"] = np.bytes_("double")
    crops = file.create_dataset("bb_crop", (len(content["valid_frame"]), 1), h5py.ref_dtype)
    crops.attrs["MATLAB_class"] = np.bytes_("cell")
    for frame in range(len(crops)):
      crops[frame, 0] = file.create_dataset(f"#refs#/{frame}", data=np.zeros((34, 1))).ref
  with (place / "annot_data.mat").open("r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\0\2IM")
  return truth


def write_processed_train(path, sequences: Iterable[str], annotation: str = "univ_annot3", seed: int = 0, spoil=None) -> dict:
  """Writes `data_train_3dhp*.npz` as P-STMO's data_to_npz_3dhp.py does. `spoil` gets the nested dict."""
  order, data, truth = [NAMES.index(name) for name in RELEVANT], {}, {}
  for sequence in sequences:
    num_frames, fps = tables.TRAIN[sequence]
    rng = np.random.default_rng([seed, list(tables.TRAIN).index(sequence)])
    motion, views = _walk(rng, num_frames), {}
    for camera in tables.CAMERAS["vnect"]:
      intrinsics, extrinsic = _train_camera(rng, camera)
      poses = _seen_from(motion, extrinsic)
      px = _project(poses, intrinsics)
      poses = _universal(poses, NAMES) if annotation == "univ_annot3" else poses
      views[str(camera)] = {"data_2d": px[:, order], "data_3d": poses[:, order]}
      truth[sequence, camera] = _view(px, poses, NAMES, intrinsics)
    data[sequence.replace("/", " ")] = [views, fps]
  if spoil:
    spoil(data)
  np.savez_compressed(path, data=data)
  return truth


def write_processed_test(path, sequences: Iterable[str], annotation: str = "univ_annot3", seed: int = 0, spoil=None) -> dict:
  """Writes `data_test_3dhp*.npz` as P-STMO's data_to_npz_3dhp_test.py does. `spoil` gets the nested dict."""
  data, truth = {}, {}
  for sequence in sequences:
    content, views = _test_sequence(sequence, seed)
    px, poses, valid = (content[name].squeeze() for name in ("annot2", annotation, "valid_frame"))
    data[sequence] = {"data_2d": px, "data_3d": poses, "valid": valid}
    truth[sequence, 0] = _view(px, poses, RELEVANT, views[sequence, 0]["intrinsics"]) | {"valid": valid > 0}
  if spoil:
    spoil(data)
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
    ]
  return "\n".join(lines) + "\n"


def _test_sequence(sequence: str, seed: int) -> tuple[dict, dict]:
  """The arrays of an `annot_data.mat` as h5py shapes them, and the view they hold."""
  num_frames, num_valid = tables.TEST[sequence]
  rng = np.random.default_rng([seed, 100 + list(tables.TEST).index(sequence)])
  order = [NAMES.index(name) for name in RELEVANT]
  poses = _seen_from(_walk(rng, num_frames), _look_at(rng.uniform(0, 6), 1400))[:, order]
  if sequence in ("TS5", "TS6"):
    intrinsics = _from_mm(8.770747185, 0.993236423, (-0.104908645, 0.104899704), (10, 5.625), (1920, 1080))
  else:
    intrinsics = _from_mm(7.32506, 1.00044, (-0.0322884, 0.0929296), (10, 10), (2048, 2048))
  px, valid = _project(poses, intrinsics), np.zeros(num_frames, bool)
  valid[np.arange(num_valid) * num_frames // num_valid] = True
  activity = 1 + np.arange(num_frames) * 7 // num_frames
  scale = np.where(np.arange(num_frames) // 8 % 2, 0.96, 1.05) if sequence == "TS6" else UNIVERSAL_SCALE  # two performers
  arrays = {"annot2": px, "annot3": poses, "univ_annot3": _universal(poses, RELEVANT, scale)}
  content = {name: array[:, None] for name, array in arrays.items()}
  content |= {"valid_frame": valid[:, None].astype(np.float64), "activity_annotation": activity[:, None].astype(np.float64)}
  view = _view(px, poses, RELEVANT, intrinsics) | {"valid": valid, "activity": activity}
  return content, {(sequence, 0): view}


def _walk(rng: np.random.Generator, num_frames: int) -> np.ndarray:
  """World poses [f 28 3] (mm, y up) of someone of a random size who walks in a circle up and down, with bending limbs."""
  time = np.arange(num_frames) * max(0.1, 12 / num_frames) + rng.uniform(0, 6)
  size = rng.uniform(0.95, 1.05)
  swing = {"left": np.sin(time), "right": -np.sin(time)}
  turns = {}  # about the person's left-right axis, at the joint that bears the bone; positive is backward for a hanging bone
  for side, s in swing.items():
    turns |= {f"{side}_hip": 0.4 * s, f"{side}_knee": 0.5 + 0.3 * s}
    turns |= {f"{side}_shoulder": -0.5 * s, f"{side}_elbow": -0.6 + 0.2 * s}
  turns["pelvis"] = 0.1 + 0.05 * np.sin(0.3 * time)
  places, angles = {}, {}
  while len(places) < len(JOINTS):
    for name, (parent, (x, y, z)) in JOINTS.items():
      if name not in places and (parent is None or parent in places):
        angle, start = (angles[parent], places[parent]) if parent else (np.zeros(num_frames), np.zeros((num_frames, 3)))
        turned = np.stack([x + 0 * angle, y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)], -1)
        places[name], angles[name] = start + size * turned, angle + turns.get(name, 0)
  heading = 0.5 * time
  c, s = np.cos(heading)[:, None], np.sin(heading)[:, None]
  body = np.stack([places[name] for name in NAMES], 1)
  body = np.stack([c * body[..., 0] + s * body[..., 2], body[..., 1], c * body[..., 2] - s * body[..., 0]], -1)
  return body + np.stack([-700 * c, 880 + 150 * np.sin(2 * time)[:, None], 700 * s], -1)


def _train_camera(rng: np.random.Generator, number: int):
  """(fx fy cx cy rounded as the text rounds them, extrinsic) of one of fourteen cameras; the last three hang at the ceiling."""
  focal = 1497.5 + rng.uniform(-3, 3)
  intrinsics = (focal, focal - rng.uniform(0, 1), 1024 + rng.uniform(-30, 30), 1024 + rng.uniform(-30, 30))
  return np.array([float(f"{x:.7g}") for x in intrinsics]), _look_at(number * 2.4, 2800 if number > 10 else 1400)


def _look_at(azimuth: float, height_mm: float) -> tuple[np.ndarray, np.ndarray]:
  """World-to-camera rotation and translation (mm) of a camera 4.5 m away that looks at the middle of the room."""
  centre = np.array([4500 * np.sin(azimuth), height_mm, 4500 * np.cos(azimuth)])
  forward = np.array([0, 900, 0]) - centre
  forward /= np.linalg.norm(forward)
  right = np.cross(forward, [0, 1, 0])
  right /= np.linalg.norm(right)
  rotation = np.stack([right, np.cross(forward, right), forward])  # rows: right, down, forward
  return rotation, -rotation @ centre


def _from_mm(focal: float, aspect: float, offset, sensor, size) -> np.ndarray:
  """fx fy cx cy in px of a test camera, as its calibration file gives them."""
  (sensor_w, sensor_h), (w, h) = sensor, size
  fx = focal / sensor_w * w
  return np.array([fx, fx * aspect, w / 2 + offset[0] / sensor_w * w, h / 2 + offset[1] / sensor_h * h])


def _seen_from(points: np.ndarray, extrinsic) -> np.ndarray:
  rotation, translation = extrinsic
  return points @ rotation.T + translation


def _project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
  return intrinsics[:2] * points[..., :2] / points[..., 2:] + intrinsics[2:]


def _universal(poses: np.ndarray, names, scale=UNIVERSAL_SCALE) -> np.ndarray:
  pelvis = poses[:, names.index("pelvis")][:, None]
  return pelvis + np.reshape(scale, (-1, 1, 1)) * (poses - pelvis)


def _view(px: np.ndarray, poses_mm: np.ndarray, names, intrinsics, num_frames: int | None = None) -> dict:
  order = [names.index(name) for name in H36M]
  poses = (poses_mm[:num_frames, order] / 1000).astype(np.float32)
  valid, activity = np.ones(len(poses), bool), np.zeros(len(poses), np.int32)
  return {
      "keypoints_px": px[:num_frames, order].astype(np.float32), "poses_camera_m": poses, "intrinsics": intrinsics,
      "valid": valid, "activity": activity,
  }


def _cell_array(arrays: list[np.ndarray]) -> np.ndarray:
  cells = np.empty((len(arrays), 1), object)
  for i, array in enumerate(arrays):
    cells[i, 0] = array
  return cells
