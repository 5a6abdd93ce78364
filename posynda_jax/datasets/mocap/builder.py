"""Base class of the motion capture datasets: configurations, splits and records.

The `world` configuration holds the motion itself. `<rig>_<2d>` holds the views of a virtual rig with exact (`gt`) or
detector-like (`detected`) keypoints. TFDS writes ArrayRecord files in the order of the takes, without TensorFlow.
"""

import abc
import dataclasses
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record
from posynda_jax.datasets.mocap import archives, h36m_map, views


@dataclasses.dataclass(frozen=True)
class Take:
  """One motion file: labels, split, and its members of the archive, `motion` and, for AMC motions, `skeleton`."""

  sequence: str
  subject: str
  action: str
  split: str
  motion: str
  skeleton: str | None = None


@dataclasses.dataclass
class MotionConfig(tfds.core.BuilderConfig):
  """`world` (no rig), or the views of `rig` with exact or `detected` keypoints."""

  rig: str | None = None
  detected: bool = False


_WORLD = MotionConfig(name="world", description="Motion in world coordinates: metres, Y up.")
_VIEWS = [
    MotionConfig(name=f"{rig}_{keypoints}", rig=rig, detected=keypoints == "detected",
                 description=f"Views of the virtual rig {rig}, {keypoints} keypoints.")
    for rig in ("h36m_rig", "dhp_rig", "wild_rig")
    for keypoints in ("gt", "detected")
]


class MotionBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of a motion capture dataset. A subclass sets the constants without a value and defines `take`.

  The base reads ASF and AMC files. A dataset of another format overrides SUFFIX and `read`.
  """

  ARCHIVE: str  # `<ARCHIVE>.zip` or the folder `<ARCHIVE>/` in manual_dir
  WHOLE: tuple[str, str] | None = None  # (name, folder) of a larger archive, read in its place where it is there
  FILES: str  # the archive's file names, for messages
  SUFFIX = ".amc"  # of a motion file's name, in lower case
  PATTERN: re.Pattern  # of a motion file's name
  SOURCE_FPS: float  # of AMC files, which do not say it
  LICENSE: str
  HOMEPAGE: str
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}
  BUILDER_CONFIGS = [_WORLD, *_VIEWS]
  # TFDS would look for checksums of downloads with importlib_resources, which it does not require (#11212).
  url_infos = {}

  @abc.abstractmethod
  def take(self, match: re.Match) -> Take:
    """The take of a motion file, given the match of its name with PATTERN."""

  def takes(self, members: tuple[str, ...]) -> list[Take]:
    """The takes among an archive's members. Raises ValueError for an unknown file name or a missing skeleton."""
    takes = []
    for member in members:
      if not member.lower().endswith(self.SUFFIX):
        continue
      match = self.PATTERN.fullmatch(member)
      if match is None:
        raise ValueError(f"cannot tell subject and take from the file name {member!r}, expected {self.FILES}")
      takes.append(self.take(match))
      skeleton = takes[-1].skeleton
      if skeleton is not None and skeleton not in members:
        raise ValueError(f"{member} needs {skeleton}, which is missing; expected {self.FILES}; fetch it again")
    return takes

  def read(self, archive: archives.Archive, take: Take) -> tuple[np.ndarray, float]:
    """Poses [f 17 3] (m, Y up) at about `views.WANTED_FPS`, and their rate. Raises ValueError that names a damaged
    file.
    """
    files, stride = (take.skeleton, take.motion), views.stride_to(self.SOURCE_FPS)
    poses = h36m_map.poses_from_amc(*map(archive.read, files), stride, tuple(map(archive.label, files)))
    return poses, self.SOURCE_FPS / stride

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
        features=record.view_features() if self.builder_config.rig else record.world_features(),
        homepage=self.HOMEPAGE,
        license=self.LICENSE,
        disable_shuffling=True,  # records keep the order of takes, shots and views; the pipeline shuffles
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    manual_dir = dl_manager.manual_dir
    with self._open(manual_dir) as archive:
      try:
        takes = self.takes(archive.members)
      except ValueError as error:
        raise ValueError(f"{archive.path}: {error}") from error
    splits = {split: [take for take in takes if take.split == split] for split in ("train", "test")}
    if empty := [split for split, members in splits.items() if not members]:
      raise ValueError(f"{archive.path}: no motion for split {empty[0]!r}, expected {self.FILES}; fetch it again")
    return {split: self._generate_examples(manual_dir, members) for split, members in splits.items()}

  def _generate_examples(self, manual_dir, takes: list[Take]) -> Iterator[tuple[str, dict]]:
    with self._open(manual_dir) as archive:
      for take in takes:
        motion, fps = self.read(archive, take)
        if h36m_map.jumps(motion, fps):
          continue
        labels = {"fps": np.float32(fps), "subject": take.subject, "action": take.action}
        yield from self._records(take.sequence, motion.astype(np.float32), labels)

  def _open(self, manual_dir):
    if self.WHOLE:
      name, folder = self.WHOLE
      if any((pathlib.Path(manual_dir) / path).exists() for path in (f"{name}.zip", folder)):
        return archives.open_archive(manual_dir, name, folder)
    return archives.open_archive(manual_dir, self.ARCHIVE)

  def _records(self, sequence: str, motion: np.ndarray, labels: dict) -> Iterator[tuple[str, dict]]:
    config = self.builder_config
    if not config.rig:
      yield sequence, {"poses_world_m": motion, "sequence": sequence, **labels}
      return
    max_frames = int(views.SHOT_SECONDS * labels["fps"])
    for shot, frames in enumerate(views.shots(len(motion), max_frames)):
      name = f"{sequence}/shot{shot:02d}"
      rendered = views.render_shot(
          motion[frames], config.rig, detected=config.detected, max_frames=max_frames,
          dataset=self.name, sequence=sequence, shot=shot,
      )
      for view, fields in rendered:
        yield f"{name}/{view}", {**fields, "sequence": name, **labels}
