"""One record from the numbers of a file: H36M-17 order, metres, and which of the two 3D annotations the numbers are.

`annot3` meets `annot2` when projected by the camera; `univ_annot3`, the same pose resized about the pelvis, does not until it
is given its size back. Nothing else tells them apart once the names are gone: a record is judged by this, never by a name.
"""

import numpy as np

from posynda_jax.geometry import skeleton

# Measured (DATASETS.md 2.2): annot3 0.1 to 0.3 px on the test set, univ_annot3 3.9 px and more.
ANNOT3_BELOW_PX = 2.0
RESIZED_BELOW_PX = 10.0  # exchanged joints, other units or another camera leave more, whatever the size
MIN_SIZE_M, MAX_SIZE_M = 0.1, 2.0  # median distance of a person's joints from the pelvis: between a baby's and a giant's


class Fault(ValueError):
  """What is wrong in a download: `where`, `what`, and the `fix`."""

  def __init__(self, where, what: str, fix: str = "fetch it again"):
    super().__init__(f"{where}: {what}; {fix}")
    self.where, self.what, self.fix = str(where), what, fix


def make_view(where, keypoints_px, poses_mm, order: str, *, intrinsics, intrinsics_from, resolution, valid=None, activity=None):
  """A record without its labels, of 2D [T j 2] (px) and camera-frame 3D [T j 3] (mm) in the named joint order.

  `intrinsics` [fx fy cx cy] in px, no distortion. `annotation` is annot3, univ_annot3, or "unrelated" where 2D and 3D do not
  belong together. Raises Fault for non-finite numbers in valid frames, no valid frame, and 3D that is not in mm.
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
    raise Fault(where, f"joints are {size * 1000:.3g} mm from the pelvis, expected 200 to 800", "give its 3D in millimetres")
  error = reprojection_error(poses[valid], keypoints[valid], intrinsics)
  return {
      "keypoints_px": keypoints.astype(np.float32),
      "confidence": np.ones(keypoints.shape[:2], np.float32),
      "poses_camera_m": poses.astype(np.float32),
      "valid": valid,
      "activity": np.zeros(len(poses), np.int32) if activity is None else activity,
      "intrinsics": np.array([*intrinsics, 0, 0, 0, 0, 0], np.float32),
      "intrinsics_from": intrinsics_from,
      "resolution": np.array(resolution, np.float32),
      "reprojection_px": np.float32(error),
      "annotation": _name(error, poses[valid], keypoints[valid], intrinsics),
  }


def reprojection_error(poses, keypoints, intrinsics) -> float:
  """Mean distance (px) of the linear projection of camera-frame poses [f j 3] from keypoints [f j 2]; inf behind the camera.

  `camera.project_linear` limits x/z and y/z to 1; people here may stand beyond that, outside the image.
  """
  xy, z = poses[..., :2], poses[..., 2:]
  if (z <= 0).any():
    return np.inf
  return np.linalg.norm(intrinsics[:2] * xy / z + intrinsics[2:4] - keypoints, axis=-1).mean()


def _name(error: float, poses, keypoints, intrinsics) -> str:
  if error < ANNOT3_BELOW_PX:
    return "annot3"
  # The size s of each frame for which fx (X + s x) = (u - cx) (Z + s z), pelvis in capitals, for all joints: least squares.
  pelvis, rest = poses[:, :1], poses[:, 1:] - poses[:, :1]
  ray = (keypoints[:, 1:] - intrinsics[2:4]) / intrinsics[:2]
  slope, offset = rest[..., :2] - ray * rest[..., 2:], ray * pelvis[..., 2:] - pelvis[..., :2]
  size = (slope * offset).sum((1, 2)) / np.maximum((slope**2).sum((1, 2)), 1e-12)
  resized = pelvis + size[:, None, None] * (poses - pelvis)
  return "univ_annot3" if reprojection_error(resized, keypoints, intrinsics) < RESIZED_BELOW_PX else "unrelated"
