"""Old names of `figures`, until the scripts call the new ones."""

from posynda_jax.visuals.figures import curves_figure, draw_2d, draw_3d, methods_figure, save  # noqa: F401


def save_comparison(path, keypoints, columns) -> None:
  save(path, methods_figure(keypoints, columns))


def save_curves(path, rows, names) -> None:
  names = [name for name in names if name in rows[0]]
  save(path, curves_figure({f"x/{name}": {row["step"]: row[name] for row in rows} for name in names}, names))
