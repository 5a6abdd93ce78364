"""A sequence as GIF or MP4: the 2D input, and a 3D panel for each method and for the truth, in real time."""

import pathlib
from collections.abc import Mapping

import matplotlib.animation
import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from posynda_jax.visuals import render

_GIF_RATES = (25.0, 20.0, 10.0, 5.0, 4.0, 2.0, 1.0)  # GIF counts hundredths of a second, and shows no more than about 25 frames
_MP4_RATE = 50.0


def save_animation(
    path, *, keypoints_px: np.ndarray, poses: Mapping[str, np.ndarray], fps: float, hypotheses: np.ndarray | None = None,
    truth: np.ndarray | None = None, first_frame: int = 0, azimuth: float = render.FRONT,
) -> int:
  """Frames written to `path`, a `.gif` or `.mp4` file, of a sequence of T frames.

  `keypoints_px` [T 17 2]; `poses` name -> [T 17 3], a panel each; `hypotheses` [H T 17 3], thin in colours in the first panel,
  whose pose is then red; `truth` [T 17 3], the last panel. Poses are root-relative metres in the camera frame. It plays in real
  time: where the file cannot have the rate of `fps`, each picture shows the frame of its instant. Raises ValueError for another
  ending, for a T of 0, and for MP4 where ffmpeg is not installed.
  """
  writer, rate = _writer(pathlib.Path(path), fps)
  if not len(keypoints_px):
    raise ValueError("no frames to animate: the sequence is empty")
  shown = _instants(len(keypoints_px), fps, rate)
  columns = dict(poses) | ({} if truth is None else {"ground truth": truth})
  figure = plt.figure(figsize=(2.4 * (1 + len(columns)), 2.8))
  axes = figure.add_subplot(1, 1 + len(columns), 1)
  moving = [(render.draw_2d(axes, keypoints_px[0], "2D input", whole=keypoints_px), keypoints_px)]
  for n, (name, pose) in enumerate(columns.items()):
    axes = figure.add_subplot(1, 1 + len(columns), 2 + n, projection="3d")
    overlay = hypotheses if n == 0 and hypotheses is not None else np.empty((0, *pose.shape))
    for h, one in enumerate(overlay):
      moving.append((render.add_pose(axes, one[0], "", render.PALETTE[h % len(render.PALETTE)], linewidths=1), one))
    moving.append((render.add_pose(axes, pose[0], name, render.CHOSEN if len(overlay) else None), pose))
    render.frame_3d(axes, [pose, *overlay], name, azimuth)
    _floor(axes)
  stamp = figure.text(0.01, 0.02, "", fontsize=8)
  figure.tight_layout(rect=(0, 0.06, 1, 1))
  with writer.saving(figure, str(path), dpi=90):
    for t in shown:
      for bones, values in moving:
        bones.set_segments(render.segments(values[t]))
      stamp.set_text(f"frame {first_frame + t}, {t / fps:.2f} s")
      writer.grab_frame()
  plt.close(figure)
  return len(shown)


def _floor(axes) -> None:
  """A grid of half metres in place of the axes, whose drawing would take most of the time."""
  axes.set_axis_off()
  (left, right), (near, far), low = axes.get_xlim(), axes.get_ylim(), axes.get_zlim()[0]
  steps = lambda low, high: np.arange(np.ceil(2 * low), np.floor(2 * high) + 1) / 2
  lines = [[(x, near, low), (x, far, low)] for x in steps(left, right)]
  lines += [[(left, y, low), (right, y, low)] for y in steps(near, far)]
  axes.add_collection3d(Line3DCollection(lines, colors="#c3cad3", linewidths=0.6), autolim=False)


def _instants(num_frames: int, fps: float, rate: float) -> np.ndarray:
  """The frame that is on at each picture of a film at `rate`, which lasts as long as the sequence."""
  times = np.arange(max(1, round(num_frames / fps * rate))) / rate
  return np.minimum((times * fps + 1e-6).astype(int), num_frames - 1)


def check_ending(path: pathlib.Path) -> None:
  """Raises ValueError where no film can be written to `path`, saying what to do."""
  if path.suffix not in (".gif", ".mp4"):
    raise ValueError(f"{path} ends in neither .gif nor .mp4: animations are written as one of them")
  if path.suffix == ".mp4" and not matplotlib.animation.FFMpegWriter.isAvailable():
    raise ValueError(f"{path}: MP4 needs the program ffmpeg, which is not installed: install it, or write a .gif")


def _writer(path: pathlib.Path, fps: float):
  """(Matplotlib's writer, its rate) for a file's ending."""
  check_ending(path)
  if path.suffix == ".gif":
    rate = next((rate for rate in _GIF_RATES if rate <= fps), _GIF_RATES[-1])
    return matplotlib.animation.PillowWriter(fps=rate), rate
  rate = min(fps, _MP4_RATE)
  return matplotlib.animation.FFMpegWriter(fps=rate, codec="h264", extra_args=["-pix_fmt", "yuv420p"]), rate
