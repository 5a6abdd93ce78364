"""Builder of 3D Poses in the Wild (3DPW) from `sequenceFiles.zip` or its folder: 60 phone videos, one record an actor.

The 3D is SMPL's own joints (`approx`) or the SMPL mesh times the Human3.6M regressor (`regressor`). The 2D is the
projection of the 3D (`gt`) or the published OpenPose points (`detected`).
"""

import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record
from posynda_jax.datasets.mocap import archives
from posynda_jax.datasets.threedpw import joints, sequence_file, smpl
from posynda_jax.geometry import camera, skeleton

ARCHIVE = "sequenceFiles"
SPLITS = ("train", "validation", "test")
JOINTS_SOURCES = {"approx": "smpl_joints_approximate", "regressor": "smpl_h36m_regressor"}
MODEL_FILES = {"m": "smpl/SMPL_MALE.npz", "f": "smpl/SMPL_FEMALE.npz"}
REGRESSOR_FILE = "smpl/J_regressor_h36m.npy"


class Threedpw(record.Builder):
  """3DPW; `subject` is `<sequence>_<actor>`, `action` the sequence's name without its number."""

  name = "threedpw"
  HOMEPAGE = "https://virtualhumans.mpi-inf.mpg.de/3DPW"
  LICENSE = "3DPW terms: non-commercial research only, no redistribution."
  EXTRA_FEATURES = {
      "joints_source": tfds.features.Text(),
      "num_detected": tfds.features.Tensor(shape=(None,), dtype=np.int32),  # of the 18 OpenPose points, in all configs
  }
  BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(name=f"{name}_{keypoints}", description=f"3D: {source}, 2D: {keypoints}.")
      for name, source in JOINTS_SOURCES.items()
      for keypoints in ("gt", "detected")
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "Put sequenceFiles.zip, or the folder sequenceFiles/{train,validation,test}/<sequence>.pkl, into manual_dir."
  )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    manual_dir = pathlib.Path(dl_manager.manual_dir)
    make_poses = self._make_poses(manual_dir)
    with archives.open_archive(manual_dir, ARCHIVE) as archive:
      members = members_by_split(archive)
    return {split: self._generate_examples(manual_dir, members[split], make_poses) for split in SPLITS}

  def _make_poses(self, manual_dir: pathlib.Path):
    """A function from an actor to its poses [T 17 3] (m, world frame). The SMPL files are read at once."""
    if self.builder_config.name.startswith("approx"):
      return lambda actor: joints.from_smpl24(actor.joints_world_m)
    regressor = smpl.load_regressor(manual_dir / REGRESSOR_FILE)
    models = {gender: smpl.load_model(manual_dir / name) for gender, name in MODEL_FILES.items()}
    return lambda actor: skeleton.to_h36m(
        smpl.regress(models[actor.gender], regressor, actor.poses, actor.betas, actor.trans_m), "spin17")

  def _generate_examples(self, manual_dir: pathlib.Path, members: list[str], make_poses) -> Iterator[tuple[str, dict]]:
    with archives.open_archive(manual_dir, ARCHIVE) as archive:
      for member in members:
        sequence = sequence_file.parse(archive.read(member), archive.label(member))
        for number, actor in enumerate(sequence.actors):
          yield f"{sequence.name}/{number}", self._record(sequence, number, make_poses(actor))

  def _record(self, sequence: sequence_file.Sequence, number: int, poses_world: np.ndarray) -> dict:
    joints_source, keypoints_source = self.builder_config.name.split("_")
    actor = sequence.actors[number]
    poses = joints.to_camera(poses_world, sequence.world_to_camera)
    if keypoints_source == "detected":
      keypoints, confidence = joints.from_coco18(actor.detections)
    else:
      keypoints = camera.project_linear(poses, sequence.intrinsics)
      confidence = poses[..., 2] > 0  # joints behind the camera have no projection
    measured = {
        "keypoints_px": keypoints, "confidence": confidence, "poses_camera_m": poses,
        "intrinsics": sequence.intrinsics, "resolution": sequence.resolution, "fps": sequence_file.FPS,
    }
    return {
        **{name: np.asarray(value, np.float32) for name, value in measured.items()},
        "valid": actor.valid,
        "subject": f"{sequence.name}_{number}",
        "action": sequence.name.rpartition("_")[0] or sequence.name,
        "sequence": sequence.name,
        "camera": "cam",
        "joints_source": JOINTS_SOURCES[joints_source],
        "num_detected": (actor.detections[..., 2] > 0).sum(1).astype(np.int32),
    }


def members_by_split(archive: archives.Archive) -> dict[str, list[str]]:
  """The archive's members `<split>/<sequence>.pkl` by split, sorted. Raises ValueError for a split without any."""
  members = {
      split: [m for m in archive.members if m.startswith(f"{split}/") and m.endswith(".pkl")] for split in SPLITS
  }
  if missing := [split for split, names in members.items() if not names]:
    raise ValueError(
        f"{archive.path}: no <sequence>.pkl in {', '.join(missing)}; expected the folders {', '.join(SPLITS)} of the "
        "whole sequenceFiles.zip, fetch it again"
    )
  return members
