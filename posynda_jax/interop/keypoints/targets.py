"""Adaptation targets named `keypoints:FILE`, which have no 3D: reading, identity, protocol, and printed reports.

No error in mm can be measured on them. The reprojection error in px is the distance between the keypoints and the
projection of the pose that was lifted from them. It shows frames in which lifting failed. A low error does not show
that the depth is right.
"""

import dataclasses
import functools
import zlib

from posynda_jax.interop.keypoints import recordings
from posynda_jax.interop.keypoints.recordings import Options, Recording

PREFIX = "keypoints:"
_REPORT = """\
{name}: {format} ({format_was}), layout {layout}, joint rule {joint_rule}
  person {person} of: {people}
  frames {first_frame:,} to {last_frame:,}, {interpolated_frames:,} of {frames:,} interpolated \
(longest gap {longest_gap}), {lost_joints_percent:g}% of the joints lost in the others"""


def is_own(name: str) -> bool:
  """Whether a target's name is `keypoints:FILE`."""
  return name.startswith(PREFIX)


def read(name: str, options: Options) -> list[Recording]:
  """The recordings of a target `keypoints:FILE`, as `recordings.read` returns them."""
  return recordings.read(name.removeprefix(PREFIX), options)


def identity(found: list[Recording], options: Options) -> dict:
  """The options and a digest of the keypoints, which tell one target from another in a run's config."""
  digest = functools.reduce(lambda crc, one: zlib.crc32(one.record["keypoints_px"].tobytes(), crc), found, 0)
  return dataclasses.asdict(options) | {"keypoints_crc32": f"{digest:08x}"}


def protocol(name: str, found: list[Recording], clip_fps: float, config) -> dict:
  """The protocol of reprojection errors on a target, lifted as the EvaluateConfig `config` says."""

  def stated(field: str) -> str:
    return "; ".join(sorted({str(one.report[field]) for one in found}))

  measured = "reprojection error on the target's own keypoints, weighted by confidence"
  return {
      "dataset": name, "split": "all frames", "keypoints_2d": f"{stated('format')}, joint rule {stated('joint_rule')}",
      "measured": f"{measured}; no ground truth, so no error in mm",
      "intrinsics": stated("intrinsics"), "fps": stated("fps"), "clip_fps": clip_fps, "root": "solve",
      "hypotheses": config.num_hypotheses, "sampling_steps": config.sampling_steps, "selection": config.select,
      "flip": config.flip, "seed": config.seed,
  }


def describe(found: list[Recording]) -> str:
  """Lines to print: what was read, chosen and interpolated, and a `warning:` line for each guess."""
  lines = []
  for one in found:
    lines.append(_REPORT.format(name=one.record["sequence"], **one.report))
    lines += [f"  warning: {warning}" for warning in one.report["warnings"]]
  return "\n".join(lines)


def table(results: dict, protocol: dict) -> str:
  """The rows of `lifter.rate` as a table with their protocol."""
  lines = [f"\n{'':14}{'reprojection px':>16}{'frames':>9}{'trainable':>11}{'seconds':>9}"]
  for name, row in results.items():
    lines.append(f"{name:14}{row['reprojection_px']:16.2f}{row['frames']:9,}{row['trainable']:11,}{row['seconds']:9.0f}")
  limit = "a lower reprojection error does not show that poses are nearer the truth"
  stated = ", ".join(f"{name}={value}" for name, value in protocol.items())
  return "\n".join([*lines, f"The target has no ground truth: {limit}.", f"protocol: {stated}\n"])
