"""The script of a thousand endings: its counts, and a few endings of its own."""

import json
import random
import subprocess
import sys

import pytest

from tests import ROOT
from tests.runtime import endings


def test_faults_are_counted_by_what_the_run_was_doing_and_late_ones_are_not():
  rows = [
      {"job": "adapt", "faults": [["kill", "in a save", "ended"], ["SIGTERM", "", "too late"]], "outcome": "same"},
      {"job": "sweep", "faults": [["kill", "between saves", "ended"]], "outcome": "LOST"}]
  counts = endings.summarise(rows)
  assert counts["endings"] == 2 and counts["runs"] == 2 and counts["outcomes"] == {"same": 1, "LOST": 1}
  assert counts["faults"] == {"kill": {"in a save": 1, "between saves": 1, "ended": 2}}


@pytest.mark.parametrize("fault", ["flipped byte", "truncated file"])
def test_only_the_newest_checkpoint_that_has_another_is_damaged(fault, tmp_path):
  def content():
    return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

  for name in ("checkpoints/base/3/state/d", "checkpoints/adapted/2/state/d"):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(bytes(range(100)))
  assert not endings.damage(fault, tmp_path, random.Random(0))  # a training with one checkpoint would be lost
  (tmp_path / "checkpoints/adapted/10/state").mkdir(parents=True)
  (tmp_path / "checkpoints/adapted/10/state/d").write_bytes(bytes(range(100)))
  before = content()
  assert endings.damage(fault, tmp_path, random.Random(0))
  changed = [path for path, bytes_ in content().items() if bytes_ != before[path]]
  assert changed == [tmp_path / "checkpoints/adapted/10/state/d"]


@pytest.mark.long
def test_a_few_endings_end_as_unbroken_runs(tmp_path):
  flags = (f"--folder={tmp_path}", "--endings=24", "--jobs=pretrain,adapt", f"--json={tmp_path}/counts.json")
  done = subprocess.run(
      [sys.executable, "-m", "tests.runtime.endings", *flags], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
  counts = json.loads((tmp_path / "counts.json").read_text())
  assert counts["endings"] >= 24 and set(counts["outcomes"]) == {"same"}
