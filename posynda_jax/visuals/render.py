"""Pictures with matplotlib: hypotheses with the chosen one in red, methods beside the truth, loss curves. `animation` moves them.

Every picture is a Figure, which `save` writes and `png` turns into bytes. Poses are root-relative in the camera frame (x right,
y down, z forward), metres, Human3.6M-17 order; pictures turn them so that up is up.
"""

import io
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.collections import LineCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from mpl_toolkits.mplot3d.art3d import Line3DCollection  # noqa: E402

from posynda_jax.geometry import skeleton  # noqa: E402

_LEFT, _RIGHT, _MIDDLE = "#2a6fb0", "#d1495b", "#444444"
CHOSEN, TRUTH = "#e0282e", "#111111"
# Each stands out at least 3:1 from white and from the dark ground of the viewer.
PALETTE = ("#2b83ba", "#d97706", "#1b9e77", "#9467bd", "#9c8b00", "#1398a8", "#a6611a", "#c56aa0", "#7f7f7f")
FRONT, SIDE = -60.0, 10.0  # azimuths: nearly the camera's own view, and from the side, where depth shows

_CHILDREN = np.arange(1, 17)
_BONES = np.stack([_CHILDREN, np.array(skeleton.PARENTS[1:])], 1)
_SIDES = [_LEFT if child in skeleton.LEFT else _RIGHT if child in skeleton.RIGHT else _MIDDLE for child in _CHILDREN]


def series_colours(num_poses: int, num_hypotheses: int) -> list[str]:
  """A colour for each pose, the first of them CHOSEN, then for each hypothesis."""
  rest = [PALETTE[i % len(PALETTE)] for i in range(num_poses - 1 + num_hypotheses)]
  methods, hypotheses = rest[num_hypotheses:], rest[:num_hypotheses]
  return [CHOSEN] + methods + hypotheses


def segments(points: np.ndarray) -> np.ndarray:
  """Bones [16 2 c] of joints [17 c]: for 3D in plot axes, which are x, z (depth), -y."""
  points = points if points.shape[-1] == 2 else points[:, [0, 2, 1]] * np.array([1, 1, -1])
  return points[_BONES]


def draw_2d(axes, keypoints: np.ndarray, title: str, whole: np.ndarray | None = None) -> LineCollection:
  """The bones of keypoints [17 2] in any image unit, y down, the subject's left blue, right red; room for `whole` [... 2]."""
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
  """The bones of a pose [17 3] in 3D axes, in one colour, or by side where none is given."""
  style = {"linewidths": 2, "capstyle": "round"} | style
  return axes.add_collection3d(Line3DCollection(segments(pose), colors=colour or _SIDES, label=label, **style), autolim=False)


def frame_3d(axes, poses: Sequence[np.ndarray], title: str, azimuth: float = FRONT) -> None:
  """Sets 3D axes so that all of the poses [... 17 3] fit, at one scale and with up up."""
  points = np.concatenate([np.reshape(pose, (-1, 3)) for pose in poses])[:, [0, 2, 1]] * np.array([1, 1, -1])
  points = points[np.isfinite(points).all(-1)]
  middle = (points.max(0) + points.min(0)) / 2
  half = max((points.max(0) - points.min(0)).max() / 2, 0.6)
  for set_limits, m in zip((axes.set_xlim, axes.set_ylim, axes.set_zlim), middle, strict=True):
    set_limits(m - half, m + half)
  axes.set_box_aspect((1, 1, 1), zoom=1.08)
  axes.view_init(elev=12, azim=azimuth)
  axes.set_title(title, fontsize=9)
  for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
    axis.set_ticklabels([])


def draw_3d(axes, pose: np.ndarray, title: str, azimuth: float = FRONT) -> None:
  """One pose [17 3] in 3D axes, the subject's left blue, right red."""
  add_pose(axes, pose, title)
  frame_3d(axes, [pose], title, azimuth)


