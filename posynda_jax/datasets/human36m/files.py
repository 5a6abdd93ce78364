"""VideoPose3D's Human3.6M files: readers, checks of their content, and their 2D in Human3.6M-17 order.

`data_3d_h36m.npz`: `positions_3d` {subject: {take: [t 32 3]}}, metres, world frame (Z up), 50 fps.
`data_2d_h36m_<name>.npz`: `positions_2d` {subject: {take: [four cameras' [t' j 2 or 3]]}}, px, t' >= t, and `metadata`.
A take is an action and a number: "Sitting 1".
"""

import collections
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.datasets.human36m.tables import ACTIONS
from posynda_jax.datasets.licensed import Fault
from posynda_jax.geometry import camera_tables, skeleton

FPS = 50.0
CAMERAS = tuple(camera_tables.H36M_INTRINSICS)
SUBJECTS = tuple(camera_tables.H36M_EXTRINSICS)
SPLITS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
DROPPED = ("S11", "Directions")  # its video is corrupt, so all published protocols omit it
FILE_3D = "data_3d_h36m.npz"

# Index of each Human3.6M joint in the 2D's own order. None is the neck/nose, which Stacked Hourglass does not detect.
# Two 16-joint files share a name: VideoPose3D's has the network's order, SemGCN's is sorted.
_HOURGLASS = (6, 2, 1, 0, 3, 4, 5, 7, 8, None, 9, 13, 14, 15, 12, 11, 10)  # 3d-pose-baseline, SH_TO_GT_PERM
_SORTED = (*range(9), None, *range(9, 16))
LAYOUTS = {"h36m": tuple(range(17)), "stacked hourglass": _HOURGLASS, "h36m without neck": _SORTED}

Takes = dict[str, dict[str, np.ndarray]]  # {subject: {take: positions}}


def action_of(take: str) -> str:
  """The action of a take: "SittingDown" of "SittingDown 1"."""
  return take.partition(" ")[0]


def read_3d(path) -> Takes:
  """`positions_3d` of the file. Raises FileNotFoundError; ValueError for a damaged file or other content."""
  return _dictionary(path, safe_pickle.load_npz(path), "positions_3d")


def read_2d(path) -> tuple[dict[str, dict[str, list]], str]:
  """(`positions_2d` of the file, name of its layout). Raises as `read_3d`."""
  arrays = safe_pickle.load_npz(path)
  return _dictionary(path, arrays, "positions_2d"), _layout(path, _dictionary(path, arrays, "metadata"))


def _dictionary(path, arrays: dict, name: str) -> dict:
  if not isinstance(arrays.get(name), dict):
    content = ", ".join(arrays) or "nothing"
    raise ValueError(f"{path} holds {content}, expected the dictionary {name}: fetch VideoPose3D's file")
  return arrays[name]


def _layout(path, metadata: dict) -> str:
  left, right = (sorted(int(j) for j in side) for side in metadata.get("keypoints_symmetry", ((), ())))
  for name, order in LAYOUTS.items():
    if (left, right) == tuple(sorted(order[j] for j in side) for side in (skeleton.LEFT, skeleton.RIGHT)):
      return name
  raise ValueError(
      f"{path} has left joints {left} and right joints {right}, expected the order of {', '.join(LAYOUTS)}: COCO "
      "joints (detectron_pt_coco) are not Human3.6M's, take a detector that was fine-tuned on it"
  )


def takes(positions: dict[str, dict], subject: str) -> list[str]:
  """The takes of a subject without the dropped one, in order of their names."""
  return [take for take in sorted(positions[subject]) if (subject, take) != DROPPED]


def faults_3d(positions: dict) -> Iterator[Fault]:
  """Differences of `positions_3d` from the whole Human3.6M."""
  for subject in SUBJECTS:
    if not isinstance(positions.get(subject), dict):
      yield Fault(subject, "the subject is missing", "fetch the whole file, or the subject's archive, again")
      continue
    found = collections.Counter(action_of(take) for take in takes(positions, subject))
    for action in ACTIONS:
      count, expected = found.pop(action, 0), 1 if (subject, action) == DROPPED else 2
      if count != expected:
        yield Fault(subject, f"the action {action} has {count} takes, expected {expected}", "fetch the subject again")
    fix = "rename TakingPhoto to Photo and WalkingDog to WalkDog; remove others"
    yield from (Fault(subject, f"the action {action} is unknown", fix) for action in found)
    for take in takes(positions, subject):
      if what := _not_frames(positions[subject][take], 32, (3,)):
        yield Fault(f"{subject}/{take}", what, "fetch the file again")


def faults_2d(positions_2d: dict, layout: str, positions_3d: Takes) -> Iterator[Fault]:
  """Takes and frames of `positions_3d` that `positions_2d` lacks. More takes or frames are no fault."""
  joints = sum(j is not None for j in LAYOUTS[layout])
  for subject in positions_3d:
    for take in takes(positions_3d, subject):
      where, views = f"{subject}/{take}", (positions_2d.get(subject) or {}).get(take, ())
      num_frames = len(positions_3d[subject][take])
      if len(views) != len(CAMERAS):
        what = f"the 2D has {len(views)} cameras, expected {', '.join(CAMERAS)}"
        yield Fault(where, what, "fetch the 2D file again")
        continue
      for camera, view in zip(CAMERAS, views):
        what = _not_frames(view, joints, (2, 3))
        if what is None and len(view) < num_frames:
          what = f"the 2D has {len(view)} frames and the 3D {num_frames}, but the 2D must not be shorter"
        if what:
          yield Fault(f"{where}/{camera}", what, "fetch the 2D file again, or detect the missing frames")


def _not_frames(array, joints: int, sizes: tuple[int, ...]) -> str | None:
  if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
    return f"holds a {type(array).__name__}, expected an array of floats"
  if array.ndim != 3 or array.shape[1] != joints or array.shape[2] not in sizes or not len(array):
    return f"has shape {array.shape}, expected (frames, {joints}, {' or '.join(map(str, sizes))})"
  finite = np.isfinite(array).all((1, 2))
  return None if finite.all() else f"has non-finite values, first in frame {finite.argmin()}"


def check(path: pathlib.Path, faults: Iterable[Fault]) -> None:
  """Raises Fault with the first of `faults` and their number, if there are any."""
  faults = list(faults)
  if faults:
    more = f" ({len(faults)} faults: python -m data_prep.check lists them)" if len(faults) > 1 else ""
    raise Fault(f"{path}, {faults[0].where}", faults[0].what, faults[0].fix + more)


def to_h36m(view: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
  """(keypoints [t 17 2] px, confidence [t 17]) of one camera's 2D [t j 2 or 3].

  Confidence is the third channel, or 1 without one. A missing neck/nose becomes the mean of thorax and head, with
  confidence 0.
  """
  order = LAYOUTS[layout]
  full = view[:, [0 if j is None else j for j in order]].astype(np.float32)
  keypoints, confidence = full[..., :2], full[..., 2] if view.shape[2] == 3 else np.ones(full.shape[:2], np.float32)
  if None in order:
    neck = order.index(None)
    keypoints[:, neck] = (keypoints[:, neck - 1] + keypoints[:, neck + 1]) / 2
    confidence[:, neck] = 0
  return keypoints, confidence
