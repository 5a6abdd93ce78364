import dataclasses
import json

from posynda_jax.adaptation import base_job
from tests.scripts import run, run_well


def test_a_row_lacks_one_part_and_differs_in_nothing_else():
  plan, rows = base_job.get("base"), base_job.ablations(base_job.get("base"))
  assert list(rows) == ["as it is", *(f"without {part}" for part in base_job.PARTS)] and rows["as it is"] == plan
  for part, fields in base_job.PARTS.items():
    row = rows[f"without {part}"]
    assert all(getattr(plan.pretrain, name) and not getattr(row.pretrain, name) for name in fields)
    assert dataclasses.replace(row.pretrain, **{name: getattr(plan.pretrain, name) for name in fields}) == plan.pretrain
    assert row.model["inputs"] == (2 if "camera" in part else 5)
    assert dataclasses.replace(row, model=plan.model, pretrain=plan.pretrain) == plan
  assert list(base_job.ablations(base_job.get("smoke"))) == ["as it is"]


def test_every_row_is_trained_and_scored(data, tmp_path):
  flags = "--plan=smoke", "--steps=1", "--turned=0.5", "--targets=synthetic_motion/target_gt", data
  printed = run_well("ablation", *flags, f"--json={tmp_path / 'a.json'}", f"--workdir={tmp_path / 'runs'}")
  found = json.loads((tmp_path / "a.json").read_text())
  rows, seconds = found["rows"], found["seconds"]
  assert list(seconds) == list(rows) and min(seconds.values()) > 0
  assert list(rows) == ["as it is", "without turned people"]
  for row, scores in rows.items():
    assert scores["synthetic_motion/target_gt"]["frames"] and f"| {row}" in printed
    assert (tmp_path / "runs" / row.replace(" ", "_") / "base").exists()
  refused = run("ablation", *flags, "--rows=as it is,without Muon", f"--workdir={tmp_path / 'runs'}")
  assert "--rows names without Muon, which this plan lacks; it has as it is, without turned people" in refused.stderr
