"""A process that holds one unit of work of one side, and takes turns with the others: `Child` starts it and asks.

Each side has a process of its own for each case, so that neither meets the other's allocator, threads or memory. Orders and
answers are lines of JSON. The peak of a process is what its resident memory grew by since the libraries were imported: weights,
batches and all that two units of work need (on an accelerator, its own count of bytes).
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from experiments.bench import cases

MATMUL = 2048  # rows and columns of the product that is the ceiling; on an accelerator four times as many, to fill it
ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Options:
  """How a side computes. `keep` tells malloc to keep freed memory, as our scripts do."""

  side: str  # jax or torch
  keep: bool = True
  fused: bool = False  # torch: scaled_dot_product_attention
  compiled: bool = False  # torch: torch.compile
  dtype: str = "float32"
  device: str = "cpu"


class Child:
  """The process of one case and side, which has run two units.

  `ready` says how long they took and the peak of memory, `cold_seconds` how long it was from nothing to the end of the first.
  Raises ValueError with the process's last words where it ends.
  """

  def __init__(self, case: cases.Case, options: Options, environment: dict[str, str] | None = None):
    environment = {**os.environ, **(environment or {})}
    if options.side == "torch" and options.keep:
      environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
    if case.devices > 1:
      environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={case.devices}"
    order = json.dumps([dataclasses.asdict(case), dataclasses.asdict(options)])
    self._words = tempfile.TemporaryFile("w+")
    started = time.perf_counter()
    self._process = subprocess.Popen(
        [sys.executable, "-m", "experiments.bench.child", order], env=environment, text=True, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words,
    )
    self._side = options.side
    self.ready = self._answer()
    self.cold_seconds = time.perf_counter() - started - self.ready["seconds"][1]

  def _answer(self) -> dict:
    line = self._process.stdout.readline()
    if not line:
      code = self._process.wait()
      self._words.seek(0)
      last = " ".join(self._words.read().strip().splitlines()[-1:])
      raise ValueError(f"the process of the {self._side} side ended with code {code}: {last or 'it said nothing'}")
    return json.loads(line)

  def ask(self, what: str, value=None):
    """The answer to `time` (units -> seconds each), `matmul` (-> FLOP/s), `check` ((given file, file to write) -> null) or, of
    our side, `trace` ((folder, units) -> seconds each).
    """
    self._process.stdin.write(json.dumps([what, value]) + "\n")
    self._process.stdin.flush()
    return self._answer()["answer"]

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.stdin.close()  # which ends its loop
    self._process.wait()
    self._process.stdout.close()
    self._words.close()


def _resident(field: str) -> int:
  """VmRSS (now) or VmHWM (highest) of this process, in bytes; 0 where the system does not tell."""
  try:
    with open("/proc/self/status") as file:
      return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))
  except (OSError, StopIteration):
    return 0


def _forget_peak() -> None:
  try:
    with open("/proc/self/clear_refs", "w") as file:
      file.write("5")
  except OSError:  # the peak then includes what importing needed, which is less
    pass


def _jax_side(options: Options, threads: int):
  del threads  # XLA's own choice
  import jax
  from absl import flags

  from experiments import common
  from experiments.bench import jax_side

  flags.FLAGS(["benchmark"])
  common.set_matmul_precision()  # as PyTorch multiplies unless told otherwise
  if options.keep:
    common._keep_memory()
  device = jax.devices()[0]
  peak = lambda: (device.memory_stats() or {}).get("peak_bytes_in_use")
  return (
      lambda case: jax_side.make(case, options.dtype), jax_side.matmul, peak,
      {"platform": device.platform, "device_kind": device.device_kind, "jax": jax.__version__},
  )


def _torch_side(options: Options, threads: int):
  import torch

  from experiments.bench import torch_side

  torch.set_num_threads(threads)
  device = torch.device(options.device)
  peak = lambda: torch.cuda.max_memory_allocated() if device.type == "cuda" else None
  return (
      lambda case: torch_side.make(case, device, options.fused, options.compiled, options.dtype),
      lambda size, dtype: torch_side.matmul(size, device, getattr(torch, dtype)), peak, {"torch": torch.__version__},
  )


def main() -> None:
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # whatever a library prints must not be taken for an answer

  def answer(value):
    print(json.dumps(value), file=out, flush=True)

  case, options = json.loads(sys.argv[1])
  case, options = cases.Case(**case), Options(**options)
  threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # as many as XLA takes
  make, make_matmul, device_peak, versions = {"jax": _jax_side, "torch": _torch_side}[options.side](options, threads)
  _forget_peak()
  before = _resident("VmRSS")
  run, check = make(case)
  size = MATMUL if versions.get("platform", options.device) == "cpu" else 4 * MATMUL
  seconds = []
  for _ in range(2):
    started = time.perf_counter()
    run()
    seconds.append(time.perf_counter() - started)
  peak = device_peak()
  answer({"seconds": seconds, "peak_bytes": _resident("VmHWM") - before if peak is None else peak, **versions})
  matmul = None
  for line in sys.stdin:
    what, value = json.loads(line)
    if what == "time":
      started = time.perf_counter()
      for _ in range(value):
        run()
      answer({"answer": (time.perf_counter() - started) / value})
    elif what == "trace":
      import jax

      with jax.profiler.trace(value[0]):
        started = time.perf_counter()
        for _ in range(value[1]):
          run()
        taken = (time.perf_counter() - started) / value[1]
      answer({"answer": taken})
    elif what == "matmul":
      if matmul is None:
        matmul = make_matmul(size, options.dtype)
        matmul()
      started = time.perf_counter()
      matmul()
      answer({"answer": 2 * size**3 / (time.perf_counter() - started)})
    else:
      given, path = value
      arrays = check(dict(np.load(given)) if given else {}) if options.side == "torch" else _ours(check, given)
      np.savez(path, **arrays)
      answer({"answer": None})


def _ours(check, path) -> dict:
  """Our arrays; what they were computed from is written to `path`."""
  given, arrays = check()
  np.savez(path, **{name: np.asarray(value) for name, value in given.items()})
  return {name: np.asarray(value) for name, value in arrays.items()}


if __name__ == "__main__":
  main()
