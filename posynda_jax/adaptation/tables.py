"""Tables of rows' scores: means, deviations, closure, cost; as Markdown, CSV, JSON and a picture."""

import csv
import io
import pathlib
import statistics
from typing import Any

from posynda_jax.adaptation.rows import CEILING, SOURCE_ONLY, Table
from posynda_jax.evaluation.results import closure
from posynda_jax.runtime import files
from posynda_jax.runtime.text import markdown_table


def summarise(name: str, table: Table, results: dict[str, list[dict]], paper: bool) -> dict[str, Any]:
  """A table as JSON: for every row the mean and standard deviation (n - 1; None for one seed) of each score, and its
  cost.

  `closure` is towards the plain ceiling, `closure_alike` towards the ceiling with the same camera, fit, adapter and
  updates. With `paper` rows have the paper's figure.
  """
  first = next(iter(results.values()))[0]
  headline = next(iter(first["scores"]))
  mean = {row: statistics.fmean(one["scores"][headline] for one in found) for row, found in results.items()}
  ceilings = {row.aids: mean[row.name] for row in table.rows if row.name in mean and row.is_ceiling}
  plain = next((row.aids for row in table.rows if row.name == CEILING), None)
  rows = []
  for row in table.rows:
    if row.name not in results:
      continue
    found = results[row.name]
    values = {key: [one["scores"][key] for one in found] for key in first["scores"]}
    shown = {
        "mean": {key: statistics.fmean(its) for key, its in values.items()},
        "std": {key: statistics.stdev(its) if len(its) > 1 else None for key, its in values.items()},
    }
    if SOURCE_ONLY in mean and row.name not in (SOURCE_ONLY, CEILING):
      if plain in ceilings:
        shown["closure"] = closure(mean[SOURCE_ONLY], mean[row.name], ceilings[plain])
      if row.aids != plain and row.aids in ceilings and not row.is_ceiling:
        shown["closure_alike"] = closure(mean[SOURCE_ONLY], mean[row.name], ceilings[row.aids])
    rows.append({
        "name": row.name, "seeds": len(found), **shown, "paper_mpjpe_mm": row.paper if paper else None,
        **{key: found[0][key] for key in ("trainable", "flops", "frames", "base")},
        "seconds": statistics.fmean(one["seconds"] for one in found if one["device"] == found[0]["device"]),
        "devices": [one["device"] for one in found], "runs": [one["run"] for one in found], "by_seed": values,
        "groups": found[0]["groups"],
    })
  return {
      "table": name, "title": table.title, "note": table.note, "rows": rows, "protocol": first["protocol"],
      "scores": list(first["scores"]),  # in the protocol's order, the headline first: files sort the names of a mapping
  }


def columns(table: dict) -> tuple[list[str], list[list[str]]]:
  """Head and cells of a table as text: mean ± std of the scores, closure in MPJPE, parameters, GFLOPs, seconds of
  training.
  """
  rows, scores = table["rows"], table["scores"]
  closed, paper = any("closure" in row for row in rows), any(row["paper_mpjpe_mm"] for row in rows)
  head = ["row", *scores, *["closure %"] * closed, "trainable", "GFLOPs", "seconds", *["paper's MPJPE"] * paper]
  cells = []
  for row in rows:
    device = row["devices"][0]
    on = f" on {device}" if row["trainable"] and device != "cpu" else ""
    cells.append([
        row["name"], *(_mean_and_std(row, key) for key in scores), *[_percent(row)] * closed, f"{row['trainable']:,}",
        f"{row['flops'] / 1e9:.4g}", f"{row['seconds']:.0f}{on}", *[f"{row['paper_mpjpe_mm'] or ''}"] * paper,
    ])
  return head, cells


def _mean_and_std(row: dict, key: str) -> str:
  std = row["std"][key]
  return f"{row['mean'][key]:.1f}" + ("" if std is None else f" ± {std:.1f}")


def _percent(row: dict) -> str:
  if row.get("closure") is None:
    return ""
  alike = row.get("closure_alike")
  return f"{100 * row['closure']:.0f}" + ("" if alike is None else f" ({100 * alike:.0f})")


def markdown(table: dict) -> str:
  """The table with its title, protocol and note, for a document."""
  seeds = sorted({row["seeds"] for row in table["rows"] if row["trainable"]}) or [1]
  count = f"{seeds[-1]} seed{'s' if seeds[-1] > 1 else ''}"
  fewer = "; rows without ± have one" if len(seeds) > 1 else ""
  protocol = table["protocol"]
  where = f"{protocol['dataset']} {protocol['split']}, {protocol['keypoints_2d']} 2D, {protocol['protocol']}"
  about = f"{where} ({protocol['headline']}); {count} of the adaptation, one base{fewer}. {table['note']}".strip()
  return f"**{table['title']}.** {about}\n\n{markdown_table(*columns(table))}\n"


def save_picture(path, table: dict) -> None:
  """Headline of every row as a bar with its standard deviation, and the ceiling as a line."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  rows, headline = table["rows"][::-1], table["scores"][0]
  figure, axis = pyplot.subplots(figsize=(8, 1 + 0.34 * len(rows)), layout="constrained")
  values = [row["mean"][headline] for row in rows]
  errors = [row["std"][headline] or 0 for row in rows]
  axis.barh([row["name"] for row in rows], values, xerr=errors, color="#33658a", height=0.62)
  for place, (row, value) in enumerate(zip(rows, values, strict=True)):
    axis.text(value + 0.02 * max(values), place, f"{value:.1f}", va="center", fontsize=9)
    if row["name"] == CEILING:
      axis.axvline(value, color="#d1495b", linewidth=1.4)
  axis.set(title=f"{table['title']}, {table['protocol']['dataset']}", xlabel=headline, xlim=(0, 1.15 * max(values)))
  axis.spines[["top", "right"]].set_visible(False)
  figure.savefig(path, dpi=110)
  pyplot.close(figure)


def save(stem: pathlib.Path, table: dict) -> None:
  """Writes the table as Markdown, CSV, JSON and a picture, beside one another."""
  head, cells = columns(table)
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows([head, *cells])
  files.write_text(stem.with_suffix(".md"), markdown(table))
  files.write_text(stem.with_suffix(".csv"), text.getvalue())
  files.write_json(stem.with_suffix(".json"), table)
  save_picture(stem.with_suffix(".png"), table)
