"""Any picture of a sequence by one call: the file's ending decides between page, film and figure."""

import pathlib

import matplotlib.animation

from posynda_jax.visuals import figures, film, page
from posynda_jax.visuals.pose_sequence import PoseSequence, spread_frames

ENDINGS = (".html", ".gif", ".mp4", ".png")
FIGURES = ("hypotheses", "methods")


def check_path(path: pathlib.Path) -> None:
  """Raises ValueError or FileNotFoundError where `save` cannot write `path`."""
  if path.suffix not in ENDINGS:
    raise ValueError(f"{path} ends in none of {', '.join(ENDINGS)}: the ending says what to make")
  if not path.parent.is_dir():
    raise FileNotFoundError(f"the folder of {path} does not exist: make it first")
  if path.suffix == ".mp4" and not matplotlib.animation.FFMpegWriter.isAvailable():
    raise ValueError(f"{path}: MP4 needs the program ffmpeg, which is not installed: install it, or write a .gif")


def save(path: pathlib.Path, sequence: PoseSequence, figure: str | None = None, rows: int = 4) -> str:
  """A line about the written file: a page (.html), a film (.gif, .mp4), or a figure (.png) with `rows` frames.

  `figure` is one of FIGURES; its default is hypotheses where the sequence has them. Raises as `check_path`.
  """
  check_path(path)
  if path.suffix == ".html":
    size = page.save_page(path, sequence)
    return f"{path}: {len(sequence.valid):,} frames, {size / 1e6:.2f} MB, open it in any browser"
  if path.suffix != ".png":
    return f"{path}: {film.save_film(path, sequence):,} pictures of {len(sequence.valid) / sequence.fps:.1f} s"
  frames = spread_frames(sequence.valid, rows)
  labels = [f"2D input, frame {sequence.first_frame + t}" for t in frames]
  figure = figure or FIGURES[sequence.hypotheses is None]
  if figure == "hypotheses":
    drawn = figures.hypotheses_figure(sequence, frames)
  else:
    columns = {name: pose[frames] for name, kind, _, pose in sequence.series() if kind != "hypothesis"}
    drawn = figures.methods_figure(sequence.keypoints_px[frames], columns, labels)
  figures.save(path, drawn)
  return f"{path}: {figure} in frames {', '.join(str(sequence.first_frame + t) for t in frames)}"
