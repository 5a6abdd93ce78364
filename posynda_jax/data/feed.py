"""Endless shuffled batches of clips, by grain: the batch of a step is a pure function of seed and step."""

import functools

import grain.python as grain
import jax
import numpy as np

from posynda_jax.data.clips import ClipSource

_EPOCHS = 2**31  # for ever: grain counts the batches of an endless repetition past what an integer holds where they are of one
_READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


def _take_part(source: ClipSource, part: slice, indices: np.ndarray) -> dict[str, np.ndarray]:
  return source.take(indices[part])


class Feed:
  """Endless shuffled batches {name: {field: [b ...]}}; the batch of a step is a pure function of (seed, step).

  `part` is (this process, of how many): each reads only its own rows of the batch, [b/n ...], and those of all processes in
  their order are the batch that one process alone would read. Raises ValueError where a batch does not divide.
  """

  def __init__(self, sources: dict[str, ClipSource], sizes: dict[str, int], seed: int, start_step: int = 0, part=None):
    which, count = part or (jax.process_index(), jax.process_count())
    self._streams = {}
    for number, (name, source) in enumerate(sources.items()):
      share, rest = divmod(sizes[name], count)
      if rest:
        raise ValueError(f"{name} batch size {sizes[name]} is not divisible by {count} processes: choose a multiple of {count}")
      clips_of = functools.partial(_take_part, source, slice(which * share, (which + 1) * share))
      order = grain.MapDataset.range(len(source)).seed(seed + 7919 * number).shuffle().repeat(_EPOCHS)
      self._streams[name] = iter(order.batch(sizes[name]).map(clips_of).to_iter_dataset(_READ))
    self.set_state({"step": start_step})

  def __iter__(self) -> "Feed":
    return self

  def __next__(self) -> dict:
    batch = {name: next(stream) for name, stream in self._streams.items()}
    self._step += 1
    return batch

  def get_state(self) -> dict:
    """Where the feed is: the step of its next batch, the same in every process and whatever their number."""
    return {"step": self._step}

  def set_state(self, state: dict) -> None:
    """Goes where `state` was taken, of a feed of the same data, sizes and seed."""
    self._step = state["step"]
    for stream in self._streams.values():
      stream.set_state({"next_index": self._step})


def batches(sources: dict[str, ClipSource], sizes: dict[str, int], seed: int, start_step: int = 0) -> Feed:
  """The feed of this process, from `start_step` on."""
  return Feed(sources, sizes, seed, start_step)
