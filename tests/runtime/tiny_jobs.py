"""Tiny jobs of all kinds as commands that faults may end, and all that a job ends with."""

import json
import os
import pathlib
import signal
import subprocess

import numpy as np

from tests import LIGHT, scene, scripts
from tests.runtime.starts import Start, free_port, tree_bytes, without_seconds

OFTEN = ("--save_every=2", "--log_every=1")


class Forked:
  """A script in a process forked from one that holds the libraries, used as a `subprocess.Popen`."""

  def __init__(self, arguments: list[str], log: pathlib.Path):
    environment = {"XLA_FLAGS": LIGHT, "JAX_PLATFORMS": "cpu"}
    self._process = scripts.CONTEXT.Process(target=scripts.main, args=(arguments, environment, [log, log]))
    self._process.start()

  def poll(self) -> int | None:
    return self._process.exitcode

  def wait(self, timeout: float) -> int:
    self._process.join(timeout)
    if self._process.exitcode is None:
      raise subprocess.TimeoutExpired("script", timeout)
    return self._process.exitcode

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      os.kill(self._process.pid, number)

  def kill(self) -> None:
    self.send_signal(signal.SIGKILL)


class Job:
  """A command that writes below a work folder, by one process or two that find each other."""

  def __init__(self, *arguments: str, processes: int = 1):
    self.arguments, self.processes = arguments, processes

  def start(self, work: pathlib.Path, logs: pathlib.Path) -> list[Start]:
    """One start of each process; their outputs are files in `logs`."""
    together: list[list[str]] = [[]]
    if self.processes > 1:
      join = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={self.processes}", "--peer_timeout=5"]
      together = [[*join, f"--process_id={number}"] for number in range(self.processes)]
    number, begun = len(list(logs.iterdir())), []
    for more in together:
      log = logs / f"{number + len(begun)}"
      log.touch()
      begun.append(Start(Forked([*self.arguments, *more, f"--workdir={work}"], log), log))
    return begun


def own_keypoints(folder: pathlib.Path) -> tuple[str, ...]:
  """Flags of a source-free adaptation to keypoints that are written to `folder`: 12 updates, saved every 2."""
  poses = scene.poses((60,))
  np.save(folder / "walk.npy", 500 + 1150 * poses[..., :2] / poses[..., 2:])
  return (
      f"--target=keypoints:{folder / 'walk.npy'}", "--layout=h36m17", "--resolution=1000x1000", "--fps=25",
      "--intrinsics=1150,1150,500,500", "--recipe=free", "--clips=8", "--rank=2", "--updates=12", *OFTEN,
  )


def make_jobs(folder: pathlib.Path) -> dict[str, Job]:
  """The kinds of jobs, on embedded data and on keypoints that are written to `folder`."""
  data, base = f"--data_dir={folder / 'data'}", folder / "base"
  if not (base / "metrics.json").exists():
    scripts.run_well("pretrain", scripts.SMOKE.replace("smoke", "smoke_base"), data, f"--workdir={base}")
  embedded = (scripts.SMOKE, data, f"--base={base}", "--save_every=1", "--log_every=1")
  rows = (data, f"--base={base}", "--source=synthetic_motion/source", "--split=train[:2%]", "--target_split=train[:2%]",
          "--test_split=test[:2%]", "--clips=8", "--updates=4", "--save_every=1", "--table=3", "--only=LoRA|embedding")
  return {
      "pretrain": Job("pretrain", scripts.SMOKE.replace("smoke", "smoke_base"), data, *OFTEN),
      "adapt": Job("adapt", f"--base={base}", *own_keypoints(folder)),
      "sweep": Job("adapt", *embedded, "--sweep=seed=0,1"), "tables": Job("tables", *rows),
      "two processes": Job("adapt", *embedded, processes=2),
  }


def ended_with(work: pathlib.Path) -> dict:
  """All that a job ended with: the numbers of its JSON files without seconds, and its weights, bit for bit."""
  found = {}
  for path in sorted([*work.rglob("metrics.json"), *work.rglob("table_*.json"), *work.rglob("account.json")]):
    found[str(path.relative_to(work))] = without_seconds(json.loads(path.read_text()))
  for name in ("adapted", "unguarded", "base"):
    for path in sorted(work.rglob(f"{name}/_METADATA")):
      if "checkpoints" not in path.parts:
        found[str(path.parent.relative_to(work))] = tree_bytes(path.parent)
  if not found:
    raise FileNotFoundError(f"{work} holds no result")
  return found
