"""Times our computations beside the same in plain PyTorch, in turns, after a check that both compute the same.

    python -m experiments.benchmark --cases=adapt_step,forward_243 --json=docs/results/benchmark.json
    python -m experiments.benchmark --cases=adapt_step --baseline=docs/results/benchmark.json   # 15% worse: exit code 1

Each side of each case has a process of its own, with the same number of threads. Without PyTorch our side runs alone.
A second run into the same file adds its cases. docs/performance.md explains the numbers.
"""

import importlib.util
import sys

from absl import flags

from . import common
from .bench import cases, measure, report

CASES = flags.DEFINE_list("cases", [], f"Cases to time, of {', '.join(cases.CASES)}. Default: all.")
JSON = flags.DEFINE_string("json", None, "File for the results. Its other cases are kept.")
BASELINE = flags.DEFINE_string("baseline", None, "Earlier results. A ratio more than 15% worse ends in exit code 1.")
SECONDS = flags.DEFINE_float("seconds", 40.0, "Approximate time for the turns of one case.")
SMOKE = flags.DEFINE_bool("smoke", False, "Tiny sizes, to test that everything runs. The numbers mean nothing.")
COMPILE = flags.DEFINE_bool("compile", False, "Also time the peer under torch.compile: ratio_to_torch_compiled.")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Computation type; parameters stay float32.")


def main() -> None:
  chosen, rows = cases.choose(CASES.value), {}
  baseline = report.read(BASELINE.value) if BASELINE.value else None
  with_peer = importlib.util.find_spec("torch") is not None
  print("Peer: eager PyTorch" if with_peer else "PyTorch is not installed: no peer and no ratios", flush=True)
  command = " ".join(["python -m experiments.benchmark", *sys.argv[1:]])
  for name, case in chosen.items():
    case = case.smaller() if SMOKE.value else case
    row, versions = measure.measure(case, SECONDS.value, DTYPE.value, with_peer, SMOKE.value, COMPILE.value)
    results = {"machine": report.machine(versions.pop("device_kind")), "command": command, "versions": versions}
    rows[name] = row | {"smoke": SMOKE.value, "command": command, "versions": versions}
    print(f"\n{report.growth({name: row}) if case.over else report.markdown({name: row})}", flush=True)
    for key in {"peer", "agreement", "ratio_to_torch_compiled"} & row.keys():
      print(f"{key}: {row[key]}", flush=True)
    if JSON.value:
      report.add(JSON.value, results | {"cases": {name: rows[name]}})
  if baseline:
    worse = report.regressions(rows, baseline["cases"])
    print("\n".join(["Worse than the baseline:", *worse] if worse else ["No ratio is more than 15% worse than before"]))
    if worse:
      sys.exit(1)


if __name__ == "__main__":
  common.run(main)
