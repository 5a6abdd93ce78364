"""Planted faults through the command line."""

from tests.scripts import error_of, run_well


def test_planted_faults_are_counted(smoke_base):
  out = run_well("trust", smoke_base, "--dataset=synthetic_motion/target_gt", "--clips=2")
  rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in out.splitlines() if line.startswith("| ")}
  assert {"none", "video on its side", "intrinsics in millimetres"} <= set(rows)
  clips, *_, caught, _, _ = (cell.strip() for cell in rows["intrinsics in millimetres"])
  assert clips == caught == "2"
  assert "--dataset is not given" in error_of("trust", smoke_base)
