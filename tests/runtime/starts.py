"""Commands that tests start, stop and kill, and the results that they end with."""

import dataclasses
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint

from posynda_jax.adaptation import bases
from posynda_jax.runtime import runs
from tests.tolerance import assert_close


@dataclasses.dataclass
class Start:
  """One start of a command: its process, and the file of its output."""

  process: subprocess.Popen
  log: pathlib.Path

  @property
  def output(self) -> str:
    return self.log.read_text(errors="replace")

  def wait_for(self, sign: Callable[[], bool], seconds: float = 120) -> bool:
    """Waits until `sign()` is true or the process ends; returns whether it was true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
      if sign():
        return True
      if self.process.poll() is not None:
        return False
      time.sleep(0.0005)
    raise AssertionError(f"nothing happened in {seconds} s: {self.output[-2000:]}")

  def signal(self, number: int) -> None:
    self.process.send_signal(number)

  def kill(self) -> bool:
    """kill -9; returns whether the process was still running."""
    self.process.kill()
    return self.end() == -signal.SIGKILL

  def end(self) -> int:
    return self.process.wait(timeout=300)

  def finish(self) -> str:
    """The output of a command that ends well."""
    assert self.end() == 0, self.output[-3000:]
    return self.output

  def error(self) -> str:
    """The one line of a command that ends with an error."""
    assert self.end() == 1, self.output[-3000:]
    assert "Traceback" not in self.output
    return self.output.strip().splitlines()[-1]


def free_port() -> int:
  """A port of this machine that nobody listens on."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def is_saving(folder: pathlib.Path, name) -> bool:
  """Whether `name` (a step, an adapter) is being written to the folder and is not complete."""
  return any(True for _ in folder.glob(f"{name}.orbax-checkpoint-tmp*"))


def result(folder: pathlib.Path) -> dict:
  """All that a run ended with, bit by bit: its metrics without seconds, its adapters and its base."""
  saved = [name for name in ("adapted", "ceiling", "base/base") if (folder / name).exists()]
  return {"metrics": without_seconds(runs.read_metrics(folder))} | {name: tree_bytes(folder / name) for name in saved}


def without_seconds(tree):
  """The same nested mapping without the values named seconds, at any depth."""
  if isinstance(tree, list):
    return [without_seconds(it) for it in tree]
  return {k: without_seconds(v) for k, v in tree.items() if k != "seconds"} if isinstance(tree, dict) else tree


def tree_bytes(folder: pathlib.Path) -> dict[str, bytes]:
  """The bytes of every leaf of a saved tree, by its path."""
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # other processes may have saved it on other devices
  with orbax.checkpoint.StandardCheckpointer() as checkpointer:
    saved = checkpointer.metadata(folder.absolute()).item_metadata
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), saved)
    leaves = jax.tree_util.tree_leaves_with_path(checkpointer.restore(folder.absolute(), like))
  return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def assert_same(one: pathlib.Path, other: pathlib.Path, updates: int) -> None:
  """Two runs have the same adapter, protocol and scores, up to the rounding of so many updates."""
  adapters = [bases.load_weights(folder).adapter for folder in (one, other)]
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(adapters[0]["lora"])) > 5e-3
  assert_close(*adapters, updates=updates)
  metrics = [runs.read_metrics(folder) for folder in (one, other)]
  assert metrics[0]["protocol"] == metrics[1]["protocol"]
  for row in ("source_only", "adapted"):
    assert_close(*(without_seconds(found[row]) for found in metrics), updates=updates)
