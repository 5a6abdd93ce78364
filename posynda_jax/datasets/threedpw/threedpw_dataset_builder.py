"""3D Poses in the Wild (3DPW): 60 phone videos, one record an actor, splits train, validation and test.

Reads `sequenceFiles.zip`, or the folder it unpacks to, as published. The 3D comes from SMPL's own joints (`approx`) or from the
SMPL mesh and the Human3.6M regressor (`regressor`), the 2D from projecting it (`gt`) or from the published OpenPose points.
"""

import dataclasses
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
APPROXIMATE, REGRESSED = "smpl_joints_approximate", "smpl_h36m_regressor"
MODEL_FILES = {"m": "smpl/SMPL_MALE.npz", "f": "smpl/SMPL_FEMALE.npz"}
REGRESSOR_FILE = "smpl/J_regressor_h36m.npy"


@dataclasses.dataclass
class ThreedpwConfig(tfds.core.BuilderConfig):
  """Where the 3D joints come from, and whether the 2D is detected or projected."""

  joints_source: str = APPROXIMATE
  detected: bool = False


def _configs() -> list[ThreedpwConfig]:
  return [
      ThreedpwConfig(
          name=f"{name}_{keypoints}",
          description=f"3D: {source}, 2D: {keypoints}.",
          joints_source=source,
          detected=keypoints == "detected",
      )
      for name, source in (("approx", APPROXIMATE), ("regressor", REGRESSED))
      for keypoints in ("gt", "detected")
  ]


class Threedpw(tfds.core.GeneratorBasedBuilder):
  """3DPW; `subject` is `<sequence>_<actor>`, `action` the sequence's name without its number."""

  name = "threedpw"
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}
  BUILDER_CONFIGS = _configs()
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "Put sequenceFiles.zip, or the folder sequenceFiles/{train,validation,test}/<sequence>.pkl, into manual_dir."
  )
  url_infos = {}  # nothing is downloaded

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
        features=record.view_features(
            joints_source=tfds.features.Text(),
            num_detected=tfds.features.Tensor(shape=(None,), dtype=np.int32),  # of the 18 OpenPose points, whatever the 2D
        ),
        homepage="https://virtualhumans.mpi-inf.mpg.de/3DPW",
        license="3DPW terms: non-commercial research only, no redistribution. See README.md.",
        disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    manual_dir = pathlib.Path(dl_manager.manual_dir)
    make_poses = self._make_poses(manual_dir)
    with archives.open_archive(manual_dir, ARCHIVE) as archive:
      members = members_by_split(archive)
    return {split: self._generate_examples(manual_dir, members[split], make_poses) for split in SPLITS}

  def _make_poses(self, manual_dir: pathlib.Path):
    """A function from an actor to its poses [T 17 3] (m, world), with the files it needs read at once."""
    if self.builder_config.joints_source == APPROXIMATE:
      return lambda actor: joints.from_smpl24(actor.joints_world_m)
    regressor = smpl.load_regressor(manual_dir / REGRESSOR_FILE)
    models = {gender: smpl.load_model(manual_dir / name) for gender, name in MODEL_FILES.items()}

    def regress(actor: sequence_file.Actor) -> np.ndarray:
      poses = smpl.regress(models[actor.gender], regressor, actor.poses, actor.betas, actor.trans_m)
      return skeleton.to_h36m(poses, "spin17")

    return regress

  def _generate_examples(self, manual_dir: pathlib.Path, members: list[str], make_poses) -> Iterator[tuple[str, dict]]:
    with archives.open_archive(manual_dir, ARCHIVE) as archive:
      for member in members:
        sequence = sequence_file.parse(archive.read(member), archive.label(member))
        for number, actor in enumerate(sequence.actors):
          yield f"{sequence.name}/{number}", self._record(sequence, number, actor, make_poses(actor))

  def _record(self, sequence: sequence_file.Sequence, number: int, actor: sequence_file.Actor, poses_world: np.ndarray) -> dict:
    poses = joints.to_camera(poses_world, sequence.world_to_camera)
    if self.builder_config.detected:
      keypoints, confidence = joints.from_coco18(actor.detections)
    else:
      keypoints = camera.project_linear(poses, sequence.intrinsics)
      confidence = poses[..., 2] > 0  # no camera sees what is behind it
    return {
        "keypoints_px": np.asarray(keypoints, np.float32),
        "confidence": confidence.astype(np.float32),
        "poses_camera_m": poses.astype(np.float32),
        "valid": actor.valid,
        "intrinsics": sequence.intrinsics.astype(np.float32),
        "resolution": np.array(sequence.resolution, np.float32),
        "fps": np.float32(sequence_file.FPS),
        "subject": f"{sequence.name}_{number}",
        "action": sequence.name.rpartition("_")[0] or sequence.name,
        "sequence": sequence.name,
        "camera": "cam",
        "joints_source": self.builder_config.joints_source,
        "num_detected": (actor.detections[..., 2] > 0).sum(1).astype(np.int32),
    }


def members_by_split(archive: archives.Archive) -> dict[str, list[str]]:
  """The archive's members `<split>/<sequence>.pkl` by split, sorted. Raises ValueError for a split that has none."""
  members = {split: [m for m in archive.members if m.startswith(f"{split}/") and m.endswith(".pkl")] for split in SPLITS}
  if missing := [split for split, names in members.items() if not names]:
    raise ValueError(
        f"{archive.path}: no <sequence>.pkl in {', '.join(missing)}; expected the folders {', '.join(SPLITS)} of the whole "
        "sequenceFiles.zip, fetch it again"
    )
  return members
