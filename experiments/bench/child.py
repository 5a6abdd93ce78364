"""One side of one case in a process of its own. `Child` starts the process and asks it.

The sides share neither allocator, threads nor memory. Questions and answers are pickled. The peak of memory is the
growth of resident memory since the imports: weights, batches, and two units of work. On an accelerator it is the
device's own count of bytes.
"""

import contextlib
import dataclasses
import functools
import importlib
import os
import pathlib
import pickle
import re
import subprocess
import sys
import time

from . import cases

MATMUL = 2048  # rows and columns of the product that measures the ceiling; four times as many on an accelerator
_FOLDER = pathlib.Path(__file__).parents[len(__package__.split("."))]  # from which this package is imported


@dataclasses.dataclass(frozen=True)
class Options:
  """How a side computes. `keep` tells malloc to keep freed memory, as our scripts do."""

  side: str  # jax or torch
  keep: bool = True
  fused: bool = False  # torch: scaled_dot_product_attention
  dtype: str = "float32"
  device: str = "cpu"  # of torch
  compiled: bool = False  # torch: torch.compile


class Child:
  """The process of one case and side, which has run two units.

  `ready` holds their `seconds`, `peak_bytes` and the versions. `cold_seconds` is the time from the start of the process
  to the end of the first unit. Raises ValueError where the process ends, after the process has printed its error.
  """

  def __init__(self, case: cases.Case, options: Options):
    environment = dict(os.environ)
    if options.side == "torch" and options.keep:
      environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
    if case.devices > 1:
      forced = f"--xla_force_host_platform_device_count={case.devices}"
      environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {forced}"
    self._side, started = options.side, time.perf_counter()
    self._process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.child"], env=environment, cwd=_FOLDER, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    self.ready = self.ask(case, options)
    self.cold_seconds = time.perf_counter() - started - self.ready["seconds"][1]

  def ask(self, what, value=None):
    """The answer to `time` (units -> seconds each), `matmul` (-> FLOP/s) or `check` (numbers -> (numbers, arrays))."""
    try:
      pickle.dump((what, value), self._process.stdin)
      self._process.stdin.flush()
      return pickle.load(self._process.stdout)
    except (EOFError, BrokenPipeError):
      raise ValueError(f"the process of the {self._side} side ended with code {self._process.wait()}") from None

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.communicate()  # closes its questions, which ends it


def _resident(field: str) -> int:
  """VmRSS (now) or VmHWM (highest) of this process in bytes, 0 where the system has no such file."""
  with contextlib.suppress(OSError):
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
  return 0


def _seconds(run, units: int = 1) -> float:
  """Seconds of one of so many calls."""
  started = time.perf_counter()
  for _ in range(units):
    run()
  return (time.perf_counter() - started) / units


def main() -> None:
  out = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)  # a library's prints are no answers
  case, options = pickle.load(sys.stdin.buffer)
  side = importlib.import_module(f".{options.side}_side", __package__)
  answer = side.start(options)
  size = MATMUL if answer["platform"] == "cpu" else 4 * MATMUL
  with contextlib.suppress(OSError):  # the peak else includes the imports, which need less
    pathlib.Path("/proc/self/clear_refs").write_text("5")
  before = _resident("VmRSS")
  run, check = side.make(case, options)
  answer["seconds"] = [_seconds(run), _seconds(run)]
  answer["peak_bytes"] = side.peak_bytes(options) or _resident("VmHWM") - before

  @functools.cache
  def make_matmul():
    product = side.make_matmul(size, options)
    product()
    return product

  with contextlib.suppress(EOFError):
    while True:
      pickle.dump(answer, out)
      out.flush()
      what, value = pickle.load(sys.stdin.buffer)
      if what == "time":
        answer = _seconds(run, value)
      else:
        answer = check(value) if what == "check" else 2 * size**3 / _seconds(make_matmul())


if __name__ == "__main__":
  main()
