"""A run's folder as a page, and the same in its TensorBoard events."""

import base64
import html.parser
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import matplotlib.image
import numpy as np
import pytest

from posynda_jax.runtime import runs
from posynda_jax.visuals import report

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = {
    "adapt": {"num_steps": 40, "rank": 4, "target_rule": ".*/<attention>/.*"}, "base": "0123456789abcdef",
    "base_folder": "runs/base", "source": "cmu_mocap/h36m_rig", "target": "hdm05_mocap/wild_rig_gt", "target_split": "train",
}
PROTOCOL = {"dataset": "hdm05_mocap/wild_rig_gt", "split": "test", "joints": "17 & <all>", "hypotheses": 1}
score = lambda mpjpe: {"mpjpe_mm": mpjpe, "p_mpjpe_mm": mpjpe / 2, "frames": 12345, "trainable": 0, "seconds": 1.5}
RESULTS = {"source_only": score(160.0), "ceiling": score(100.0), "adapted": score(115.0), "protocol": PROTOCOL}


def make_run(folder, config=CONFIG, steps=(10, 20, 30, 40)) -> runs.Run:
  """A run that logged two scalars and drew two figures."""
  run = runs.Run(folder, config)
  write = run.write_scalars("adapted")
  for step in steps:
    write(step, {"loss": 2.0 / step, "grad_norm": float(step)})
  run.close()
  pixels = np.zeros((8, 12, 3))
  pixels[2:4, :, 1] = 0.6
  for name in ("comparison", "adapted"):  # the second is the picture of the curves
    matplotlib.image.imsave(run.folder / "figures" / f"{name}.png", pixels)
  return run


