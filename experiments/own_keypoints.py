"""Keypoints of people's own videos in the scripts: the flags that describe them, and the target `keypoints:FILE`.

They have no 3D, so nothing here measures an error in mm. What can be measured is how far the lifted pose, placed by `solve_root`
before the camera, projects from the keypoints it was lifted from: the reprojection error in px. It shows what went wrong in a
frame; a low one does not show that the depth is right.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable

import jax
import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from posynda_jax.evaluation import evaluate
from posynda_jax.interop.keypoints import formats, layouts, recordings
from posynda_jax.lifter import Lifted, lift_record
from posynda_jax.visuals import render

PREFIX = "keypoints:"

RESOLUTION = flags.DEFINE_string("resolution", None, "WIDTHxHEIGHT in px of the video that own keypoints were found in.")
INTRINSICS = flags.DEFINE_list(
    "intrinsics", None, "fx,fy,cx,cy in px of that video's camera, or with k1,k2,k3,p1,p2 as `posynda_jax.geometry.camera.distort` takes "
    "them, which is not OpenCV's form; without it the focal length is guessed as the longest side, with a warning.")
FPS = flags.DEFINE_float("fps", None, f"Its frames a second; without it {recordings.GUESSED_FPS:g} are assumed, with a warning.")
FORMAT = flags.DEFINE_enum("format", None, list(formats.FORMATS), "Who wrote the keypoints; without it, told by the content.")
LAYOUT = flags.DEFINE_enum("layout", None, list(layouts.LAYOUTS), "Joint order, where the format does not tell or tells wrongly.")
JOINT_RULE = flags.DEFINE_enum("joint_rule", "simple", layouts.RULES, "How Human3.6M-17 is made of the detector's joints.")
PERSON = flags.DEFINE_string("person", "auto", "Which person: auto (most confident, longest), or a number of the list printed.")
SEQUENCE = flags.DEFINE_string("sequence", None, "Which video of a file that holds several.")


def is_own(name: str) -> bool:
  """Whether a target's name is `keypoints:FILE`."""
  return name.startswith(PREFIX)


def _options() -> recordings.Options:
  numbers = lambda texts, flag: tuple(_number(text, flag) for text in texts)
  return recordings.Options(
      resolution=numbers(RESOLUTION.value.lower().split("x"), "resolution") if RESOLUTION.value else None,
      intrinsics=numbers(INTRINSICS.value, "intrinsics") if INTRINSICS.value else None,
      fps=FPS.value, layout=LAYOUT.value, rule=JOINT_RULE.value, format=FORMAT.value, person=PERSON.value,
      sequence=SEQUENCE.value,
  )


