"""CMU Graphics Lab motion capture (ASF + AMC, 120 fps): 13 subjects, walking to cartwheels. Split by subject."""

import re

from posynda_jax.datasets.mocap import builder


class CmuMocap(builder.MotionBuilder):
  """CMU motion capture. `action` is the take's id, because only the database's web page describes the actions."""

  name = "cmu_mocap"
  ARCHIVE = "cmu"
  WHOLE = ("allasfamc", "all_asfamc/subjects")  # the full archive, 2,605 takes, as its owner packs it
  FILES = "<subject>/<subject>_<take>.amc beside <subject>/<subject>.asf"
  PATTERN = re.compile(r"(?P<subject>\d+)/(?P<sequence>(?P=subject)_\d+)\.amc", re.I)
  SKELETON = "{subject}/{subject}.asf"
  TEST = "subject", frozenset(("02", "09", "17"))  # walk, run, jump, punch, navigate, stealthy walk, boxing
  HOMEPAGE = "http://mocap.cs.cmu.edu"
  LICENSE = "CMU terms: free for all uses; may not be resold directly, even in converted form."
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      f"Put cmu.zip, the folder cmu/ with {FILES}, or the full archive allasfamc.zip, into manual_dir."
  )
