"""A sequence of any length as clips of F frames, and back, so that every frame is counted exactly once.

Clips do not overlap but for the last, which is aligned to the end of the sequence; its mask is False on the frames the clip
before it already holds. A sequence shorter than F is one clip that repeats its last frame under a False mask.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from posynda_jax.data.tracks import Track


@dataclasses.dataclass(frozen=True)
class Cut:
  """Which frames make each clip: `frames` [n f] indices into the sequence, `mask` [n f] True where a frame counts."""

  length: int
  frames: np.ndarray
  mask: np.ndarray


def make_cut(length: int, num_frames: int) -> Cut:
  """The cut of a sequence of `length` frames into clips of `num_frames`. Raises ValueError for an empty sequence."""
  if length < 1 or num_frames < 1:
    raise ValueError(f"a sequence of {length} frames cannot be cut into clips of {num_frames}: both must be at least 1")
  num_clips = -(-length // num_frames)
  starts = np.arange(num_clips) * num_frames
  wanted = starts[:, None] + np.arange(num_frames)
  starts[-1] = max(length - num_frames, 0)
  frames = starts[:, None] + np.arange(num_frames)
  mask = frames >= wanted[:, :1]  # the last clip repeats frames before its own first
  mask &= frames < length
  return Cut(length, np.minimum(frames, length - 1), mask)


def cut(sequence: np.ndarray, num_frames: int) -> np.ndarray:
  """Clips [n f ...] of a sequence [T ...]."""
  return np.asarray(sequence)[make_cut(len(sequence), num_frames).frames]


def stitch(clips: np.ndarray, length: int) -> np.ndarray:
  """The sequence [length ...] whose cut is `clips` [n f ...]; each frame comes from the clip that counts it."""
  clips = np.asarray(clips)
  plan = make_cut(length, clips.shape[1])
  if len(clips) != len(plan.frames):
    raise ValueError(f"{len(clips)} clips of {clips.shape[1]} frames given for {length} frames, expected {len(plan.frames)}")
  sequence = np.empty((length,) + clips.shape[2:], clips.dtype)
  sequence[plan.frames[plan.mask]] = clips[plan.mask]
  return sequence


class ClipSource:
  """Random access to every clip of the tracks, cut without overlap and in order (the paper's stride = clip length)."""

  def __init__(self, tracks: Sequence[Track], num_frames: int):
    if not tracks:
      raise ValueError("no sequences to cut into clips: check the dataset's split")
    self.tracks = tracks
    plans = [make_cut(len(track), num_frames) for track in tracks]
    self._where = [(i, n) for i, plan in enumerate(plans) for n in range(len(plan.frames))]
    self._plans = plans

  def __len__(self) -> int:
    return len(self._where)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """A clip; `valid` is also 0 where the cut repeats a frame, and `index` tells which clip it is."""
    return {k: v[0] for k, v in self.take([index]).items()}

  def take(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """Clips, stacked: each field [b ...]."""
    where = [self._where[index] for index in indices]
    batch = {"index": np.asarray(indices, np.int32)}
    for name in self.tracks[where[0][0]].arrays:
      rows = [self.tracks[i].arrays[name] for i, _ in where]
      if name != "intrinsics":
        rows = [row.take(self._plans[i].frames[n], 0) for row, (i, n) in zip(rows, where, strict=True)]
      batch[name] = np.stack(rows)
    batch["valid"] *= np.stack([self._plans[i].mask[n] for i, n in where])
    return batch

  def track_of(self, index: int) -> int:
    """Which track a clip belongs to."""
    return self._where[index][0]


def in_order(source: ClipSource, batch_size: int) -> Iterator[dict]:
  """Every clip once, in order; the last batch is padded with repeats whose `valid` is 0, so that shapes never change."""
  for start in range(0, len(source), batch_size):
    asked = np.arange(start, start + batch_size)
    batch = source.take(np.minimum(asked, len(source) - 1))
    batch["valid"][asked >= len(source)] = 0
    yield batch
