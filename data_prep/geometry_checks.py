"""What bodies and cameras tell about a file without knowing its dataset: joint order, sides, units, reprojection.

Many frames are judged at once, by medians and shares, so that one odd frame is no fault: a body that keeps its bone lengths and
bends its knees forward passes. Joints are in Human3.6M-17 order.
"""

import functools

import jax
import numpy as np

from data_prep.findings import Finding
from posynda_jax.geometry import camera, skeleton

UP = {"camera": (0, -1, 0), "y_up": (0, 1, 0), "z_up": (0, 0, 1)}  # "camera": y down, as all three datasets in camera space
SIZE_M = (0.2, 0.8)  # median distance of a person's joints from the hip
SYMMETRY = 0.05  # true motion capture (CMU) has bodies whose limbs differ by 8%: only beyond 20% is it surely another joint
ASYMMETRY = 0.2
FLIPPED = np.asarray(skeleton.LEFT + skeleton.RIGHT), np.asarray(skeleton.RIGHT + skeleton.LEFT)
UNEXPLAINED = "2D and 3D do not belong together: check camera, joint order, image size and file pairing"
OTHER_ORDERS = {name: list(order) for name, order in skeleton.ORDERS.items() if name != "h36m17" and max(order) < 17}
_LIMBS = {"thigh": (0, 1), "shin": (1, 2), "upper arm": (3, 4), "forearm": (4, 5)}  # ends among LEFT, and among RIGHT


def check_skeleton(poses_m, frame: str | None, where: str) -> list[Finding]:
  """Faults of poses [t 17 3] in Human3.6M order: units, left/right limb lengths, head under pelvis, sides exchanged.

  `frame` is "camera" (y down), "y_up", "z_up", or None where the direction of gravity is unknown: the head is then not looked at.
  Frames with non-finite joints are left out. Raises ValueError for another shape or frame.
  """
  poses = np.asarray(poses_m, np.float64)
  if poses.ndim != 3 or poses.shape[1:] != (17, 3):
    raise ValueError(f"{where}: poses have shape {poses.shape}, expected (frames, 17, 3)")
  if frame is not None and frame not in UP:
    raise ValueError(f"frame {frame!r} is unknown; choose one of {', '.join(UP)} or None")
  poses = poses[np.isfinite(poses).all((1, 2))]
  if not len(poses):
    return [Finding("fault", where, "no frame has a finite pose", "fetch the file again, or leave the sequence out")]
  poses = poses - poses[:, :1]
  found = _units(poses, where)
  (difference, limb), below = _asymmetry(poses), _head_below(poses, frame)
  if difference > ASYMMETRY or below > 0.8:
    return found + [_wrong_order(poses, frame, where, difference, limb, below)]
  if difference > SYMMETRY:
    fix = "some bodies are so; if this one is not, its joints are not where they are said to be"
    found.append(Finding("warning", where, f"{limb}, {difference:.0%} apart", fix))
  if below > 0.5:
    what = f"the head is below the pelvis in {below:.0%} of {len(poses)} frames"
    found.append(Finding("warning", where, what, "look at the sequence: lying, or another up axis than expected?"))
  return found + _sides(poses, where)


def _units(poses: np.ndarray, where: str) -> list[Finding]:
  size = np.median(np.linalg.norm(poses[:, 1:], axis=-1))
  if SIZE_M[0] <= size <= SIZE_M[1]:
    return []
  for unit, length in (("millimetres", 0.001), ("centimetres", 0.01), ("inches", 0.0254)):
    if SIZE_M[0] <= size * length <= SIZE_M[1]:
      what = f"joints lie {size:.4g} from the hip (median): looks like {unit}"
      return [Finding("fault", where, what, f"multiply by {length} for metres")]
  what = f"joints lie {size:.4g} from the hip (median), expected {SIZE_M[0]} to {SIZE_M[1]} m: not metres, nor mm, cm, inches"
  return [Finding("fault", where, what, "look up the file's unit; normalised poses cannot be used as metres")]


