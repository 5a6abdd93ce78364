"""The command line of the preparation scripts."""

import pathlib
import sys
from collections.abc import Callable

from absl import app, flags

flags.disclaim_key_flags()  # --help lists the flags as those of the script that calls `run`


def state(output: pathlib.Path, is_new: bool) -> str:
  """The last line that a script prints."""
  new = "ready, give it to the builder as manual_dir"
  return f"{output}: {new if is_new else 'finished before from the same files, left unchanged'}"


def table(rows: list[tuple]) -> str:
  """Rows as text with right-aligned columns; the first row is the head. Integers get thousands separators."""
  cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) + 2 for column in zip(*cells)]
  return "\n".join("".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells)


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
