"""Features of a record: one camera's view of one sequence, as it was measured.

A record has no clips, flips or normalisation, because pure functions of the package make them. Lengths are in metres,
image positions in pixels (x right, y down), camera frames have x right, y down, z forward, and joints are in the
Human3.6M-17 order of `posynda_jax.geometry.skeleton`. A `world` configuration has no camera: `poses_world_m` (metres,
Y up) replaces the camera's fields.
"""

import numpy as np
import tensorflow_datasets as tfds

NUM_JOINTS = 17


def view_features(**extra) -> tfds.features.FeaturesDict:
  """Features of one camera's view of one sequence of T frames (T varies), and the `extra` features of a dataset."""
  tensor = tfds.features.Tensor
  return tfds.features.FeaturesDict({
      "keypoints_px": tensor(shape=(None, NUM_JOINTS, 2), dtype=np.float32),
      "confidence": tensor(shape=(None, NUM_JOINTS), dtype=np.float32),
      "poses_camera_m": tensor(shape=(None, NUM_JOINTS, 3), dtype=np.float32),
      "valid": tensor(shape=(None,), dtype=np.bool_),
      "intrinsics": tensor(shape=(9,), dtype=np.float32),
      "resolution": tensor(shape=(2,), dtype=np.float32),
      **_labels("fps", "subject", "action", "sequence", "camera"),
      **extra,
  })


def world_features() -> tfds.features.FeaturesDict:
  """Features of one sequence of T frames without a camera."""
  poses = tfds.features.Tensor(shape=(None, NUM_JOINTS, 3), dtype=np.float32)
  return tfds.features.FeaturesDict({"poses_world_m": poses, **_labels("fps", "subject", "action", "sequence")})


def _labels(*names: str) -> dict:
  return {name: np.float32 if name == "fps" else tfds.features.Text() for name in names}
