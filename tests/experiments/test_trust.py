"""Planted faults through the command line."""

import json

from tests.scripts import error_of, run_well


def test_planted_faults_are_counted(smoke_base, tmp_path):
  out = run_well("trust", smoke_base, "--dataset=synthetic_motion/target_gt", "--clips=2", f"--json={tmp_path}/a.json")
  assert json.loads((tmp_path / "a.json").read_text())["synthetic_motion/target_gt"][0]["fault"] == "none"
  rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in out.splitlines() if line.startswith("| ")}
  assert {"none", "video on its side", "intrinsics in millimetres"} <= set(rows)
  clips, *_, caught, _, _ = (cell.strip() for cell in rows["intrinsics in millimetres"])
  assert clips == caught == "2"
  assert "--dataset is not given" in error_of("trust", smoke_base)
