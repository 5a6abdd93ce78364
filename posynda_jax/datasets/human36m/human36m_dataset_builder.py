"""Builder of Human3.6M from VideoPose3D's npz files: seven subjects, fifteen actions, four cameras, 50 fps."""

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


class Human36m(record.Builder):
  """A record is one camera's view of one take: "S1/Directions 1/54138969". A split is a subject."""

  name = "human36m"
  HOMEPAGE = "http://vision.imar.ro/human3.6m"
  LICENSE = "Human3.6M licence: academic use, by registration, no redistribution."
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, description=f"2D: {x}.") for name, x in KEYPOINTS.items()]
  SPLIT_ALIASES = {split: "+".join(subjects) for split, subjects in files.SPLITS.items()}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "Put VideoPose3D's data_3d_h36m.npz, and data_2d_h36m_<config>.npz for a 2D source other than gt, into manual_dir"
      ". python -m data_prep.human36m makes the first from the official archives."
  )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    manual_dir, config = pathlib.Path(dl_manager.manual_dir), self.builder_config.name
    path_3d, path_2d = manual_dir / files.FILE_3D, manual_dir / f"data_2d_h36m_{config}.npz"
    is_projected = config == "gt" and not path_2d.exists()
    for path in (path_3d,) if is_projected else (path_3d, path_2d):
      if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    positions = files.read_3d(path_3d)
    files.check(path_3d, files.faults_3d(positions))
    positions = {subject: positions[subject] for subject in files.SUBJECTS}
    detections = None if is_projected else files.read_2d(path_2d)
    if detections:
      files.check(path_2d, files.faults_2d(*detections, positions))
    return {subject: self._generate_examples(subject, positions, detections) for subject in files.SUBJECTS}

  def _generate_examples(self, subject: str, positions: files.Takes, detections) -> Iterator[tuple[str, dict]]:
    """Records of a subject; `detections` are (positions_2d, layout), or None for the projection of the 3D."""
    for take in files.takes(positions, subject):
      poses, projections = views.render(skeleton.to_h36m(positions[subject][take], "h36m32"), subject)
      for number, camera in enumerate(files.CAMERAS):
        keypoints, confidence = projections[number], np.ones(projections.shape[1:3], np.float32)
        if detections is not None:
          positions_2d, layout = detections
          keypoints, confidence = files.to_h36m(positions_2d[subject][take][number][: len(poses[number])], layout)
        sequence = f"{subject}/{take}/{camera}"
        labels = {"subject": subject, "action": files.action_of(take), "camera": camera, "sequence": sequence}
        yield sequence, {
            "keypoints_px": keypoints, "confidence": confidence, "poses_camera_m": poses[number],
            "valid": np.ones(len(keypoints), bool), "intrinsics": views.INTRINSICS[number],
            "resolution": views.RESOLUTIONS[number], "fps": np.float32(files.FPS), **labels,
        }
