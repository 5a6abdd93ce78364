"""The page of a run: it shows the content of the run's folder and requests nothing from a network."""

import base64
import io
import json
import struct
import subprocess

import jax
import matplotlib.image
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments import report
from posynda_jax.evaluation.results import result_table
from posynda_jax.runtime import files, runs
from tests.scripts import run_well
from tests.visuals.sequences import Reader

CONFIG = {
    "recipe": {"updates": 40, "adapter": {"rank": 4, "rule": ".*/<attention>/.*"}}, "base": "0123456789abcdef",
    "base_folder": "runs/base", "source": "cmu_mocap/h36m_rig", "target": "hdm05_mocap/wild_rig_gt",
    "target_split": "train",
}
PROTOCOL = {"dataset": "hdm05_mocap/wild_rig_gt", "split": "test", "joints": "17 & <all>", "hypotheses": 1}


def score(mpjpe: float) -> dict:
  return {"mpjpe_mm": mpjpe, "p_mpjpe_mm": mpjpe / 2, "frames": 12345, "trainable": 0, "seconds": 1.5}


RESULTS = {"source_only": score(160.0), "ceiling": score(100.0), "adapted": score(115.0), "protocol": PROTOCOL}


def make_run(folder, steps=(10, 20, 30, 40)) -> runs.Run:
  """A run that logged two scalars and drew two figures."""
  run = runs.Run(folder, CONFIG)
  write = run.write_scalars("adapted")
  for step in steps:
    write(step, {"loss": 2.0 / step, "grad_norm": float(step)})
  run.close()
  pixels = np.zeros((8, 12, 3))
  pixels[2:4, :, 1] = 0.6
  for name in ("comparison", "adapted"):  # the second is the picture of the curves
    matplotlib.image.imsave(run.folder / "figures" / f"{name}.png", pixels)
  return run


def test_the_page_shows_the_content_of_the_folder_and_requests_nothing(tmp_path):
  run = make_run(tmp_path / "run")
  files.write_json(run.folder / "metrics.json", RESULTS)
  evaluation = {"run": "x", "weights": "adapted", **score(99.5), "protocol": {"dataset": "threedpw/gt", "split": "a"}}
  (run.folder / "evaluations.jsonl").write_text(json.dumps(evaluation) + "\n")
  text = report.render_run(run.folder)
  page = Reader(text)
  assert page.open == [] and not {"script", "link", "iframe", "object"} & set(page.tags())
  addresses = [attrs[name] for _, attrs in page.elements for name in ("src", "href", "style") if name in attrs]
  assert all(address.startswith("data:image/") for address in addresses) and "url(" not in page.scripts["style"]
  assert "default-src 'none'" in text and "width=device-width" in text and "@media print" in text
  for value in ("17 & <all>", ".*/<attention>/.*", "0123456789abcdef", "cmu_mocap/h36m_rig", jax.__version__):
    assert value in page.text, value
  assert "<all>" not in text and "<attention>" not in text  # texts are escaped
  assert page.rows[0] == ["", "MPJPE mm", "P-MPJPE mm", "closure %", "frames", "trainable", "seconds"]
  assert page.rows[1][:3] == ["source_only", "160.0", "80.0"] and page.rows[3][0] == "ceiling"
  assert page.rows[2][:5] == ["adapted", "115.0", "57.5", "75.0", "12,345"]  # 45 of the 60 mm
  assert "threedpw/gt" in page.text and "99.5" in page.text and 'class="state">Not finished' not in text
  images = [base64.b64decode(address.partition(",")[2]) for address in addresses]
  assert images[0] == (run.folder / "figures" / "comparison.png").read_bytes()
  assert len(images) == 3 and b"grad norm" in images[1] and b"loss" in images[2]  # one SVG per scalar


def test_an_unfinished_run_states_its_last_logged_step(tmp_path):
  run = make_run(tmp_path / "run", steps=(10, 20))
  line = "Not finished: adapted is logged up to step 20 of 40 and not scored."
  assert line in report.render_run(run.folder)
  fresh = runs.Run(tmp_path / "fresh", {"model": {}, "pretrain": {"num_steps": 5}, "source": "a/b", "split": "train"})
  assert "Not finished: no step is logged yet." in report.render_run(fresh.folder)


def test_tensorboard_events_hold_the_same_scalars_figures_and_results(tmp_path):
  run = make_run(tmp_path / "run")
  run.write_results(result_table(RESULTS), 40)
  values = {}
  for path in sorted((run.folder / "events").iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):  # a record is its length (8 bytes), a checksum (4), an event, a checksum (4)
      (length,) = struct.unpack_from("<Q", data, at)
      values |= {value.tag: value for value in Event.FromString(data[at + 12 : at + 12 + length]).summary.value}
      at += length + 16
  found = matplotlib.image.imread(io.BytesIO(values["figures/comparison"].image.encoded_image_string))[..., :3]
  np.testing.assert_array_equal(found, matplotlib.image.imread(run.folder / "figures" / "comparison.png")[..., :3])
  table = values["results/text_summary"].tensor.string_val[0].decode()
  cells = [cell.strip() for cell in table.splitlines()[3].strip("|").split("|")]
  assert cells == ["adapted", "115.0", "57.5", "75.0", "12,345", "0", "1.5"]
  assert values["adapted/loss"].simple_value == np.float32(0.05)
  assert runs.read_scalars(run.folder)["adapted/loss"] == {10: 0.2, 20: 0.1, 30: 2 / 30, 40: 0.05}


def test_a_run_states_its_versions_and_a_commit_of_its_own_code_only(tmp_path, monkeypatch):
  subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
  monkeypatch.setattr(runs, "__file__", str(tmp_path / "runs.py"))  # installed inside another repository
  assert set(runs._provenance()) == {"versions"}
  monkeypatch.setattr(runs.shutil, "which", lambda name: None)
  assert set(runs._provenance()) == {"versions"}


def test_another_folder_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="is not a run folder"):
    report.render_run(tmp_path)
  (tmp_path / "config.json").write_text('{"source": "a"}')
  with pytest.raises(ValueError, match="is not a run with a report"):
    report.render_run(tmp_path)


def test_the_script_writes_the_page(tmp_path):
  run = make_run(tmp_path / "run")
  assert "report.html" in run_well("report", f"--run={run.folder}")
  assert (run.folder / "report.html").read_text() == report.render_run(run.folder)
