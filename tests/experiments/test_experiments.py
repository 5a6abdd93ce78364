"""The scripts, end to end through the command line, on the embedded data in its smallest form."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from posynda_jax.runtime import runs
from tests import LIGHT

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = f"--flagfile={ROOT}/experiments/presets/smoke.flags"


def run(script: str, *flags: str, env: dict | None = None, seconds: int = 600) -> subprocess.CompletedProcess:
  """Runs a script in its own process on one CPU device."""
  environment = os.environ | {"XLA_FLAGS": LIGHT, "JAX_PLATFORMS": "cpu", **(env or {})}
  command = [sys.executable, "-m", f"experiments.{script}", *flags]
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)


def run_well(script: str, *flags: str, seconds: int = 600) -> str:
  done = run(script, *flags, seconds=seconds)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def error_of(script: str, *flags: str, env=None) -> str:
  """The one line a script ends with where the user asked for something it cannot do."""
  done = run(script, *flags, env=env)
  assert done.returncode == 1, (done.returncode, done.stderr[-3000:])
  assert "Traceback" not in done.stderr
  line = done.stderr.strip().splitlines()[-1]
  assert line.startswith("error: ")
  return line


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, data) -> pathlib.Path:
  """A finished adaptation with its base and ceiling."""
  folder = tmp_path_factory.mktemp("runs") / "adapted"
  out = run_well("adapt", SMOKE, data, f"--workdir={folder}", "--ceiling")
  assert "gap closure" in out and "protocol: dataset=synthetic_motion/target_gt" in out
  return folder


def test_adaptation_leaves_everything_a_reader_needs(adapted):
  results = json.loads((adapted / "metrics.json").read_text())
  assert set(results) == {"source_only", "adapted", "ceiling", "protocol"}
  for row in ("source_only", "adapted", "ceiling"):
    assert {"mpjpe_mm", "p_mpjpe_mm", "frames"} <= set(results[row]) and np.isfinite(results[row]["mpjpe_mm"])
  assert len({results[row]["frames"] for row in ("source_only", "adapted", "ceiling")}) == 1
  assert results["adapted"]["mpjpe_mm"] != results["source_only"]["mpjpe_mm"]
  assert {"dataset", "split", "joints", "hypotheses", "root", "adapted_on"} <= set(results["protocol"])
  for name in ("config.json", "commands.jsonl", "adapted", "base/base", "figures/adapted.png", "figures/comparison.png"):
    assert (adapted / name).exists(), name
  assert list((adapted / "events").iterdir())


def test_a_second_start_reuses_base_and_adapter(adapted, data):
  before = json.loads((adapted / "metrics.json").read_text())
  out = run_well("adapt", SMOKE, data, f"--workdir={adapted}", "--ceiling")
  assert "Resuming adapted at step 6" in out
  after = json.loads((adapted / "metrics.json").read_text())
  assert after["adapted"]["mpjpe_mm"] == before["adapted"]["mpjpe_mm"]
  assert after["source_only"] == before["source_only"]


def test_an_existing_base_can_be_adapted_with_another_rule(adapted, data, tmp_path):
  flags = (f"--base={adapted}/base", f"--workdir={tmp_path}/again", "--select=joint", "--align=frame", "--tilt=teacher")
  run_well("adapt", SMOKE, data, *flags, "--refine=rays", "--student_input=diffused", "--reprojection_weight=0.1")


def test_evaluate_scores_bases_and_runs(adapted, data):
  split = "--split=test[:2%]"
  rate = lambda *flags: float(re.search(r"MPJPE ([\d.]+)", run_well("evaluate", data, split, *flags))[1])
  same = rate(f"--run={adapted}", "--dataset=synthetic_motion/target_gt")
  results = json.loads((adapted / "metrics.json").read_text())
  assert abs(same - results["adapted"]["mpjpe_mm"]) < 0.06
  assert rate(f"--run={adapted}", "--dataset=synthetic_motion/target_gt", "--refine=body") != same
  rate(f"--run={adapted}/base", "--dataset=synthetic_motion/target_gt", "--hypotheses=2", "--select=frame", "--flip")
  rows = [json.loads(line) for line in (adapted / "evaluations.jsonl").read_text().splitlines()]
  assert rows[-1]["protocol"]["dataset"] == "synthetic_motion/target_gt"


def test_a_virtual_camera_goes_with_its_adapter(adapted, data, tmp_path):
  flags = ("adapt", SMOKE, data, f"--base={adapted}/base", f"--workdir={tmp_path}/turned", "--view=source")
  assert "view_alone" in run_well(*flags, "--proportions=target", "--test_refine=body")
  before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (adapted, tmp_path / "turned"))
  assert len({after[row]["mpjpe_mm"] for row in ("source_only", "view_alone", "adapted")}) == 3
  assert "virtual camera" in after["protocol"]["view"] and "view" not in before["protocol"]
  assert runs.adapter_settings(tmp_path / "turned", "adapted")["body"] != runs.read_config(tmp_path / "turned")["adapt"]["body"]
  test = ("evaluate", data, "--split=test[:2%]", f"--run={tmp_path}/turned", "--dataset=synthetic_motion/target_gt", "--refine=body")
  rate = lambda *flags: float(re.search(r"MPJPE ([\d.]+)", run_well(*test, *flags))[1])
  assert abs(rate() - after["adapted"]["mpjpe_mm"]) < 0.06
  assert abs(rate("--weights=source_only") - after["source_only"]["mpjpe_mm"]) < 0.06
  refused = error_of("export", f"--run={tmp_path}/turned", f"--output={tmp_path}/model.onnx")
  assert "--view=source" in refused and not (tmp_path / "model.onnx").exists()
  run_well("export", f"--run={tmp_path}/turned", f"--output={tmp_path}/model.jaxexport")
  np.save(tmp_path / "pixels.npy", np.random.default_rng(0).uniform((300, 100), (900, 700), (8, 17, 2)))
  example = [tmp_path / "model_example.py", tmp_path / "model.jaxexport", tmp_path / "pixels.npy", "1280x720", tmp_path / "out.npy", "1000"]
  subprocess.run([sys.executable, *map(str, example)], check=True, timeout=300)
  assert np.isfinite(np.load(tmp_path / "out.npy")).all()
  assert "name a --source" in error_of(*flags[:3], f"--base={adapted}/base", f"--workdir={tmp_path}/free", "--source=none", "--view=source")


def test_novel_views_alone_adapt_without_any_source(adapted, data, tmp_path):
  flags = ("adapt", SMOKE, data, f"--base={adapted}/base", "--source=none", "--nopseudo")
  run_well(*flags[:-1], f"--workdir={tmp_path}/free", f"--flagfile={ROOT}/experiments/presets/free.flags", "--clips=8", "--updates=6")
  results = json.loads((tmp_path / "free" / "metrics.json").read_text())
  assert results["adapted"]["mpjpe_mm"] != results["source_only"]["mpjpe_mm"]
  assert runs.read_config(tmp_path / "free")["adapt"]["novel_views"] == 1
  assert "nothing to learn from" in error_of(*flags, f"--workdir={tmp_path}/nothing")


def test_components_are_kept_and_not_run_again(adapted, data, tmp_path):
  flags = (SMOKE, data, f"--base={adapted}/base", f"--workdir={tmp_path}/rows")
  first = run_well("components", *flags, "--rows=f,ceiling")
  assert "| source_only |" in first and "%" in first
  second = run_well("components", *flags, "--rows=f,ceiling,posynda")
  rows = json.loads((tmp_path / "rows" / "components.json").read_text())["rows"]
  assert set(rows) == {"source_only", "f", "ceiling", "posynda"} and "Resuming" not in second


@pytest.mark.parametrize(
    "script, flags, message",
    [
        ("pretrain", ["--source=kinect/lab"], "dataset 'kinect' is unknown; choose one of cmu_mocap"),
        ("pretrain", ["--source=cmu_mocap/h36m_rig"], "cmu.zip"),
        ("pretrain", ["--heads=3"], "width 16 is not a multiple of 3 heads"),
        ("adapt", ["--rank=17"], "rank 17 does not fit"),
        ("adapt", ["--target=synthetic_motion/moon_gt"], "config 'moon_gt' of synthetic_motion is unknown"),
        ("adapt", ["--target_split=validation"], "split 'validation' of synthetic_motion/target_gt cannot be read"),
        ("adapt", ["--adapt_rate=1e30", "--updates=40"], "loss is nan at step"),
        ("evaluate", ["--dataset=synthetic_motion/target_gt", "--run=nowhere"], "nowhere is not a run folder"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(script, flags, message, adapted, data, tmp_path):
  common = {"adapt": [SMOKE], "pretrain": [SMOKE.replace("smoke", "smoke_base")], "evaluate": []}[script]
  base = [f"--base={adapted}/base"] if script == "adapt" else []
  workdir = [f"--workdir={tmp_path}/run"]
  assert message in error_of(script, *common, data, *base, *workdir, *flags)


def test_a_batch_that_the_devices_cannot_share_is_refused_first(adapted, data, tmp_path):
  env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
  line = error_of("adapt", SMOKE, data, f"--base={adapted}/base", f"--workdir={tmp_path}/run", env=env)
  assert "clips 8 is not divisible by 3 devices" in line


def test_a_work_directory_of_another_config_is_refused_and_kept(adapted, data):
  before = (adapted / "metrics.json").read_bytes()
  line = error_of("adapt", SMOKE, data, f"--base={adapted}/base", f"--workdir={adapted}", "--rank=1")
  assert "belongs to a run with another config" in line and "adapt.rank: 2 there, 1 now" in line
  assert (adapted / "metrics.json").read_bytes() == before


def test_a_base_that_changed_since_is_refused(adapted, data, tmp_path):
  copy = json.loads((adapted / "config.json").read_text()) | {"base": "0123456789abcdef"}
  (tmp_path / "config.json").write_text(json.dumps(copy))
  line = error_of("evaluate", f"--run={tmp_path}", "--dataset=synthetic_motion/target_gt", data)
  assert "this adapter belongs to 0123456789abcdef" in line


def test_an_unknown_flag_value_is_refused():
  done = run("adapt", "--select=video", "--workdir=unused")
  assert done.returncode != 0 and "<sequence|frame|joint>" in done.stderr
