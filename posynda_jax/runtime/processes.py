"""Processes of one job: how they find one another, which of them writes, and how they wait.

Without several processes every function here does nothing. `docs/devices.md` says how to start them.
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
_LAST_WORDS = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"
_barriers, _children = itertools.count(), []


def _private() -> SimpleNamespace:
  """Parts of JAX that `jax.distributed` does not offer: which launcher is present, and the client with its barrier."""
  from jax._src import clusters, distributed

  return SimpleNamespace(launchers=clusters.ClusterEnv._cluster_types, state=distributed.global_state)


def start(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None,
    peer_timeout: int = 100,
) -> None:
  """Joins the processes of a job; call it before anything asks for a device. A single process does nothing.

  Without arguments the environment of Cloud TPU, SLURM or Open MPI gives ranks and addresses. A process that is silent for
  `peer_timeout` seconds ends all. Processes other than 0 print errors only. Raises ValueError for a missing argument.
  """
  rank, size, local = (os.environ.get(f"OMPI_COMM_WORLD_{name}") for name in ("RANK", "SIZE", "LOCAL_RANK"))
  launcher = next((it for it in _private().launchers if it.name in _LAUNCHERS and it.is_env_present()), None)
  if num_processes is None and process_id is None and rank and size:  # jax does not recognise Open MPI 5
    num_processes, process_id = int(size), int(rank)
  count = num_processes or (launcher.get_process_count() if launcher else 1)
  if count == 1 and coordinator is None and process_id is None:
    return
  needed = {"--coordinator=HOST:PORT": coordinator, "--num_processes": num_processes, "--process_id": process_id}
  missing = [name for name, value in needed.items() if value is None]
  if missing and not launcher:
    raise ValueError(f"{', '.join(missing)} not given, and no launcher sets them: give all three to every process")
  jax.distributed.initialize(
      coordinator, num_processes, process_id, local_device_ids=local and int(local),
      heartbeat_timeout_seconds=peer_timeout, shutdown_timeout_seconds=peer_timeout,
  )
  me = _private().state
  if me.process_id:
    sys.stdout = open(os.devnull, "w")
  # JAX aborts a process whose peer is gone, past any Python handler. A child therefore prints the line when this process
  # ends without a word.
  child = subprocess.Popen([
      sys.executable, "-S", "-c", _LAST_WORDS,
      f"error: process {me.process_id} of {me.num_processes} was ended: it was killed, or another one did not answer for "
      f"{peer_timeout} s (see above); start all of them again with the same flags, which resumes the last checkpoint",
  ], stdin=subprocess.PIPE, text=True, start_new_session=True)
  _children.append(child)
  atexit.register(_leave)


def _leave() -> None:
  jax.distributed.shutdown()
  _say_goodbye()


def _say_goodbye() -> None:
  while _children:
    _children.pop().communicate("bye")


def leave_at_once(code: int) -> None:
  """Ends this process with exit code `code` at once, without waiting for others and without the child's line."""
  _say_goodbye()
  os._exit(code)


def is_main() -> bool:
  """Whether this is process 0, which writes files and prints results."""
  return _private().state.process_id == 0


@contextlib.contextmanager
def main_first():
  """Runs the block in process 0 first, then in the others, so that they find what it made; also after an error."""
  if not is_main():
    wait()
  try:
    yield
  finally:
    if is_main():
      wait()


def wait() -> None:
  """Waits until every process is here. A dead one ends all; a slow one, which builds a dataset, has a day."""
  if client := _private().state.client:
    client.wait_at_barrier(f"posynda_jax/{next(_barriers)}", 24 * 3600 * 1000)
