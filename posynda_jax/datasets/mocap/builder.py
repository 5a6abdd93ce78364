"""Base class of the motion capture datasets: configurations, splits and records.

The `world` configuration holds the motion itself. `<rig>_<2d>` holds the views of a virtual rig with exact (`gt`) or
detector-like (`detected`) keypoints, or exact ones of the spans in which people are inside the image (`in_image`). TFDS
writes ArrayRecord files in the order of the takes, without TensorFlow.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record
from posynda_jax.datasets.mocap import archives, h36m_map, views


class Take(NamedTuple):
  """One motion file: labels, split, and its members of the archive, `motion` and, for AMC motions, `skeleton`."""

  sequence: str
  subject: str
  action: str
  split: str
  motion: str
  skeleton: str | None


class MotionBuilder(record.Builder, skip_registration=True):
  """Base of a motion capture dataset. A subclass sets the constants without a value.

  The base reads ASF and AMC files. A dataset of another format overrides SUFFIX, SKELETON and `read`.
  """

  ARCHIVE: str  # `<ARCHIVE>.zip` or the folder `<ARCHIVE>/` in manual_dir
  WHOLE: tuple[str, str] | None = None  # (name, folder) of a larger archive, read in its place where it is there
  FILES: str  # the archive's file names, for messages
  SUFFIX = ".amc"  # of a motion file's name, in lower case
  PATTERN: re.Pattern  # of a motion file's name: groups `sequence` and, if it tells them, `subject` and `action`
  SKELETON: str | None  # name of the ASF file, with {subject}
  TEST: tuple[str, frozenset[str]]  # a label, and its values in the test split
  SOURCE_FPS = 120.0  # of AMC files, which do not say it
  BUILDER_CONFIGS = [record.RigConfig(name="world")] + [
      record.RigConfig(name=f"{rig}_{kind}", rig=rig, detected=kind == "detected", in_image=kind == "in_image")
      for rig in ("h36m_rig", "dhp_rig", "wild_rig")
      for kind in ("gt", "detected", "in_image")
  ]

  def read(self, archive: archives.Archive, take: Take) -> tuple[np.ndarray, float]:
    """Poses [f 17 3] (m, Y up) at about `views.WANTED_FPS`, and their rate. Raises ValueError that names a damaged
    file.
    """
    files, stride = (take.skeleton, take.motion), views.stride_to(self.SOURCE_FPS)
    poses = h36m_map.poses_from_amc(*map(archive.read, files), stride, tuple(map(archive.label, files)))
    return poses, self.SOURCE_FPS / stride

  def _takes(self, archive: archives.Archive) -> Iterator[Take]:
    """The takes in an archive. Raises ValueError for an unknown file name or a missing skeleton."""
    for member in archive.members:
      if not member.lower().endswith(self.SUFFIX):
        continue
      if (match := self.PATTERN.fullmatch(member)) is None:
        what = f"cannot tell subject and take from the file name {member!r}"
        raise ValueError(f"{archive.path}: {what}, expected {self.FILES}")
      labels = {"subject": "unknown", "action": match["sequence"], **match.groupdict()}
      skeleton = self.SKELETON and self.SKELETON.format(**labels)
      if skeleton and skeleton not in archive.members:
        what = f"{member} needs {skeleton}, which is missing"
        raise ValueError(f"{archive.path}: {what}; expected {self.FILES}; fetch it again")
      label, of_test = self.TEST
      yield Take(**labels, split="test" if labels[label] in of_test else "train", motion=member, skeleton=skeleton)

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    splits: dict[str, list[Take]] = {"train": [], "test": []}
    with self._open(dl_manager.manual_dir) as archive:
      for take in self._takes(archive):
        splits[take.split].append(take)
    if empty := [split for split, takes in splits.items() if not takes]:
      raise ValueError(f"{archive.path}: no motion for split {empty[0]!r}, expected {self.FILES}; fetch it again")
    return {split: self._generate_examples(dl_manager.manual_dir, takes) for split, takes in splits.items()}

  def _open(self, manual_dir):
    if self.WHOLE:
      name, folder = self.WHOLE
      if any((pathlib.Path(manual_dir) / path).exists() for path in (f"{name}.zip", folder)):
        return archives.open_archive(manual_dir, name, folder)
    return archives.open_archive(manual_dir, self.ARCHIVE)

  def _generate_examples(self, manual_dir, takes: list[Take]) -> Iterator[tuple[str, dict]]:
    with self._open(manual_dir) as archive:
      for take in takes:
        motion, fps = self.read(archive, take)
        if h36m_map.jumps(motion, fps):
          continue
        labels = {"fps": np.float32(fps), "subject": take.subject, "action": take.action}
        yield from self._records(take.sequence, motion.astype(np.float32), labels)

  def _records(self, sequence: str, motion: np.ndarray, labels: dict) -> Iterator[tuple[str, dict]]:
    config = self.builder_config
    if not config.rig:
      yield sequence, {"poses_world_m": motion, "sequence": sequence, **labels}
      return
    max_frames = int(views.SHOT_SECONDS * labels["fps"])
    rendered = views.render_shots(
        motion, config.rig, max_frames, detected=config.detected, dataset=self.name, sequence=sequence)
    for shot, view, fields in rendered:
      name = f"{sequence}/shot{shot:02d}"
      if not config.in_image:
        yield f"{name}/{view}", {**fields, "sequence": name, **labels}
        continue
      for number, span in enumerate(views.spans_in_image(fields, float(labels["fps"]))):
        yield f"{name}/{view}/span{number:02d}", {**views.frames_of(fields, span), "sequence": name, **labels}
