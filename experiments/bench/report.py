"""Tables and the results file of the benchmark, and the ratios that are worse than in a baseline."""

import json
import os
import pathlib
import platform
import re

from posynda_jax.runtime import files
from posynda_jax.runtime.text import markdown_table

from . import cases

WORSE = 1.15
VECTORS = ("sse4_2", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")  # as Linux names them
RATIOS = ("ratio_to_torch_eager", "ratio_to_torch_compiled", "peak_memory_ratio", "ratio_to_separate_steps")


def machine(device_kind: str) -> dict:
  """The processor with its vector instructions, cores, memory, system and device of this machine."""
  info = pathlib.Path("/proc/cpuinfo")
  told = info.read_text() if info.exists() else ""
  names, instructions = re.findall(r"^model name\s*: (.*)$", told, re.M), re.search(r"^flags\s*: (.*)$", told, re.M)
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
  vectors = [name for name in VECTORS if instructions and name in instructions[1].split()]
  return {"processor": names[0] if names else platform.processor(), "vectors": vectors, "cores": os.cpu_count(),
          "memory_gib": round(memory), "system": platform.system(), "device": device_kind}


def read(path) -> dict:
  """Results in a file. Raises ValueError where it holds something else."""
  results = json.loads(pathlib.Path(path).read_text())
  if not {"cases", "machine"} <= set(results):
    raise ValueError(f"{path} holds no results of a benchmark: give another file")
  return results


def add(path, results: dict) -> None:
  """Writes the results into the file, keeping its other cases. Raises ValueError for another machine's file."""
  if pathlib.Path(path).exists():
    old = read(path)
    if any(results["machine"].get(name) != value for name, value in old["machine"].items()):
      raise ValueError(f"{path} has results of another machine ({old['machine'].get('processor')}): name another file")
    results = {**results, "cases": old["cases"] | results["cases"]}
  files.write_json(path, results)


def regressions(new: dict, old: dict) -> list[str]:
  """One line for each ratio of the new cases that is more than 15% worse than the old one."""
  lines = []
  for name, row in new.items():
    before = old.get(name, {})
    same = all(row.get(key) == before.get(key) for key in ("what", "dtype", "platform"))
    for ratio in RATIOS if same else ():
      if ratio in row and ratio in before and (times := row[ratio] / before[ratio]) > WORSE:
        lines.append(f"{name}: {ratio} {row[ratio]:.2f}, was {before[ratio]:.2f} ({times:.2f} times)")
  return lines


def markdown(rows: dict) -> str:
  """Seconds, ratio to the peer with quartiles, peak memory and share of the matmul rate of each case, as a table.

  The peer is eager PyTorch. For a sweep it is our own step, as many times as there are members.
  """
  cells = []
  for row in _in_order(rows, "seconds_median"):
    seconds = ratio = ""
    for peer, name in (("torch_eager", "torch_eager"), ("separate", "separate_steps")):
      if spread := row.get(f"ratio_to_{name}_spread"):
        seconds = f"{row[f'{peer}_seconds']['median']:.3g}"
        ratio = "{:.2f} ({:.2f}-{:.2f})".format(spread["median"], *spread["quartiles"])
    memory = f"{row['peak_memory_mib']:,.0f}"
    memory += f" ({row['peak_memory_ratio']:.2f})" if "peak_memory_ratio" in row else ""
    share = f"{row['share_of_matmul']:.0%}" if "share_of_matmul" in row else ""
    cells.append((row["what"], f"{row['seconds_median']:.3g}", seconds, ratio, memory, share))
  head = ("case", "ours, s", "peer, s", "ratio (quartiles)", "peak memory, MiB (ratio)", "of matmul rate")
  return markdown_table(head, cells)


def growth(rows: dict) -> str:
  """Seconds and peak memory of the growth cases, relative to their first points, as a table."""
  cells = []
  for row in _in_order(rows, "points"):
    points = sorted((int(value), point["seconds"]["median"], point["peak_memory_mib"])
                    for value, point in row["points"].items())
    relative = (", ".join(f"{point[0]}: {point[i] / points[0][i]:.2f}" for point in points) for i in (1, 2))
    cells.append((row["what"], *relative))
  return markdown_table(("case", "time, of the first's", "peak memory, of the first's"), cells)


def _in_order(rows: dict, key: str) -> list[dict]:
  """The rows that have `key`, in the order of the cases."""
  return [rows[name] for name in cases.CASES if key in rows.get(name, {})]
