"""Checks of any dataset's poses and cameras: joint order, sides, units and reprojection.

Many frames are judged at once by medians and shares, so that one odd frame is no fault. A body passes if its left and
right bones have equal lengths and its knees bend forward. Joints are in Human3.6M-17 order.
"""

import numpy as np

from posynda_jax.datasets import licensed
from posynda_jax.geometry import camera, skeleton

from .findings import Finding

UP = {"camera": (0, -1, 0), "y_up": (0, 1, 0), "z_up": (0, 0, 1)}  # "camera" has y down
SIZE_M = (0.2, 0.8)  # median distance of a person's joints from the hip
UNITS = {"millimetres": 0.001, "centimetres": 0.01, "inches": 0.0254}
# Limbs of motion capture bodies (CMU) differ by up to 8%. A difference beyond 20% means another joint.
SYMMETRY, ASYMMETRY = 0.05, 0.2
FLIPPED = np.asarray(skeleton.LEFT + skeleton.RIGHT), np.asarray(skeleton.RIGHT + skeleton.LEFT)
UNEXPLAINED = "2D and 3D do not belong together: check camera, joint order, image size and file pairing"
OTHER_ORDERS = {
    name: list(order) for name, order in skeleton.ORDERS.items() if name != "h36m17" and max(order) < 17
}
_LIMBS = {"thigh": (0, 1), "shin": (1, 2), "upper arm": (3, 4), "forearm": (4, 5)}  # ends among LEFT, and among RIGHT
_project = licensed.compiled_per_length(camera.project)


def check_skeleton(poses_m, frame: str, where: str) -> list[Finding]:
  """Faults of poses [t 17 3] in Human3.6M order: units, limb lengths, head below the pelvis, exchanged sides.

  `frame` is "camera" (y down), "y_up" or "z_up". Frames with non-finite joints are omitted.
  """
  poses = np.asarray(poses_m, np.float64)
  poses = poses[np.isfinite(poses).all((1, 2))]
  if not len(poses):
    return [Finding("fault", where, "no frame has a finite pose", "fetch the file again, or leave the sequence out")]
  poses = poses - poses[:, :1]
  found = _units(poses, where)
  (difference, limb), below = _asymmetry(poses), _head_below(poses, frame)
  limb, head = f"{limb}, {difference:.0%} apart", f"the head is below the pelvis in {below:.0%} of {len(poses)} frames"
  if difference > ASYMMETRY or below > 0.8:
    what = [limb] * (difference > ASYMMETRY) + [head] * (below > 0.5)
    return [*found, Finding("fault", where, "; ".join(what), _order_fix(poses, frame, difference))]
  if difference > SYMMETRY:
    fix = "some bodies are asymmetric; if this one is not, its joints are at wrong places"
    found.append(Finding("warning", where, limb, fix))
  if below > 0.5:
    found.append(Finding("warning", where, head, "look at the sequence: is the person lying, or is another axis up?"))
  return found + _sides(poses, where)


def _units(poses: np.ndarray, where: str) -> list[Finding]:
  size = np.median(np.linalg.norm(poses[:, 1:], axis=-1))
  if SIZE_M[0] <= size <= SIZE_M[1]:
    return []
  what = f"joints lie {size:.4g} from the hip (median)"
  for unit, length in UNITS.items():
    if SIZE_M[0] <= size * length <= SIZE_M[1]:
      return [Finding("fault", where, f"{what}: looks like {unit}", f"multiply by {length} for metres")]
  what += f", expected {SIZE_M[0]} to {SIZE_M[1]} m: not metres, nor mm, cm, inches"
  return [Finding("fault", where, what, "look up the file's unit; normalised poses are not metres")]


def _asymmetry(poses: np.ndarray) -> tuple[float, str]:
  """(largest relative difference of a limb's median length between left and right, that limb in words)."""
  worst = 0.0, ""
  for limb, (start, end) in _LIMBS.items():
    left, right = (
        np.median(np.linalg.norm(poses[:, side[start]] - poses[:, side[end]], axis=-1))
        for side in (skeleton.LEFT, skeleton.RIGHT)
    )
    difference = float(abs(left - right) / max((left + right) / 2, 1e-9))
    worst = max(worst, (difference, f"{limb} is {left:.3g} left and {right:.3g} right (median)"))
  return worst


def _head_below(poses: np.ndarray, frame: str) -> float:
  """Share of frames whose head is not above the pelvis."""
  return float((poses[:, 10] @ np.array(UP[frame]) <= 0).mean())


