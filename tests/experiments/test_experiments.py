"""The scripts end to end on small embedded data: they run, save and resume, and errors of the user are one line."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from posynda_jax.adaptation import bases
from posynda_jax.runtime import runs
from tests import LIGHT
from tests.scripts import SMOKE, error_of, run, run_well

TARGET, TEST = "synthetic_motion/target_gt", "--split=test[:2%]"


def read(folder: pathlib.Path, name: str = "metrics.json"):
  return json.loads((folder / name).read_text())


def evaluated(*flags: str) -> tuple[float, float]:
  """MPJPE and P-MPJPE (mm) that the script evaluate prints."""
  out = run_well("evaluate", TEST, f"--dataset={TARGET}", *flags)
  return tuple(map(float, re.search(r"MPJPE ([\d.]+) mm, P-MPJPE ([\d.]+) mm", out).groups()))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, data) -> pathlib.Path:
  """A finished adaptation with its base and ceiling."""
  folder = tmp_path_factory.mktemp("runs") / "adapted"
  out = run_well("adapt", SMOKE, data, f"--workdir={folder}", "--ceiling")
  assert "closure %" in out and f"protocol: dataset={TARGET}" in out
  return folder


def test_adaptation_leaves_all_that_a_reader_needs_and_a_second_start_finds_everything_finished(adapted, data):
  results, rows = read(adapted), ("source_only", "adapted", "ceiling")
  assert set(results) == {*rows, "protocol"}
  for row in rows:
    assert {"mpjpe_mm", "p_mpjpe_mm", "frames"} <= set(results[row]) and np.isfinite(results[row]["mpjpe_mm"])
  assert len({results[row]["frames"] for row in rows}) == 1 and len({results[row]["mpjpe_mm"] for row in rows}) == 3
  assert {"dataset", "split", "joints", "hypotheses", "root", "adapted_on"} <= set(results["protocol"])
  for name in ("commands.jsonl", "adapted", "figures/adapted.png", "figures/comparison.png", "events"):
    assert (adapted / name).exists(), name
  digest = bases.load(adapted / "base").digest
  out = run_well("adapt", SMOKE, data, f"--workdir={adapted}", "--ceiling")
  assert "Resuming adapted at step 6" in out and "Resuming ceiling at step 6" in out
  for row, its in read(adapted).items():
    assert its | {"seconds": 0} == results[row] | {"seconds": 0}
  assert bases.load(adapted / "base").digest == digest == read(adapted, "config.json")["base"]


def test_pretraining_trains_the_same_base_and_a_second_start_reads_it(adapted, smoke_base, data):
  folder = pathlib.Path(smoke_base.partition("=")[2])
  assert read(folder, "config.json") == read(adapted / "base", "config.json")
  before = read(folder)
  assert before["base"]["frames"] > 0 and len(before["body"]) == 16 and bases.load(folder).digest == before["digest"]
  run_well("pretrain", SMOKE.replace("smoke", "smoke_base"), data, f"--workdir={folder}")
  assert read(folder) == before


def test_evaluate_finds_the_scores_of_a_run_and_scores_a_bare_base(adapted, data):
  scores = read(adapted)["adapted"]
  np.testing.assert_allclose(evaluated(data, f"--run={adapted}"), [scores["mpjpe_mm"], scores["p_mpjpe_mm"]], atol=0.06)
  evaluated(data, f"--run={adapted}/base", "--hypotheses=2", "--select=frame", "--flip", "--refine=rays")
  row = json.loads((adapted / "evaluations.jsonl").read_text())
  assert row["weights"] == "adapted" and row["protocol"]["dataset"] == TARGET
  protocol = json.loads((adapted / "base" / "evaluations.jsonl").read_text())["protocol"]
  assert [protocol[name] for name in ("hypotheses", "selection", "refine", "flip")] == [2, "frame", "rays", True]
  evaluated(data, f"--run={adapted}", "--hypotheses=2", "--sampling_steps=2", "--select=bones")


def test_a_virtual_camera_and_a_body_go_with_their_adapter(data, smoke_base, tmp_path):
  folder = tmp_path / "turned"
  recipe = ("--recipe=novel", "--clips=8", "--updates=6", "--test_refine=body")
  assert "view_alone" in run_well("adapt", SMOKE, data, smoke_base, *recipe, f"--workdir={folder}")
  results, measured = read(folder), read(folder, "measured.json")
  assert len({results[row]["mpjpe_mm"] for row in ("source_only", "view_alone", "adapted")}) == 3
  assert "virtual camera" in results["protocol"]["view"]
  assert measured["adapted"]["view"] and not measured["source_only"]["view"] and len(measured["adapted"]["body"]) == 16
  assert abs(evaluated(data, f"--run={folder}", "--refine=body")[0] - results["adapted"]["mpjpe_mm"]) < 0.06
  run_well("export", f"--run={folder}", f"--output={tmp_path}/model.jaxexport")
  np.save(tmp_path / "pixels.npy", np.random.default_rng(0).uniform((300, 100), (900, 700), (8, 17, 2)))
  arguments = ("model_example.py", "model.jaxexport", "pixels.npy", "1280x720", "out.npy", "1000")
  environment = os.environ | {"XLA_FLAGS": LIGHT}
  subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, check=True, timeout=300)
  assert np.load(tmp_path / "out.npy").shape == (8, 17, 3) and np.isfinite(np.load(tmp_path / "out.npy")).all()


def test_a_sweep_is_one_run_folder_a_member(data, smoke_base, tmp_path):
  out = run_well("adapt", SMOKE, data, smoke_base, "--sweep=rank=1,2", f"--workdir={tmp_path}/sweep")
  members = read(tmp_path / "sweep", "sweep.json")["members"]
  assert list(members) == ["rank_1", "rank_2"] and "| rank_2 " in out
  for name, member in members.items():
    folder = tmp_path / "sweep" / name
    assert read(folder)["adapted"]["mpjpe_mm"] == member["adapted"]["mpjpe_mm"] != member["source_only"]["mpjpe_mm"]
    assert bases.load_weights(folder).config.rank == member["changes"]["rank"]


@pytest.mark.parametrize("script, flags, message", [
    ("pretrain", "--source=kinect/lab", "dataset 'kinect' is unknown; choose one of cmu_mocap"),
    ("pretrain", "--source=cmu_mocap/h36m_rig", "cmu.zip"),
    ("pretrain", "--heads=3", "width 16 is not a multiple of 3 heads"),
    ("pretrain", "--learning_rate=1e30 --warmup_steps=0 --log_every=1", "loss is nan at step"),
    ("adapt", "--base=nowhere", "nowhere is no base"),
    ("adapt", "--base=plan:large", "plan 'large' is unknown; choose one of paper"),
    ("adapt", "--target=synthetic_motion/moon_gt", "config 'moon_gt' of synthetic_motion is unknown"),
    ("adapt", "--target_split=validation", "split 'validation' of synthetic_motion/target_gt cannot be read"),
    ("evaluate", f"--dataset={TARGET} --run=nowhere", "nowhere is not a run folder"),
    ("evaluate", "", "--dataset or --protocol is needed"),
    ("evaluate", "--protocol=3dhp --split=TS1", "--split=TS1 contradicts --protocol=3dhp"),
    ("evaluate", "--protocol=3dhp --dataset=threedpw/approx_gt", "--dataset=threedpw/approx_gt is not of protocol"),
])
def test_an_error_of_the_user_is_one_line(script, flags, message, smoke_base, data, tmp_path):
  first = {"adapt": [SMOKE, smoke_base], "pretrain": [SMOKE.replace("smoke", "smoke_base")], "evaluate": []}[script]
  assert message in error_of(script, *first, data, f"--workdir={tmp_path}/run", *flags.split())


def test_a_batch_that_the_devices_cannot_share_is_refused(smoke_base, data, tmp_path):
  env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
  line = error_of("adapt", SMOKE, data, smoke_base, f"--workdir={tmp_path}/run", env=env)
  assert "clips 8 is not divisible by 3 devices" in line


def test_a_work_directory_of_another_config_and_an_adapter_of_another_base_are_refused(adapted, data, tmp_path):
  before = (adapted / "metrics.json").read_bytes()
  line = error_of("adapt", SMOKE, data, f"--workdir={adapted}", "--rank=1")
  assert "belongs to a run with another config" in line and "recipe.adapter.rank: 2 there, 1 now" in line
  assert (adapted / "metrics.json").read_bytes() == before
  runs.Run(tmp_path, read(adapted, "config.json") | {"base": "0123456789abcdef"}).close()
  line = error_of("evaluate", f"--run={tmp_path}", f"--dataset={TARGET}", data)
  assert "this adapter belongs to 0123456789abcdef" in line


def test_an_unknown_value_of_a_flag_is_refused_and_help_lists_the_flags_for_data_folder_and_video():
  done = run("evaluate", "--select=video", "--workdir=unused")
  assert done.returncode != 0 and "<mean|bones|sequence|frame|joint>" in done.stderr
  said = run("adapt", "--help").stdout
  assert not [name for name in ("recipe", "base", "workdir", "manual_dir", "resolution") if f"--{name}:" not in said]
