"""The command line of the preparation scripts, and the gathering of files."""

import os
import pathlib
import shutil
import sys
from collections.abc import Callable

from absl import app, flags

flags.disclaim_key_flags()  # --help lists the flags as those of the script that calls `run`


def table(rows: list[tuple]) -> str:
  """Rows as text with right-aligned columns; the first row is the head. Integers get thousands separators."""
  cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) + 2 for column in zip(*cells)]
  return "\n".join("".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells)


def gather(files: dict[str, pathlib.Path], output: pathlib.Path) -> str:
  """Puts files at their places below `output`, as hard links or, on another disk, as copies; returns what it did.

  A file of equal size and time is there already and left unchanged.
  """
  num_new = 0
  for place, file in files.items():
    target = output / place
    if target.is_file() and _stamp(target) == _stamp(file):
      continue
    num_new += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
      os.link(file, target)
    except OSError:  # another disk, or one without hard links
      shutil.copy2(file, target)
  state = f"{num_new} files written, {len(files) - num_new} already there and left unchanged"
  return f"{output}: {state}; give it to the builder as manual_dir"


def _stamp(path: pathlib.Path) -> tuple[int, int]:
  return path.stat().st_size, path.stat().st_mtime_ns


def run(prepare: Callable[..., str], path: str, output: str, **optional: str) -> None:
  """Prints the result of `prepare(path, output, ...)`; each argument here is the help of a flag that holds a folder.

  A ValueError or OSError ends the program with one line and exit code 1.
  """
  helps = {"path": path, "output": output, **optional}
  for name, text in helps.items():
    flags.DEFINE_string(name, None, text, required=name not in optional)

  def main(argv) -> None:
    del argv
    folders = (flags.FLAGS[name].value for name in helps)
    try:
      print(prepare(*(pathlib.Path(folder).expanduser() if folder else None for folder in folders)))
    except (ValueError, OSError) as error:
      sys.exit(f"error: {' '.join(str(error).split())}")

  app.run(main)
