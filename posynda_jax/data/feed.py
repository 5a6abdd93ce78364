"""Shuffled batches of clips without end, read by grain."""

import functools

import grain.python as grain
import jax
import numpy as np

from posynda_jax.data.clips import ClipSource

_EPOCHS = 2**31  # grain overflows when it counts small batches of `repeat(None)`
_READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


class Feed:
  """Shuffled batches {name: {field: [b ...]}} without end. The batch of a step is a pure function of (seed, step).

  `part` is (number of this process, number of processes). Each process reads its own rows [b/n ...]. Concatenated, the
  rows of all processes are the batch of a single process. Raises ValueError if n does not divide b.
  """

  def __init__(self, sources: dict[str, ClipSource], sizes: dict[str, int], seed: int, part=None):
    which, count = part or (jax.process_index(), jax.process_count())
    self._streams = {}
    for number, (name, source) in enumerate(sources.items()):
      share, rest = divmod(sizes[name], count)
      if rest:
        raise ValueError(
            f"{name} batch size {sizes[name]} is not divisible by {count} processes: choose a multiple of {count}"
        )
      take = functools.partial(_take_part, source, slice(which * share, (which + 1) * share))
      order = grain.MapDataset.range(len(source)).seed(seed + 7919 * number).shuffle().repeat(_EPOCHS)
      self._streams[name] = iter(order.batch(sizes[name]).map(take).to_iter_dataset(_READ))
    self._step = 0

  def __iter__(self) -> "Feed":
    return self

  def __next__(self) -> dict:
    batch = {name: next(stream) for name, stream in self._streams.items()}
    self._step += 1
    return batch

  def get_state(self) -> dict:
    """The step of the next batch, as JSON. It is the same in every process, for any number of processes."""
    return {"step": self._step}

  def set_state(self, state: dict) -> None:
    """Continues from a state of a feed of the same data, sizes and seed."""
    self._step = state["step"]
    for stream in self._streams.values():
      stream.set_state({"next_index": self._step})


def _take_part(source: ClipSource, part: slice, indices: np.ndarray) -> dict[str, np.ndarray]:
  return source.take(indices[part])
