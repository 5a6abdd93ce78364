"""Human3.6M-17 joints of what 3DPW gives, SMPL-24 joints and OpenPose COCO-18 points, and their way into the camera's frame."""

import numpy as np

from posynda_jax.geometry import layouts

# A row says what stands for the joint of that index in `skeleton.JOINTS`: the mean of the SMPL joints it lists. Limbs are SMPL's
# own: its hips lie lower and nearer together than Human3.6M's. The spine is SMPL's middle one, the thorax its neck; there is no
# nose and no crown, so the head is SMPL's, at the base of the skull, and joint 9 halfway to it.
FROM_SMPL24 = (
    (0,), (2,), (5,), (8,), (1,), (4,), (7,), (6,), (12,), (12, 15), (15,), (16,), (18,), (20,), (17,), (19,), (21,),
)  # fmt: skip


def from_smpl24(joints: np.ndarray) -> np.ndarray:
  """Approximate Human3.6M-17 joints [T 17 3] of SMPL-24 joints [T 24 3], same frame and unit."""
  return np.stack([joints[:, row].mean(1) for row in map(list, FROM_SMPL24)], 1)


def from_coco18(detections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(keypoints [T 17 2] in px, confidence [T 17]) of OpenPose points [T 18 3], by the rule "simple" of `layouts`.

  A joint made of several points has the least of their confidences. Without one of them it is not seen: zeros, confidence 0.
  """
  keypoints, confidence = layouts.convert(detections[..., :2], detections[..., 2], "coco18")
  return np.where(confidence[..., None] > 0, keypoints, 0), np.maximum(confidence, 0)


def to_camera(points_world: np.ndarray, world_to_camera: np.ndarray) -> np.ndarray:
  """Points [T n 3] in the camera's frame (x right, y down, z forward), by one rigid motion [4 4] a frame."""
  return points_world @ world_to_camera[:, :3, :3].transpose(0, 2, 1) + world_to_camera[:, None, :3, 3]
