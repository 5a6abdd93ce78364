"""Human3.6M in VideoPose3D's files: what they must hold, what they hold too much of, and their 2D in Human3.6M-17 order.

`data_3d_h36m.npz`: `positions_3d` {subject: {take: [t 32 3]}}, metres, the room's frame (Z up), 50 fps.
`data_2d_h36m_<name>.npz`: `positions_2d` {subject: {take: [four cameras' [t' j 2 or 3]]}}, px, t' >= t, and `metadata`.
A take is an action and a number: "Sitting 1".
"""

import collections
import pathlib
from collections.abc import Iterator

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.geometry import camera_tables, skeleton

FPS = 50.0
CAMERAS = tuple(camera_tables.H36M_INTRINSICS)
SUBJECTS = tuple(camera_tables.H36M_EXTRINSICS)
ACTIONS = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting", "SittingDown",
    "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether",
)  # fmt: skip
DROPPED = ("S11", "Directions")  # its video is corrupt; everybody leaves it out
FILE_3D = "data_3d_h36m.npz"

# Where each Human3.6M joint stands in the 2D's own order; None for the neck/nose, which Stacked Hourglass does not detect. Two
# 16-joint files of one name are in use: VideoPose3D's keeps the network's order, SemGCN's is sorted; `keypoints_symmetry` tells.
_HOURGLASS = (6, 2, 1, 0, 3, 4, 5, 7, 8, None, 9, 13, 14, 15, 12, 11, 10)  # 3d-pose-baseline, SH_TO_GT_PERM
_SORTED = tuple(range(9)) + (None,) + tuple(range(9, 16))
LAYOUTS = {"h36m": tuple(range(17)), "stacked hourglass": _HOURGLASS, "h36m without neck": _SORTED}

Fault = tuple[str, str, str]  # where, what is wrong, what to do


def action_of(take: str) -> str:
  """"SittingDown" of "SittingDown 1": up to the first space, as prefixes mislead."""
  return take.partition(" ")[0]


def read_3d(path) -> dict[str, dict[str, np.ndarray]]:
  """`positions_3d` as it lies in the file. Raises FileNotFoundError; ValueError for a damaged file or another content."""
  return _dictionary(path, safe_pickle.load_npz(path), "positions_3d")


def read_2d(path) -> tuple[dict[str, dict[str, list]], str]:
  """(`positions_2d` as it lies in the file, the name of its layout). Raises as `read_3d` does."""
  arrays = safe_pickle.load_npz(path)
  return _dictionary(path, arrays, "positions_2d"), _layout(path, _dictionary(path, arrays, "metadata"))


def _dictionary(path, arrays: dict, name: str) -> dict:
  if not isinstance(arrays.get(name), dict):
    raise ValueError(f"{path} holds {', '.join(arrays) or 'nothing'}, expected the dictionary {name}: fetch VideoPose3D's file")
  return arrays[name]


def _layout(path, metadata: dict) -> str:
  left, right = (sorted(int(j) for j in side) for side in metadata.get("keypoints_symmetry", ((), ())))
  for name, order in LAYOUTS.items():
    if (left, right) == tuple(sorted(order[j] for j in side) for side in (skeleton.LEFT, skeleton.RIGHT)):
      return name
  raise ValueError(
      f"{path} has left joints {left} and right joints {right}, which is the order of none of {', '.join(LAYOUTS)}: COCO joints "
      "(detectron_pt_coco) are not Human3.6M's, take a detector that was fine-tuned on it"
  )


def takes(positions: dict[str, dict], subject: str) -> list[str]:
  """The takes of a subject that count, in order of their names."""
  return [take for take in sorted(positions[subject]) if (subject, take) != DROPPED]


def faults_3d(positions: dict) -> Iterator[Fault]:
  """Everything that keeps `positions_3d` from being the whole Human3.6M."""
  for subject in SUBJECTS:
    if not isinstance(positions.get(subject), dict):
      yield subject, "the subject is missing", "fetch the whole file, or the subject's archive, again"
      continue
    found = collections.Counter(action_of(take) for take in takes(positions, subject))
    for action in ACTIONS:
      count, expected = found.pop(action, 0), 1 if (subject, action) == DROPPED else 2
      if count != expected:
        yield subject, f"the action {action} has {count} takes, expected {expected}", "fetch the subject again"
    for action in found:
      yield subject, f"the action {action} is unknown", "rename TakingPhoto to Photo, WalkingDog to WalkDog; remove others"
    for take in takes(positions, subject):
      what = _not_frames(positions[subject][take], 32, (3,))
      if what:
        yield f"{subject}/{take}", what, "fetch the file again"


def faults_2d(positions_2d: dict, layout: str, lengths: dict[str, dict[str, int]]) -> Iterator[Fault]:
  """Everything that keeps `positions_2d` from covering `lengths` {subject: {take: frames}}. More takes or frames are no fault."""
  joints = sum(j is not None for j in LAYOUTS[layout])
  for subject, takes_3d in lengths.items():
    for take, num_frames in takes_3d.items():
      where = f"{subject}/{take}"
      views = (positions_2d.get(subject) or {}).get(take)
      if views is None:
        yield where, "the take is missing in the 2D", "fetch the 2D file again"
        continue
      if len(views) != len(CAMERAS):
        yield where, f"the 2D has {len(views)} cameras, expected {', '.join(CAMERAS)}", "fetch the 2D file again"
        continue
      for camera, view in zip(CAMERAS, views):
        what = _not_frames(view, joints, (2, 3))
        if what is None and len(view) < num_frames:
          what = f"the 2D has {len(view)} frames and the 3D {num_frames}: the 2D may be longer, never shorter"
        if what:
          yield f"{where}/{camera}", what, "fetch the 2D file again, or detect the missing frames"


def _not_frames(array, joints: int, sizes: tuple[int, ...]) -> str | None:
  if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
    return f"holds a {type(array).__name__}, expected an array of floats"
  if array.ndim != 3 or array.shape[1] != joints or array.shape[2] not in sizes or not len(array):
    return f"has shape {array.shape}, expected (frames, {joints}, {' or '.join(map(str, sizes))})"
  if not np.isfinite(array).all():
    return f"has non-finite values, first in frame {int(np.argmin(np.isfinite(array).all((1, 2))))}"
  return None


def checked(path: pathlib.Path, faults: Iterator[Fault]) -> None:
  """Raises ValueError with the first fault and the number of all, if there are any."""
  faults = list(faults)
  if faults:
    where, what, fix = faults[0]
    more = f" ({len(faults)} faults in all: python -m data_prep.check lists them)" if len(faults) > 1 else ""
    raise ValueError(f"{path}, {where}: {what}; {fix}{more}")


def to_h36m(view: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
  """(keypoints [t 17 2] px, confidence [t 17]) of one camera's 2D [t j 2 or 3].

  Confidence is the third channel where there is one, else 1. Where the detector has no neck/nose, it is put midway between thorax
  and head with confidence 0: there to keep the order, not to be believed.
  """
  order = LAYOUTS[layout]
  full = view[:, [0 if j is None else j for j in order]].astype(np.float32)
  keypoints, confidence = full[..., :2], full[..., 2] if view.shape[2] == 3 else np.ones(full.shape[:2], np.float32)
  if None in order:
    neck = order.index(None)
    keypoints[:, neck] = (keypoints[:, neck - 1] + keypoints[:, neck + 1]) / 2
    confidence[:, neck] = 0
  return keypoints, confidence
