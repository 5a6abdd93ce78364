"""Devices: the only pmap, and how random numbers stay the same however many devices share a batch.

Steps are written for one device's share of the batch with an `axis_name`; state and frozen weights are replicated by
declaration, so they never carry a device axis, and one device is the same code as many.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, PyTree

AXIS = "devices"


def make_parallel_step(step: Callable, devices=None) -> Callable:
  """`step(state, frozen, batch, seed_key)` jit-compiled and pmapped over the leading axis of `batch` [n b ...].

  The state is donated: the caller keeps the returned one.
  """
  return jax.pmap(
      step, axis_name=AXIS, in_axes=(None, None, 0, None), out_axes=None, donate_argnums=(0,), devices=devices
  )


def replicate(tree: PyTree, devices=None) -> PyTree:
  """The tree on every device, laid out as a parallel step returns it: the first step then compiles what all others run."""
  devices = jax.local_devices() if devices is None else devices
  sharding = jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices), (AXIS,)), jax.sharding.PartitionSpec())
  return jax.device_put(tree, sharding)


def shard(batch: PyTree, num_devices: int) -> PyTree:
  """A batch [b ...] as [n b/n ...]. Raises ValueError where it does not divide."""

  def split(x):
    if len(x) % num_devices:
      raise ValueError(f"batch size {len(x)} is not divisible by {num_devices} devices: choose a multiple of {num_devices}")
    return x.reshape((num_devices, len(x) // num_devices) + x.shape[1:])

  return jax.tree.map(split, batch)


@functools.partial(jax.jit, static_argnames=("purpose",))
def purpose_key(seed_key: Array, step: Array, purpose: int) -> Array:
  """The key of one purpose at one step: a pure function of (seed, purpose, step)."""
  return jax.random.fold_in(jax.random.fold_in(seed_key, purpose), step)


def clip_keys(key: Array, num_clips: int) -> Array:
  """One key for each clip of this device's share, by the clip's place in the whole batch (inside a parallel step)."""
  first = jax.lax.axis_index(AXIS) * num_clips
  return jax.vmap(lambda i: jax.random.fold_in(key, first + i))(np.arange(num_clips))
