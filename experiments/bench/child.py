"""One side of one case in a process of its own. `Child` starts the process and asks it.

The sides share neither allocator, threads nor memory. Questions and answers are lines of JSON. The peak of memory is
the growth of resident memory since the imports: weights, batches, and two units of work. On an accelerator it is the
device's own count of bytes.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

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


class Child:
  """The process of one case and side, which has run two units.

  `ready` holds their `seconds`, `peak_bytes` and the versions. `cold_seconds` is the time from the start of the process
  to the end of the first unit. Raises ValueError with the process's last line where it ends.
  """

  def __init__(self, case: cases.Case, options: Options):
    environment = dict(os.environ)
    if options.side == "torch" and options.keep:
      environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
    if case.devices > 1:
      forced = f"--xla_force_host_platform_device_count={case.devices}"
      environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {forced}"
    order = json.dumps([dataclasses.asdict(case), dataclasses.asdict(options)])
    self._side, self._errors = options.side, tempfile.TemporaryFile("w+")
    started = time.perf_counter()
    self._process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.child", order], env=environment, text=True, cwd=_FOLDER,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
    )
    self.ready = self._answer()
    self.cold_seconds = time.perf_counter() - started - self.ready["seconds"][1]

  def _answer(self):
    if line := self._process.stdout.readline():
      return json.loads(line)
    code = self._process.wait()
    self._errors.seek(0)
    last = self._errors.read().strip().rpartition("\n")[2] or "without an error text"
    raise ValueError(f"the process of the {self._side} side ended with code {code}: {last}")

  def ask(self, what: str, value=None):
    """The answer to `time` (units -> seconds each), `matmul` (-> FLOP/s) or `check` (files of noise and of arrays)."""
    self._process.stdin.write(json.dumps([what, value]) + "\n")
    self._process.stdin.flush()
    return self._answer()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.stdin.close()  # ends its loop
    self._process.wait()
    self._process.stdout.close()
    self._errors.close()


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
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # a library's prints are no answers
  case, options = json.loads(sys.argv[1])
  case, options = cases.Case(**case), Options(**options)
  side = importlib.import_module(f".{options.side}_side", __package__)
  about = side.start(options)
  with contextlib.suppress(OSError):  # the peak else includes the imports, which need less
    pathlib.Path("/proc/self/clear_refs").write_text("5")
  before = _resident("VmRSS")
  run, check = side.make(case, options)
  about["seconds"] = [_seconds(run), _seconds(run)]
  about["peak_bytes"] = side.peak_bytes(options) or _resident("VmHWM") - before
  print(json.dumps(about), file=out, flush=True)
  matmul, size = None, MATMUL if about["platform"] == "cpu" else 4 * MATMUL
  for what, value in map(json.loads, sys.stdin):
    answer = None
    if what == "time":
      answer = _seconds(run, value)
    elif what == "matmul":
      if matmul is None:
        matmul = side.make_matmul(size, options)
        matmul()
      answer = 2 * size**3 / _seconds(matmul)
    elif options.side == "jax":  # check
      given, arrays = check()
      np.savez(value[0], **given)
      np.savez(value[1], **arrays)
    else:
      np.savez(value[1], **check(dict(np.load(value[0]))))
    print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
  main()
