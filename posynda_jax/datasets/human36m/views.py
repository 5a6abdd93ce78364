"""The four cameras of a Human3.6M subject: what each sees of world motion, with the lens of the published ground-truth 2D."""

import functools

import jax
import numpy as np

from posynda_jax.geometry import camera, camera_tables

INTRINSICS = np.array([lens for _, lens in camera_tables.H36M_INTRINSICS.values()], np.float32)  # 4 9
RESOLUTIONS = np.array([size for size, _ in camera_tables.H36M_INTRINSICS.values()], np.float32)  # 4 2


def see(positions: np.ndarray, subject: str) -> tuple[np.ndarray, np.ndarray]:
  """(poses [4 t 17 3] m in each camera's frame, their distorted projections [4 t 17 2] px) of world positions [t 17 3] m.

  Lengths are padded to powers of two, so that takes of any length cost few compilations.
  """
  num_frames = len(positions)
  padding = (1 << max(num_frames - 1, 63).bit_length()) - num_frames
  padded = np.concatenate([positions, np.repeat(positions[-1:], padding, 0)]).astype(np.float32)
  orientation, position = (np.array(x, np.float32) for x in zip(*camera_tables.H36M_EXTRINSICS[subject].values()))
  poses, keypoints = _make_see()(padded, orientation, position, INTRINSICS)
  return np.asarray(poses)[:, :num_frames], np.asarray(keypoints)[:, :num_frames]


@functools.cache
def _make_see():
  def see_from(positions, orientation, position, intrinsics):
    poses = camera.world_to_camera(positions.reshape(-1, 3), orientation, position).reshape(positions.shape)
    return poses, camera.project(poses, intrinsics)

  return jax.jit(jax.vmap(see_from, (None, 0, 0, 0)))