def _asymmetry(poses: np.ndarray) -> tuple[float, str]:
  """(largest relative difference of a limb's median length between left and right, that limb in words)."""
  length = lambda side, ends: np.median(np.linalg.norm(poses[:, side[ends[0]]] - poses[:, side[ends[1]]], axis=-1))
  worst = 0.0, ""
  for limb, ends in _LIMBS.items():
    left, right = length(skeleton.LEFT, ends), length(skeleton.RIGHT, ends)
    difference = abs(left - right) / max((left + right) / 2, 1e-9)
    worst = max(worst, (float(difference), f"{limb} is {left:.3g} left and {right:.3g} right (median)"))
  return worst


def _head_below(poses: np.ndarray, frame: str | None) -> float:
  """Share of frames whose head is not above the pelvis."""
  return 0.0 if frame is None else float((poses[:, 10] @ np.array(UP[frame]) <= 0).mean())


def _wrong_order(poses, frame, where, difference, limb, below) -> Finding:
  parts = [f"{limb}, {difference:.0%} apart"] if difference > ASYMMETRY else []
  parts += [f"the head is below the pelvis in {below:.0%} of {len(poses)} frames"] if below > 0.5 else []
  fits = [name for name, order in OTHER_ORDERS.items() if _fits(poses[:, order], frame)]
  if fits:
    fix = f"it fits the joint order {fits[0]}: reorder with skeleton.to_h36m(poses, {fits[0]!r})"
  elif difference <= ASYMMETRY:
    fix = "y points the other way (negate y and z), or this is another frame than expected"
  else:
    fix = "the joints are not in Human3.6M order: reorder them, or fetch the file again"
  return Finding("fault", where, "; ".join(parts), fix)


def _fits(poses, frame) -> bool:
  poses = poses - poses[:, :1]
  return _asymmetry(poses)[0] <= ASYMMETRY and _head_below(poses, frame) <= 0.5 and not _sides(poses, "")


def _sides(poses: np.ndarray, where: str) -> list[Finding]:
  """Left and right by what a mirror image gets wrong: knees bend forward, and shoulders have the sides of the hips."""
  left, right = np.array(skeleton.LEFT), np.array(skeleton.RIGHT)
  across = poses[:, left[0]] - poses[:, right[0]]  # hips, from right to left
  forward = np.cross(across, poses[:, 8] - poses[:, 0])  # left x up, in any right-handed frame
  forward /= np.maximum(np.linalg.norm(forward, axis=-1, keepdims=True), 1e-9)
  legs = np.stack([poses[:, left[:3]], poses[:, right[:3]]], 1)  # t 2 (hip, knee, ankle) 3
  bend = legs[:, :, 1] - (legs[:, :, 0] + legs[:, :, 2]) / 2
  length = np.linalg.norm(np.diff(legs, axis=2), axis=-1).sum(-1)
  bend = (bend * forward[:, None]).sum(-1) / np.maximum(length, 1e-9)
  bent = np.abs(bend) > 0.05  # a flexion of about 12 degrees; few knees overextend so far
  backward = bend[bent] < 0
  crossed = float(((across * (poses[:, left[3]] - poses[:, right[3]])).sum(-1) < 0).mean())
  if bent.mean() > 0.05 and backward.mean() > 0.75:
    what = f"knees bend backward in {backward.mean():.0%} of {len(backward)} bent legs: left and right are exchanged"
    if crossed > 0.75:
      return [Finding("fault", where, f"{what} in the legs alone", "exchange legs: skeleton.to_h36m(poses, 'spin17') does")]
    return [Finding("fault", where, what, "exchange the left and right joints, or undo a mirrored axis")]
  if crossed > 0.75:
    what = f"left and right of shoulders and hips disagree in {crossed:.0%} of {len(poses)} frames"
    return [Finding("fault", where, what, "arms or legs have their sides exchanged: reorder them")]
  return []


def reprojection_error(poses_camera_m, keypoints_px, intrinsics, valid) -> float:
  """Mean distance in px of keypoints [t 17 2] from `camera.project` of poses [t 17 3], over valid finite frames.

  nan where no frame is valid.
  """
  poses, keypoints = _valid(poses_camera_m, keypoints_px, valid)
  return _mean(_distance(_project(poses, intrinsics), keypoints))


