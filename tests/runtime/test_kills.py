"""Runs that are killed at seeded random moments, half of them while they save. `-m long -s` prints what was hit."""

import random
import shutil
import signal
import sys
import time

import pytest

from tests.runtime.starts import is_saving, result
from tests.scripts import SMOKE

SCRIPT_SAVES = ("checkpoints/adapted/2", "checkpoints/adapted/6", "checkpoints/adapted/12", "adapted")
SMOKE_SAVES = ("base/checkpoints/3", "base/checkpoints/6", "base/base", "checkpoints/adapted/6", "adapted")
pytestmark = pytest.mark.long


def kill_often(start, make, folder, kills: int, seed: int, saves: tuple[str, ...]) -> None:
  """Kills the command `make(folder)` often; each run then ends as the unbroken one. Prints counts of what was hit.

  Every second kill comes while one of `saves` is written, the others at any moment.
  """
  whole, began = folder / "whole", time.monotonic()
  start(*make(whole)).finish()
  seconds, rng = time.monotonic() - began, random.Random(seed)
  counts = dict.fromkeys(("kills", "in a save", "before a step was saved", "after a training", "resumed"), 0)
  while counts["kills"] < kills:
    work = folder / f"{seed}_{sum(counts.values())}"
    one = start(*make(work))
    if counts["kills"] % 2:
      save = rng.choice(saves)
      one.wait_for(lambda: is_saving(work, save))
      time.sleep(rng.uniform(0, 0.03))
    else:
      end = time.monotonic() + rng.uniform(0, seconds)
      one.wait_for(lambda: time.monotonic() > end)
    if not one.kill():
      shutil.rmtree(work, ignore_errors=True)  # it had ended: draw another moment
      continue
    counts["kills"] += 1
    counts["in a save"] += is_saving(work, "**/*")
    counts["before a step was saved"] += not any(path.name.isdigit() for path in work.glob("**/checkpoints/**/*"))
    counts["after a training"] += any((work / name).exists() for name in ("adapted", "base/base"))
    counts["resumed"] += "Resuming" in start(*make(work)).finish()
    assert result(work) == result(whole), work
    shutil.rmtree(work)
  print(f"\nseed {seed}: " + ", ".join(f"{v} {k}" for k, v in counts.items()), flush=True)


@pytest.mark.parametrize("seed", [2, 3])
def test_the_script_survives_kills_at_random_moments(command, start, tmp_path, seed):
  kill_often(start, lambda folder: [*command, f"--workdir={folder}"], tmp_path, 10, seed, SCRIPT_SAVES)


def test_a_base_and_its_adapter_survive_kills_at_random_moments(start, tmp_path, data):
  """Pretraining, adaptation and scores, by the smoke preset."""
  adapt = [sys.executable, "-m", "experiments.adapt", SMOKE, data]
  kill_often(start, lambda folder: [*adapt, f"--workdir={folder}"], tmp_path, 2, 4, SMOKE_SAVES)


def test_a_run_stopped_in_its_second_training_ends_as_the_unbroken_one(start, tmp_path, data, smoke_base):
  adapt = [sys.executable, "-m", "experiments.adapt", SMOKE, data, smoke_base, "--ceiling", "--save_every=2"]
  start(*adapt, f"--workdir={tmp_path}/whole").finish()
  stopped = start(*adapt, f"--workdir={tmp_path}/run")
  assert stopped.wait_for((tmp_path / "run" / "checkpoints" / "ceiling" / "2").is_dir)
  stopped.signal(signal.SIGTERM)
  assert "Stopped" in stopped.finish()
  start(*adapt, f"--workdir={tmp_path}/run").finish()
  assert result(tmp_path / "run") == result(tmp_path / "whole")
