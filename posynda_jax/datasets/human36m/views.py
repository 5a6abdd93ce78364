"""The four cameras of a Human3.6M subject, with the lens of the published ground-truth 2D."""

import jax
import numpy as np

from posynda_jax.datasets import licensed
from posynda_jax.geometry import camera, camera_tables

INTRINSICS = np.array([lens for _, lens in camera_tables.H36M_INTRINSICS.values()], np.float32)  # 4 9
RESOLUTIONS = np.array([size for size, _ in camera_tables.H36M_INTRINSICS.values()], np.float32)  # 4 2


def render(positions: np.ndarray, subject: str) -> tuple[np.ndarray, np.ndarray]:
  """(poses [4 t 17 3] m in camera frames, distorted projections [4 t 17 2] px) of world positions [t 17 3] m."""
  extrinsics = zip(*camera_tables.H36M_EXTRINSICS[subject].values())
  rendered = _render(positions, *(np.array(x, np.float32) for x in extrinsics), INTRINSICS)
  return tuple(np.moveaxis(array, 1, 0) for array in rendered)


def _render_one(positions, orientation, position, intrinsics):
  poses = camera.world_to_camera(positions.reshape(-1, 3), orientation, position).reshape(positions.shape)
  return poses, camera.project(poses, intrinsics)


_render = licensed.compiled_per_length(jax.vmap(_render_one, (None, 0, 0, 0), 1))