def check_reprojection(poses_camera_m, keypoints_px, intrinsics, valid, where: str, limit_px: float) -> list[Finding]:
  """A fault where poses [t 17 3] (m, camera frame) miss keypoints [t 17 2] by more than `limit_px` on average.

  `intrinsics` [9] in px, with zero distortion where the keypoints have none; `valid` [t]. Known mistakes are tried one by one
  and the fix names the one that explains the error: joint order, sides, univ_annot3, image size, distortion, a shift in time.
  """
  if len(poses_camera_m) != len(keypoints_px):
    what = f"{len(keypoints_px)} frames of 2D against {len(poses_camera_m)} of 3D"
    return [Finding("fault", where, what, "align the two before comparing them")]
  poses, keypoints = _valid(poses_camera_m, keypoints_px, valid)
  intrinsics = np.asarray(intrinsics, np.float32)
  projected = _project(poses, intrinsics)
  error = _mean(_distance(projected, keypoints))
  if np.isnan(error):
    return [Finding("warning", where, "no valid frame to compare 2D and 3D in", "check the valid flags")]
  if error <= limit_px:
    return []
  best, fix = min(_mistakes(poses, keypoints, projected, intrinsics))
  if np.abs(keypoints).max() <= 3:
    fix = "the 2D is screen-normalised: store pixels"
  elif best > error / 4:
    fix = UNEXPLAINED
  return [Finding("fault", where, f"3D misses the 2D by {error:.3g} px on average, expected at most {limit_px:g}", fix)]


def _mistakes(poses, keypoints, projected, intrinsics):
  """(error in px with the mistake undone, fix in words) for every known mistake."""
  error = lambda *pair: _mean(_distance(*pair))
  mirrored = projected.copy()
  mirrored[:, FLIPPED[0]] = projected[:, FLIPPED[1]]
  yield error(mirrored, keypoints), "left and right are exchanged between 2D and 3D: exchange them in one"
  for name, order in OTHER_ORDERS.items():
    yield error(projected, keypoints[:, order]), f"the 2D has the joint order {name}: reorder it"
    yield error(projected[:, order], keypoints), f"the 3D has the joint order {name}: reorder it"
  linear = np.concatenate([intrinsics[:4], np.zeros(5, np.float32)])
  yield error(_project(poses, linear), keypoints), "the 2D has no lens distortion: project linearly"
  w, h = np.sum(keypoints * projected, (0, 1)) / np.maximum(np.sum(projected**2, (0, 1)), 1e-9)
  fix = f"the 2D belongs to an image {w:.3g} times as wide and {h:.3g} times as high: use its true resolution"
  yield error(projected * [w, h], keypoints), fix
  for shift in (-2, -1, 1, 2):
    early, late = max(shift, 0), max(-shift, 0)
    if len(poses) > 8:
      pair = projected[early : len(poses) - late], keypoints[late : len(poses) - early]
      yield error(*pair), f"the 2D is {abs(shift)} frames {'early' if shift > 0 else 'late'}: find the missing frames"
  # The scale of univ_annot3 may differ from frame to frame.
  scales = np.linspace(0.8, 1.25, 46)
  root = poses[:, :1]
  rescaled = np.stack([_distance(_project(root + s * (poses - root), intrinsics), keypoints).mean(-1) for s in scales])
  times = 1 / np.median(scales[rescaled.argmin(0)])
  yield _mean(rescaled.min(0)), f"the 3D is {times:.3f} times too large about its pelvis: univ_annot3 in place of annot3?"


def _valid(poses, keypoints, valid):
  poses, keypoints = np.asarray(poses, np.float32), np.asarray(keypoints, np.float32)
  keep = np.asarray(valid, bool) & np.isfinite(poses).all((1, 2)) & np.isfinite(keypoints).all((1, 2))
  return poses[keep], keypoints[keep]


def _distance(projected, keypoints) -> np.ndarray:
  return np.linalg.norm(projected - keypoints, axis=-1)


def _mean(values) -> float:
  return float(values.mean()) if values.size else float("nan")


def _project(poses, intrinsics) -> np.ndarray:
  """`camera.project`, compiled for lengths that are powers of two, so that files of many lengths cost few compilations."""
  length = max(64, 1 << max(len(poses) - 1, 0).bit_length())
  padded = np.ones((length,) + poses.shape[1:], np.float32)
  padded[: len(poses)] = poses
  return np.asarray(_compiled()(padded, np.asarray(intrinsics, np.float32)))[: len(poses)]


@functools.cache
def _compiled():
  return jax.jit(camera.project)
