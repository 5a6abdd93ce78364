"""One record from the arrays of a file: H36M-17 order, metres, and the name of its 3D annotation.

`annot3` projects onto `annot2`. `univ_annot3` is the same pose rescaled about the pelvis, so it does not. The
projection decides which of them a record holds, because files use the names of the arrays differently.
"""

from typing import NamedTuple

import numpy as np

from posynda_jax.datasets.licensed import Fault
from posynda_jax.geometry import skeleton

# Measured (DATASETS.md 2.2): annot3 0.1 to 0.3 px on the test set, univ_annot3 3.9 px and more.
ANNOT3_BELOW_PX = 2.0
RESCALED_BELOW_PX = 10.0  # exchanged joints, other units or another camera have a larger error at every scale
MIN_SIZE_M, MAX_SIZE_M = 0.1, 2.0  # median distance of a person's joints from the pelvis


class Camera(NamedTuple):
  """Intrinsics [fx fy cx cy] in px without distortion, their source, and the resolution (w, h)."""

  intrinsics: np.ndarray
  source: str  # calibration, table or fit
  resolution: tuple[int, int]


def make_view(where, keypoints_px, poses_mm, order: str, camera: Camera, valid=None, activity=None) -> dict:
  """A record without its labels, from 2D [T j 2] px and camera-frame 3D [T j 3] mm in the named joint order.

  `annotation` is annot3, univ_annot3, or "unrelated" where 2D and 3D do not belong together. Raises Fault for
  non-finite numbers in valid frames, for no valid frame, and for 3D that is not in mm.
  """
  keypoints, poses = (skeleton.to_h36m(np.asarray(x, np.float64), order) for x in (keypoints_px, poses_mm))
  poses = poses / 1000
  valid = np.ones(len(poses), bool) if valid is None else valid
  if not valid.any():
    raise Fault(where, f"none of {len(valid)} frames is valid, expected some")
  finite = np.isfinite(keypoints).all((-1, -2)) & np.isfinite(poses).all((-1, -2))
  if not finite[valid].all():
    raise Fault(where, f"frame {np.flatnonzero(valid & ~finite)[0]} is valid and holds numbers that are not finite")
  size = np.median(np.linalg.norm(skeleton.root_centre(poses[valid])[:, 1:], axis=-1))
  if not MIN_SIZE_M < size < MAX_SIZE_M:
    what = f"joints are {size * 1000:.3g} mm from the pelvis, expected 200 to 800"
    raise Fault(where, what, "give its 3D in millimetres")
  error = reprojection_error(poses[valid], keypoints[valid], camera.intrinsics)
  return {
      "keypoints_px": keypoints.astype(np.float32),
      "confidence": np.ones(keypoints.shape[:2], np.float32),
      "poses_camera_m": poses.astype(np.float32),
      "valid": valid,
      "activity": np.zeros(len(poses), np.int32) if activity is None else activity,
      "intrinsics": np.array([*camera.intrinsics, 0, 0, 0, 0, 0], np.float32),
      "intrinsics_from": camera.source,
      "resolution": np.array(camera.resolution, np.float32),
      "reprojection_px": np.float32(error),
      "annotation": _annotation(error, poses[valid], keypoints[valid], camera.intrinsics),
  }


def reprojection_error(poses, keypoints, intrinsics) -> float:
  """Mean distance (px) of the linear projection of camera-frame poses [f j 3] from keypoints [f j 2].

  It is inf if a joint is behind the camera. `camera.project_linear` would limit x/z and y/z to 1, but joints here may
  lie outside the image.
  """
  xy, z = poses[..., :2], poses[..., 2:]
  if (z <= 0).any():
    return np.inf
  return np.linalg.norm(intrinsics[:2] * xy / z + intrinsics[2:4] - keypoints, axis=-1).mean()


def _annotation(error: float, poses, keypoints, intrinsics) -> str:
  if error < ANNOT3_BELOW_PX:
    return "annot3"
  # Least squares for the scale s of each frame with fx (X + s x) = (u - cx) (Z + s z), where (X, Z) is the pelvis.
  pelvis, rest = poses[:, :1], poses[:, 1:] - poses[:, :1]
  ray = (keypoints[:, 1:] - intrinsics[2:4]) / intrinsics[:2]
  slope, offset = rest[..., :2] - ray * rest[..., 2:], ray * pelvis[..., 2:] - pelvis[..., :2]
  scale = (slope * offset).sum((1, 2)) / np.maximum((slope**2).sum((1, 2)), 1e-12)
  rescaled = pelvis + scale[:, None, None] * (poses - pelvis)
  is_rescaled = reprojection_error(rescaled, keypoints, intrinsics) < RESCALED_BELOW_PX
  return "univ_annot3" if is_rescaled else "unrelated"
