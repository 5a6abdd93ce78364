"""Shared parts of the scripts: flags for data and runtime, one-line errors, and the devices line."""

import contextlib
import ctypes
import errno
import os
import pathlib
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging

from posynda_jax.adaptation import bases, sources
from posynda_jax.runtime import loop, processes, signals

from . import console

DATA_DIR = flags.DEFINE_string("data_dir", sources.Folders().data_dir, "Folder of built datasets.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of the owners' archives (cmu.zip, hdm05.zip, ...).")
BASE = flags.DEFINE_string(
    "base", bases.DEFAULT, "Folder of a pretraining run, a .safetensors file, or a base that ships. For `adapt` also "
    "plan:NAME, which trains the base of that plan in WORKDIR/base first.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; a second start with the same flags resumes it.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of all random numbers of a run.")
MATMUL_PRECISION = flags.DEFINE_enum(
    "matmul_precision", "highest", ["highest", "high", "default"], "How GPUs and TPUs multiply float32 matrices. "
    "highest is float32; default is faster, with 10 bits on a GPU (TF32) and 7 on a TPU. CPUs have one way.")
HYPOTHESIS_CHUNK = flags.DEFINE_integer(
    "hypothesis_chunk", 0, "Hypotheses computed at once, to save memory; 0 is all.", lower_bound=0)
LOG_EVERY = flags.DEFINE_integer("log_every", 50, "Steps between log rows.")
SAVE_EVERY = flags.DEFINE_integer("save_every", 500, "Steps between checkpoints.")
KEEP = flags.DEFINE_integer("keep", 2, "Checkpoints that are kept, in case the last one is damaged.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0 where several processes train together without a launcher (Cloud TPU, "
    "SLURM, Open MPI); with --num_processes and --process_id.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of such processes.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)
PEER_TIMEOUT = flags.DEFINE_integer(
    "peer_timeout", 100,
    "Seconds after which a silent process ends all others; it may take three times as long to start.", lower_bound=1)


def folders() -> sources.Folders:
  """The data flags."""
  return sources.Folders(DATA_DIR.value, MANUAL_DIR.value)


def saving() -> loop.Saving:
  """The flags for checkpoints and log rows."""
  return loop.Saving(SAVE_EVERY.value, LOG_EVERY.value, KEEP.value)


def given(by_name: dict[str, flags.FlagHolder]) -> dict[str, Any]:
  """Values of the flags that are set, by the names of the fields that they replace."""
  return {name: flag.value for name, flag in by_name.items() if flag.value is not None}


def need_workdir() -> str:
  """--workdir. Raises ValueError where it is not given."""
  if WORKDIR.value is None:
    raise ValueError("--workdir is not given: name a folder for this run")
  return WORKDIR.value


def run(main: Callable[[], None]) -> None:
  """Runs a script's main; user errors and refusals of the disk end in one line and exit code 1.

  Runs with a --workdir can be stopped: SIGTERM and SIGINT end them with a line that says how to go on, and exit code 0.
  """

  def guarded(argv):
    if len(argv) > 1:
      raise app.UsageError(f"unexpected argument {argv[1]!r}: options are written --name=value")
    logging.set_verbosity(logging.FATAL)  # Orbax and TFDS log every file
    logging.logging.getLogger("jax").setLevel("WARNING")
    sys.unraisablehook, threading.excepthook = _report_unraisable, _report_of_thread
    _keep_memory()
    jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION.value)
    if WORKDIR.value is not None:
      signals.listen()
    try:
      processes.start(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, PEER_TIMEOUT.value)
      main()
    except signals.Stopped as stopped:
      print(f"{stopped} {signals.hint()}", flush=True)
    except jax.errors.JaxRuntimeError as error:
      if jax.process_count() == 1:
        raise
      print(f"error: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
      os._exit(1)  # the other processes are gone; `processes.start` has left a line that says what to do
    except (ValueError, OSError, FloatingPointError) as error:
      advice = _advice(error)
      with contextlib.suppress(OSError):  # the output may be on the same disk
        print(f"error: {' '.join(str(error).split())}{advice}", file=sys.stderr, flush=True)
        sys.stdout.flush()
      if advice:
        processes.leave_at_once(1)  # libraries that write at exit would meet the same disk, and say so at length
      sys.exit(1)

  app.run(guarded, argv=[sys.argv[0], *console.read_presets(sys.argv[1:])])


def _keep_memory() -> None:
  """Makes glibc keep freed memory: XLA's CPU code allocates at every step, and page faults would cost a fifth of it."""
  with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library: only slower
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)  # M_MMAP_MAX: no block is mapped, and returned to the kernel, on its own
    libc.mallopt(-8, 1)  # M_ARENA_MAX: other arenas cannot hold large blocks, which would be mapped after all
    libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks


def _is_raised_too(error: BaseException | None) -> bool:
  """Whether the script's own thread meets the same error and ends with its line: writes that Orbax gives up after one
  has failed, and TensorBoard's on a disk that takes nothing.
  """
  disk = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
  return disk or str(error) == "Event loop is closed"


def _report_unraisable(unraisable) -> None:
  """Reports what Python cannot raise."""
  if not _is_raised_too(unraisable.exc_value):
    sys.__unraisablehook__(unraisable)


def _report_of_thread(arguments) -> None:
  """Reports what ended another thread."""
  if not _is_raised_too(arguments.exc_value):
    threading.__excepthook__(arguments)


def _advice(error: Exception) -> str:
  """What to do where the disk is at fault."""
  if re.search("No space left|File too large|quota", str(error)):
    return ". Make space; the same command then goes on from the last checkpoint"
  if re.search("Read-only file system|Permission denied", str(error)):
    return ". Choose a --workdir that can be written to"
  return ""


def output_path(text: str) -> pathlib.Path:
  """The path of a file to write. Raises FileNotFoundError where its folder does not exist."""
  path = pathlib.Path(text).expanduser()
  if not path.parent.is_dir():
    raise FileNotFoundError(f"the folder of {path} does not exist: make it first")
  return path


def check_batch(size: int, name: str) -> None:
  """Raises ValueError for a batch that the devices of all processes cannot share equally."""
  devices = jax.device_count()
  if size < 1 or size % devices:
    raise ValueError(f"{name} {size} is not divisible by {devices} devices: choose a multiple of {devices}")


def print_devices() -> None:
  """Prints which devices this run uses."""
  device = jax.devices()[0]
  count = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
  print(f"{jax.device_count()} x {device.device_kind} ({device.platform}){count}, jax {jax.__version__}", flush=True)
