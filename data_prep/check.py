"""Inspects a download before anything is built from it, and says in plain words what is wrong and what to do.

    python -m data_prep.check --dataset=mpi_inf_3dhp --path=DIR

Wrong joint order, wrong units, `univ_annot3` for `annot3`, wrong resolution, missing takes, frame counts that do not meet,
truncated files: what costs users of this field days shows here in a minute. Nothing is written. Exit code 0 without a fault, 1
otherwise.
"""

import importlib
import pathlib
import sys

from absl import app, flags

DATASETS = ("human36m", "mpi_inf_3dhp", "threedpw")

DATASET = flags.DEFINE_enum("dataset", None, DATASETS, "Which dataset the folder should hold.", required=True)
PATH = flags.DEFINE_string("path", None, "The downloaded folder.", required=True)


def main(argv) -> None:
  del argv
  path = pathlib.Path(PATH.value).expanduser()
  if not path.is_dir():
    sys.exit(f"error: {path} is not a folder: give the folder that holds the download of {DATASET.value}")
  counts = {"fault": 0, "warning": 0, "note": 0}
  for finding in importlib.import_module(f"data_prep.{DATASET.value}").inspect(path):
    counts[finding.level] += 1
    print(finding, flush=True)
  print(f"{DATASET.value} in {path}: " + ", ".join(f"{n} {level}{'s' * (n != 1)}" for level, n in counts.items()))
  if counts["fault"]:
    sys.exit(1)
  print("No fault found: it can be built.")


if __name__ == "__main__":
  app.run(main)
