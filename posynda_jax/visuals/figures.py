"""Figures with matplotlib: hypotheses with the chosen one in red, methods beside the ground truth, curves of scalars.

`save` writes a Figure and `image` turns it into bytes. Poses are root-relative in the camera frame (x right, y down,
z forward), metres, Human3.6M-17 order. The 3D axes of a plot are x, z, -y, so that up is up.
"""

import io
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from posynda_jax.geometry import skeleton
from posynda_jax.visuals.pose_sequence import PoseSequence

_LEFT, _RIGHT, _MIDDLE = "#2a6fb0", "#d1495b", "#444444"
FRONT, SIDE = -60.0, 10.0  # azimuths in degrees: near the camera's view, and from the side, where depth is visible

_BONES = np.array(list(enumerate(skeleton.PARENTS))[1:])  # [16 2]: joint, its parent
_STYLES = {
    "pose": {"linewidths": 2.4, "zorder": 3}, "hypothesis": {"linewidths": 1.3, "zorder": 2},
    "truth": {"linewidths": 1.3, "zorder": 4, "linestyles": "dashed", "capstyle": "butt"},
}
_SIDES = [_LEFT if joint in skeleton.LEFT else _RIGHT if joint in skeleton.RIGHT else _MIDDLE for joint in range(1, 17)]


def segments(points: np.ndarray) -> np.ndarray:
  """Bones [16 2 c] of joints [17 c], each from a joint to its parent; 3D joints come out in plot axes."""
  return (points if points.shape[-1] == 2 else _plot_axes(points))[_BONES]


def _plot_axes(points: np.ndarray) -> np.ndarray:
  return points[..., [0, 2, 1]] * np.array([1, 1, -1])


def draw_2d(axes, keypoints: np.ndarray, title: str, whole: np.ndarray | None = None) -> LineCollection:
  """The drawn bones of keypoints [17 2], in any image unit with y down; left is blue, right is red.

  The axes have room for all points of `whole` [*n 2] too.
  """
  bones = LineCollection(segments(keypoints), colors=_SIDES, linewidths=2, capstyle="round", label="2D input")
  axes.add_collection(bones)
  axes.set_aspect("equal", adjustable="datalim")
  axes.margins(0.08)
  if whole is not None:
    axes.update_datalim(whole[np.isfinite(whole).all(-1)])
  axes.autoscale_view()
  axes.yaxis.set_inverted(True)
  axes.set_title(title, fontsize=9)
  axes.set_xticks([])
  axes.set_yticks([])
  return bones


def add_pose(axes, pose: np.ndarray, label: str, colour: str | None = None, **style) -> Line3DCollection:
  """The drawn bones of a pose [17 3] in 3D axes, in one colour; without a colour, left is blue and right is red."""
  style = {"linewidths": 2, "capstyle": "round", "colors": colour or _SIDES, "label": label} | style
  return axes.add_collection3d(Line3DCollection(segments(pose), **style), autolim=False)


def frame_3d(axes, poses: Sequence[np.ndarray], title: str, azimuth: float = FRONT) -> None:
  """Sets the limits of 3D axes so that all `poses` [*n 17 3] fit, with one scale for the three axes."""
  points = np.concatenate([_plot_axes(pose).reshape(-1, 3) for pose in poses])
  points = points[np.isfinite(points).all(-1)]
  middle = (points.max(0) + points.min(0)) / 2
  half = max(np.ptp(points, 0).max() / 2, 0.6)
  axes.set(**{f"{name}lim": (m - half, m + half) for name, m in zip("xyz", middle, strict=True)})
  axes.set_box_aspect((1, 1, 1), zoom=1.08)
  axes.view_init(elev=12, azim=azimuth)
  axes.set_title(title, fontsize=9)
  axes.set(xticklabels=[], yticklabels=[], zticklabels=[])


