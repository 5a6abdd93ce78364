"""The command line of the preparation scripts, and files that are written whole or not at all."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

from absl import app, flags

flags.disclaim_key_flags()  # --help lists the flags as those of the script that calls `run`

READY = "ready, give it to the builder as manual_dir"
UNCHANGED = "finished before from the same files, left unchanged"


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


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A new path beside `path` to write to. The file is renamed to `path` if the block ends without an error."""
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f"{path.name}.part")
  part.unlink(missing_ok=True)
  yield part
  os.replace(part, path)
  part.unlink(missing_ok=True)  # os.replace does nothing if both names are hard links of one file
