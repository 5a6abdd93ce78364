"""Small files that are to the reader what Human3.6M's are: VideoPose3D's npz files and the official CDF folders.

What they hold is a made-up walker of right proportions; layout, names, units and quirks are the true ones. The gt 2D is computed
the way VideoPose3D computes its own, in screen units and float32, not with this package's cameras.
"""

import pathlib

import numpy as np

from posynda_jax.datasets.human36m import files
from posynda_jax.datasets.synthetic_motion import body, motion
from posynda_jax.geometry import camera_tables, skeleton

Truth = dict[str, dict[str, np.ndarray]]
OFFICIAL = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
METADATA = {
    "h36m": {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]},
    "stacked hourglass": {"num_joints": 16, "keypoints_symmetry": [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]]},
    "h36m without neck": {"num_joints": 16, "keypoints_symmetry": [[4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15]]},
}


def make_truth(seed: int = 0, num_frames: int = 6) -> Truth:
  """World positions [t 17 3] float32 (m, Z up) of every take but S11's dropped one; t is `num_frames` or a few more."""
  truth = {}
  for number, subject in enumerate(files.SUBJECTS):
    rng = np.random.default_rng([seed, number])
    numbers = (("", " 1"), (" 1", " 2"))
    names = [f"{action}{n}" for i, action in enumerate(files.ACTIONS) for n in numbers[(i + number) % 2]]
    lengths = {name: num_frames + i % 3 for i, name in enumerate(names) if (subject, name) != files.DROPPED}
    moving = motion.draw_motion(rng, body.draw_body(rng, body.BodyRange()), "locomotion", sum(lengths.values()), files.FPS)
    moving = moving[..., [2, 0, 1]]  # Z up
    moving -= np.append(moving[:, 0, :2].mean(0), 0)  # about the middle of the room
    ends = np.cumsum(list(lengths.values()))
    truth[subject] = {name: moving[end - n : end].astype(np.float32) for (name, n), end in zip(lengths.items(), ends)}
  return truth


def write_3d(folder, truth: Truth) -> pathlib.Path:
  """Writes `data_3d_h36m.npz`, as VideoPose3D's prepare_data_h36m.py does."""
  path = pathlib.Path(folder) / files.FILE_3D
  positions = {subject: {take: with_32_joints(x) for take, x in takes.items()} for subject, takes in truth.items()}
  np.savez_compressed(path, positions_3d=positions)
  return path


def with_32_joints(positions: np.ndarray) -> np.ndarray:
  """Positions [t 17 3] among the 32 joints of the file; the other 15 lie where nobody should read."""
  full = np.repeat(positions[:, :1], 32, 1) + np.linspace(5, 9, 32, dtype=np.float32)[:, None]
  full[:, list(skeleton.ORDERS["h36m32"])] = positions
  return full


def project_as_videopose3d(positions: np.ndarray, subject: str, number: int) -> np.ndarray:
  """Pixels [t 17 2] of world positions [t 17 3] in camera `number`, in VideoPose3D's steps: float32, screen units, then px."""
  (w, h), lens = camera_tables.H36M_INTRINSICS[files.CAMERAS[number]]
  q, t = (np.array(x, np.float32) for x in camera_tables.H36M_EXTRINSICS[subject][files.CAMERAS[number]])
  lens = np.array(lens, np.float32)
  offset = np.array([1, h / w], np.float32)
  focal, centre = lens[:2] / np.float32(w) * 2, lens[2:4] / np.float32(w) * 2 - offset
  q = q * np.array([1, -1, -1, -1], np.float32)  # the inverse turn
  x = positions - t
  uv = np.cross(np.broadcast_to(q[1:], x.shape), x)
  x = x + 2 * (q[0] * uv + np.cross(np.broadcast_to(q[1:], x.shape), uv))
  m = np.clip(x[..., :2] / x[..., 2:], -1, 1)
  r2 = (m**2).sum(-1, keepdims=True)
  radial = 1 + (lens[4:7] * np.concatenate([r2, r2**2, r2**3], -1)).sum(-1, keepdims=True)
  tangential = (lens[7:] * m).sum(-1, keepdims=True)
  screen = focal * (m * (radial + tangential) + lens[7:] * r2) + centre
  return (screen + offset) * np.float32(w) / 2


def write_2d(folder, truth: Truth, name: str, *, layout="h36m", noise_px=0.0, longer=0, scores=False, seed=0) -> Truth:
  """Writes `data_2d_h36m_<name>.npz` and returns its 2D {subject: {take: [4 cameras' [t' j 2 or 3]]}}.

  Detections (`noise_px`) may be `longer` by some frames, carry `scores`, and also cover S2, of whom there is no 3D.
  """
  rng = np.random.default_rng(seed)
  kept = np.argsort([np.inf if j is None else j for j in files.LAYOUTS[layout]], kind="stable")
  kept = kept[: sum(j is not None for j in files.LAYOUTS[layout])]  # Human3.6M joint at each place of the layout
  positions = {}
  for subject, takes in truth.items():
    positions[subject] = {}
    for take, poses in takes.items():
      poses = np.concatenate([poses, np.repeat(poses[-1:], longer, 0)])
      views = [project_as_videopose3d(poses, subject, number)[:, kept] for number in range(4)]
      views = [view + rng.normal(0, noise_px, view.shape).astype(np.float32) if noise_px else view for view in views]
      if scores:
        views = [np.concatenate([view, rng.random(view.shape[:2] + (1,), np.float32)], -1) for view in views]
      positions[subject][take] = views
  if noise_px:
    positions["S2"] = {"Directions": [np.zeros((3, len(kept), 3 if scores else 2), np.float32)] * 4}
  metadata = dict(METADATA[layout])
  if name == "gt":
    del metadata["layout_name"]
  np.savez_compressed(pathlib.Path(folder) / f"data_2d_h36m_{name}.npz", positions_2d=positions, metadata=metadata)
  return positions


def write_cdf(folder, truth: Truth) -> None:
  """Writes `<subject>/MyPoseFeatures/D3_Positions/<take>.cdf` as the archive `Poses_D3_Positions_<subject>.tgz` unpacks them.

  One record of the variable Pose, frames by 96 numbers, mm, columns first as MATLAB writes. S11's dropped take is among them.
  """
  import cdflib.cdfwrite

  for subject, takes in truth.items():
    target = pathlib.Path(folder) / subject / "MyPoseFeatures" / "D3_Positions"
    target.mkdir(parents=True)
    takes = dict(takes, Directions=takes["Directions 1"]) if subject == files.DROPPED[0] else takes
    for take, poses in takes.items():
      action, space, number = take.partition(" ")
      data = 1000 * with_32_joints(poses).reshape(len(poses), 96)
      path = target / f"{OFFICIAL.get(action, action)}{space}{number}.cdf"
      with cdflib.cdfwrite.CDF(path, {"Majority": "column_major"}) as cdf:  # it writes the numbers in the order they come in
        spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": list(data.shape)}
        cdf.write_var(spec, var_data=np.ascontiguousarray(data.T).reshape(1, *data.shape))
