"""One self-contained HTML page of a run: results, protocol, pictures, curves, evaluations, configuration, commands.

The page embeds its pictures and curves, and its policy forbids the network. It can be read on a phone and printed.
"""

import base64
import dataclasses
import html
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from posynda_jax.visuals import figures, page


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """A later evaluation: `title`, `protocol`, and either `table` (head, then rows) or preformatted `text`."""

  title: str
  table: Sequence[Sequence[str]] = ()
  text: str = ""
  protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class RunPage:
  """The contents of a run's page."""

  title: str  # heading, the name of the run
  summary: str  # one line: training, source and target
  unfinished: Sequence[str]  # one line per training without a result
  results: Sequence[Sequence[str]]  # table as text, its head first
  protocol: Mapping[str, Any]  # of the results
  pictures: Mapping[str, bytes]  # file name -> PNG or GIF file
  scalars: Mapping[str, Mapping[int, float]]  # "training/name" -> step -> value
  evaluations: Sequence[Evaluation]
  config: Mapping[str, Any]
  commands: Sequence[Mapping[str, Any]]  # the records of the run's commands.jsonl, one per start


def render(run: RunPage) -> str:
  """The HTML of a run's page. Empty sections are left out; all texts are escaped."""
  versions = run.commands[-1].get("versions", {}) if run.commands else {}
  parts = [
      f"<h1>{_text(run.title)}</h1>",
      f'<p class="state">{_text(run.summary)}</p>',
      *(f'<p class="state unfinished">{_text(line)}</p>' for line in run.unfinished),
      _section("Results", _table(run.results)),
      _section("Protocol", _fields(run.protocol)),
      _section("Pictures", "".join(_figure(name, name[-3:], data) for name, data in run.pictures.items())),
      _section("Curves", _curves(run.scalars), "curves"),
      _section("Evaluations", "".join(map(_evaluation, run.evaluations))),
      _section("Configuration", f"<pre>{_text(json.dumps(run.config, indent=2))}</pre>"),
      _section("Commands", "".join(map(_command, run.commands)) + _fields(versions)),
  ]
  return page.fill("run.html", {"title": _text(run.title), "body": "\n".join(filter(None, parts))})


def _text(value: Any) -> str:
  return html.escape(str(value))


def _section(title: str, content: str, kind: str = "") -> str:
  return f'<h2>{title}</h2>\n<div class="{kind}">{content}</div>' if content else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
  lines = ""
  for tag, row in zip(["th"] + ["td"] * len(rows), rows):
    lines += "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row) + "</tr>"
  return f'<div class="wide"><table>{lines}</table></div>' if len(rows) > 1 else ""


def _fields(values: Mapping[str, Any]) -> str:
  lines = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in values.items())
  return f"<dl>{lines}</dl>" if lines else ""


def _figure(caption: str, kind: str, data: bytes) -> str:
  source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
  return f'<figure><img alt="{_text(caption)}" src="{source}"><figcaption>{_text(caption)}</figcaption></figure>'


def _curves(scalars: Mapping[str, Mapping[int, float]]) -> str:
  """One SVG image per scalar."""
  names = sorted({tag.partition("/")[2] for tag in scalars})
  images = {name: figures.image(figures.curves_figure(scalars, [name]), "svg") for name in names}
  return "".join(_figure(f"{name} over steps", "svg+xml", data) for name, data in images.items())


def _evaluation(evaluation: Evaluation) -> str:
  text = f"<pre>{_text(evaluation.text)}</pre>" if evaluation.text else ""
  return f"<h3>{_text(evaluation.title)}</h3>{_table(evaluation.table)}{text}{_fields(evaluation.protocol)}"


def _command(record: Mapping[str, Any]) -> str:
  """One start of the run: time, commit, and the command line."""
  diff = record.get("uncommitted_diff")
  changes = f"<details><summary>uncommitted changes</summary><pre>{_text(diff)}</pre></details>" if diff else ""
  when = record["started"] + (f", commit {record['commit'][:12]}" if "commit" in record else "")
  when += " with uncommitted changes" if diff else ""
  return f'<p>{_text(when)}</p><pre class="command">{_text(shlex.join(record["command"]))}</pre>{changes}'