def _order_fix(poses: np.ndarray, frame: str, difference: float) -> str:
  for name, order in OTHER_ORDERS.items():
    other = poses[:, order] - poses[:, order[:1]]
    if _asymmetry(other)[0] <= ASYMMETRY and _head_below(other, frame) <= 0.5 and not _sides(other, ""):
      return f"it fits the joint order {name}: reorder with skeleton.to_h36m(poses, {name!r})"
  if difference <= ASYMMETRY:
    return "y points the other way (negate y and z), or this is another frame than expected"
  return "the joints are not in Human3.6M order: reorder them, or fetch the file again"


def _sides(poses: np.ndarray, where: str) -> list[Finding]:
  """Faults of exchanged sides: knees that bend backward, and shoulders whose sides differ from those of the hips."""
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
    fix = "exchange the left and right joints, or undo a mirrored axis"
    if crossed > 0.75:
      what, fix = f"{what} in the legs alone", "exchange the legs: skeleton.to_h36m(poses, 'spin17') does it"
  elif crossed > 0.75:
    what = f"left and right of shoulders and hips disagree in {crossed:.0%} of {len(poses)} frames"
    fix = "arms or legs have their sides exchanged: reorder them"
  else:
    return []
  return [Finding("fault", where, what, fix)]


def check_reprojection(poses_camera_m, keypoints_px, intrinsics, valid, where: str, limit_px: float) -> list[Finding]:
  """A fault if poses [t 17 3] (m, camera frame) miss keypoints [t 17 2] by more than `limit_px` on average.

  `intrinsics` [9] in px, with zero distortion if the keypoints have none; `valid` [t]. The fix names the known mistake
  that explains the error: joint order, sides, univ_annot3, image size, distortion, or a shift in time.
  """
  poses, keypoints = np.asarray(poses_camera_m, np.float32), np.asarray(keypoints_px, np.float32)
  keep = np.asarray(valid, bool) & np.isfinite(poses).all((1, 2)) & np.isfinite(keypoints).all((1, 2))
  poses, keypoints, intrinsics = poses[keep], keypoints[keep], np.asarray(intrinsics, np.float32)
  projected = _project(poses, intrinsics)
  error = _distance(projected, keypoints).mean()
  if error <= limit_px:
    return []
  best, fix = min(_mistakes(poses, keypoints, projected, intrinsics))
  fix = UNEXPLAINED if best > error / 4 else fix
  if np.abs(keypoints).max() <= 3:
    fix = "the 2D is screen-normalised: store pixels"
  what = f"3D misses the 2D by {error:.3g} px on average, expected at most {limit_px:g}"
  return [Finding("fault", where, what, fix)]


def _mistakes(poses, keypoints, projected, intrinsics):
  """(error in px with the mistake undone, fix in words) for every known mistake."""
  mirrored = projected.copy()
  mirrored[:, FLIPPED[0]] = projected[:, FLIPPED[1]]
  linear = _project(poses, intrinsics * ([1] * 4 + [0] * 5))
  w, h = np.sum(keypoints * projected, (0, 1)) / np.maximum(np.sum(projected**2, (0, 1)), 1e-9)
  pairs = {
      "left and right are exchanged between 2D and 3D: exchange them in one": (mirrored, keypoints),
      "the 2D has no lens distortion: project linearly": (linear, keypoints),
      f"the 2D belongs to an image {w:.3g} times as wide and {h:.3g} times as high: use its true resolution": (
          projected * [w, h], keypoints,
      ),
  }  # fmt: skip
  for name, order in OTHER_ORDERS.items():
    pairs[f"the 2D has the joint order {name}: reorder it"] = projected, keypoints[:, order]
    pairs[f"the 3D has the joint order {name}: reorder it"] = projected[:, order], keypoints
  for shift in (1, 2) if len(poses) > 8 else ():
    find = "find the missing frames"
    pairs[f"the 2D is {shift} frames early: {find}"] = projected[shift:], keypoints[:-shift]
    pairs[f"the 2D is {shift} frames late: {find}"] = projected[:-shift], keypoints[shift:]
  yield from ((_distance(*pair).mean(), fix) for fix, pair in pairs.items())
  # The scale of univ_annot3 may differ from frame to frame.
  scales, root = np.linspace(0.8, 1.25, 46), poses[:, :1]
  errors = np.stack([_distance(_project(root + s * (poses - root), intrinsics), keypoints).mean(-1) for s in scales])
  times = 1 / np.median(scales[errors.argmin(0)])
  yield errors.min(0).mean(), f"the 3D is {times:.3f} times too large about its pelvis: univ_annot3 in place of annot3?"


def _distance(projected, keypoints) -> np.ndarray:
  return np.linalg.norm(projected - keypoints, axis=-1)
