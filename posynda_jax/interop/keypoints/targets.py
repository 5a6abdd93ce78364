"""Own keypoints as adaptation targets, and lines that say what was read.

They have no 3D, so no error in mm can be measured on them. The reprojection error in px can: the distance between the
keypoints and the projection of the pose that was lifted from them. It shows frames in which lifting failed. A low one
does not show that the depth is right.
"""

import dataclasses
import functools
import zlib

from posynda_jax.adaptation.sources import Unlabelled
from posynda_jax.interop.keypoints import recordings
from posynda_jax.interop.keypoints.recordings import Options, Recording

PREFIX = "keypoints:"


def is_own(name: str) -> bool:
  """Whether a target's name is `keypoints:FILE`."""
  return name.startswith(PREFIX)


def from_array(keypoints_px, options: Options, name: str = "keypoints") -> Unlabelled:
  """A target of one person's keypoints [T j 2] or, with scores, [T j 3], in px. Raises ValueError as
  `recordings.from_array`.
  """
  return from_recordings(name, [recordings.from_array(keypoints_px, options)], options)


def from_recordings(name: str, found: list[Recording], options: Options) -> Unlabelled:
  """A target of recordings, whose cameras an adapter learns as they are. Its identity is the options and a digest of
  the keypoints.
  """
  digest = functools.reduce(lambda crc, one: zlib.crc32(one.record["keypoints_px"].tobytes(), crc), found, 0)
  identity = dataclasses.asdict(options) | {"keypoints_crc32": f"{digest:08x}"}

  def stated(field: str) -> str:
    return "; ".join(sorted({str(one.report[field]) for one in found}))

  protocol = {
      "dataset": name, "split": "all frames", "keypoints_2d": f"{stated('format')}, joint rule {stated('joint_rule')}",
      "measured": "reprojection error on the target's own keypoints, weighted by confidence; no ground truth, so no "
      "error in mm",
      "intrinsics": stated("intrinsics"), "fps": stated("fps"), "root": "solve",
  }
  records = tuple({field: value for field, value in one.record.items() if field != "up"} for one in found)
  return Unlabelled(name, records, identity, protocol)


def describe(found: list[Recording]) -> str:
  """Lines to print: what was read, chosen and interpolated, and a `warning:` line for each guess."""
  lines = []
  for report in (one.report | {"name": one.record["sequence"]} for one in found):
    lines += [
        "{name}: {format} ({format_was}), layout {layout}, joint rule {joint_rule}".format(**report),
        "  person {person} of: {people}".format(**report),
        "  frames {first_frame:,} to {last_frame:,}, {interpolated_frames:,} of {frames:,} interpolated (longest gap "
        "{longest_gap}), {lost_joints_percent:g}% of the joints lost in the others".format(**report),
        *(f"  warning: {warning}" for warning in report["warnings"]),
    ]
  return "\n".join(lines)
