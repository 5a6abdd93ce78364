"""A run's folder as one HTML page: results, protocol, pictures, curves, evaluations, config and commands.

The page holds everything itself (pictures as base64, curves as SVG, a policy that forbids the network), reads on a phone and
prints. It shows what the folder has: a run that is not finished is reported as such.
"""

import base64
import html
import json
import math
import pathlib
import shlex
from typing import Any

from posynda_jax.evaluation import tally
from posynda_jax.runtime import runs

COLOURS = ("#2a6fb0", "#d1495b", "#3a7d44", "#8a5fbf", "#c77d1e", "#4a8f98", "#7a6a53", "#b0447f", "#5c6b7a", "#9aa02b")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 380, 210, 52, 24, 8  # px of a panel and of its margins
_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; background: #fff; max-width: 64rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1rem 0 .25rem; overflow-wrap: anywhere; }
.state { margin: .25rem 0; color: #4b5866; } .unfinished { color: #a4262c; font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d9dfe5; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; font-size: .9rem; }
dt { color: #4b5866; } dd { margin: 0; overflow-wrap: anywhere; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; break-inside: avoid; } figcaption { font-size: .85rem; } svg, img { width: 100%; height: auto; }
svg text { font-size: 11px; fill: #4b5866; } .key { display: inline-block; margin-right: .8rem; }
pre { overflow-x: auto; font-size: .8rem; background: #f4f6f8; padding: .6rem; }
.command { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .3rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } .wide, pre { overflow: visible; white-space: pre-wrap; } }
</style>
"""


def page(folder) -> str:
  """The HTML of a pretraining, adaptation or components run. Raises FileNotFoundError or ValueError for another folder."""
  folder = pathlib.Path(folder).expanduser()
  config = runs.read_config(folder)
  kind = _kind(folder, config)
  results, curves = runs.read_metrics(folder), runs.read_scalars(folder)
  unfinished = _unfinished(config, kind, results, curves)
  commands = _json_lines(folder / "commands.jsonl")
  parts = [
      f"<h1>{_text(folder.resolve().name)}</h1>",
      f'<p class="state">{_text(_headline(config, kind))}</p>',
      *(f'<p class="state unfinished">{_text(line)}</p>' for line in unfinished or ()),
      _section("Results", _results(results)),
      _section("Protocol", _fields({**results.get("protocol", {}), **_stated(results)})),
      _section("Pictures", "".join(_picture(path) for path in _pictures(folder, curves))),
      _section("Curves", _curves(curves), "curves"),
      _section("Evaluations", "".join(map(_evaluation, _json_lines(folder / "evaluations.jsonl")))),
      _section("Configuration", _fields(_flat(config))),
      _section("Commands", "".join(map(_command, commands)) + (_fields(commands[-1].get("versions", {})) if commands else "")),
  ]
  return _HEAD + f"<title>{_text(folder.resolve().name)}</title>\n" + "\n".join(filter(None, parts)) + "\n</html>\n"


def _kind(folder: pathlib.Path, config: dict) -> str:
  if "adapt" in config:
    return "components" if "also" in config else "adaptation"
  if "pretrain" in config and "model" in config:
    return "pretraining"
  raise ValueError(f"{folder} is no run that can be reported: give the folder of a pretraining, adaptation or components run")


def _headline(config: dict, kind: str) -> str:
  """What the run does, in one line."""
  if kind == "pretraining":
    return f"Pretraining on {config.get('source')}, split {config.get('split')}"
  what = "Adaptation" if kind == "adaptation" else "Components of an adaptation"
  target = f"{config.get('target')}, split {config.get('target_split')}"
  return f"{what} from {config.get('source')} to {target}; base {config.get('base')}"


def _unfinished(config: dict, kind: str, results: dict, curves: dict) -> list[str]:
  """One line for every training whose result is missing."""
  total = config["pretrain" if kind == "pretraining" else "adapt"]["num_steps"]
  last: dict[str, int] = {}
  for tag, steps in curves.items():
    name = tag.partition("/")[0]
    last[name] = max(last.get(name, 0), *steps)
  if kind == "components":
    last = {name: step for name, step in last.items() if name not in results.get("rows", {})}
  elif results:
    return []
  lines = [f"Not finished: {name} is logged up to step {step:,} of {total:,} and not scored." for name, step in last.items()]
  return lines or ([] if results else ["Not finished: no step is logged yet."])


def _stated(results: dict) -> dict[str, Any]:
  """What a result says of itself beside its rows and protocol."""
  return {name: value for name, value in results.items() if isinstance(value, str)}


def _text(value: Any) -> str:
  return html.escape(str(value))


def _section(title: str, content: str, kind: str = "") -> str:
  return f'<h2>{title}</h2>\n<div class="{kind}">{content}</div>' if content else ""


def _table(rows: list[list[str]]) -> str:
  line = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"
  return f'<div class="wide"><table>{line(rows[0], "th")}{"".join(line(row, "td") for row in rows[1:])}</table></div>'


def _results(results: dict) -> str:
  """The result table, or one for each test where there are several."""
  head, *rows = runs.result_table(results)
  if head[-1] != "on":
    return _table([head, *rows]) if rows else ""
  tests = dict.fromkeys(row[-1] for row in rows)
  return "".join(f"<h3>{_text(t)}</h3>{_table([head[:-1], *(row[:-1] for row in rows if row[-1] == t)])}" for t in tests)


def _fields(values: dict[str, Any]) -> str:
  return "<dl>" + "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in values.items()) + "</dl>" if values else ""


def _flat(config: dict, prefix: str = "") -> dict[str, Any]:
  """A nested config with dotted names."""
  flat = {}
  for name, value in config.items():
    flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
  return flat


def _pictures(folder: pathlib.Path, curves: dict) -> list[pathlib.Path]:
  """The run's figures but the loss curves, which the page draws itself."""
  drawn = {tag.partition("/")[0] for tag in curves}
  return [path for path in sorted((folder / "figures").glob("*")) if path.suffix in (".png", ".gif") and path.stem not in drawn]


def _picture(path: pathlib.Path) -> str:
  data = base64.b64encode(path.read_bytes()).decode()
  image = f'<img alt="{_text(path.stem)}" src="data:image/{path.suffix[1:]};base64,{data}">'
  return f"<figure>{image}<figcaption>{_text(path.name)}</figcaption></figure>"


def _curves(curves: dict[str, dict[int, float]]) -> str:
  """One panel for each scalar, one line in it for each training that logged it."""
  panels: dict[str, dict[str, dict[int, float]]] = {}
  for tag, steps in curves.items():
    training, _, name = tag.partition("/")
    panels.setdefault(name, {})[training] = steps
  trainings = list(dict.fromkeys(tag.partition("/")[0] for tag in curves))
  colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(trainings)}
  return "".join(_panel(name, lines, colours) for name, lines in panels.items())


def _panel(name: str, lines: dict[str, dict[int, float]], colours: dict[str, str]) -> str:
  """SVG of scalars over steps; logarithmic where they are positive and span more than a factor of 30."""
  values = [v for steps in lines.values() for v in steps.values()]
  last = max(step for steps in lines.values() for step in steps)
  low, high = min(values), max(values)
  log = low > 0 and high > 30 * low
  scale = math.log10 if log else float
  low, high = scale(low), scale(high)
  span = high - low or 1.0
  x = lambda step: _LEFT + (_WIDTH - _LEFT - 8) * step / last
  y = lambda value: _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / span)
  marks = []
  for at in _ticks(low, high, log):
    label = f"{10**at:.2g}" if log else f"{at:.4g}"
    marks.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y(at):.1f}" y2="{y(at):.1f}" stroke="#e3e8ed"/>')
    marks.append(f'<text x="{_LEFT - 5}" y="{y(at) + 4:.1f}" text-anchor="end">{label}</text>')
  for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
    marks.append(f'<text x="{x(last * share):.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{last * share:g}</text>')
  for training, steps in lines.items():
    points = " ".join(f"{x(step):.1f},{y(scale(value)):.1f}" for step, value in sorted(steps.items()))
    marks.append(f'<polyline points="{points}" fill="none" stroke="{colours[training]}" stroke-width="1.6"/>')
  key = "".join(f'<span class="key"><span style="color:{colours[n]}">&#9632;</span> {_text(n)}</span>' for n in lines)
  title = _text(name.replace("_", " ") + (", logarithmic" if log else ""))
  svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title} over steps">{"".join(marks)}</svg>'
  return f"<figure><figcaption><b>{title}</b> over steps<br>{key}</figcaption>{svg}</figure>"


