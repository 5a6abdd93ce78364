"""Writes one HTML page about a run, to read in a browser, on a phone or on paper.

    python -m experiments.report --run=runs/hdm05_wild
    python -m experiments.report --run=runs/hdm05_wild --output=report.html

It takes the folder of a pretraining or adaptation run, finished or not, and about five seconds. The page is one file
without network requests: results with their protocol, pictures, loss curves, evaluations, configuration, commands and
versions.
"""

import json
import pathlib

from absl import flags

from posynda_jax.evaluation import results, tally
from posynda_jax.runtime import files, runs
from posynda_jax.visuals import run_page

from . import common

RUN = flags.DEFINE_string("run", None, "Folder of the run.")
OUTPUT = flags.DEFINE_string("output", None, "HTML file to write (default: report.html in the folder).")


def read_run(folder) -> run_page.RunPage:
  """The contents of the page of a pretraining or adaptation run.

  Raises FileNotFoundError or ValueError for another folder.
  """
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
  pictures = [path for path in sorted((folder / "figures").glob("*")) if path.suffix in (".png", ".gif")]
  return run_page.RunPage(
      title=folder.resolve().name, summary=summary, unfinished=[] if found else _unfinished(logged, updates),
      results=results.result_table(found), protocol=found.get("protocol", {}),
      pictures={path.name: path.read_bytes() for path in pictures if path.stem not in trainings}, scalars=logged,
      evaluations=[_evaluation(row) for row in _json_lines(folder / "evaluations.jsonl")],
      config=config, commands=_json_lines(folder / "commands.jsonl"),
  )


def _unfinished(logged: dict[str, dict[int, float]], updates: int) -> list[str]:
  """One line per training: its last logged step."""
  last: dict[str, int] = {}
  for tag, values in logged.items():
    training = tag.partition("/")[0]
    last[training] = max(last.get(training, 0), *values)
  text = "Not finished: {} is logged up to step {:,} of {:,} and not scored."
  return [text.format(*item, updates) for item in last.items()] or ["Not finished: no step is logged yet."]


def _evaluation(row: dict) -> run_page.Evaluation:
  """One row of evaluations.jsonl: a table of its scores, or the text that a published protocol prints."""
  protocol = row["protocol"]
  title = f"{row['weights']} on {protocol.get('dataset')} {protocol.get('split')}"
  if "groups" in row:
    return run_page.Evaluation(title, text=tally.table(row))
  scores = {name: value for name, value in row.items() if name not in ("run", "weights", "protocol")}
  return run_page.Evaluation(title, results.result_table({row["weights"]: scores}), protocol=protocol)


def _json_lines(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
  if RUN.value is None:
    raise ValueError("--run is not given: name the folder of a run")
  text = run_page.render(read_run(RUN.value))
  output = common.output_path(OUTPUT.value or f"{RUN.value}/report.html")
  files.write_text(output, text)
  print(f"{output}: {output.stat().st_size / 1e3:,.0f} kB")


if __name__ == "__main__":
  common.run(main)
