"""The one record every dataset yields: one camera's view of one sequence, as it was measured.

No clips, flips or normalisation here: those are pure functions of the package. Lengths are metres, image positions pixels
(x right, y down), camera frames x right, y down, z forward, joints in the Human3.6M-17 order of `posynda_jax.geometry.skeleton`.
A dataset's `world` configuration has no camera: `poses_world_m` (metres, Y up) replaces the camera's fields.
"""

import numpy as np
import tensorflow_datasets as tfds

NUM_JOINTS = 17


def view_features(**extra) -> tfds.features.FeaturesDict:
  """Features of one camera's view of one sequence of T frames (T varies), and what a dataset measured besides."""
  tensor = tfds.features.Tensor
  return tfds.features.FeaturesDict({
      "keypoints_px": tensor(shape=(None, NUM_JOINTS, 2), dtype=np.float32),
      "confidence": tensor(shape=(None, NUM_JOINTS), dtype=np.float32),
      "poses_camera_m": tensor(shape=(None, NUM_JOINTS, 3), dtype=np.float32),
      "valid": tensor(shape=(None,), dtype=np.bool_),
      "intrinsics": tensor(shape=(9,), dtype=np.float32),
      "resolution": tensor(shape=(2,), dtype=np.float32),
      "fps": np.float32,
      **_labels(),
      "camera": tfds.features.Text(),
      **extra,
  })


def world_features() -> tfds.features.FeaturesDict:
  """Features of one sequence of T frames without a camera."""
  return tfds.features.FeaturesDict({
      "poses_world_m": tfds.features.Tensor(shape=(None, NUM_JOINTS, 3), dtype=np.float32),
      "fps": np.float32,
      **_labels(),
  })


def _labels() -> dict:
  return {name: tfds.features.Text() for name in ("subject", "action", "sequence")}
