"""Human3.6M-17 joints from 3DPW's SMPL-24 joints and OpenPose COCO-18 points, and their camera-frame positions."""

import numpy as np

from posynda_jax.geometry import layouts

# Row i lists the SMPL joints whose mean stands for joint i of `skeleton.JOINTS`. README.md says where they differ.
FROM_SMPL24 = (
    (0,), (2,), (5,), (8,), (1,), (4,), (7,), (6,), (12,), (12, 15), (15,), (16,), (18,), (20,), (17,), (19,), (21,),
)  # fmt: skip


def from_smpl24(joints: np.ndarray) -> np.ndarray:
  """Approximate Human3.6M-17 joints [T 17 3] of SMPL-24 joints [T 24 3], same frame and unit."""
  return np.stack([joints[:, row].mean(1) for row in FROM_SMPL24], 1)


def from_coco18(detections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(keypoints [T 17 2] in px, confidence [T 17]) of OpenPose points [T 18 3], by the rule "simple" of `layouts`.

  The confidence of a mean is the least of its points. A joint with an undetected point has confidence 0 and keypoint
  (0, 0).
  """
  keypoints, confidence = layouts.convert(detections[..., :2], detections[..., 2], "coco18")
  return np.where(confidence[..., None] > 0, keypoints, 0), np.maximum(confidence, 0)


def to_camera(points_world: np.ndarray, world_to_camera: np.ndarray) -> np.ndarray:
  """Points [T n 3] in the camera's frame (x right, y down, z forward), by one rigid motion [4 4] a frame."""
  return points_world @ world_to_camera[:, :3, :3].transpose(0, 2, 1) + world_to_camera[:, None, :3, 3]
