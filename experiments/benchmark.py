"""Times what we compute beside the same in plain PyTorch, in one run, taking turns, after checking that both compute the same.

    python -m experiments.benchmark --cases=adapt_step,forward_243 --json=docs/results/benchmark.json --picture=docs/benchmark.png
    python -m experiments.benchmark --cases=adapt_step --baseline=docs/results/benchmark.json      # ratios 15% worse: exit code 1

Every case runs in processes of its own, one a side, with as many threads each; a side has run twice before it is timed, and waits
for its results. PyTorch gets the faster of its attention kernel and the plain formula, and of malloc as our scripts set it and as
it comes. Without PyTorch our side runs alone. A second run into the same file adds its cases. docs/performance.md tells how to
read the numbers.
"""

import importlib.util
import os
import pathlib
import platform
import sys

from absl import flags

from experiments import common
from experiments.bench import cases, child, measure, profile, report

CASES = flags.DEFINE_list("cases", [], f"Cases to time, of {', '.join(cases.CASES)}; all if not given.")
JSON = flags.DEFINE_string("json", None, "File for the results; cases that it has and this run has not are kept.")
PICTURE = flags.DEFINE_string("picture", None, "PNG file for the ratios, of all cases in the file of --json.")
BASELINE = flags.DEFINE_string("baseline", None, "Earlier results: a ratio more than 15% worse than there ends in exit code 1.")
SECONDS = flags.DEFINE_float("seconds", 40.0, "Time for a case's turns, about.")
SMOKE = flags.DEFINE_bool("smoke", False, "Tiny sizes: everything runs, and the numbers mean nothing.")
COMPILED = flags.DEFINE_bool("compiled", False, "Also time the peer under torch.compile, which takes minutes to compile.")
PROFILE = flags.DEFINE_bool("profile", False, "Also trace our side: what share of its time each kind of work takes, how fast.")
flags.declare_key_flag("dtype")


def machine(device_kind: str) -> dict:
  """What the numbers belong to."""
  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
  return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "memory_gib": round(memory),
          "system": platform.system(), "device": device_kind}


def main() -> None:
  chosen = cases.choose(CASES.value)
  baseline = report.read(BASELINE.value) if BASELINE.value else None
  if with_peer := importlib.util.find_spec("torch") is not None:
    print("Peer: PyTorch, eager" + (" and compiled" if COMPILED.value else ""), flush=True)
  else:
    print("PyTorch is not installed: our side runs alone, without ratios", flush=True)
  command = " ".join(["python -m experiments.benchmark", *sys.argv[1:]])
  rows = {}
  for name, case in chosen.items():
    case = case.smaller() if SMOKE.value else case
    row, versions = measure.measure(case, SECONDS.value, common.DTYPE.value, with_peer, COMPILED.value, quick=SMOKE.value)
    if PROFILE.value and not case.over:
      row["profile"] = profile.profile(case, child.Options("jax", dtype=common.DTYPE.value))
    here = machine(versions.pop("device_kind"))
    rows[name] = row | {"smoke": SMOKE.value, "command": command, "versions": versions}
    print(report.table({name: row}, head=len(rows) == 1), flush=True)
    for key in ("peer", "agreement", "agreement_compiled"):
      if key in row:
        values = (f"{k} {v:.1g}" if isinstance(v, float) else f"{k} {v}" for k, v in row[key].items())
        print(f"{'':18}{key}: " + ", ".join(values), flush=True)
    if "profile" in row:
      print(profile.table({name: row}), end="", flush=True)
    results = {"machine": here, "command": command, "versions": versions, "cases": {name: rows[name]}}
    if JSON.value:
      report.add(JSON.value, results)
  if PICTURE.value:
    report.save_picture(PICTURE.value, report.read(JSON.value) if JSON.value else {"machine": here, "cases": rows})
  if baseline:
    worse = report.regressions(rows, baseline["cases"])
    said = ["Worse than the baseline:", *worse] if worse else ["No ratio is worse than the baseline's by more than 15%"]
    print("\n".join(said), flush=True)
    if worse:
      sys.exit(1)


if __name__ == "__main__":
  common.run(main)
