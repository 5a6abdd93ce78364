"""Devices and processes: start-up, the only pmap, and how a batch and its random numbers stay the same however many share it.

Steps are written for one device's share of the batch with an `axis_name`; state and frozen weights are replicated by
declaration, so they never carry a device axis, and one device is the same code as many. Several processes are the same code
again: each feeds its own devices its own rows of the batch, collectives span the devices of all, and the state that a step
returns is every process's own copy. `docs/devices.md` tells how to start them.
"""

import atexit
import collections
import contextlib
import functools
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import jax
import numpy as np
from jax._src import clusters, distributed  # what `jax.distributed` does not offer: whether it would find a job, and a barrier
from jaxtyping import Array, PyTree

AXIS = "devices"
_LAUNCHERS = ("ompi", "slurm", "gketpu", "gcetpu")  # jax's names of Open MPI, SLURM, and Cloud TPU in its two forms
_LAST_WORDS = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"
_barriers, _children = itertools.count(), []


def start(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None,
          peer_timeout: int = 100) -> None:
  """Joins the processes of a job, before anything else asks for a device; alone on a machine it does nothing.

  Without arguments the environment of Cloud TPU, SLURM or Open MPI tells who is who. A process that the others hear nothing of
  for `peer_timeout` seconds ends them all. Processes but the first print nothing but errors. Raises ValueError where an
  argument is missing.
  """
  rank, size, local = (os.environ.get(f"OMPI_COMM_WORLD_{name}") for name in ("RANK", "SIZE", "LOCAL_RANK"))
  launcher = next((c for c in clusters.ClusterEnv._cluster_types if c.name in _LAUNCHERS and c.is_env_present()), None)
  if num_processes is None and process_id is None and rank and size:  # Open MPI 5 does not say where, so jax does not know it
    num_processes, process_id = int(size), int(rank)
  count = num_processes or (launcher.get_process_count() if launcher else 1)
  if count == 1 and coordinator is None and process_id is None:
    return
  needed = {"--coordinator=HOST:PORT": coordinator, "--num_processes": num_processes, "--process_id": process_id}
  missing = [name for name, value in needed.items() if value is None]
  if missing and not launcher:
    raise ValueError(f"{', '.join(missing)} not given, and no launcher tells: give all three, to every process")
  jax.distributed.initialize(
      coordinator, num_processes, process_id, local_device_ids=local and int(local),
      heartbeat_timeout_seconds=peer_timeout, shutdown_timeout_seconds=peer_timeout,
  )
  me = distributed.global_state
  if me.process_id:
    sys.stdout = open(os.devnull, "w")
  # JAX ends a process whose peer is gone by aborting it, past any Python handler: the line is left to a child, which says it
  # when this process is no more and has not taken its leave.
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
  """Ends this process with exit code `code`, waiting for no other one, as one that ended of its own will."""
  _say_goodbye()
  os._exit(code)


def is_main() -> bool:
  """Whether this is process 0, the one that writes figures, tables and JSON and prints the results."""
  return distributed.global_state.process_id == 0


@contextlib.contextmanager
def main_first():
  """Process 0 runs the body, then the others do, also where it failed: what it makes (a dataset, a folder) they find."""
  if not is_main():
    wait()
  try:
    yield
  finally:
    if is_main():
      wait()


def wait() -> None:
  """Until every process is here; a dead one ends all, a slow one (a dataset to build) has a day."""
  if distributed.global_state.client:
    distributed.global_state.client.wait_at_barrier(f"posynda_jax/{next(_barriers)}", 24 * 3600 * 1000)


def make_parallel_step(step: Callable, devices=None) -> Callable:
  """`step(state, frozen, batch, seed_key)` jit-compiled and pmapped over the leading axis of `batch` [n b ...].

  The state is donated: the caller keeps the returned one.
  """
  return jax.pmap(
      step, axis_name=AXIS, in_axes=(None, None, 0, None), out_axes=None, donate_argnums=(0,), devices=devices
  )


def compile_step(step: Callable, name: str, *args) -> Callable:
  """A parallel step compiled ahead for such arguments, telling how long it took (with a warm compilation cache: to read it).

  Among several processes it is compiled at its first call: what `pmap` compiles ahead takes arrays of all processes, not of one.
  """
  if jax.process_count() > 1:
    print(f"Compiling {name} with its first step", flush=True)
    return step
  started = time.perf_counter()
  print(f"Compiling {name}", end=" ", flush=True)
  step = step.lower(*args).compile()
  print(f"took {time.perf_counter() - started:.1f} s", flush=True)
  return step


def replicate(tree: PyTree, devices=None) -> PyTree:
  """The tree on all devices of this process, as a parallel step returns it: the first step then compiles what all others run."""
  return jax.device_put(tree, _layout(jax.local_devices() if devices is None else devices))


def everywhere(tree: PyTree) -> PyTree:
  """A tree that is the same in every process, as arrays that belong to all of them together: what Orbax saves."""
  if jax.process_count() == 1:
    return tree
  layout = _layout(jax.devices())
  join = lambda x: jax.make_array_from_single_device_arrays(x.shape, layout, [shard.data for shard in x.addressable_shards])
  return jax.tree.map(join, replicate(tree))


def _layout(devices, *axes) -> jax.sharding.NamedSharding:
  return jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices), (AXIS,)), jax.sharding.PartitionSpec(*axes))


def shard(batch: PyTree, num_devices: int) -> PyTree:
  """A batch [b ...] as [n b/n ...]. Raises ValueError where it does not divide."""

  def split(x):
    if len(x) % num_devices:
      raise ValueError(f"batch size {len(x)} is not divisible by {num_devices} devices: choose a multiple of {num_devices}")
    return x.reshape((num_devices, len(x) // num_devices) + x.shape[1:])

  return jax.tree.map(split, batch)


class to_devices:
  """The batches of a feed as a parallel step takes them, on this process's first `num_devices` devices, `ahead` of their use.

  A thread draws and transfers them. Its `get_state` is the feed's after the batches handed out, not those fetched ahead.
  """

  def __init__(self, feed: Iterator[PyTree], num_devices: int, ahead: int = 2):
    self._feed, self._num_devices, self._ahead = feed, num_devices, ahead
    self._layout = _layout(jax.local_devices()[:num_devices], AXIS)
    self._thread, self._coming, self._state = futures.ThreadPoolExecutor(1), collections.deque(), feed.get_state()

  def __iter__(self) -> Iterator[PyTree]:
    return self

  def __next__(self) -> PyTree:
    while len(self._coming) <= self._ahead:
      self._coming.append(self._thread.submit(self._fetch))
    batch, self._state = self._coming.popleft().result()
    return batch

  def get_state(self) -> dict:
    return self._state

  def _fetch(self) -> tuple[PyTree, dict]:
    return jax.device_put(shard(next(self._feed), self._num_devices), self._layout), self._feed.get_state()


@functools.partial(jax.jit, static_argnames=("purpose",))
def purpose_key(seed_key: Array, step: Array, purpose: int) -> Array:
  """The key of one purpose at one step: a pure function of (seed, purpose, step)."""
  return jax.random.fold_in(jax.random.fold_in(seed_key, purpose), step)


def clip_keys(key: Array, num_clips: int) -> Array:
  """One key for each clip of this device's share, by the clip's place in the whole batch (inside a parallel step)."""
  first = jax.lax.axis_index(AXIS) * num_clips
  return jax.vmap(lambda i: jax.random.fold_in(key, first + i))(np.arange(num_clips))
