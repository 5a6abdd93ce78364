"""HDM05 motion capture (ASF + AMC, 120 fps): 4 subjects, the same 11 actions each. Split by subject."""

import re

from posynda_jax.datasets.mocap import builder

TEST_SUBJECTS = ("mm",)  # train: bd, bk, dg


class Hdm05Mocap(builder.MotionBuilder):
  """HDM05 cut clips. `action` comes from the file name, with side and repetitions: "kickLFront1Reps"."""

  name = "hdm05_mocap"
  ARCHIVE = "hdm05"
  FILES = "HDM_<subject>_<action>_<take>_120.amc beside HDM_<subject>.asf"
  PATTERN = re.compile(r"HDM_([a-z]+)_(\w+)_(\d+)_120\.amc", re.I)
  HOMEPAGE = "https://resources.mpi-inf.mpg.de/HDM05"
  LICENSE = "CC BY-SA 3.0 Unported: files derived from it must be shared under the same licence."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put hdm05.zip, or the folder hdm05/ with {FILES}, into manual_dir."

  def take(self, match):
    subject, action, number = match.groups()
    split = "test" if subject in TEST_SUBJECTS else "train"
    return builder.Take(f"{subject}_{action}_{number}", subject, action, split, match.string, f"HDM_{subject}.asf")
