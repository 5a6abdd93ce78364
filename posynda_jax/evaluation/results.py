"""Scores as text: closure, and the table of a run's results."""

from typing import Any

from posynda_jax.runtime.text import markdown_table

HEADINGS = {
    "mpjpe_mm": "MPJPE mm", "p_mpjpe_mm": "P-MPJPE mm", "n_mpjpe_mm": "N-MPJPE mm",
    "reprojection_px": "reprojection px", "closure": "closure %",
    **{name: name for name in ("frames", "trainable", "seconds")},
}


def closure(source_only: float, adapted: float, ceiling: float) -> float | None:
  """(source-only - adapted) / (source-only - ceiling), a share; None where the ceiling is no better than
  source-only.
  """
  return (source_only - adapted) / (source_only - ceiling) if source_only > ceiling else None


def both(scores: dict[str, Any]) -> str:
  """MPJPE (P-MPJPE) in mm, as tables write them."""
  return f"{scores['mpjpe_mm']:.1f} ({scores['p_mpjpe_mm']:.1f})"


def result_table(results: dict[str, dict[str, Any]]) -> list[list[str]]:
  """A run's results {row: scores} as text: the head, then a row each, with the columns of HEADINGS that occur.

  Rows stand between `source_only` and `ceiling`; where both are there, each other row has its closure.
  """
  rows = {name: dict(row) for name, row in results.items() if name != "protocol" and isinstance(row, dict)}
  mpjpe = {name: row["mpjpe_mm"] for name, row in rows.items() if "mpjpe_mm" in row}
  for name in set(mpjpe) - {"source_only", "ceiling"}:
    if {"source_only", "ceiling"} <= set(mpjpe):
      share = closure(mpjpe["source_only"], mpjpe[name], mpjpe["ceiling"])
      rows[name]["closure"] = None if share is None else 100 * share
  columns = [name for name in HEADINGS if any(name in row for row in rows.values())]
  ordered = sorted(rows, key=lambda name: {"source_only": 0, "ceiling": 2}.get(name, 1))
  head = ["", *map(HEADINGS.get, columns)]
  return [head, *([name, *(_cell(rows[name].get(column)) for column in columns)] for name in ordered)]


def _cell(value) -> str:
  return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def result_text(results: dict[str, dict[str, Any]], protocol: dict) -> str:
  """The table with its protocol, for a terminal or a document."""
  head, *rows = result_table(results)
  return f"{markdown_table(head, rows)}\nprotocol: " + ", ".join(f"{name}={value}" for name, value in protocol.items())
