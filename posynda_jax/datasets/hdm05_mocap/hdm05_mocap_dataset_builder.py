"""HDM05 motion capture (ASF + AMC, 120 fps): 4 subjects, the same 11 actions each. Split by subject."""

import re

from posynda_jax.datasets.mocap import builder, h36m_map

TEST_SUBJECTS = ("mm",)  # train: bd, bk, dg
_EXPECTED = "HDM_<subject>_<action>_<take>_120.amc beside HDM_<subject>.asf"
_TAKE = re.compile(r"HDM_([a-z]+)_(\w+)_(\d+)_120\.amc", re.I)


class Hdm05Mocap(builder.MotionBuilder):
  """HDM05 cut clips; `action` is the file name's, with side and repetitions: "kickLFront1Reps"."""

  name = "hdm05_mocap"
  ARCHIVE = "hdm05"
  SOURCE_FPS = 120.0
  HOMEPAGE = "https://resources.mpi-inf.mpg.de/HDM05"
  LICENSE = "CC BY-SA 3.0 Unported: files derived from it must be shared under the same licence. See README.md."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put hdm05.zip, or the folder hdm05/ with {_EXPECTED}, into manual_dir."

  def takes(self, members):
    matches = builder.match_all(_TAKE, members, ".amc", _EXPECTED)
    takes = [
        builder.Take(
            sequence=f"{subject}_{action}_{number}",
            subject=subject,
            action=action,
            split="test" if subject in TEST_SUBJECTS else "train",
            motion=match.string,
            skeleton=f"HDM_{subject}.asf",
        )
        for match in matches
        for subject, action, number in [match.groups()]
    ]
    return builder.check_found(takes, members, _EXPECTED)

  def read(self, archive, take, stride):
    files = take.skeleton, take.motion
    return h36m_map.poses_from_amc(*map(archive.read, files), stride, tuple(map(archive.label, files)))
