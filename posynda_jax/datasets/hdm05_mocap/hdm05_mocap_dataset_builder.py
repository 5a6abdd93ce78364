"""HDM05 motion capture (ASF + AMC, 120 fps): 4 subjects, the same 11 actions each. Split by subject."""

import re

from posynda_jax.datasets.mocap import builder


class Hdm05Mocap(builder.MotionBuilder):
  """HDM05 cut clips. `action` comes from the file name, with side and repetitions: "kickLFront1Reps"."""

  name = "hdm05_mocap"
  ARCHIVE = "hdm05"
  FILES = "HDM_<subject>_<action>_<take>_120.amc beside HDM_<subject>.asf"
  PATTERN = re.compile(r"HDM_(?P<sequence>(?P<subject>[a-z]+)_(?P<action>\w+)_\d+)_120\.amc", re.I)
  SKELETON = "HDM_{subject}.asf"
  TEST = "subject", frozenset(("mm",))  # train: bd, bk, dg
  HOMEPAGE = "https://resources.mpi-inf.mpg.de/HDM05"
  LICENSE = "CC BY-SA 3.0 Unported: files derived from it must be shared under the same licence."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put hdm05.zip, or the folder hdm05/ with {FILES}, into manual_dir."
