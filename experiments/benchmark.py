"""Times our computations beside the same in plain PyTorch, in turns, after a check that both compute the same.

    python -m experiments.benchmark --cases=adapt_step,forward_243 --json=docs/results/benchmark.json --picture=docs/benchmark.png
    python -m experiments.benchmark --cases=adapt_step --baseline=docs/results/benchmark.json    # a 15% worse ratio: exit code 1

Each side of each case has a process of its own, with the same number of threads. Without PyTorch our side runs alone. A second
run into the same file adds its cases. docs/performance.md explains the numbers.
"""

import importlib.util
import os
import pathlib
import platform
import sys

from absl import flags

from . import common
from .bench import cases, child, measure, profile, report

CASES = flags.DEFINE_list("cases", [], f"Cases to time, of {', '.join(cases.CASES)}. Default: all.")
JSON = flags.DEFINE_string("json", None, "File for the results. Its other cases are kept.")
PICTURE = flags.DEFINE_string("picture", None, "PNG file for the ratios of all cases in the file of --json.")
BASELINE = flags.DEFINE_string("baseline", None, "Earlier results. A ratio more than 15% worse ends in exit code 1.")
SECONDS = flags.DEFINE_float("seconds", 40.0, "Approximate time for the turns of one case.")
SMOKE = flags.DEFINE_bool("smoke", False, "Tiny sizes, to test that everything runs. The numbers mean nothing.")
PROFILE = flags.DEFINE_bool("profile", False, "Also trace our side: time and rate of each kind of work.")
flags.declare_key_flag("dtype")


def machine(device_kind: str) -> dict:
  """The processor, cores, memory, system and device of this machine."""
  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
  return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "memory_gib": round(memory),
          "system": platform.system(), "device": device_kind}


def main() -> None:
  chosen, dtype = cases.choose(CASES.value), common.DTYPE.value
  baseline = report.read(BASELINE.value) if BASELINE.value else None
  with_peer = importlib.util.find_spec("torch") is not None
  print("Peer: PyTorch, eager" if with_peer else "PyTorch is not installed: our side runs alone, without ratios", flush=True)
  command = " ".join(["python -m experiments.benchmark", *sys.argv[1:]])
  rows = {}
  for name, case in chosen.items():
    case = case.smaller() if SMOKE.value else case
    row, versions = measure.measure(case, SECONDS.value, dtype, with_peer, quick=SMOKE.value)
    if PROFILE.value and not case.over:
      row["profile"] = profile.profile(case, child.Options("jax", dtype=dtype))
    results = {"machine": machine(versions.pop("device_kind")), "command": command, "versions": versions}
    rows[name] = row | {"smoke": SMOKE.value, "command": command, "versions": versions}
    print(report.table({name: row}, head=len(rows) == 1), flush=True)
    for key in {"peer", "agreement"} & row.keys():
      values = (f"{k} {v:.1g}" if isinstance(v, float) else f"{k} {v}" for k, v in row[key].items())
      print(f"{'':18}{key}: " + ", ".join(values), flush=True)
    if "profile" in row:
      print(profile.table({name: row}), end="", flush=True)
    if JSON.value:
      report.add(JSON.value, results | {"cases": {name: rows[name]}})
  if PICTURE.value:
    report.save_picture(PICTURE.value, report.read(JSON.value) if JSON.value else results | {"cases": rows})
  if baseline:
    worse = report.regressions(rows, baseline["cases"])
    print("\n".join(["Worse than the baseline:", *worse] if worse else ["No ratio is more than 15% worse than the baseline's"]))
    if worse:
      sys.exit(1)


if __name__ == "__main__":
  common.run(main)
