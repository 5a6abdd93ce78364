"""Human3.6M from VideoPose3D's npz pair: seven subjects, fifteen actions, four cameras, 50 fps. A split is a subject."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record
from posynda_jax.datasets.human36m import files, views
from posynda_jax.geometry import skeleton

KEYPOINTS = {
    "gt": "the projection of the 3D, lens distortion included",
    "cpn_ft_h36m_dbb": "CPN, fine-tuned on Human3.6M, its own boxes",
    "detectron_ft_h36m": "Mask R-CNN, fine-tuned on Human3.6M",
    "sh_ft_h36m": "Stacked Hourglass, fine-tuned on Human3.6M; 16 joints, the neck/nose has confidence 0",
}


@dataclasses.dataclass
class Keypoints(tfds.core.BuilderConfig):
  """One 2D source; the 3D is the same for all."""

  @property
  def file(self) -> str:
    return f"data_2d_h36m_{self.name}.npz"


class Human36m(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A record is one camera's view of one take: "S1/Directions 1/54138969"."""

  name = "human36m"
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}
  BUILDER_CONFIGS = [Keypoints(name=name, description=f"2D: {what}.") for name, what in KEYPOINTS.items()]
  SPLIT_ALIASES = {"train": "S1+S5+S6+S7+S8", "test": "S9+S11"}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "Put VideoPose3D's data_3d_h36m.npz, and data_2d_h36m_<config>.npz for a 2D source other than gt, into manual_dir; "
      "python -m data_prep.human36m makes the first from the official archives."
  )
  # Nothing is downloaded. TFDS would look for checksums with importlib_resources, which it forgets to require (#11212).
  url_infos = {}

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
        features=record.view_features(),
        homepage="http://vision.imar.ro/human3.6m",
        license="Human3.6M licence: academic use, by registration, no redistribution. See README.md.",
        disable_shuffling=True,  # records keep the order of takes and cameras; the pipeline shuffles
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    manual_dir = pathlib.Path(dl_manager.manual_dir)
    path_3d, path_2d = manual_dir / files.FILE_3D, manual_dir / self.builder_config.file
    projected = self.builder_config.name == "gt" and not path_2d.exists()
    for path in (path_3d,) if projected else (path_3d, path_2d):
      if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    positions = files.read_3d(path_3d)
    files.checked(path_3d, files.faults_3d(positions))
    if projected:
      detections = None
    else:
      detections, layout = files.read_2d(path_2d)
      lengths = {s: {take: len(positions[s][take]) for take in files.takes(positions, s)} for s in files.SUBJECTS}
      files.checked(path_2d, files.faults_2d(detections, layout, lengths))
      detections = {s: detections[s] for s in files.SUBJECTS}, layout
    return {s: self._generate_examples(s, positions[s], files.takes(positions, s), detections) for s in files.SUBJECTS}

  def _generate_examples(self, subject: str, positions: dict, takes: list[str], detections) -> Iterator[tuple[str, dict]]:
    for take in takes:
      poses, projections = views.see(skeleton.to_h36m(positions[take], "h36m32"), subject)
      for number, camera in enumerate(files.CAMERAS):
        keypoints, confidence = projections[number], np.ones(projections.shape[1:3], np.float32)
        if detections is not None:
          positions_2d, layout = detections
          keypoints, confidence = files.to_h36m(positions_2d[subject][take][number][: len(poses[number])], layout)
        sequence = f"{subject}/{take}/{camera}"
        yield sequence, {
            "keypoints_px": keypoints,
            "confidence": confidence,
            "poses_camera_m": poses[number],
            "valid": np.ones(len(keypoints), bool),
            "intrinsics": views.INTRINSICS[number],
            "resolution": views.RESOLUTIONS[number],
            "fps": np.float32(files.FPS),
            "subject": subject,
            "action": files.action_of(take),
            "camera": camera,
            "sequence": sequence,
        }