def hypotheses_figure(
    keypoints: Sequence[np.ndarray], hypotheses: np.ndarray, chosen: Sequence[np.ndarray],
    truth: Sequence[np.ndarray] | None = None, labels: Sequence[str] | None = None, name: str = "chosen",
) -> Figure:
  """The paper's Figure 3, a row a frame: the 2D input [n 17 2], then all hypotheses [h n 17 3] in colours with the chosen pose
  [n 17 3] in red, and the truth dashed, from near the camera and from the side."""
  rows = len(keypoints)
  figure = plt.figure(figsize=(8.4, 2.8 * rows + 0.4))
  for i in range(rows):
    draw_2d(figure.add_subplot(rows, 3, 3 * i + 1), keypoints[i], labels[i] if labels else "2D input" if i == 0 else "")
    for n, (title, azimuth) in enumerate((("near the camera", FRONT), ("from the side", SIDE))):
      axes = figure.add_subplot(rows, 3, 3 * i + 2 + n, projection="3d")
      axes.computed_zorder = False  # the chosen one must be seen where poses coincide
      for h, pose in enumerate(hypotheses[:, i]):
        add_pose(axes, pose, f"hypothesis {h + 1}", PALETTE[h % len(PALETTE)], linewidths=1.3, zorder=2)
      if truth is not None:
        add_pose(axes, truth[i], "ground truth", TRUTH, linewidths=1.3, linestyles="dashed", capstyle="butt", zorder=4)
      add_pose(axes, chosen[i], name, CHOSEN, linewidths=2.4, zorder=3)
      frame_3d(axes, [hypotheses[:, i], chosen[i], *([] if truth is None else [truth[i]])], title if i == 0 else "", azimuth)
  handles, names = axes.get_legend_handles_labels()
  figure.legend(handles, names, loc="lower center", ncols=4, fontsize=8, frameon=False)
  figure.tight_layout(rect=(0, 0.32 / (2.8 * rows + 0.4) * -(-len(names) // 4), 1, 1))
  return figure


def methods_figure(
    keypoints: Sequence[np.ndarray], columns: Mapping[str, Sequence[np.ndarray]], labels: Sequence[str] | None = None
) -> Figure:
  """The paper's Figure 4, a row a frame: the 2D input [n 17 2], then a 3D skeleton for each named column [n 17 3].

  With a column "ground truth" the others state their error in mm.
  """
  rows, width, truth = len(keypoints), 1 + len(columns), columns.get("ground truth")
  figure = plt.figure(figsize=(2.6 * width, 2.7 * rows))
  for i in range(rows):
    draw_2d(figure.add_subplot(rows, width, i * width + 1), keypoints[i], labels[i] if labels else "2D input" if i == 0 else "")
    for n, (name, poses) in enumerate(columns.items()):
      axes = figure.add_subplot(rows, width, i * width + 2 + n, projection="3d")
      title = name if i == 0 else ""
      if truth is not None and name != "ground truth":
        title = f"{title}\n{1000 * np.linalg.norm(poses[i] - truth[i], axis=-1).mean():.0f} mm".strip()
      draw_3d(axes, poses[i], title)
  figure.tight_layout()
  return figure


def curves_figure(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Figure:
  """Logged scalars over steps, one panel each; names that were not logged are left out."""
  names = [name for name in names if name in rows[0]]
  figure, panels = plt.subplots(1, len(names), figsize=(3.6 * len(names), 2.8), squeeze=False)
  for axes, name in zip(panels[0], names, strict=True):
    axes.plot([row["step"] for row in rows], [row[name] for row in rows], color=_LEFT)
    axes.set_title(name.replace("_", " "), fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.grid(alpha=0.3)
  figure.tight_layout()
  return figure


def save(path, figure: Figure) -> None:
  """Writes a figure as a PNG file and closes it."""
  pathlib.Path(path).write_bytes(png(figure))


def png(figure: Figure) -> bytes:
  """A figure as the bytes of a PNG file; closes it."""
  file = io.BytesIO()
  figure.savefig(file, dpi=110, format="png")
  plt.close(figure)
  return file.getvalue()


def save_comparison(path, keypoints: Sequence[np.ndarray], columns: Mapping[str, Sequence[np.ndarray]]) -> None:
  """Writes `methods_figure`."""
  save(path, methods_figure(keypoints, columns))


def save_curves(path, rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
  """Writes `curves_figure`."""
  save(path, curves_figure(rows, names))
