"""A sequence of any length as clips of F frames, and back, so that every frame is counted exactly once.

Clips do not overlap but for the last, which is aligned to the end of the sequence; its mask is False on the frames the clip
before it already holds. A sequence shorter than F is one clip that repeats its last frame under a False mask.
"""

import dataclasses

import numpy as np


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
