"""Pictures of lifted keypoints. Only this file of the folder needs matplotlib."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np

from posynda_jax.interop.keypoints.recordings import Recording
from posynda_jax.visuals import render


def save_lifted(path, recording: Recording, columns: Mapping, rows: int = 4) -> None:
  """Saves `rows` frames spread over the detected ones: the 2D input, and the pose of each named `lifter.Lifted`."""
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
