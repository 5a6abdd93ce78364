"""Inspects a download and prints what is wrong with it, with a fix for each finding.

    python -m data_prep.check --dataset=mpi_inf_3dhp --path=DIR

It finds wrong joint orders and units, `univ_annot3` in place of `annot3`, wrong resolutions, missing takes, wrong frame
counts and truncated files. It writes nothing. The exit code is 0 without a fault and 1 otherwise.
"""

import collections
import importlib
import pathlib
import sys

from absl import app, flags

DATASETS = ("human36m", "mpi_inf_3dhp", "threedpw")

DATASET = flags.DEFINE_enum("dataset", None, DATASETS, "Dataset of the download.", required=True)
PATH = flags.DEFINE_string("path", None, "Folder of the download.", required=True)


def main(argv) -> None:
  del argv
  path = pathlib.Path(PATH.value).expanduser()
  if not path.is_dir():
    sys.exit(f"error: {path} is not a folder: give the folder that holds the download of {DATASET.value}")
  counts = collections.Counter(fault=0, warning=0, note=0)
  for finding in importlib.import_module(f".{DATASET.value}", __package__).inspect(path):
    counts[finding.level] += 1
    print(finding, flush=True)
  print(f"{DATASET.value} in {path}: " + ", ".join(f"{n} {level}{'s' * (n != 1)}" for level, n in counts.items()))
  if counts["fault"]:
    sys.exit(1)
  print("No fault found: it can be built.")


if __name__ == "__main__":
  app.run(main)
