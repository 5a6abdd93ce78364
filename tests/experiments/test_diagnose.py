"""The gap's parts: they add up, each depends on its own cause, and the script prints and writes what it measured."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import diagnose
from posynda_jax.adaptation import bases, sources
from posynda_jax.geometry import skeleton
from tests import scene, tiny
from tests.scripts import error_of

Cell = diagnose.Cell
PARENTS = np.array(skeleton.PARENTS[1:])


def test_parts_add_up_to_the_error_and_each_depends_on_its_cause():
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


def test_another_body_has_its_lengths_keeps_directions_and_stands_on_the_floor():
  def directions(poses):
    bones = poses[:, 1:] - poses[:, PARENTS]
    return bones / np.linalg.norm(bones, axis=-1, keepdims=True)

  motion = scene.motion(20)
  lengths = 1.3 * np.asarray(skeleton.bone_lengths(motion)).mean(0)
  moved = diagnose.with_body(motion, lengths)
  np.testing.assert_allclose(np.asarray(skeleton.bone_lengths(moved)), np.tile(lengths, (20, 1)), rtol=1e-5)
  np.testing.assert_allclose(directions(moved), directions(motion), atol=1e-4)
  np.testing.assert_allclose(moved[:, [3, 6], 1].min(-1), motion[:, [3, 6], 1].min(-1), atol=1e-5)


@pytest.fixture
def base(monkeypatch) -> bases.Base:
  """The base that every --base names."""
  base = tiny.base(source="cmu_mocap/h36m_rig", clip_fps=25.0)
  monkeypatch.setattr(bases, "load", lambda where: base)
  flags.FLAGS.mark_as_parsed()
  return base


def test_adapters_are_called_by_label_or_name_and_belong_to_the_base(base, tmp_path, monkeypatch):
  monkeypatch.setattr(bases, "load_adapter", lambda folder, name, base: bases.Weights(base, name=f"{folder}:{name}"))
  (tmp_path / "config.json").write_text(json.dumps({"base": base.digest}))
  with flagsaver.as_parsed(adapters=f"{tmp_path}/f_bias/,F={tmp_path}/adapted"):
    found = diagnose.load_all(base)
  assert {label: weights.name for label, weights in found.items()} == {
      "base": "base", "f_bias": f"{tmp_path}:f_bias", "F": f"{tmp_path}:adapted"
  }
  with flagsaver.as_parsed(adapters=f"{tmp_path}/a,{tmp_path}/a"), pytest.raises(ValueError, match="are called a"):
    diagnose.load_all(base)
  (tmp_path / "config.json").write_text(json.dumps({"base": "fedcba9876543210"}))
  message = f"adapts the base fedcba9876543210, --base is {base.digest}"
  with flagsaver.as_parsed(adapters=f"{tmp_path}/a"), pytest.raises(ValueError, match=message):
    diagnose.load_all(base)


def test_the_script_writes_cells_parts_and_actions(base, tmp_path, monkeypatch, capsys):

  def record(seed: int, action: str) -> dict:
    labels = {"subject": "a", "action": action, "sequence": f"{action}{seed}"}
    return {"poses_world_m": scene.motion(12, seed), "fps": np.float32(25), **labels}

  records = {"cmu_mocap/world": [record(0, "walk")], "hdm05_mocap/world": [record(1, "sit"), record(2, "jog")]}
  monkeypatch.setattr(sources, "load_records", lambda name, split, folders: records[name])
  with flagsaver.as_parsed(datasets="hdm05_mocap", rigs="dhp_rig", out=f"{tmp_path}/gap.json"):
    diagnose.main()
  result = json.loads((tmp_path / "gap.json").read_text())
  cells = {(c["dataset"], c["rig"], c["own_body"]): c for c in result["cells"]}
  assert len(cells) == len(result["cells"]) == 5
  target = cells["hdm05_mocap", "dhp_rig", True]
  assert set(target["actions"]) == {"sit", "jog"}
  part = {row["dataset"]: row for row in result["parts"]["base"]}["hdm05_mocap"]
  assert part["total"] == pytest.approx(target["mpjpe_mm"])
  assert "| hdm05_mocap, dhp_rig |" in capsys.readouterr().out


@pytest.mark.parametrize("flag, message", [
    ("--base=.", "is not a run folder"), ("--base=small", "choose its home, of one rig, as in --source="),
])
def test_a_base_that_is_no_run_or_has_several_rigs_is_one_line(flag, message):
  assert message in error_of("diagnose", flag)
