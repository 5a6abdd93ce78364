"""What becomes of the rows: a table, a picture, one file that grows case by case, and what got worse since a baseline."""

import json
import pathlib

from experiments.bench import cases
from posynda_jax.runtime import runs

WORSE = 1.15
RATIOS = ("ratio_to_torch_eager", "ratio_to_torch_compiled", "peak_memory_ratio", "ratio_to_separate_steps")


def read(path) -> dict:
  """Results in a file. Raises FileNotFoundError where there is none, ValueError where it holds something else."""
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{path} is not there: give the JSON file of an earlier benchmark")
  try:
    results = json.loads(pathlib.Path(path).read_text())
    return {**results, "cases": dict(results["cases"]), "machine": dict(results["machine"])}
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f"{path} holds no results of a benchmark ({type(error).__name__}: {error}): give another file") from error


def add(path, results: dict) -> None:
  """Writes the results, with those cases of the file that this run did not have. Raises ValueError for another machine's file."""
  if pathlib.Path(path).exists():
    old = read(path)
    check_machine(path, old, results["machine"])
    results = {**results, "cases": old["cases"] | results["cases"]}
  runs.write_json(path, results)


def check_machine(path, results: dict, machine: dict) -> None:
  """Raises ValueError where results are another machine's: such are not put beside each other."""
  if results["machine"] != machine:
    raise ValueError(f"{path} holds results of another machine ({results['machine'].get('processor')}): name another file")


def regressions(new: dict, old: dict) -> list[str]:
  """One line for every ratio of the new cases that is worse than the old one's by more than 15%."""
  lines = []
  for name, row in new.items():
    before = old.get(name, {})
    same = all(row.get(key) == before.get(key) for key in ("what", "dtype", "platform"))
    for ratio in RATIOS if same else ():
      if ratio in row and ratio in before and row[ratio] > WORSE * before[ratio]:
        lines.append(f"{name}: {ratio} {row[ratio]:.2f}, was {before[ratio]:.2f} ({row[ratio] / before[ratio]:.2f} times)")
  return lines


def table(rows: dict, head: bool = True) -> str:
  """The cases as text, one line each; those of growth have one cell a point."""
  names = (("ours s", 9), ("eager s", 9), ("ratio", 7), ("quartiles", 12), ("target", 8), ("MiB", 7), ("ratio", 7), ("target", 8))
  lines = [" " * 18 + "".join(f"{name:>{width}}" for name, width in (*names, ("of matmul", 11)))]
  for name, row in rows.items():
    if "points" in row:
      points = (f"{value}: {point['seconds']['median']:.3g} s" for value, point in row["points"].items())
      lines.append(f"{name:18}" + "  ".join(points))
      continue
    case, ratio = cases.CASES[name], row.get("ratio_to_torch_eager_spread")
    cells = [f"{name:18}{row['seconds_median']:9.3g}"]
    cells.append(f"{row['torch_eager_seconds']['median']:9.3g}{ratio['median']:7.2f}" if ratio else f"{'-':>9}{'-':>7}")
    cells.append("{:7.2f}-{:.2f}".format(*ratio["quartiles"]) if ratio else f"{'':12}")
    cells.append(f"{case.target or '':>8}{row['peak_memory_mib']:7.0f}")
    cells.append(f"{row['peak_memory_ratio']:7.2f}" if ratio else f"{'-':>7}")
    cells.append(f"{case.memory_target or '':>8}")
    cells.append(f"{100 * row['share_of_matmul']:10.0f}%" if "share_of_matmul" in row else "")
    if "ratio_to_separate_steps" in row:
      cells.append(f", {row['ratio_to_separate_steps']:.2f} of separate steps")
    lines.append("".join(cells))
  return "\n".join(lines if head else lines[1:])


