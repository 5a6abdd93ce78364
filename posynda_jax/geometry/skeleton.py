"""Joint tables, and the operations that need no camera. All poses in the package have Human3.6M-17 order.

Axes: `f` frames, `j` joints, `c` coordinates (2 or 3). Leading axes are free. Left and right are the person's own.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

JOINTS = (
    "hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax", "neck",
    "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)
# VideoPose3D's h36m_dataset.py: 17 of the 32 joints, with the thorax as parent of both shoulders.
PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
LEFT = (4, 5, 6, 11, 12, 13)
RIGHT = (1, 2, 3, 14, 15, 16)
ROOT = 0

# ORDERS[name][i] is the index, in that order, of Human3.6M joint i.
ORDERS = {
    "h36m17": tuple(range(17)),
    "dhp17": (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4),  # EvoSkeleton issue 75
    "dhp28": (4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16),
    "h36m32": (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27),
    "spin17": (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),  # J_regressor_h36m.npy: left leg first
}


def to_h36m(points: Float[Array, "*b j c"], order: str) -> Float[Array, "*b 17 c"]:
  """Points of the named joint order in Human3.6M-17 order. Raises ValueError for an unknown order."""
  if order not in ORDERS:
    raise ValueError(f"joint order {order!r} is unknown; choose one of {', '.join(ORDERS)}")
  return points[..., np.array(ORDERS[order]), :]


def flip(points: Float[Array, "*b j c"], left=LEFT, right=RIGHT) -> Float[Array, "*b j c"]:
  """The mirror image of screen-normalised 2D or root-relative 3D: x negated, left and right joints exchanged."""
  order = np.arange(points.shape[-2])
  order[list(left) + list(right)] = list(right) + list(left)
  sign = np.ones(points.shape[-1], np.float32)
  sign[0] = -1
  return points[..., order, :] * sign


def root_centre(poses: Float[Array, "*b j 3"], root: int = ROOT) -> Float[Array, "*b j 3"]:
  """Poses relative to their root joint."""
  return poses - poses[..., root : root + 1, :]


def bone_lengths(poses: Float[Array, "*b 17 3"]) -> Float[Array, "*b 16"]:
  """Distance of each joint but the root to its parent, in the unit of the input."""
  return jnp.linalg.norm(poses[..., 1:, :] - poses[..., np.array(PARENTS[1:]), :], axis=-1)