def _ticks(low: float, high: float, log: bool) -> list[float]:
  """Round numbers from `low` to `high`; on a logarithmic axis four evenly spaced."""
  if log or high == low:
    return [low + (high - low) * i / 3 for i in range(4 if high > low else 1)]
  step = 10 ** math.floor(math.log10((high - low) / 3))
  step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= (high - low) / 4)
  return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _evaluation(row: dict) -> str:
  """One row of evaluations.jsonl: a plain score as a table, a protocol's as the text that the script printed."""
  protocol = row["protocol"]
  title = f"<h3>{_text(row['weights'])} on {_text(protocol.get('dataset'))} {_text(protocol.get('split'))}</h3>"
  if "groups" in row:
    return f"{title}<pre>{_text(tally.table(row))}</pre>"
  scores = {k: v for k, v in row.items() if k not in ("run", "weights", "protocol")}
  return title + _table(runs.result_table({row["weights"]: scores})) + _fields(protocol)


def _command(record: dict) -> str:
  """One start of the run: when, on which code, and what was typed."""
  diff = record.get("uncommitted_diff")
  code = f", commit {record['commit'][:12]}" + (" with uncommitted changes" if diff else "") if "commit" in record else ""
  changes = f"<details><summary>uncommitted changes</summary><pre>{_text(diff)}</pre></details>" if diff else ""
  return f'<p>{_text(record["started"] + code)}</p><pre class="command">{_text(shlex.join(record["command"]))}</pre>{changes}'


def _json_lines(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
