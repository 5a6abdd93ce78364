"""One self-contained HTML page of a run, from sections of tables, facts, pictures, curves and texts.

The page embeds its pictures and curves, and its policy forbids the network. It can be read on a phone and printed.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from posynda_jax.visuals import figures, page


def render(title: str, states: Sequence[str], sections: Mapping[str, str]) -> str:
  """The HTML of a page: `states` are lines under its title, `sections` are HTML of the functions below by heading.

  Empty sections are left out.
  """
  parts = [f"<h1>{_text(title)}</h1>", *(f'<p class="state">{_text(line)}</p>' for line in states)]
  for name, content in sections.items():
    if content:
      parts.append(f'<h2>{name}</h2>\n<div class="{name.lower()}">{content}</div>')
  return page.fill("run.html", {"title": _text(title), "body": "\n".join(parts)})


def _text(value: Any) -> str:
  return html.escape(str(value))


def paragraph(value: Any, tag: str = "p") -> str:
  """An escaped text in an element, such as `h3` or `pre`; nothing for an empty one."""
  return f"<{tag}>{_text(value)}</{tag}>" if value else ""


def table(rows: Sequence[Sequence[str]]) -> str:
  """A table, its head first."""
  lines = ""
  for tag, row in zip(["th"] + ["td"] * len(rows), rows):
    lines += "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row) + "</tr>"
  return f'<div class="wide"><table>{lines}</table></div>' if len(rows) > 1 else ""


def facts(values: Mapping[str, Any]) -> str:
  """Names with their values."""
  lines = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in values.items())
  return f"<dl>{lines}</dl>" if lines else ""


def picture(caption: str, kind: str, data: bytes) -> str:
  """An image file of that kind."""
  source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
  return f'<figure><img alt="{_text(caption)}" src="{source}"><figcaption>{_text(caption)}</figcaption></figure>'


def curves(scalars: Mapping[str, Mapping[int, float]]) -> str:
  """One SVG image per logged scalar, of {"training/name": {step: value}}."""
  names = sorted({tag.partition("/")[2] for tag in scalars})
  images = {name: figures.image(figures.curves_figure(scalars, [name]), "svg") for name in names}
  return "".join(picture(f"{name} over steps", "svg+xml", data) for name, data in images.items())
