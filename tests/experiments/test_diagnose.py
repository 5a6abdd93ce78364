"""The gap's parts: they add up, each answers to its own cause, and the script prints what it measured."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import common, diagnose
from posynda_jax.adaptation import bases
from posynda_jax.data import pipeline
from posynda_jax.geometry import skeleton
from tests import scene
from tests.experiments.test_experiments import error_of

Cell = diagnose.Cell


def test_parts_add_up_to_the_error_and_each_answers_to_its_cause():
  errors = {
      Cell("cmu", "home", True): 60.0, Cell("cmu", "wild", True): 100.0, Cell("cmu", "wild", False): 98.0,
      Cell("hdm", "wild", True): 130.0, Cell("hdm", "wild", False): 118.0,
  }
  rows = {(row["dataset"], row["rig"]): row for row in diagnose.decompose(errors, "cmu", "home")}
  assert rows["cmu", "wild"] == {
      "dataset": "cmu", "rig": "wild", "home": 60.0, "camera": 40.0, "motion": 0.0, "body": 0.0, "total": 100.0
  }
  row = rows["hdm", "wild"]
  assert (row["camera"], row["motion"], row["body"]) == (40.0, 20.0, 10.0)
  assert row["home"] + row["camera"] + row["motion"] + row["body"] == row["total"] == 130.0
  detected = diagnose.decompose(errors | {Cell("hdm", "wild", True, detected=True): 137.0}, "cmu", "home")[1]
  assert detected == row | {"detector": 7.0, "total": 137.0}


def test_another_body_has_its_lengths_keeps_directions_and_stands_on_the_floor():
  motion = scene.motion(20)
  lengths = 1.3 * np.asarray(skeleton.bone_lengths(motion)).mean(0)
  moved = diagnose.with_body(motion, lengths)
  np.testing.assert_allclose(np.asarray(skeleton.bone_lengths(moved)), np.tile(lengths, (20, 1)), rtol=1e-5)
  bone = lambda x: x[:, 1:] - x[:, np.array(skeleton.PARENTS[1:])]
  unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
  np.testing.assert_allclose(unit(bone(moved)), unit(bone(motion)), atol=1e-4)
  np.testing.assert_allclose(moved[:, [3, 6], 1].min(-1), motion[:, [3, 6], 1].min(-1), atol=1e-6)


def test_the_mean_body_weighs_subjects_not_takes():
  short, tall = scene.motion(5), 2 * scene.motion(5)
  track = lambda subject, motion: pipeline.Track({"motion": motion, "valid": np.ones(5, np.float32)}, {"subject": subject})
  tracks = [track("a", short)] * 3 + [track("b", tall)]
  expected = 1.5 * np.asarray(skeleton.bone_lengths(short)).mean(0)
  np.testing.assert_allclose(pipeline.mean_bones(tracks), expected, atol=1e-4)


def test_weights_are_called_by_their_label_or_their_name():
  assert diagnose.name_weights("runs/a/f_bias/") == ("f_bias", "runs/a/f_bias/")
  assert diagnose.name_weights("F=runs/rows/0a/adapted") == ("F", "runs/rows/0a/adapted")


def test_adapters_of_another_base_are_refused(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"base": "0123456789abcdef"}))
  base = type("Base", (), {"digest": "fedcba9876543210"})
  with pytest.raises(ValueError, match="adapts the base 0123456789abcdef, --base is fedcba9876543210"):
    diagnose.load_adapter(f"{tmp_path}/adapted", base)


def test_the_script_writes_cells_parts_hypotheses_and_actions(tmp_path, monkeypatch, capsys):
  model, params = scene.tiny_model(3)
  config = {"source": "cmu_mocap/h36m_rig", "clip_fps": 25.0, "pretrain": {"diffusion_steps": 1000}}
  monkeypatch.setattr(bases, "load", lambda where: bases.Base(model, params, "0123456789abcdef", config))
  record = lambda seed, action: {
      "poses_world_m": scene.motion(12, seed), "fps": np.float32(25), "subject": "a", "action": action, "sequence": f"{action}{seed}"
  }
  records = {"cmu_mocap/world": [record(0, "walk")], "hdm05_mocap/world": [record(1, "sit"), record(2, "jog")]}
  monkeypatch.setattr(common, "load_records", lambda name, split: records[name])
  flags.FLAGS.mark_as_parsed()
  with flagsaver.as_parsed(base="any", datasets="hdm05_mocap", rigs="dhp_rig", out=f"{tmp_path}/gap.json", detected="true"):
    diagnose.main()
  result = json.loads((tmp_path / "gap.json").read_text())
  cells = {(c["dataset"], c["rig"], c["own_body"], c["detected"]): c for c in result["cells"]}
  assert len(cells) == len(result["cells"]) == 6
  target = cells["hdm05_mocap", "dhp_rig", True, False]
  assert cells["hdm05_mocap", "dhp_rig", True, True]["mpjpe_mm"] != target["mpjpe_mm"]
  assert set(target["actions"]) == {"sit", "jog"} and target["hypotheses"]["one_mm"] == pytest.approx(target["mpjpe_mm"])
  assert target["hypotheses"]["best_of_frame_mm"] <= target["hypotheses"]["chosen_frame_mm"]
  part = {row["dataset"]: row for row in result["parts"]["base"]}["hdm05_mocap"]
  assert part["total"] - part["detector"] == pytest.approx(target["mpjpe_mm"]) and "| hdm05_mocap, dhp_rig |" in capsys.readouterr().out


def test_a_base_that_is_no_run_is_one_line(tmp_path):
  assert "is not a run folder" in error_of("diagnose", f"--base={tmp_path}")


def test_a_base_of_several_rigs_has_no_home():
  assert "was trained under h36m_rig+dhp_rig+wild_rig" in error_of("diagnose")
