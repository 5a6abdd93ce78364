"""The same rows of `tables` on two machines: how far apart their scores are, and how long each took.

    python -m experiments.compare_machines --folders=runs/tables_cpu,runs/tables_gpu --json=docs/results/machines.json

Each folder is a --workdir of `tables`; a row is named by the digest of its configuration, which says nothing of hardware. Rows that one folder
alone has are left out. Seconds are of training, as each run measured them: with other processes beside it where there were some.
"""

import json
import pathlib
import statistics

from absl import flags

from experiments import common
from posynda_jax.runtime import runs

FOLDERS = flags.DEFINE_list("folders", [], "Two work directories of `tables`.")
JSON = flags.DEFINE_string("json", None, "File for the comparison.")


def read(folder) -> dict[tuple[str, str], dict]:
  """Results by (row's digest, test) of a work directory. Raises ValueError where it has none."""
  paths = sorted(pathlib.Path(folder).expanduser().glob("rows/*/scores.json"))
  if not paths:
    raise ValueError(f"{folder} has no rows/*/scores.json: give a --workdir of `tables`")
  return {(path.parent.name, test): found for path in paths for test, found in json.loads(path.read_text()).items()}


def compare(first: dict, second: dict) -> list[dict]:
  """What both have, most different first: the headline (mm) and seconds of each, and which is which device."""
  rows = []
  for digest, test in first.keys() & second.keys():
    both = first[digest, test], second[digest, test]
    headline = [one["scores"]["mpjpe_mm"] for one in both]
    rows.append({
        "row": digest, "mpjpe_mm": headline, "difference_mm": abs(headline[0] - headline[1]),
        "seconds": [one["seconds"] for one in both], "devices": [one.get("device", "cpu") for one in both],
    })
  return sorted(rows, key=lambda row: -row["difference_mm"])


def main() -> None:
  if len(FOLDERS.value) != 2:
    raise ValueError(f"--folders={','.join(FOLDERS.value)} must be two work directories of `tables`")
  rows = compare(*map(read, FOLDERS.value))
  if not rows:
    raise ValueError("the two folders have no row in common")
  print(f"{'row':18}{'first mm':>10}{'second mm':>10}{'apart mm':>11}{'first s':>9}{'second s':>9}")
  for row in rows:
    print(f"{row['row']:18}{row['mpjpe_mm'][0]:10.2f}{row['mpjpe_mm'][1]:10.2f}{row['difference_mm']:11.5f}{row['seconds'][0]:9.0f}{row['seconds'][1]:9.0f}")
  apart = [row["difference_mm"] for row in rows]
  seconds = [statistics.median(row["seconds"][i] for row in rows if min(row["seconds"])) for i in (0, 1)] if any(min(row["seconds"]) for row in rows) else None
  summary = {"compared": len(rows), "median_apart_mm": statistics.median(apart), "largest_apart_mm": max(apart), "median_seconds": seconds}
  print(", ".join(f"{key} {value}" for key, value in summary.items()), flush=True)
  if JSON.value:
    runs.write_json(JSON.value, {**summary, "each": rows})


if __name__ == "__main__":
  common.run(main)
