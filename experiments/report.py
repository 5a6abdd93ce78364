"""Writes one HTML page about a run, to read in a browser, on a phone or on paper.

    python -m experiments.report --run=runs/hdm05_wild
    python -m experiments.report --run=runs/hdm05_wild --output=report.html

It takes the folder of a pretraining or adaptation run, finished or not, and about five seconds. The page is one file
without network requests: results with their protocol, pictures, loss curves, evaluations, configuration, commands and
versions.
"""

import json
import pathlib
import shlex

from absl import flags

from posynda_jax.evaluation import results, tally
from posynda_jax.runtime import files, runs
from posynda_jax.visuals import run_page

from . import common

RUN = flags.DEFINE_string("run", None, "Folder of the run.")
OUTPUT = flags.DEFINE_string("output", None, "HTML file to write (default: report.html in the folder).")


def render_run(folder) -> str:
  """The page of a pretraining or adaptation run. Raises FileNotFoundError or ValueError for another folder."""
  folder = pathlib.Path(folder).expanduser()
  config, found, logged = runs.read_config(folder), runs.read_metrics(folder), runs.read_scalars(folder)
  if "recipe" in config:
    target = f"{config['target']}, split {config['target_split']}"
    origin = f" from {config['source']}" if config["source"] else ", source-free,"
    summary, updates = f"Adaptation{origin} to {target}", config["recipe"]["updates"]
  elif "pretrain" in config:
    summary, updates = f"Pretraining on {config['source']}, split {config['split']}", config["pretrain"]["num_steps"]
  else:
    raise ValueError(f"{folder} is not a run with a report: give the folder of a pretraining or adaptation run")
  # The page draws the curves itself, so it leaves out their pictures, which have the names of the trainings.
  trainings = {tag.partition("/")[0] for tag in logged}
  pictures = [path for path in sorted((folder / "figures").glob("*"))
              if path.suffix in (".png", ".gif") and path.stem not in trainings]
  commands = _json_lines(folder / "commands.jsonl")
  versions = commands[-1].get("versions", {}) if commands else {}
  return run_page.render(folder.resolve().name, [summary, *([] if found else _unfinished(logged, updates))], {
      "Results": run_page.table(results.result_table(found)), "Protocol": run_page.facts(found.get("protocol", {})),
      "Pictures": "".join(run_page.picture(path.name, path.suffix[1:], path.read_bytes()) for path in pictures),
      "Curves": run_page.curves(logged),
      "Evaluations": "".join(map(_evaluation, _json_lines(folder / "evaluations.jsonl"))),
      "Configuration": run_page.paragraph(json.dumps(config, indent=2), "pre"),
      "Commands": "".join(map(_command, commands)) + run_page.facts(versions),
  })


def _unfinished(logged: dict[str, dict[int, float]], updates: int) -> list[str]:
  """One line per training: its last logged step."""
  last: dict[str, int] = {}
  for tag, values in logged.items():
    training = tag.partition("/")[0]
    last[training] = max(last.get(training, 0), *values)
  text = "Not finished: {} is logged up to step {:,} of {:,} and not scored."
  return [text.format(*item, updates) for item in last.items()] or ["Not finished: no step is logged yet."]


def _evaluation(row: dict) -> str:
  """One row of evaluations.jsonl: a table of its scores, or the text that a published protocol prints."""
  protocol = row["protocol"]
  title = run_page.paragraph(f"{row['weights']} on {protocol.get('dataset')} {protocol.get('split')}", "h3")
  if "groups" in row:
    return title + run_page.paragraph(tally.table(row), "pre")
  scores = {name: value for name, value in row.items() if name not in ("run", "weights", "protocol")}
  return title + run_page.table(results.result_table({row["weights"]: scores})) + run_page.facts(protocol)


def _command(record: dict) -> str:
  """One start of the run: time, commit, the command line, and what was not committed."""
  diff = record.get("uncommitted_diff", "")
  when = record["started"] + (f", commit {record['commit'][:12]}" if "commit" in record else "")
  when += " with uncommitted changes" if diff else ""
  changes = f"<details><summary>uncommitted changes</summary>{run_page.paragraph(diff, 'pre')}</details>"
  return run_page.paragraph(when) + run_page.paragraph(shlex.join(record["command"]), "pre") + (diff and changes)


def _json_lines(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
  if RUN.value is None:
    raise ValueError("--run is not given: name the folder of a run")
  text = render_run(RUN.value)
  output = common.output_path(OUTPUT.value or f"{RUN.value}/report.html")
  files.write_text(output, text)
  print(f"{output}: {output.stat().st_size / 1e3:,.0f} kB")


if __name__ == "__main__":
  common.run(main)
