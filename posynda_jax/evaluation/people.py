"""The body of each recorded person, seen over all of a recording, so that hypotheses can be chosen by its bones.

    clips --single answers--> bone lengths of all frames --weighted median--> clips with `body` [b 16]

A bone along the line of sight has no visible length in one frame; other frames of the same person show it.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from posynda_jax.data import clips
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import body
from posynda_jax.geometry.measured import Measured


def make_observer(make_denoiser: Callable, config: scoring.SamplingConfig) -> Callable:
  """Compiled `(weights, measured, clip) -> (bone lengths [b f 16] m, their weights [b f 16])` of the answer of K = 1,
  as `body.observed_bones`.
  """
  single = dataclasses.replace(config, num_hypotheses=1, sampling_steps=1)
  key = jax.random.key(config.seed)

  @jax.jit
  def observe(weights, measured, clip):
    pose = scoring.propose(make_denoiser(weights), measured, clip, key, single)[0, ..., :3]
    observed = (clip["keypoints"], clip["intrinsics"], clip["confidence"])
    lengths, weight = body.observed_bones(pose, *observed)
    return lengths, weight * clip["valid"][..., None]

  return observe


def measure(
    observe: Callable, weights, measured: Measured, source: clips.ClipSource, batch_size: int
) -> clips.ClipSource:
  """The same clips with `body` [b 16], the bone lengths (m) of each clip's person. Tracks of one record (equal `info`)
  are of one person.
  """
  seen: dict[tuple, list[tuple[np.ndarray, np.ndarray]]] = {}
  for clip in clips.in_order(source, batch_size):
    lengths, weight = jax.tree.map(np.asarray, observe(weights, measured, clip))
    for row, index in enumerate(clip["index"]):
      seen.setdefault(_person(source.tracks[source.track_of(index)]), []).append((lengths[row], weight[row]))
  bodies = {who: median(*(np.concatenate(part) for part in zip(*rows, strict=True))) for who, rows in seen.items()}
  tracks = [
      dataclasses.replace(track, arrays=track.arrays | {"body": bodies[_person(track)]}) for track in source.tracks]
  return clips.ClipSource(tracks, source.num_frames)


def _person(track) -> tuple:
  return tuple(sorted(track.info.items()))


def median(values: Float[np.ndarray, "n k"], weight: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "k"]:
  """The weighted median of each column, rounded to 1e-4; of a column without weight, the median."""
  found = body.weighted_median(values, np.where(weight.sum(0) > 0, weight, np.float32(1)))
  return np.asarray(found, np.float64).round(4).astype(np.float32)
