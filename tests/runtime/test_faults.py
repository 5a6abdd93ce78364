"""Runs that are killed, stopped, damaged and refused, and then end as if nothing had been: the same adapter, the same metrics.

The short form goes once through the faults by the command line. The long form (`-m long`) kills 30 times at seeded random
moments, in saves too, and prints what it counted.
"""

import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from posynda_jax.adaptation import pretrain
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.runtime import checkpoint, runs
from tests import LIGHT, scene

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = f"--flagfile={ROOT}/experiments/presets/smoke.flags"


@dataclasses.dataclass
class Start:
  """One start of a command: its process, and the file its output goes to."""

  process: subprocess.Popen
  log: pathlib.Path

  @property
  def output(self) -> str:
    return self.log.read_text(errors="replace")

  def wait_for(self, sign, seconds: float = 120) -> bool:
    """Waits until `sign()` or the end of the process; whether the sign came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
      if sign():
        return True
      if self.process.poll() is not None:
        return False
      time.sleep(0.0005)
    raise AssertionError(f"nothing happened in {seconds} s: {self.output[-2000:]}")

  def end(self) -> int:
    return self.process.wait(timeout=300)

  def kill(self) -> bool:
    """kill -9; whether the process still lived."""
    self.process.kill()
    return self.end() == -signal.SIGKILL


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
  """One CPU device."""
  return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": LIGHT}


@pytest.fixture
def start(tmp_path, environment):
  """A function that starts a command; what still runs at the end of the test is killed."""
  starts = []

  def begin(*command: str) -> Start:
    log = tmp_path / f"log{len(starts)}"
    with log.open("w") as file:
      process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    starts.append(Start(process, log))
    return starts[-1]

  yield begin
  for one in starts:
    if one.process.poll() is None:
      one.process.kill()
      one.process.wait()


def finish(one: Start) -> str:
  assert one.end() == 0, one.output[-3000:]
  return one.output


def error_of(one: Start) -> str:
  assert one.end() == 1, one.output[-3000:]
  assert "Traceback" not in one.output
  return one.output.strip().splitlines()[-1]


def saving(folder: pathlib.Path, name):
  """A sign: `name` (a step, an adapter) is being written to the folder, and is not whole yet."""
  return lambda: any(True for _ in folder.glob(f"{name}.orbax-checkpoint-tmp*"))


def result(folder: pathlib.Path) -> dict:
  """What a run ended with: every number of its results but the seconds, and its adapters bit by bit."""
  without = lambda tree: {k: without(v) for k, v in tree.items() if k != "seconds"} if isinstance(tree, dict) else tree
  saved = [name for name in ("adapted", "f", "posynda", "base/base", "weights") if (folder / name).exists()]
  return {"metrics": without(runs.read_metrics(folder))} | {name: values(folder / name) for name in saved}


def values(folder: pathlib.Path) -> dict[str, bytes]:
  with checkpoint.ocp.StandardCheckpointer() as checkpointer:
    tree = checkpointer.restore(folder.absolute())
  return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
  """An adaptation of the smoke preset to own keypoints, by a base that never trained: 12 updates, saved every 2."""
  folder = tmp_path_factory.mktemp("given")
  model = {"num_frames": 3, "width": 16, "depth": 1, "num_heads": 1, "drop_path": 0.0, "dtype": "float32"}
  runs.Run(folder / "base", {"model": model, "pretrain": dataclasses.asdict(pretrain.PretrainConfig()), "clip_fps": 12.5})
  params = pretrain.init_state(jax.random.key(0), make_model(model), pretrain.PretrainConfig()).params
  checkpoint.save_tree(folder / "base" / "base", params)
  poses = scene.poses((60,))
  np.save(folder / "walk.npy", 500 + 1150 * poses[..., :2] / poses[..., 2:])
  return [
      sys.executable, "-m", "experiments.adapt", SMOKE, f"--base={folder}/base", "--source=none",
      f"--target=keypoints:{folder}/walk.npy", "--layout=h36m17", "--resolution=1000x1000", "--fps=25",
      "--intrinsics=1150,1150,500,500", "--updates=12", "--save_every=2", "--log_every=1",
  ]


@pytest.fixture(scope="module")
def whole(command, environment, tmp_path_factory) -> pathlib.Path:
  """The folder of the unbroken run."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  done = subprocess.run([*command, f"--workdir={folder}"], cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  return folder