def markdown(results: dict) -> str:
  """The cases with a peer as a table for a document: seconds, ratios with quartiles, memory, share of the matmul rate."""
  head = "| case | ours, s | eager PyTorch, s | ratio (quartiles) | peak memory, MiB (ratio) | of matmul rate |"
  lines = [head, "|---" * 6 + "|"]
  for row in _in_order(results):
    if spread := row.get("ratio_to_torch_eager_spread"):
      share = f"{100 * row['share_of_matmul']:.0f}%" if "share_of_matmul" in row else ""
      low, high = spread["quartiles"]
      lines.append(
          f"| {row['what']} | {row['seconds_median']:.3g} | {row['torch_eager_seconds']['median']:.3g} | {spread['median']:.2f} "
          f"({low:.2f}-{high:.2f}) | {row['peak_memory_mib']:,.0f} ({row['peak_memory_ratio']:.2f}) | {share} |"
      )
  return "\n".join(lines) + "\n"


def growth(results: dict) -> str:
  """Seconds and peak memory of the growth cases as shares of their first point's, as a table for a document."""
  lines = ["| case | time, of the first's | peak memory, of the first's |", "|---|---|---|"]
  for row in (row for row in _in_order(results) if "points" in row):
    points = dict(sorted(row["points"].items(), key=lambda point: int(point[0])))
    first = next(iter(points.values()))
    times = (f"{value}: {point['seconds']['median'] / first['seconds']['median']:.2f}" for value, point in points.items())
    memory = (f"{value}: {point['peak_memory_mib'] / first['peak_memory_mib']:.2f}" for value, point in points.items())
    lines.append(f"| {row['what']} | {', '.join(times)} | {', '.join(memory)} |")
  return "\n".join(lines) + "\n"


def _in_order(results: dict) -> list[dict]:
  return [results["cases"][name] for name in cases.CASES if name in results["cases"]]


def save_picture(path, results: dict) -> None:
  """Time and peak memory of every case as shares of the eager peer's: bars with quartiles, 1.0 as a line, targets as marks."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  rows = {name: row for name, row in results["cases"].items() if "ratio_to_torch_eager" in row}
  if not rows:
    raise ValueError("no case has a ratio to draw: run with PyTorch installed")
  order = [name for name in cases.CASES if name in rows][::-1]
  figure, axes = pyplot.subplots(1, 2, figsize=(11, 1.4 + 0.36 * len(order)), sharey=True, layout="constrained")
  shown = (
      ("time", "ratio_to_torch_eager", "target", "#33658a"), ("peak memory", "peak_memory_ratio", "memory_target", "#758e4f"),
  )
  for axis, (title, ratio, target, colour) in zip(axes, shown, strict=True):
    values = [rows[name][ratio] for name in order]
    axis.barh(order, values, color=colour, height=0.62)
    edge = max(1.1, *values)
    for place, name in enumerate(order):
      ends = [values[place]]
      if spread := rows[name].get(f"{ratio}_spread"):
        axis.plot(spread["quartiles"], (place, place), color="#222222", linewidth=1.6)
        ends.append(spread["quartiles"][1])
      axis.text(max(ends) + 0.015 * edge, place, f"{values[place]:.2f}", va="center", fontsize=9)
      if wanted := getattr(cases.CASES[name], target):
        axis.plot((wanted, wanted), (place - 0.42, place + 0.42), color="#d1495b", linewidth=2.4)
    axis.axvline(1, color="#222222", linewidth=1)
    axis.set(title=f"{title}, share of eager PyTorch's", xlim=(0, 1.14 * edge))
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
  mark, = axes[1].plot([], [], color="#d1495b", linewidth=2.4)
  figure.legend([mark], ["target, at most"], loc="outside lower right", frameon=False)
  machine, dtypes = results["machine"], ", ".join(sorted({row["dtype"] for row in rows.values()}))
  figure.suptitle(f"{machine['processor']}, {machine['cores']} cores, {dtypes}", fontsize=10)
  figure.savefig(path, dpi=110)
  pyplot.close(figure)
