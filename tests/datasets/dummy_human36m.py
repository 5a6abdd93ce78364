"""Small Human3.6M files for the tests: VideoPose3D's npz files and the official CDF folders, of a synthetic walker.

Layout, names, units and quirks are those of the true files. The 2D of `gt` does not use this package's cameras: it
follows VideoPose3D's own steps.
"""

import pathlib

import numpy as np

from posynda_jax.datasets.human36m import files
from posynda_jax.datasets.human36m.views import render
from posynda_jax.geometry import skeleton
from tests.datasets import dummy

CPN, HOURGLASS = "cpn_ft_h36m_dbb", "sh_ft_h36m"
OFFICIAL = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
SYMMETRY = {
    "h36m": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    "stacked hourglass": [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]],
    "h36m without neck": [[4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15]],
}


def make_truth(num_frames: int = 6) -> files.Takes:
  """World positions [t 17 3] float32 (m, Z up) of all takes but the dropped one; t is `num_frames` to that plus 2."""
  truth = {}
  for number, subject in enumerate(files.SUBJECTS):
    numbers = (("", " 1"), (" 1", " 2"))
    names = [f"{action}{n}" for i, action in enumerate(files.ACTIONS) for n in numbers[(i + number) % 2]]
    lengths = {name: num_frames + i % 3 for i, name in enumerate(names) if (subject, name) != files.DROPPED}
    walk = dummy.walk(np.random.default_rng(number), sum(lengths.values()), files.FPS)[..., [2, 0, 1]]  # Z up
    truth[subject] = dict(zip(lengths, np.split(walk, np.cumsum(list(lengths.values()))[:-1])))
  return truth


def write_manual_dir(folder: pathlib.Path, truth: files.Takes) -> pathlib.Path:
  """Writes a manual_dir: 3D with the dropped take, gt, and CPN with scores."""
  garbage = np.full((4, 17, 3), np.nan, np.float32)
  write_3d(folder, truth | {"S11": truth["S11"] | {"Directions": garbage}})
  write_2d(folder, truth, "gt")
  write_2d(folder, truth, CPN, noise_px=4, longer=3, scores=True)
  return folder


def write_3d(folder: pathlib.Path, truth: files.Takes) -> None:
  """Writes `data_3d_h36m.npz`, as VideoPose3D's prepare_data_h36m.py does."""
  positions = {subject: {take: with_32_joints(x) for take, x in takes.items()} for subject, takes in truth.items()}
  np.savez_compressed(folder / files.FILE_3D, positions_3d=positions)


def with_32_joints(positions: np.ndarray) -> np.ndarray:
  """Positions [t 17 3] among the 32 joints of the file."""
  return dummy.among(positions, skeleton.ORDERS["h36m32"], 32)


def write_2d(folder, truth: files.Takes, name: str, *, layout="h36m", noise_px=0.0, longer=0, scores=False) -> None:
  """Writes `data_2d_h36m_<name>.npz`.

  Detections (`noise_px` > 0) may be `longer` by some frames and have `scores`. They also cover S2, who has no 3D.
  """
  rng = np.random.default_rng(0)
  kept = np.argsort([99 if j is None else j for j in files.LAYOUTS[layout]])[: 17 - files.LAYOUTS[layout].count(None)]
  positions = {subject: {} for subject in truth}
  for subject, takes in truth.items():
    for take, poses in takes.items():
      views = render(np.concatenate([poses, np.repeat(poses[-1:], longer, 0)]), subject)[1][:, :, kept]
      views = views + rng.normal(0, noise_px, views.shape).astype(np.float32)
      if scores:
        views = np.concatenate([views, rng.random(views.shape[:3] + (1,), np.float32)], -1)
      positions[subject][take] = list(views)
  if noise_px:
    positions["S2"] = {"Directions": [np.zeros((3, len(kept), 2 + scores), np.float32)] * 4}
  metadata = {"num_joints": len(kept), "keypoints_symmetry": SYMMETRY[layout]}
  np.savez_compressed(pathlib.Path(folder) / f"data_2d_h36m_{name}.npz", positions_2d=positions, metadata=metadata)


def write_cdf(folder, truth: files.Takes) -> None:
  """Writes `<subject>/MyPoseFeatures/D3_Positions/<take>.cdf`, the content of `Poses_D3_Positions_<subject>.tgz`.

  One record of the variable Pose, frames by 96 numbers, mm, columns first as MATLAB writes. The dropped take is
  included.
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
      with cdflib.cdfwrite.CDF(path, {"Majority": "column_major"}) as cdf:  # cdflib does not reorder the numbers
        spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": list(data.shape)}
        cdf.write_var(spec, var_data=np.ascontiguousarray(data.T).reshape(1, *data.shape))