def test_a_run_that_meets_every_fault_ends_as_the_unbroken_one(command, whole, start, tmp_path):
  folder = tmp_path / "run"
  steps, again = folder / "checkpoints" / "adapted", [*command, f"--workdir={folder}"]

  stopped = start(*again)  # SIGTERM while the step compiles: nothing is there to save
  assert stopped.wait_for(lambda: "Compiling adapted" in stopped.output)
  stopped.process.send_signal(signal.SIGTERM)
  line = finish(stopped).strip().splitlines()[-1]
  hint = shlex.split(line.partition("goes on from there: ")[2])
  assert line.startswith("Stopped") and hint[1:] == again[1:]
  assert not list(steps.glob("[0-9]*")) and "adapted: 100%" not in stopped.output

  killed = start(*hint)  # kill -9 while step 6 is written
  assert killed.wait_for(saving(steps, 6)) and killed.kill()
  assert "Resuming" not in killed.output and not (folder / "metrics.json").exists()

  stopped = start(*again)  # SIGINT in the loop: the step is finished and saved
  assert stopped.wait_for(lambda: (steps / "8").exists() or re.search(r"\| (7|8)/12", stopped.output))
  stopped.process.send_signal(signal.SIGINT)
  output = finish(stopped)
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
  output = finish(start(*again))  # the last checkpoint is damaged
  said = [text for text in output.splitlines() if text.startswith("Damaged checkpoint of step 12 (")]
  assert len(said) == 1 and re.search(r"going on from step \d+$", said[0])
  assert result(folder) == result(whole)
  for name in ("figures/adapted.png", "figures/comparison.png"):
    assert (folder / name).stat().st_size > 1000
  drawn = {row["step"] for row in runs.read_rows(folder, "adapted")}
  assert drawn == set(range(1, 13)) and not list(folder.glob("**/*orbax-checkpoint-tmp*"))


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, options: str):
  """A disk of its own at `folder`; the test is skipped where none can be mounted."""
  folder.mkdir()
  if not shutil.which("mount"):
    pytest.skip("a small disk cannot be mounted here: no mount command")
  mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
  if mount.returncode:
    pytest.skip(f"a small disk cannot be mounted here: {mount.stderr.strip()}")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.long
def test_a_full_disk_keeps_the_last_good_checkpoint_and_with_space_the_run_goes_on(command, whole, start, tmp_path):
  with small_disk(tmp_path / "disk", "size=4m") as disk:
    folder, ballast = disk / "run", disk / "ballast"
    again = [*command, f"--workdir={folder}"]
    failed = start(*again)
    steps = folder / "checkpoints" / "adapted"
    assert failed.wait_for((steps / "2").is_dir)
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
      while file.write(bytes(4096)):
        pass
    line = error_of(failed)
    assert line.startswith("error: ") and "No space left" in line and "Make space; the same command then goes on" in line
    kept = max(int(path.name) for path in steps.glob("[0-9]*") if path.name.isdigit())
    assert 2 <= kept < 12
    line = error_of(start(*again))  # still full
    assert "No space left" in line and (steps / str(kept)).is_dir()
    ballast.unlink()
    assert f"Resuming adapted at step {kept}" in finish(start(*again))
    assert result(folder) == result(whole)


@pytest.mark.long
def test_a_read_only_work_directory_is_one_line_and_what_is_there_stays(command, whole, start, tmp_path):
  with small_disk(tmp_path / "disk", "size=8m") as disk:
    again = [*command, f"--workdir={disk}/run"]
    killed = start(*again)
    assert killed.wait_for((disk / "run" / "checkpoints" / "adapted" / "4").is_dir) and killed.kill()
    before = {path: path.stat().st_mtime_ns for path in disk.rglob("*")}
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    line = error_of(start(*again))
    assert "Read-only file system" in line and "Choose a --workdir that can be written to" in line
    assert "Read-only file system" in error_of(start(*command, f"--workdir={disk}/new"))
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert {path: path.stat().st_mtime_ns for path in disk.rglob("*")} == before
    assert "Resuming adapted at step" in finish(start(*again))
    assert result(disk / "run") == result(whole)


@pytest.mark.long
def test_two_runs_on_one_directory_and_a_second_signal(command, whole, start, tmp_path):
  again = [*command, f"--workdir={tmp_path}/run"]
  first = start(*again)
  assert first.wait_for(lambda: "adapted:   0%" in first.output)
  first.process.send_signal(signal.SIGSTOP)
  line = error_of(start(*again))
  assert f"run is in use by process {first.process.pid} on {os.uname().nodename}: wait until it ends" in line
  assert first.kill()
  finish(start(*again))
  assert result(tmp_path / "run") == result(whole)


@pytest.mark.long
def test_a_second_sigint_ends_at_once(start, tmp_path):
  one = start(sys.executable, "-c", SLEEPER)
  assert one.wait_for(lambda: "held" in one.output)
  one.process.send_signal(signal.SIGINT)
  time.sleep(0.3)
  assert one.process.poll() is None
  one.process.send_signal(signal.SIGINT)
  assert one.end() == 130


