"""Tables of rows' scores: means, deviations, closure, cost; as Markdown and JSON."""

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

  `closure` is the share of the way from source-only to the ceiling. With `paper` rows have the paper's figure.
  """
  first = next(iter(results.values()))[0]
  headline = next(iter(first["scores"]))
  mean = {row: statistics.fmean(one["scores"][headline] for one in found) for row, found in results.items()}
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
    if SOURCE_ONLY in mean and CEILING in mean and row.name not in (SOURCE_ONLY, CEILING):
      shown["closure"] = closure(mean[SOURCE_ONLY], mean[row.name], mean[CEILING])
    if row.guarded:
      shown["shares"] = [one["share"] for one in found]
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


def _columns(table: dict) -> tuple[list[str], list[list[str]]]:
  """Head and cells of a table as text."""
  rows, scores = table["rows"], table["scores"]
  closed, paper = any("closure" in row for row in rows), any(row["paper_mpjpe_mm"] for row in rows)
  head = ["row", *scores, *["closure %"] * closed, "trainable", "GFLOPs", "seconds", *["paper's MPJPE"] * paper]
  cells = []
  for row in rows:
    device = row["devices"][0]
    on = f" on {device}" if row["trainable"] and device != "cpu" else ""
    cells.append([
        row["name"], *(mean_and_std(row, key) for key in scores), *[closure_percent(row)] * closed,
        f"{row['trainable']:,}", f"{row['flops'] / 1e9:.4g}", f"{row['seconds']:.0f}{on}",
        *[f"{row['paper_mpjpe_mm'] or ''}"] * paper,
    ])
  return head, cells


def mean_and_std(row: dict, key: str = "mpjpe_mm") -> str:
  """Mean and standard deviation of a score of a row."""
  std = row["std"][key]
  return f"{row['mean'][key]:.1f}" + ("" if std is None else f" ± {std:.1f}")


def closure_percent(row: dict) -> str:
  """Closure of a row."""
  return "" if row.get("closure") is None else f"{100 * row['closure']:.0f}"


def markdown(table: dict) -> str:
  """The table with its title, protocol and note, for a document."""
  seeds = sorted({row["seeds"] for row in table["rows"] if row["trainable"]}) or [1]
  count = f"{seeds[-1]} seed{'s' if seeds[-1] > 1 else ''}"
  fewer = "; rows without ± have one" if len(seeds) > 1 else ""
  protocol = table["protocol"]
  where = f"{protocol['dataset']} {protocol['split']}, {protocol['keypoints_2d']} 2D, {protocol['protocol']}"
  about = f"{where} ({protocol['headline']}); {count} of the adaptation, one base{fewer}. {table['note']}".strip()
  return f"**{table['title']}.** {about}\n\n{markdown_table(*_columns(table))}\n"


def save(stem: pathlib.Path, table: dict) -> None:
  """Writes the table as Markdown and JSON, beside one another."""
  files.write_text(stem.with_suffix(".md"), markdown(table))
  files.write_json(stem.with_suffix(".json"), table)
