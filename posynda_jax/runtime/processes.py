"""The processes of one job: how they start, which of them writes files, and how they wait for each other.

In a job of one process every function here does nothing or returns at once. `docs/devices.md` shows how to start
several.
"""

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import jax

_LAUNCHERS = ("ompi", "slurm", "gketpu", "gcetpu")  # jax's names of Open MPI, SLURM, and Cloud TPU in its two forms
_REPORT = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"
_STARTS = 3  # a process may take this many times as long to start as it may be silent
_barriers, _reporters = itertools.count(), []


def _jax_internals() -> SimpleNamespace:
  """jax's cluster types and the state of `jax.distributed`, which has no public barrier and no check for a launcher."""
  from jax._src import clusters, distributed

  return SimpleNamespace(clusters=clusters.ClusterEnv._cluster_types, state=distributed.global_state)


def start(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None,
    peer_timeout: int = 100,
) -> None:
  """Joins the processes of a job. Must be called before a device is used; does nothing for a single process.

  Arguments that are None come from the environment of Cloud TPU, SLURM or Open MPI. If one process is silent for
  `peer_timeout` seconds, or has not started after _STARTS times as many, all of them end. Processes other than 0 print
  errors only. Raises ValueError for a missing argument.
  """
  rank, size, local = (os.environ.get(f"OMPI_COMM_WORLD_{name}") for name in ("RANK", "SIZE", "LOCAL_RANK"))
  launcher = next((it for it in _jax_internals().clusters if it.name in _LAUNCHERS and it.is_env_present()), None)
  if num_processes is None and process_id is None and rank and size:  # jax does not recognise Open MPI 5
    num_processes, process_id = int(size), int(rank)
  count = num_processes or (launcher.get_process_count() if launcher else 1)
  if count == 1 and coordinator is None and process_id is None:
    return
  needed = {"--coordinator=HOST:PORT": coordinator, "--num_processes": num_processes, "--process_id": process_id}
  missing = [name for name, value in needed.items() if value is None]
  if missing and not launcher:
    raise ValueError(f"{', '.join(missing)} not given, and no launcher sets them: give all three to every process")
  # JAX aborts a process whose peer is gone, and no Python handler runs then. A child process therefore prints the
  # error when its input ends and is empty.
  name = f"process {process_id} of {num_processes}" if process_id is not None and num_processes else "this process"
  _reporters.append(subprocess.Popen([
      sys.executable, "-S", "-c", _REPORT,
      f"error: {name} was ended: it was killed, or another one did not answer for {peer_timeout} s or did not start "
      f"within {_STARTS * peer_timeout} s (see above); start all of them again with the same flags, which resumes the "
      "last checkpoint",
  ], stdin=subprocess.PIPE, text=True, start_new_session=True))
  try:
    jax.distributed.initialize(
        coordinator, num_processes, process_id, local_device_ids=local and int(local),
        initialization_timeout=_STARTS * peer_timeout, heartbeat_timeout_seconds=peer_timeout,
        shutdown_timeout_seconds=peer_timeout,
    )
  except Exception:
    _end_reporter()
    raise
  if _jax_internals().state.process_id:
    sys.stdout = open(os.devnull, "w")
  atexit.register(_leave)


def _leave() -> None:
  jax.distributed.shutdown()
  _end_reporter()


def _end_reporter() -> None:
  while _reporters:
    _reporters.pop().communicate("no error")


def leave_at_once(code: int) -> None:
  """Ends this process with exit code `code`, without waiting for others and without the error of `start`."""
  _end_reporter()
  os._exit(code)


def is_main() -> bool:
  """Whether this is process 0, which writes files and prints results."""
  return _jax_internals().state.process_id == 0


@contextlib.contextmanager
def main_first():
  """Runs the block in process 0 first, then in the others, which find its files. They run after an error too."""
  if not is_main():
    wait()
  try:
    yield
  finally:
    if is_main():
      wait()


def wait() -> None:
  """Waits until all processes have called this, for at most a day, because one of them may build a dataset."""
  if client := _jax_internals().state.client:
    client.wait_at_barrier(f"posynda_jax/{next(_barriers)}", 24 * 3600 * 1000)