SLEEPER = """
import time
from posynda_jax.runtime import signals
signals.listen()
with signals.held():
  signals.hold()
  print("held", flush=True)
  time.sleep(60)
"""

DRIVER = [sys.executable, "-m", "tests.runtime.fault_driver"]
DRIVER_SAVES = ("checkpoints/2", "checkpoints/4", "checkpoints/18", "checkpoints/40", "checkpoints/60", "weights")
SCRIPT_SAVES = ("checkpoints/adapted/2", "checkpoints/adapted/6", "checkpoints/adapted/12", "adapted")
SMOKE_SAVES = ("base/checkpoints/3", "base/checkpoints/6", "base/base", "checkpoints/adapted/6", "adapted")


def kill_often(start, make, folder, whole, kills, seed, seconds, saves) -> dict[str, int]:
  """Kills `kills` runs, half of them at any moment of the `seconds` they take, half while one of `saves` is written, and lets
  each end. Returns counts of what was hit."""
  rng = random.Random(seed)
  counts = dict.fromkeys(("kills", "in a save", "before a step was saved", "after the training", "resumed"), 0)
  while counts["kills"] < kills:
    work = folder / f"{seed}_{sum(counts.values())}"
    one = start(*make(work))
    if counts["kills"] % 2:
      one.wait_for(saving(work, rng.choice(saves)))
      time.sleep(rng.uniform(0, 0.03))
    else:
      one.wait_for(lambda end=time.monotonic() + rng.uniform(0, seconds): time.monotonic() > end)
    if not one.kill():
      shutil.rmtree(work, ignore_errors=True)  # it had ended: draw another moment
      continue
    counts["kills"] += 1
    counts["in a save"] += any(True for _ in work.glob("**/*.orbax-checkpoint-tmp*"))
    counts["before a step was saved"] += not any(path.name.isdigit() for path in work.glob("**/checkpoints/**/*"))
    counts["after the training"] += any((work / name).exists() for name in ("adapted", "weights"))
    counts["resumed"] += "Resuming" in finish(start(*make(work)))
    assert result(work) == result(whole), work
    shutil.rmtree(work)
  print(f"\n{make(folder)[2]}, seed {seed}: " + ", ".join(f"{v} {k}" for k, v in counts.items()), flush=True)
  return counts


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_loop_and_checkpoints_survive_kills_at_random_moments(start, tmp_path, seed):
  make = lambda folder: [*DRIVER, str(folder)]
  began = time.monotonic()
  finish(start(*make(tmp_path / "whole")))
  counts = kill_often(start, make, tmp_path, tmp_path / "whole", 10, seed, time.monotonic() - began, DRIVER_SAVES)
  assert counts["in a save"] >= 2


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3])
def test_the_script_survives_kills_at_random_moments(command, whole, start, tmp_path, seed):
  make = lambda folder: [*command, f"--workdir={folder}"]
  began = time.monotonic()
  finish(start(*make(tmp_path / "again")))
  assert result(tmp_path / "again") == result(whole), "two unbroken runs differ: no kill is to blame"
  kill_often(start, make, tmp_path, whole, 5, seed, time.monotonic() - began, SCRIPT_SAVES)


@pytest.mark.long
def test_a_base_and_its_adapter_survive_kills_at_random_moments(start, tmp_path, tmp_path_factory):
  """The smoke preset as it is: pretraining, adaptation and scores, on data that is built by the first start."""
  data = tmp_path_factory.getbasetemp() / "data"
  make = lambda folder: [sys.executable, "-m", "experiments.adapt", SMOKE, f"--data_dir={data}", f"--workdir={folder}"]
  finish(start(*make(tmp_path / "whole")))
  kill_often(start, make, tmp_path, tmp_path / "whole", 2, 4, 10, SMOKE_SAVES)


@pytest.mark.long
def test_components_stopped_in_its_second_row_ends_as_the_unbroken_one(start, tmp_path_factory, tmp_path):
  data = tmp_path_factory.getbasetemp() / "data"
  preset = SMOKE.replace("smoke", "smoke_base")
  finish(start(sys.executable, "-m", "experiments.pretrain", preset, f"--data_dir={data}", f"--workdir={tmp_path}/base"))
  make = lambda name: [
      sys.executable, "-m", "experiments.components", SMOKE, f"--data_dir={data}", f"--base={tmp_path}/base", "--rows=f,posynda",
      "--save_every=2", f"--workdir={tmp_path}/{name}",
  ]
  finish(start(*make("whole")))
  stopped = start(*make("rows"))
  assert stopped.wait_for((tmp_path / "rows" / "checkpoints" / "posynda" / "2").is_dir)
  stopped.process.send_signal(signal.SIGTERM)
  assert "Stopped" in finish(stopped)
  finish(start(*make("rows")))
  assert result(tmp_path / "rows") == result(tmp_path / "whole")