class Page(html.parser.HTMLParser):
  """What a browser would make of a page: texts, table rows, and everything that could ask the network for something."""

  VOID = ("meta", "img", "br", "line", "link", "input", "hr")

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.open, self.texts, self.addresses, self.rows = [], [], [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.open += [tag] if tag not in self.VOID else []
    self.rows += [[]] if tag == "tr" else []
    self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset", "style") and value]

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    self.handle_endtag(tag)

  def handle_endtag(self, tag):
    if tag not in self.VOID:
      assert self.open.pop() == tag, f"</{tag}> closes another element"

  def handle_data(self, data):
    self.texts.append(data)
    if self.open and self.open[-1] in ("td", "th"):
      self.rows[-1].append(data)


def test_the_page_shows_what_the_folder_holds_and_asks_nobody(tmp_path):
  run = make_run(tmp_path / "run")
  runs.write_json(run.folder / "metrics.json", RESULTS)
  evaluation = {"run": "x", "weights": "adapted", **score(99.5), "protocol": {"dataset": "threedpw/gt", "split": "test"}}
  (run.folder / "evaluations.jsonl").write_text(json.dumps(evaluation) + "\n")
  text = report.page(run.folder)
  page = Page(text)
  assert page.open == [] and not {"script", "link", "iframe", "object"} & set(page.tags)
  assert not [a for a in page.addresses if not a.startswith(("data:image/png;base64,", "color:"))] and "url(" not in text
  assert "default-src 'none'" in text and "width=device-width" in text and "@media print" in text
  shown = " ".join(page.texts)
  for value in ("17 & <all>", ".*/<attention>/.*", "0123456789abcdef", "cmu_mocap/h36m_rig", jax.__version__):
    assert value in shown, value
  assert "<all>" not in text and "<attention>" not in text  # only ever escaped
  assert page.rows[0] == ["MPJPE mm", "P-MPJPE mm", "closure %", "frames", "trainable", "seconds"]
  assert page.rows[1][:3] == ["source_only", "160.0", "80.0"] and page.rows[3][0] == "ceiling"
  assert page.rows[2][:5] == ["adapted", "115.0", "57.5", "75.0", "12,345"]  # 45 of the 60 mm
  assert "threedpw/gt" in shown and "99.5" in shown and "Not finished" not in shown
  pictures = [base64.b64decode(a.partition(",")[2]) for a in page.addresses if a.startswith("data:")]
  assert pictures == [(run.folder / "figures" / "comparison.png").read_bytes()]  # the curves are drawn, not embedded
  lines = re.findall(r'<polyline points="([^"]+)"', text)
  assert len(lines) == 2 and all(len(line.split()) == 4 for line in lines)
  falls, rises = ([float(point.split(",")[1]) for point in line.split()] for line in lines)
  assert falls == sorted(falls) and rises == sorted(rises, reverse=True)  # y runs down in SVG: loss falls, grad_norm rises


def test_components_get_a_table_for_each_test_split(tmp_path):
  run = make_run(tmp_path / "rows", CONFIG | {"also": []})
  rows = {name: {"scores": {"a/x": score(base), "a/x +body": score(base - 20)}, "trainable": 7, "seconds": 2.0}
          for name, base in (("ceiling", 100.0), ("adapted", 130.0), ("source_only", 160.0))}
  runs.write_json(run.folder / "components.json", {"rows": rows, "protocol": PROTOCOL, "adapted_on": "a/x:train"})
  page = Page(report.page(run.folder))
  assert page.tags.count("table") == 2 and "a/x:train" in page.texts
  named = [row for row in page.rows if row[0] != "MPJPE mm"]
  assert [row[:2] for row in named] == [
      [name, f"{mpjpe}"] for base in (0.0, 20.0)
      for name, mpjpe in (("source_only", 160 - base), ("adapted", 130 - base), ("ceiling", 100 - base))
  ]
  assert [row[3] for row in named if row[0] == "adapted"] == ["50.0", "50.0"]


def test_a_run_that_is_not_finished_says_how_far_it_is(tmp_path):
  run = make_run(tmp_path / "run", steps=(10, 20))
  assert "Not finished: adapted is logged up to step 20 of 40 and not scored." in report.page(run.folder)
  (run.folder / "config.json").write_text(json.dumps(CONFIG | {"also": []}))
  runs.write_json(run.folder / "components.json", {"rows": {"f": {"scores": {"a/x": score(1.0)}}}, "protocol": PROTOCOL})
  assert "Not finished: adapted is logged up to step 20 of 40" in report.page(run.folder)
  fresh = runs.Run(tmp_path / "fresh", {"model": {}, "pretrain": {"num_steps": 5}, "source": "a/b", "split": "train"})
  assert "Not finished: no step is logged yet." in report.page(fresh.folder)


def test_events_hold_the_same_scalars_figures_and_results(tmp_path):
  run = make_run(tmp_path / "run")
  run.write_results(RESULTS, 40)
  *_, last = sorted((run.folder / "events").iterdir())
  values = {value.tag: value for event in runs.read_events(last) for value in event.summary.value}
  image = values["figures/comparison"].image
  found = matplotlib.image.imread(io.BytesIO(image.encoded_image_string))[..., :3]
  np.testing.assert_array_equal(found, matplotlib.image.imread(run.folder / "figures" / "comparison.png")[..., :3])
  table = values["results/text_summary"].tensor.string_val[0].decode()
  assert table.splitlines()[3] == "| adapted | 115.0 | 57.5 | 75.0 | 12,345 | 0 | 1.5 |"
  assert runs.read_scalars(run.folder)["adapted/loss"] == pytest.approx({10: 0.2, 20: 0.1, 30: 2 / 30, 40: 0.05})


def test_a_resumed_run_counts_a_step_once_and_a_running_one_is_read_to_its_last_record(tmp_path):
  run = make_run(tmp_path / "run", steps=(10, 20))
  (path,) = (run.folder / "events").iterdir()
  whole = path.read_bytes()
  resumed = path.with_name("events.out.tfevents.9999999999.later")
  resumed.write_bytes(whole[:-5])  # its last record is not whole: grad_norm of step 20
  assert len(runs.read_events(resumed)) == len(runs.read_events(path)) - 1
  assert list(runs.read_scalars(run.folder)["adapted/loss"]) == [10, 20]
  resumed.write_bytes(whole[:40] + b"\xff" * 20 + whole[60:])
  with pytest.raises(ValueError, match="is damaged at byte"):
    runs.read_scalars(run.folder)


def test_a_run_knows_its_versions_and_a_commit_only_of_its_own_code(tmp_path, monkeypatch):
  subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
  monkeypatch.setattr(runs, "__file__", str(tmp_path / "runs.py"))  # installed inside somebody else's repository
  assert set(runs._provenance()) == {"versions"}
  monkeypatch.setattr(runs.shutil, "which", lambda name: None)
  assert set(runs._provenance()) == {"versions"}


def test_another_folder_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="is not a run folder"):
    report.page(tmp_path)
  (tmp_path / "config.json").write_text('{"source": "a"}')
  with pytest.raises(ValueError, match="is no run that can be reported"):
    report.page(tmp_path)


def test_the_script_writes_the_page_or_one_line(tmp_path):
  run = make_run(tmp_path / "run")
  command, environment = [sys.executable, "-m", "experiments.report"], os.environ | {"JAX_PLATFORMS": "cpu"}
  script = lambda *flags: subprocess.run([*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True)
  done = script(f"--run={run.folder}")
  assert done.returncode == 0 and "report.html" in done.stdout, done.stderr[-2000:]
  assert (run.folder / "report.html").read_text() == report.page(run.folder)
  done = script("--run=nowhere")
  assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: nowhere is not a run folder")
