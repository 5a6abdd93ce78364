"""Sequences as clips of f frames, and clips as sequences. Each frame counts in exactly one clip.

Clips do not overlap, except the last, which ends with the sequence. Its mask is False on the frames that the clip
before it holds. A sequence of less than f frames is one clip; it repeats its last frame, where its mask is False.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from posynda_jax.data.tracks import Track

OF_TRACKS = ("intrinsics", "body")  # arrays that hold for a whole track


@dataclasses.dataclass(frozen=True)
class Cut:
  """Frames of each clip: `frames` [n f] are indices into the sequence; `mask` [n f] is True where a frame counts."""

  frames: np.ndarray
  mask: np.ndarray


def make_cut(length: int, num_frames: int) -> Cut:
  """The cut of `length` frames into clips of `num_frames`. Raises ValueError if one of them is less than 1."""
  if length < 1 or num_frames < 1:
    raise ValueError(f"a sequence of {length} frames cannot be cut into clips of {num_frames}: both must be at least 1")
  starts = np.arange(0, length, num_frames)
  first_new = starts.copy()
  starts[-1] = max(length - num_frames, 0)
  frames = starts[:, None] + np.arange(num_frames)
  mask = (frames >= first_new[:, None]) & (frames < length)
  return Cut(np.minimum(frames, length - 1), mask)


def stretches(true: np.ndarray) -> list[slice]:
  """Each run of true values [T], as a slice."""
  edges = np.flatnonzero(np.diff(np.r_[False, true, False].astype(np.int8)))
  return [slice(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def cut(sequence: np.ndarray, num_frames: int) -> np.ndarray:
  """Clips [n f ...] of a sequence [T ...]."""
  return np.asarray(sequence)[make_cut(len(sequence), num_frames).frames]


def stitch(clips: np.ndarray, length: int) -> np.ndarray:
  """The sequence [length ...] whose cut is `clips` [n f ...]. Raises ValueError for another number of clips."""
  clips = np.asarray(clips)
  plan = make_cut(length, clips.shape[1])
  if len(clips) != len(plan.frames):
    raise ValueError(
        f"{len(clips)} clips of {clips.shape[1]} frames given for {length} frames, expected {len(plan.frames)}"
    )
  sequence = np.empty((length,) + clips.shape[2:], clips.dtype)
  sequence[plan.frames[plan.mask]] = clips[plan.mask]
  return sequence


class ClipSource:
  """Random access to the clips of all tracks, in order and without overlap (the paper's stride = clip length)."""

  def __init__(self, tracks: Sequence[Track], num_frames: int):
    if not tracks:
      raise ValueError("no sequences to cut into clips: check the dataset's split")
    self.tracks, self.num_frames = tracks, num_frames
    self._cuts = [make_cut(len(track), num_frames) for track in tracks]
    self._where = [(i, n) for i, plan in enumerate(self._cuts) for n in range(len(plan.frames))]

  def __len__(self) -> int:
    return len(self._where)

  def take(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """A batch of clips, {field: [b ...]}. `valid` is 0 where the cut repeats a frame; `index` [b] is `indices`."""
    where = [self._where[index] for index in indices]
    batch = {"index": np.asarray(indices, np.int32)}
    for name in self.tracks[where[0][0]].arrays:
      rows = [self.tracks[i].arrays[name] for i, _ in where]
      if name not in OF_TRACKS:
        rows = [row.take(self._cuts[i].frames[n], 0) for row, (i, n) in zip(rows, where, strict=True)]
      batch[name] = np.stack(rows)
    batch["valid"] *= np.stack([self._cuts[i].mask[n] for i, n in where])
    return batch

  def track_of(self, index: int) -> int:
    """The number of the track that a clip belongs to."""
    return self._where[index][0]


def in_order(source: ClipSource, batch_size: int) -> Iterator[dict]:
  """Batches of every clip once, in order. The last is padded to the same shape with repeats, whose `valid` is 0."""
  for start in range(0, len(source), batch_size):
    wanted = np.arange(start, start + batch_size)
    batch = source.take(np.minimum(wanted, len(source) - 1))
    batch["valid"][wanted >= len(source)] = 0
    yield batch
