"""The only pmap, and batches and random keys that do not depend on the number of devices.

A step is written for one device's share of the batch. State and frozen weights are replicated and have no device axis.
In a job of several processes each one puts its own rows of the batch on its own devices, collectives span all devices,
and every process has a copy of the state.
"""

import collections
import functools
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import jax
import numpy as np
from jaxtyping import Array, PyTree

AXIS = "devices"


def make_parallel_step(step: Callable, devices=None) -> Callable:
  """`step(state, frozen, batch, seed_key)` compiled and pmapped over the leading axis of `batch` [n b ...].

  The state is donated: use the returned one afterwards.
  """
  return jax.pmap(
      step, axis_name=AXIS, in_axes=(None, None, 0, None), out_axes=None, donate_argnums=(0,), devices=devices
  )


def compile_step(step: Callable, name: str, *args) -> Callable:
  """A parallel step compiled for such arguments. Prints the seconds it took.

  Among several processes it is compiled at its first call, because `pmap` then takes no arrays of a single process.
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
  """The tree on all devices of this process, laid out as a parallel step returns it, so that it compiles only once."""
  return jax.device_put(tree, _layout(jax.local_devices() if devices is None else devices))


def everywhere(tree: PyTree) -> PyTree:
  """A tree that is equal in every process, as arrays over the devices of all processes, which Orbax saves."""
  if jax.process_count() == 1:
    return tree
  layout = _layout(jax.devices())

  return jax.tree.map(lambda leaf: jax.make_array_from_single_device_arrays(
      leaf.shape, layout, [shard.data for shard in leaf.addressable_shards]), replicate(tree))


def _layout(devices, *axes) -> jax.sharding.NamedSharding:
  return jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices), (AXIS,)), jax.sharding.PartitionSpec(*axes))


def shard(batch: PyTree, num_devices: int) -> PyTree:
  """A batch [b ...] as [n b/n ...]. Raises ValueError if n does not divide b."""

  def split(x):
    if len(x) % num_devices:
      raise ValueError(
          f"batch size {len(x)} is not divisible by {num_devices} devices: choose a multiple of {num_devices}"
      )
    return x.reshape((num_devices, -1) + x.shape[1:])

  return jax.tree.map(split, batch)


class DeviceFeed:
  """The batches of a feed as a parallel step takes them, on the first `num_devices` devices of this process.

  A thread draws and transfers `ahead` batches before they are used. `get_state` is the feed's state after the batches
  that were returned, not after those that were drawn.
  """

  def __init__(self, feed: Iterator[PyTree], num_devices: int, ahead: int = 2):
    self._feed, self._num_devices, self._ahead = feed, num_devices, ahead
    self._layout = _layout(jax.local_devices()[:num_devices], AXIS)
    self._thread, self._drawn, self._state = futures.ThreadPoolExecutor(1), collections.deque(), feed.get_state()

  def peek(self) -> PyTree:
    """The next batch, which the next call of `next` returns again."""
    while len(self._drawn) <= self._ahead:
      self._drawn.append(self._thread.submit(self._draw))
    return self._drawn[0].result()[0]

  def __next__(self) -> PyTree:
    batch = self.peek()
    self._state = self._drawn.popleft().result()[1]
    return batch

  def get_state(self) -> dict:
    return self._state

  def _draw(self) -> tuple[PyTree, dict]:
    return jax.device_put(shard(next(self._feed), self._num_devices), self._layout), self._feed.get_state()


@functools.partial(jax.jit, static_argnames=("purpose",))
def purpose_key(seed_key: Array, step: Array, purpose: int) -> Array:
  """The key of one purpose at one step: a pure function of (seed, purpose, step)."""
  return jax.random.fold_in(jax.random.fold_in(seed_key, purpose), step)


def clip_keys(key: Array, num_clips: int) -> Array:
  """Keys of the clips of this device's share, by their places in the whole batch. For use in a parallel step."""
  first = jax.lax.axis_index(AXIS) * num_clips
  return jax.vmap(lambda i: jax.random.fold_in(key, first + i))(np.arange(num_clips))
