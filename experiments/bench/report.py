"""Tables, the picture, and the results file of the benchmark, and the ratios that are worse than in a baseline."""

import json
import pathlib

from posynda_jax.runtime import runs

from . import cases

WORSE = 1.15
RATIOS = ("ratio_to_torch_eager", "peak_memory_ratio", "ratio_to_separate_steps")


def read(path) -> dict:
  """Results in a file. Raises FileNotFoundError without the file, ValueError where it holds something else."""
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{path} is not there: give the JSON file of an earlier benchmark")
  try:
    results = json.loads(pathlib.Path(path).read_text())
    return {**results, "cases": dict(results["cases"]), "machine": dict(results["machine"])}
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f"{path} holds no results of a benchmark ({type(error).__name__}: {error}): give another file") from error


def add(path, results: dict) -> None:
  """Writes the results into the file and keeps its other cases. Raises ValueError where it has another machine's results."""
  if pathlib.Path(path).exists():
    old = read(path)
    if old["machine"] != results["machine"]:
      raise ValueError(f"{path} holds results of another machine ({old['machine'].get('processor')}): name another file")
    results = {**results, "cases": old["cases"] | results["cases"]}
  runs.write_json(path, results)


def regressions(new: dict, old: dict) -> list[str]:
  """One line for each ratio of the new cases that is more than 15% worse than the old one."""
  lines = []
  for name, row in new.items():
    before = old.get(name, {})
    same = all(row.get(key) == before.get(key) for key in ("what", "dtype", "platform"))
    for ratio in RATIOS if same else ():
      if ratio in row and ratio in before and row[ratio] > WORSE * before[ratio]:
        lines.append(f"{name}: {ratio} {row[ratio]:.2f}, was {before[ratio]:.2f} ({row[ratio] / before[ratio]:.2f} times)")
  return lines


def table(rows: dict, head: bool = True) -> str:
  """The cases as text, one line each. A growth case has one cell a point."""
  names = (("ours s", 9), ("eager s", 9), ("ratio", 7), ("quartiles", 12), ("target", 8), ("MiB", 7), ("ratio", 7), ("target", 8))
  lines = [" " * 18 + "".join(f"{name:>{width}}" for name, width in (*names, ("of matmul", 11)))]
  for name, row in rows.items():
    if "points" in row:
      points = (f"{value}: {point['seconds']['median']:.3g} s" for value, point in row["points"].items())
      lines.append(f"{name:18}" + "  ".join(points))
      continue
    case, peer, ratio, memory = cases.CASES[name], "-", "-", "-"
    quartiles = ""
    if spread := row.get("ratio_to_torch_eager_spread"):
      peer, ratio = f"{row['torch_eager_seconds']['median']:.3g}", f"{spread['median']:.2f}"
      quartiles, memory = "{:.2f}-{:.2f}".format(*spread["quartiles"]), f"{row['peak_memory_ratio']:.2f}"
    cells = (f"{row['seconds_median']:.3g}", peer, ratio, quartiles, case.target or "", f"{row['peak_memory_mib']:.0f}", memory,
             case.memory_target or "")
    line = f"{name:18}" + "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, names, strict=True))
    line += f"{row['share_of_matmul']:11.0%}" if "share_of_matmul" in row else ""
    if "ratio_to_separate_steps" in row:
      line += f", {row['ratio_to_separate_steps']:.2f} of separate steps"
    lines.append(line)
  return "\n".join(lines if head else lines[1:])


def markdown_table(head, rows) -> str:
  """A Markdown table of text cells."""
  return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def markdown(results: dict) -> str:
  """The cases with a peer as a table for a document: seconds, ratios with quartiles, memory, share of the matmul rate."""
  head = ("case", "ours, s", "eager PyTorch, s", "ratio (quartiles)", "peak memory, MiB (ratio)", "of matmul rate")
  rows = []
  for row in _in_order(results):
    if spread := row.get("ratio_to_torch_eager_spread"):
      rows.append((
          row["what"], f"{row['seconds_median']:.3g}", f"{row['torch_eager_seconds']['median']:.3g}",
          "{:.2f} ({:.2f}-{:.2f})".format(spread["median"], *spread["quartiles"]),
          f"{row['peak_memory_mib']:,.0f} ({row['peak_memory_ratio']:.2f})",
          f"{row['share_of_matmul']:.0%}" if "share_of_matmul" in row else "",
      ))
  return markdown_table(head, rows)


def growth(results: dict) -> str:
  """Seconds and peak memory of the growth cases, relative to their first points, as a table for a document."""
  rows = []
  for row in (row for row in _in_order(results) if "points" in row):
    points = sorted((int(value), point["seconds"]["median"], point["peak_memory_mib"]) for value, point in row["points"].items())
    _, seconds, memory = points[0]
    rows.append((row["what"], ", ".join(f"{value}: {taken / seconds:.2f}" for value, taken, _ in points),
                 ", ".join(f"{value}: {peak / memory:.2f}" for value, _, peak in points)))
  return markdown_table(("case", "time, of the first's", "peak memory, of the first's"), rows)


def _in_order(results: dict) -> list[dict]:
  return [results["cases"][name] for name in cases.CASES if name in results["cases"]]


def save_picture(path, results: dict) -> None:
  """Bars of time and peak memory relative to eager PyTorch, with quartiles, a line at 1 and marks at the targets."""
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
      quartiles = rows[name].get(f"{ratio}_spread", {}).get("quartiles", ())
      axis.plot(quartiles, [place] * len(quartiles), color="#222222", linewidth=1.6)
      axis.text(max(values[place], *quartiles, 0) + 0.015 * edge, place, f"{values[place]:.2f}", va="center", fontsize=9)
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
