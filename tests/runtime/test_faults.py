"""Runs that are killed, stopped, damaged and refused end with the adapter and the metrics of the unbroken run.

The short test meets most faults once. `-m long` adds disks and locks; test_endings.py kills at random moments.
"""

import contextlib
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from posynda_jax.runtime import runs
from tests.runtime.starts import is_saving, result
from tests.scripts import SMOKE

SLEEPER = """
import time
from posynda_jax.runtime import signals
signals.listen()
with signals.held():
  signals.hold()
  print("held", flush=True)
  time.sleep(60)
"""


def test_a_run_that_meets_every_fault_ends_as_the_unbroken_one(command, whole, start, tmp_path):
  folder = tmp_path / "run"
  steps, again = folder / "checkpoints" / "adapted", [*command, f"--workdir={folder}"]

  stopped = start(*again)  # SIGTERM while the step compiles: there is nothing to save
  assert stopped.wait_for(lambda: "Compiling adapted" in stopped.output)
  stopped.signal(signal.SIGTERM)
  line = stopped.finish().strip().splitlines()[-1]
  hint = shlex.split(line.partition("goes on from there: ")[2])
  assert line.startswith("Stopped") and hint[1:] == again[1:]
  assert not list(steps.glob("[0-9]*")) and "adapted: 100%" not in stopped.output

  killed = start(*hint)  # kill -9 while step 6 is written
  assert killed.wait_for(lambda: is_saving(steps, 6)) and killed.kill()
  assert "Resuming" not in killed.output and not (folder / "metrics.json").exists()

  stopped = start(*again)  # SIGINT in the loop: the step is finished and saved
  assert stopped.wait_for(lambda: (steps / "8").exists() or re.search(r"\| (7|8)/12", stopped.output))
  stopped.signal(signal.SIGINT)
  output = stopped.finish()
  assert re.search(r"Resuming adapted at step [46]", output)
  if at := re.search(r"Stopped after step (\d+) of 12 of adapted, which is saved", output):
    assert (steps / at[1]).is_dir()
  else:
    assert "Stopped" in output

  killed = start(*again)  # kill -9 between the training's end and the results
  assert killed.wait_for((folder / "adapted").exists) and killed.kill()
  assert not (folder / "metrics.json").exists()

  for path in (steps / "12" / "state").glob("**/d/*"):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
  output = start(*again).finish()  # the last checkpoint is damaged
  said = [text for text in output.splitlines() if text.startswith("Damaged checkpoint of step 12 (")]
  assert len(said) == 1 and re.search(r"going on from step \d+$", said[0])
  assert result(folder) == result(whole)
  for name in ("figures/adapted.png", "figures/comparison.png"):
    assert (folder / name).stat().st_size > 1000
  logged = runs.read_scalars(folder)["adapted/loss"]
  assert sorted(logged) == list(range(1, 13)) and not list(folder.glob("**/*orbax-checkpoint-tmp*"))


@pytest.mark.long
def test_a_run_that_is_ended_in_each_of_its_trainings_ends_as_the_unbroken_one(start, tmp_path, data):
  """The base is killed, the adapter is killed while it is saved, and the ceiling is stopped."""
  adapt = [sys.executable, "-m", "experiments.adapt", SMOKE, data, "--ceiling", "--save_every=2"]
  start(*adapt, f"--workdir={tmp_path}/whole").finish()
  folder = tmp_path / "run"
  steps = folder / "checkpoints"
  for sign in ((folder / "base" / "checkpoints" / "2").is_dir, lambda: is_saving(steps / "adapted", 4)):
    killed = start(*adapt, f"--workdir={folder}")
    assert killed.wait_for(sign) and killed.kill()
  stopped = start(*adapt, f"--workdir={folder}")
  assert stopped.wait_for((steps / "ceiling" / "2").is_dir)
  stopped.signal(signal.SIGTERM)
  assert "Stopped" in stopped.finish()
  start(*adapt, f"--workdir={folder}").finish()
  assert result(folder) == result(tmp_path / "whole")


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, options: str):
  """A disk of its own at `folder`. Skips the test if none can be mounted."""
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
  if not shutil.which("mount") or subprocess.run(mount).returncode:
    pytest.skip("a small disk cannot be mounted here")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.long
def test_a_full_disk_keeps_the_last_good_checkpoint_and_with_space_the_run_goes_on(command, whole, start, tmp_path):
  with small_disk(tmp_path / "disk", "size=4m") as disk:
    again, ballast = [*command, f"--workdir={disk}/run"], disk / "ballast"
    steps = disk / "run" / "checkpoints" / "adapted"
    failed = start(*again)
    assert failed.wait_for((steps / "2").is_dir)
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
      while file.write(bytes(4096)):
        pass
    line = failed.error()
    assert line.startswith("error: ") and "No space left" in line
    assert "Make space; the same command then goes on" in line
    kept = max(int(path.name) for path in steps.glob("[0-9]*") if path.name.isdigit())
    assert 2 <= kept < 12
    assert "No space left" in start(*again).error() and (steps / str(kept)).is_dir()  # still full
    ballast.unlink()
    assert f"Resuming adapted at step {kept}" in start(*again).finish()
    assert result(disk / "run") == result(whole)


@pytest.mark.long
def test_a_read_only_work_directory_is_one_line_and_its_files_stay(command, whole, start, tmp_path):
  with small_disk(tmp_path / "disk", "size=8m") as disk:
    again = [*command, f"--workdir={disk}/run"]
    killed = start(*again)
    assert killed.wait_for((disk / "run" / "checkpoints" / "adapted" / "4").is_dir) and killed.kill()
    before = {path: path.stat().st_mtime_ns for path in disk.rglob("*")}
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    line = start(*again).error()
    assert "Read-only file system" in line and "Choose a --workdir that can be written to" in line
    assert "Read-only file system" in start(*command, f"--workdir={disk}/new").error()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert {path: path.stat().st_mtime_ns for path in disk.rglob("*")} == before
    assert "Resuming adapted at step" in start(*again).finish()
    assert result(disk / "run") == result(whole)


@pytest.mark.long
def test_a_second_sigint_ends_at_once(start):
  one = start(sys.executable, "-c", SLEEPER)
  assert one.wait_for(lambda: "held" in one.output)
  one.signal(signal.SIGINT)
  time.sleep(0.3)
  assert one.process.poll() is None
  one.signal(signal.SIGINT)
  assert one.end() == 130
