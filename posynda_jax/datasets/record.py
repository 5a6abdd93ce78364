"""Features of a record, one camera's view of one sequence as it was measured, and the builder that all datasets share.

A record has no clips, flips or normalisation, because pure functions of the package make them. Lengths are in metres,
image positions in pixels (x right, y down), camera frames have x right, y down, z forward, and joints are in the
Human3.6M-17 order of `posynda_jax.geometry.skeleton`. A `world` configuration has no camera: `poses_world_m` (metres,
Y up) replaces the camera's fields.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

# Arrays of a view by frame, and the shape of one frame.
PER_FRAME = {"keypoints_px": (17, 2), "confidence": (17,), "poses_camera_m": (17, 3), "valid": ()}


@dataclasses.dataclass
class RigConfig(tfds.core.BuilderConfig):
  """The views of the virtual `rig` with exact or `detected` keypoints. Without a rig, the motion itself.

  `in_image`: exact keypoints, a record for each span in which the person is inside the image.
  """

  rig: str | None = None
  detected: bool = False
  in_image: bool = False


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of the builders. Its records keep the order in which a subclass yields them, because the pipeline shuffles."""

  HOMEPAGE: str | None = None
  LICENSE: str
  EXTRA_FEATURES: dict = {}  # fields of view records that only this dataset has
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}
  # TFDS would look for checksums of downloads with importlib_resources, which it does not require (#11212).
  url_infos = {}

  def _info(self) -> tfds.core.DatasetInfo:
    is_world = self.builder_config.name.endswith("world")
    return self.dataset_info_from_configs(
        features=world_features() if is_world else view_features(**self.EXTRA_FEATURES), homepage=self.HOMEPAGE,
        license=f"{self.LICENSE} See README.md.", disable_shuffling=True,
    )


def view_features(**extra) -> tfds.features.FeaturesDict:
  """Features of one camera's view of one sequence of T frames (T varies), and the `extra` features of a dataset."""
  tensor = tfds.features.Tensor
  return tfds.features.FeaturesDict({
      **{name: tensor(shape=(None, *shape), dtype=np.bool_ if name == "valid" else np.float32)
         for name, shape in PER_FRAME.items()},
      "intrinsics": tensor(shape=(9,), dtype=np.float32),
      "resolution": tensor(shape=(2,), dtype=np.float32),
      "camera": tfds.features.Text(),
      **_labels(),
      **extra,
  })


def world_features() -> tfds.features.FeaturesDict:
  """Features of one sequence of T frames without a camera."""
  poses = tfds.features.Tensor(shape=(None, 17, 3), dtype=np.float32)
  return tfds.features.FeaturesDict({"poses_world_m": poses, **_labels()})


def _labels() -> dict:
  return {"fps": np.float32} | {name: tfds.features.Text() for name in ("subject", "action", "sequence")}