def hypotheses_figure(sequence: PoseSequence, frames: Sequence[int]) -> Figure:
  """Figure 3 of the paper, one row per frame number in `frames`.

  A row has the 2D input and two views of the 3D poses: all hypotheses in colours, the chosen pose in red and the ground
  truth dashed. Raises ValueError for a sequence without hypotheses.
  """
  if sequence.hypotheses is None:
    raise ValueError("a figure of hypotheses needs several hypotheses: lift with --hypotheses above 1")
  rows, series = len(frames), sequence.series()
  series = [series[0], *(one for one in series[1:] if one[1] != "pose")]
  figure = Figure(figsize=(8.4, 2.8 * rows + 0.4))
  for i, t in enumerate(frames):
    axes = figure.add_subplot(rows, 3, 3 * i + 1)
    draw_2d(axes, sequence.keypoints_px[t], f"2D input, frame {sequence.first_frame + t}")
    for n, (title, azimuth) in enumerate((("near the camera", FRONT), ("from the side", SIDE))):
      axes = figure.add_subplot(rows, 3, 3 * i + 2 + n, projection="3d")
      axes.computed_zorder = False  # Matplotlib's own order can hide the chosen pose behind an equal hypothesis.
      for name, kind, colour, pose in series:
        add_pose(axes, pose[t], sequence.chosen_name if kind == "pose" else name, colour, **_STYLES[kind])
      frame_3d(axes, [pose[t] for *_, pose in series], "" if i else title, azimuth)
  handles, names = axes.get_legend_handles_labels()
  figure.legend(handles, names, loc="lower center", ncols=4, fontsize=8, frameon=False)
  figure.tight_layout(rect=(0, 0.32 / (2.8 * rows + 0.4) * -(-len(names) // 4), 1, 1))
  return figure


def methods_figure(
    keypoints: Sequence[np.ndarray], columns: Mapping[str, Sequence[np.ndarray]], labels: Sequence[str] = (),
    captions: Mapping[str, Sequence[str]] | None = None, images: Sequence[np.ndarray] = (),
) -> Figure:
  """Figure 4 of the paper, one row per frame: the 2D input [n 17 2], then the pose of each named column [n 17 3].

  `images` [n h w 3] are drawn under the 2D inputs, which are then px of them.

  `labels` [n] are titles of the 2D inputs, and `captions`, name -> [n], are titles of poses. Where a column is named
  "ground truth", the default captions are the MPJPE in mm.
  """
  rows, width = len(keypoints), 1 + len(columns)
  if captions is None:
    captions, truth = {}, columns.get("ground truth")
    for name in columns.keys() - {"ground truth"} if truth is not None else ():
      errors_mm = 1000 * np.linalg.norm(np.subtract(columns[name], truth), axis=-1).mean(-1)
      captions[name] = [f"{error:.0f} mm" for error in errors_mm]
  figure = Figure(figsize=(2.6 * width, 2.7 * rows))
  for i in range(rows):
    label = labels[i] if len(labels) else "" if i else "2D input"
    flat = figure.add_subplot(rows, width, i * width + 1)
    draw_2d(flat, keypoints[i], label)
    if len(images):
      low, high = _surroundings(keypoints[i], images[i].shape)
      flat.imshow(images[i][low[1] : high[1], low[0] : high[0]], extent=(low[0], high[0], high[1], low[1]))
      flat.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
    for n, (name, poses) in enumerate(columns.items()):
      axes = figure.add_subplot(rows, width, i * width + 2 + n, projection="3d")
      lines = ("" if i else name, captions[name][i] if name in captions else "")
      add_pose(axes, poses[i], name)
      frame_3d(axes, [poses[i]], "\n".join(filter(None, lines)))
  figure.tight_layout()
  return figure


def _surroundings(points: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """Two corners (px) of the part of an image of `shape` that shows the points [17 2] and half their size around."""
  margin = np.ptp(points, 0).max() / 4
  size = np.array(shape[1::-1])
  low = np.clip(points.min(0) - margin, 0, size - 2).astype(int)
  return low, np.clip(points.max(0) + margin, low + 2, size).astype(int)


def curves_figure(scalars: Mapping[str, Mapping[int, float]], names: Sequence[str]) -> Figure:
  """Curves of logged scalars {"training/name": {step: value}}: one panel per name, one line per training.

  A name that was not logged has no panel. A panel is logarithmic where its values are positive and span more than a
  factor of 30.
  """
  trainings = list(dict.fromkeys(tag.partition("/")[0] for tag in scalars))
  names = [name for name in names if any(f"{training}/{name}" in scalars for training in trainings)]
  figure = Figure(figsize=(3.6 * len(names), 2.8))
  for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
    lines = {training: scalars.get(f"{training}/{name}", {}) for training in trainings}
    for training, values in lines.items():
      axes.plot(sorted(values), [values[step] for step in sorted(values)], label=training)
    logged = [value for values in lines.values() for value in values.values()]
    axes.set_yscale("log" if 0 < 30 * min(logged) < max(logged) else "linear")
    axes.set_title(name.replace("_", " "), fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.grid(alpha=0.3)
  if len(trainings) > 1:
    axes.legend(fontsize=7, frameon=False)
  figure.tight_layout()
  return figure


def image(figure: Figure, kind: str = "png") -> bytes:
  """The bytes of a figure's PNG or SVG file; equal figures give equal bytes."""
  file = io.BytesIO()
  with matplotlib.rc_context({"svg.hashsalt": "posynda_jax", "svg.fonttype": "none"}):
    figure.savefig(file, dpi=110, format=kind, metadata={"Date": None} if kind == "svg" else None)
  return file.getvalue()


def save(path, figure: Figure) -> None:
  """Writes a figure as a PNG file."""
  pathlib.Path(path).write_bytes(image(figure))
