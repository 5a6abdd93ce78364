"""Pictures with matplotlib: skeletons before, after and true beside the 2D input, and loss curves."""

from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from posynda_jax import skeleton  # noqa: E402

_LEFT, _RIGHT, _MIDDLE = "#2a6fb0", "#d1495b", "#444444"


def _bones():
  """(child, parent, colour) of every bone: the subject's left blue, right red."""
  for child, parent in enumerate(skeleton.PARENTS):
    if parent >= 0:
      colour = _LEFT if child in skeleton.LEFT else _RIGHT if child in skeleton.RIGHT else _MIDDLE
      yield child, parent, colour


def draw_2d(axes, keypoints: np.ndarray, title: str) -> None:
  """Keypoints [j 2] in any image unit, y down."""
  for child, parent, colour in _bones():
    axes.plot(*keypoints[[child, parent]].T, color=colour, lw=2)
  axes.set_aspect("equal")
  axes.invert_yaxis()
  axes.set_title(title, fontsize=9)
  axes.set_xticks([])
  axes.set_yticks([])


def draw_3d(axes, pose: np.ndarray, title: str, azimuth: float = -60.0) -> None:
  """A root-relative camera-frame pose [j 3] (m), turned so that up is up: plot axes are x, z (depth), -y."""
  points = pose[:, [0, 2, 1]] * np.array([1, 1, -1])
  for child, parent, colour in _bones():
    axes.plot(*points[[child, parent]].T, color=colour, lw=2)
  middle = (points.max(0) + points.min(0)) / 2
  half = max((points.max(0) - points.min(0)).max() / 2, 0.6)
  for set_limits, m in zip((axes.set_xlim, axes.set_ylim, axes.set_zlim), middle, strict=True):
    set_limits(m - half, m + half)
  axes.set_box_aspect((1, 1, 1))
  axes.view_init(elev=12, azim=azimuth)
  axes.set_title(title, fontsize=9)
  for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
    axis.set_ticklabels([])


def save_comparison(path, keypoints: Sequence[np.ndarray], columns: Mapping[str, Sequence[np.ndarray]]) -> None:
  """One row a frame: its 2D input [j 2], then one 3D skeleton [j 3] for each named column."""
  rows, width = len(keypoints), 1 + len(columns)
  figure = plt.figure(figsize=(2.6 * width, 2.7 * rows))
  for i in range(rows):
    draw_2d(figure.add_subplot(rows, width, i * width + 1), keypoints[i], "2D input" if i == 0 else "")
    for n, (name, poses) in enumerate(columns.items()):
      axes = figure.add_subplot(rows, width, i * width + 2 + n, projection="3d")
      error = 1000 * np.linalg.norm(poses[i] - columns["ground truth"][i], axis=-1).mean() if "ground truth" in columns else 0
      label = name if i == 0 else ""
      draw_3d(axes, poses[i], label if name == "ground truth" else f"{label}\n{error:.0f} mm".strip())
  figure.tight_layout()
  figure.savefig(path, dpi=110)
  plt.close(figure)


def save_curves(path, rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
  """Logged scalars over steps, one panel each; names that were not logged are left out."""
  names = [name for name in names if name in rows[0]]
  figure, panels = plt.subplots(1, len(names), figsize=(3.6 * len(names), 2.8), squeeze=False)
  for axes, name in zip(panels[0], names, strict=True):
    axes.plot([row["step"] for row in rows], [row[name] for row in rows], color=_LEFT)
    axes.set_title(name.replace("_", " "), fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.grid(alpha=0.3)
  figure.tight_layout()
  figure.savefig(path, dpi=110)
  plt.close(figure)
