"""What the motion capture datasets share: configurations, splits and records. A dataset gives its takes and reads them.

`world` holds the motion itself; `<rig>_<2d>` holds the views of a virtual rig, with exact (`gt`) or detector-like
(`detected`) keypoints. TFDS writes them as ArrayRecord files, in the order of the takes; no TensorFlow is needed.
"""

import abc
import dataclasses
import re
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record
from posynda_jax.datasets.mocap import archives, views

KEYPOINTS = ("gt", "detected")


@dataclasses.dataclass(frozen=True)
class Take:
  """One motion file: its labels and split, and the archive members `motion` and, where there is one, `skeleton`."""

  sequence: str
  subject: str
  action: str
  split: str
  motion: str
  skeleton: str | None = None


@dataclasses.dataclass
class MotionConfig(tfds.core.BuilderConfig):
  """`world` (no rig), or the views of `rig` with `detected` keypoints or exact ones."""

  rig: str | None = None
  detected: bool = False


def configs() -> list[MotionConfig]:
  """`world`, then `<rig>_<2d>` for every rig and 2D source."""
  world = MotionConfig(name="world", description="Motion in world coordinates: metres, Y up.")
  return [world] + [
      MotionConfig(
          name=f"{rig}_{keypoints}",
          description=f"Views of the virtual rig {rig}, {keypoints} keypoints.",
          rig=rig,
          detected=keypoints == "detected",
      )
      for rig in ("h36m_rig", "dhp_rig", "wild_rig")
      for keypoints in KEYPOINTS
  ]


class MotionBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of a motion capture dataset: subclasses set the four constants and define `takes` and `read`."""

  ARCHIVE: str  # `<ARCHIVE>.zip` or the folder `<ARCHIVE>/` in manual_dir
  SOURCE_FPS: float
  LICENSE: str
  HOMEPAGE: str
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}
  BUILDER_CONFIGS = configs()
  # Nothing is downloaded. TFDS would look for checksums with importlib_resources, which it forgets to require (#11212).
  url_infos = {}

  @abc.abstractmethod
  def takes(self, members: tuple[str, ...]) -> list[Take]:
    """The takes among an archive's members. Raises ValueError for a motion file whose name it cannot read."""

  @abc.abstractmethod
  def read(self, archive: archives.Archive, take: Take, stride: int) -> np.ndarray:
    """Poses [f 17 3] (m, Y up) of every `stride`-th frame. Raises ValueError that names a file it cannot read."""

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
        features=record.view_features() if self.builder_config.rig else record.world_features(),
        homepage=self.HOMEPAGE,
        license=self.LICENSE,
        disable_shuffling=True,  # records keep the order of takes, shots and views; the pipeline shuffles
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    manual_dir = dl_manager.manual_dir
    with archives.open_archive(manual_dir, self.ARCHIVE) as archive:
      try:
        takes = self.takes(archive.members)
      except ValueError as error:
        raise ValueError(f"{archive.path}: {error}") from error
    splits = {split: [take for take in takes if take.split == split] for split in ("train", "test")}
    for split, members in splits.items():
      if not members:
        raise ValueError(
            f"{archive.path}: no motion for the split {split!r}; expected the whole archive, fetch it again"
        )
    return {split: self._generate_examples(manual_dir, members) for split, members in splits.items()}

  def _generate_examples(self, manual_dir, takes: list[Take]) -> Iterator[tuple[str, dict]]:
    stride = views.stride_to(self.SOURCE_FPS)
    with archives.open_archive(manual_dir, self.ARCHIVE) as archive:
      for take in takes:
        motion = self.read(archive, take, stride).astype(np.float32)
        labels = {"fps": np.float32(self.SOURCE_FPS / stride), "subject": take.subject, "action": take.action}
        yield from self._records(take.sequence, motion, labels)

  def _records(self, sequence: str, motion: np.ndarray, labels: dict) -> Iterator[tuple[str, dict]]:
    config = self.builder_config
    if not config.rig:
      yield sequence, {"poses_world_m": motion, "sequence": sequence, **labels}
      return
    max_frames = int(views.SHOT_SECONDS * labels["fps"])
    for shot, frames in enumerate(views.shots(len(motion), max_frames)):
      name = f"{sequence}/shot{shot:02d}"
      seen = views.see(
          motion[frames],
          config.rig,
          detected=config.detected,
          max_frames=max_frames,
          dataset=self.name,
          sequence=sequence,
          shot=shot,
      )
      for view, fields in seen:
        yield f"{name}/{view}", {**fields, "sequence": name, **labels}


def check_found(takes: list[Take], members: tuple[str, ...], expected: str) -> list[Take]:
  """The takes, if there are any and each one's skeleton is a member; else ValueError that says what was `expected`."""
  if not takes:
    raise ValueError(f"no motion files in the archive, expected {expected}; fetch it again")
  for take in takes:
    if take.skeleton is not None and take.skeleton not in members:
      raise ValueError(f"{take.motion} needs {take.skeleton}, which is missing; expected {expected}; fetch it again")
  return takes


def match_all(pattern: re.Pattern, members: tuple[str, ...], suffix: str, expected: str) -> list[re.Match]:
  """Matches of every member with the suffix. Raises ValueError for a name that does not match."""
  matches = []
  for member in members:
    if member.lower().endswith(suffix):
      matches.append(pattern.fullmatch(member))
      if matches[-1] is None:
        raise ValueError(f"cannot tell subject and take from the file name {member!r}, expected {expected}")
  return matches