def _number(text: str, flag: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise ValueError(f"--{flag}: {text!r} is not a number; write --resolution=1920x1080, --intrinsics=fx,fy,cx,cy") from None


def read(path: str) -> list[recordings.Recording]:
  """The recordings of a file or folder under the flags; what was read, chosen and guessed is printed once."""
  return _read(path, _options())


@functools.lru_cache(maxsize=1)
def _read(path: str, options: recordings.Options) -> list[recordings.Recording]:
  found = recordings.read(path, options)
  for recording in found:
    report = recording.report
    print(f"{recording.record['sequence']}: {report['format']} ({report['format_was']}), layout {report['layout']}, joint rule "
          f"{report['joint_rule']}\n  person {report['person']} of: {report['people']}")
    print(f"  frames {report['first_frame']:,} to {report['last_frame']:,}, {report['interpolated_frames']:,} of "
          f"{report['frames']:,} interpolated (longest gap {report['longest_gap']}), "
          f"{report['lost_joints_percent']:g}% of the joints lost in the others")
    for warning in report["warnings"]:
      print(f"  warning: {warning}", flush=True)
  return found


def load_records(name: str) -> list[dict]:
  """The records of `keypoints:FILE`: no poses, one of each video in it."""
  return [recording.record for recording in read(name.removeprefix(PREFIX))]


def identity(name: str) -> dict:
  """What makes an adaptation to own keypoints another one: options and the keypoints themselves. For a run's config."""
  records = load_records(name)
  digest = functools.reduce(lambda crc, record: zlib.crc32(record["keypoints_px"].tobytes(), crc), records, 0)
  return dataclasses.asdict(_options()) | {"keypoints_crc32": f"{digest:08x}"}


def rate(lifter: Callable, weights, name: str, clip_fps: float, num_frames: int, batch_size: int) -> dict:
  """Mean reprojection error in px over the frames of `keypoints:FILE` in which the person was detected."""
  lift = lambda record: lift_record(lifter, weights, record, clip_fps, num_frames, batch_size)
  errors = np.concatenate([lift(record).reprojection_px for record in load_records(name)])
  return {"reprojection_px": float(np.nanmean(errors)), "frames": int(np.isfinite(errors).sum())}


def protocol(name: str, clip_fps: float, config: evaluate.EvaluateConfig) -> dict:
  """What must be printed beside `rate`'s numbers."""
  reports = [recording.report for recording in read(name.removeprefix(PREFIX))]
  stated = lambda field: "; ".join(sorted({str(report[field]) for report in reports}))
  return {
      "dataset": name, "split": "all frames", "keypoints_2d": f"{stated('format')}, joint rule {stated('joint_rule')}",
      "measured": "reprojection error on the target's own keypoints, weighted by confidence; no ground truth, so no error in mm",
      "intrinsics": stated("intrinsics"), "fps": stated("fps"), "clip_fps": clip_fps, "root": "solve",
      "hypotheses": config.num_hypotheses, "sampling_steps": config.sampling_steps, "selection": config.select,
      "flip": config.flip, "seed": config.seed,
  }


def print_table(results: dict, protocol: dict) -> None:
  """Rows of `rate` with their protocol."""
  print(f"\n{'':14}{'reprojection px':>16}{'frames':>9}{'trainable':>11}{'seconds':>9}")
  for name, row in results.items():
    print(f"{name:14}{row['reprojection_px']:16.2f}{row['frames']:9,}{row['trainable']:11,}{row['seconds']:9.0f}")
  print("The target has no ground truth: a lower reprojection error does not show that poses are nearer the truth.")
  print("protocol: " + ", ".join(f"{k}={v}" for k, v in protocol.items()) + "\n", flush=True)


def save_comparison(path, name: str, lifters: tuple[Callable, Callable], base, adapter, batch_size: int) -> None:
  """A few frames of the first recording of `keypoints:FILE`, lifted by the base alone and with the adapter, by a lifter each."""
  recording = read(name.removeprefix(PREFIX))[0]
  settings = base.config["clip_fps"], base.model.num_frames, batch_size
  fresh = jax.tree.map(np.zeros_like, adapter)
  columns = {"source only": (lifters[0], fresh), "adapted": (lifters[1], adapter)}
  columns = {name: lift_record(lift, (base.params, one), recording.record, *settings) for name, (lift, one) in columns.items()}
  save_picture(path, recording, columns)


def save_picture(path, recording: recordings.Recording, columns: dict[str, Lifted], rows: int = 4) -> None:
  """A few frames, spread over those in which the person was detected: the 2D input, and the 3D pose of each named column."""
  seen = np.flatnonzero(np.isfinite(next(iter(columns.values())).reprojection_px))
  picked = np.unique(seen[np.linspace(0, len(seen) - 1, rows + 2).astype(int)[1:-1]])
  width = 1 + len(columns)
  figure = plt.figure(figsize=(2.6 * width, 2.7 * len(picked)))
  for i, t in enumerate(picked):
    axes = figure.add_subplot(len(picked), width, i * width + 1)
    render.draw_2d(axes, recording.record["keypoints_px"][t], f"frame {recording.frames[t]}")
    for n, (name, lifted) in enumerate(columns.items()):
      axes = figure.add_subplot(len(picked), width, i * width + 2 + n, projection="3d")
      render.draw_3d(axes, lifted.pose[t], f"{name}\nreprojection {lifted.reprojection_px[t]:.1f} px")
  figure.tight_layout()
  figure.savefig(path, dpi=110)
  plt.close(figure)
