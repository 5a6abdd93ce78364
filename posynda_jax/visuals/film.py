"""A sequence as a GIF or MP4 film in real time: the 2D input, and one 3D panel per method and for the ground truth."""

import pathlib

import matplotlib.animation
import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from posynda_jax.visuals import figures
from posynda_jax.visuals.pose_sequence import CHOSEN, PoseSequence

# GIF stores durations in hundredths of a second, and common players show at most about 25 frames per second.
_GIF_RATES = (25.0, 20.0, 10.0, 5.0, 4.0, 2.0, 1.0)
_MP4_RATE = 50.0


def save_film(path, sequence: PoseSequence) -> int:
  """Number of pictures written to `path`, a `.gif` or `.mp4` file.

  The first panel draws its pose in red where the sequence has hypotheses, and each hypothesis as a thin line. The film
  plays in real time: where the file cannot have the rate `fps`, each picture shows the frame of its instant.
  """
  writer, rate = _writer(pathlib.Path(path), sequence.fps)
  series, keypoints = sequence.series(), sequence.keypoints_px
  shown = _instants(len(keypoints), sequence.fps, rate)
  columns = [(name, pose) for name, kind, _, pose in series if kind != "hypothesis"]
  thin = [(colour, pose) for _, kind, colour, pose in series if kind == "hypothesis"]
  width = 1 + len(columns)
  figure = Figure(figsize=(2.4 * width, 2.8))
  moving = [(figures.draw_2d(figure.add_subplot(1, width, 1), keypoints[0], "2D input", whole=keypoints), keypoints)]
  for n, (name, pose) in enumerate(columns):
    axes = figure.add_subplot(1, width, 2 + n, projection="3d")
    overlay = thin if n == 0 else []
    moving += [(figures.add_pose(axes, one[0], "", colour, linewidths=1), one) for colour, one in overlay]
    moving.append((figures.add_pose(axes, pose[0], name, CHOSEN if overlay else None), pose))
    figures.frame_3d(axes, [pose, *(one for _, one in overlay)], name)
    _draw_floor(axes)
  stamp = figure.text(0.01, 0.02, "", fontsize=8)
  figure.tight_layout(rect=(0, 0.06, 1, 1))
  with writer.saving(figure, str(path), dpi=90):
    for t in shown:
      for bones, values in moving:
        bones.set_segments(figures.segments(values[t]))
      stamp.set_text(f"frame {sequence.first_frame + t}, {t / sequence.fps:.2f} s")
      writer.grab_frame()
  return len(shown)


def _draw_floor(axes) -> None:
  """Draws a grid of half metres in place of the axes, because matplotlib needs most of its time to draw 3D axes."""
  axes.set_axis_off()
  (left, right), (near, far), low = axes.get_xlim(), axes.get_ylim(), axes.get_zlim()[0]
  lines = [[(x, near, low), (x, far, low)] for x in np.arange(np.ceil(2 * left), 2 * right) / 2]
  lines += [[(left, y, low), (right, y, low)] for y in np.arange(np.ceil(2 * near), 2 * far) / 2]
  axes.add_collection3d(Line3DCollection(lines, colors="#c3cad3", linewidths=0.6), autolim=False)


def _instants(num_frames: int, fps: float, rate: float) -> np.ndarray:
  """Frame number of each picture of a film with `rate` pictures per second that lasts as long as the sequence."""
  times = np.arange(max(1, round(num_frames / fps * rate))) / rate
  return np.minimum((times * fps + 1e-6).astype(int), num_frames - 1)


def _writer(path: pathlib.Path, fps: float) -> tuple[matplotlib.animation.AbstractMovieWriter, float]:
  """(Writer, pictures per second) for the ending of `path`."""
  if path.suffix == ".gif":
    rate = next((rate for rate in _GIF_RATES if rate <= fps), _GIF_RATES[-1])
    return matplotlib.animation.PillowWriter(fps=rate), rate
  rate = min(fps, _MP4_RATE)
  return matplotlib.animation.FFMpegWriter(fps=rate, codec="h264", extra_args=["-pix_fmt", "yuv420p"]), rate
