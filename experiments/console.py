"""How scripts are called: the installed commands, and presets by name.

`posynda-lift ...` is `python -m experiments.lift ...`, and so with every command of COMMANDS, which `pyproject.toml` lists too.
"""

import pathlib
import runpy
import sys
from collections.abc import Sequence

PRESETS = pathlib.Path(__file__).parent / "presets"
# Command -> module, with arguments that come first.
COMMANDS = {
    **{f"posynda-{name}": f"experiments.{name}" for name in (
        "pretrain", "adapt", "evaluate", "lift", "components", "tables", "peft", "diagnose", "visualize", "report", "export", "benchmark",
        "videos", "compare_machines",
    )},
    "posynda-convert": "posynda_jax.interop convert",
    "posynda-check": "data_prep.check",
    "posynda-prepare-human36m": "data_prep.human36m",
    "posynda-prepare-mpi-inf-3dhp": "data_prep.mpi_inf_3dhp",
    "posynda-prepare-threedpw": "data_prep.threedpw",
}


def main() -> None:
  """Runs the script that the command's own name stands for."""
  module, *first = COMMANDS[pathlib.Path(sys.argv[0]).stem].split()
  sys.argv[1:1] = first
  runpy.run_module(module, run_name="__main__", alter_sys=True)


def read_presets(arguments: Sequence[str], inside: tuple[pathlib.Path, ...] = ()) -> list[str]:
  """The arguments with every --flagfile=FILE read in its place, files that these name included.

  `NAME.flags` and `experiments/presets/NAME.flags` mean the preset that ships where the current folder has no such file, so that
  presets work in every folder. What is no file, or includes itself, is left for absl to complain of.
  """
  read = []
  for argument in arguments:
    flag, _, name = argument.partition("=")
    if flag.lstrip("-") != "flagfile":
      read.append(argument)
      continue
    path = pathlib.Path(name).expanduser()
    if not path.exists() and path.parent in (pathlib.Path(), pathlib.Path("experiments/presets")):
      path = PRESETS / path.name
    if not path.is_file() or path in inside:
      read.append(argument)
      continue
    lines = (line.strip() for line in path.read_text().splitlines())
    read += read_presets([line for line in lines if line and not line.startswith(("#", "//"))], (*inside, path))
  return read
