"""Markdown tables."""

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table whose columns are padded to one width, the first aligned left and the others right."""
  widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
  rule = [":" + "-" * max(widths[0] - 1, 2), *("-" * max(width - 1, 2) + ":" for width in widths[1:])]
  lines = [head, rule, *rows]
  return "\n".join(
      "| " + " | ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths))) + " |"
      for line in lines
  )
