"""CMU Graphics Lab motion capture (ASF + AMC, 120 fps): 13 subjects, walking to cartwheels. Split by subject."""

import re

from posynda_jax.datasets.mocap import builder, h36m_map

TEST_SUBJECTS = ("02", "09", "17")  # walk, run, jump, punch, navigate, stealthy walk, boxing
_EXPECTED = "<subject>/<subject>_<take>.amc beside <subject>/<subject>.asf"
_TAKE = re.compile(r"(\d+)/(\1_\d+)\.amc", re.I)


class CmuMocap(builder.MotionBuilder):
  """CMU motion capture; `action` is the take's id, as the database tells a take's action only on its web page."""

  name = "cmu_mocap"
  ARCHIVE = "cmu"
  SOURCE_FPS = 120.0
  HOMEPAGE = "http://mocap.cs.cmu.edu"
  LICENSE = "CMU terms: free for all uses; may not be resold directly, even in converted form. See README.md."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put cmu.zip, or the folder cmu/ with {_EXPECTED}, into manual_dir."

  def takes(self, members):
    matches = builder.match_all(_TAKE, members, ".amc", _EXPECTED)
    takes = [
        builder.Take(
            sequence=take,
            subject=subject,
            action=take,
            split="test" if subject in TEST_SUBJECTS else "train",
            motion=match.string,
            skeleton=f"{subject}/{subject}.asf",
        )
        for match in matches
        for subject, take in [match.groups()]
    ]
    return builder.check_found(takes, members, _EXPECTED)

  def read(self, archive, take, stride):
    files = take.skeleton, take.motion
    return h36m_map.poses_from_amc(*map(archive.read, files), stride, tuple(map(archive.label, files)))
