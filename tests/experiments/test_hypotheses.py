"""Measures of hypotheses through the command line."""

import json

from tests.scripts import error_of, run_well


def test_hypotheses_are_measured_for_every_number_of_steps(smoke_base, tmp_path):
  out = run_well(
      "hypotheses", smoke_base, "--dataset=synthetic_motion/target_gt", "--split=test[:2%]", "--hypotheses=3",
      "--steps=1,2", "--clips=5", "--batch=4", f"--json={tmp_path}/a.json")
  rows = json.loads((tmp_path / "a.json").read_text())["rows"]
  assert [row["steps"] for row in rows] == [1, 2] and all(row["frames"] <= 15 for row in rows)
  assert all(row["best_joint_mm"] <= row["best_pose_mm"] <= row["one_mm"] for row in rows)
  assert f"| 2 | {rows[1]['one_mm']:.1f}" in " ".join(out.split())
  assert "--dataset is not given" in error_of("hypotheses", smoke_base)
