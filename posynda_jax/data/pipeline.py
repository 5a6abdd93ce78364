"""Records become clips, and clips become batches: the same dictionary for every dataset, source and target alike.

A record of `fps` frames a second is read as `stride` interleaved tracks of about `clip_fps` each, so that models see one frame
rate whatever the capture's, and every recorded frame belongs to exactly one track. Clip arrays (float32):

    keypoints [f j 2], intrinsics [9]   screen-normalised        confidence [f j], valid [f]   0..1
    poses [f j 3]                       absolute, camera frame, metres; only where labels are asked for
    motion [f j 3]                      of `world` records, which have no camera: metres, Y up
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import grain.python as grain
import jax
import numpy as np

from posynda_jax.data import clips
from posynda_jax.geometry import skeleton

UNLABELLED = ("keypoints", "intrinsics", "confidence", "valid")
LABELLED = UNLABELLED + ("poses",)
WORLD = ("motion", "valid")


@dataclasses.dataclass(frozen=True)
class Track:
  """One phase of one record: per-frame arrays as above, `intrinsics`, and the record's texts (subject, action...)."""

  arrays: dict[str, np.ndarray]
  info: dict[str, str]

  def __len__(self) -> int:
    return len(self.arrays["valid"])


def make_tracks(records: Sequence[dict], fields: Sequence[str], clip_fps: float) -> list[Track]:
  """Tracks of the asked fields. Target training asks `UNLABELLED`: 3D poses are then never read.

  Raises ValueError, naming the sequence, for non-finite values in frames that are marked valid.
  """
  tracks = []
  for record in records:
    arrays = _normalised(record, fields)
    stride = max(1, round(float(record["fps"]) / clip_fps))
    info = {k: v for k, v in record.items() if isinstance(v, str)}
    for phase in range(min(stride, len(arrays["valid"]))):
      one = {k: v if k == "intrinsics" else v[phase::stride] for k, v in arrays.items()}
      tracks.append(Track(one, info))
  return tracks


def _normalised(record: dict, fields: Sequence[str]) -> dict[str, np.ndarray]:
  arrays = {}
  if "keypoints" in fields:
    w, h = (float(x) for x in record["resolution"])
    offset, px = np.array([1.0, h / w]), record["intrinsics"].astype(np.float64)
    arrays["keypoints"] = record["keypoints_px"] * (2 / w) - offset
    arrays["intrinsics"] = np.concatenate([px[:2] * 2 / w, px[2:4] * 2 / w - offset, px[4:]])
    arrays["confidence"] = record["confidence"]
  if "poses" in fields:
    if "poses_camera_m" not in record:
      raise ValueError(f"sequence {record['sequence']} has no 3D poses: it can only be an unlabelled target")
    arrays["poses"] = record["poses_camera_m"]
  if "motion" in fields:
    arrays["motion"] = record["poses_world_m"]
  for name in set(fields) - {*LABELLED, *WORLD}:  # what a dataset measured besides, frame by frame
    if name not in record:
      raise ValueError(f"sequence {record['sequence']} has no {name}: build the dataset anew, or ask for no {name}")
    arrays[name] = record[name]
  arrays = {k: np.asarray(v, np.float32) for k, v in arrays.items()}
  num_frames = len(next(v for k, v in arrays.items() if k != "intrinsics"))
  arrays["valid"] = np.asarray(record.get("valid", np.ones(num_frames)), np.float32)
  for name, value in arrays.items():
    frames = value[None] if name == "intrinsics" else value[arrays["valid"] > 0]
    if not np.isfinite(frames).all():
      raise ValueError(
          f"sequence {record['sequence']} has non-finite {name} in frames marked valid: mark them invalid or repair them"
      )
  if "confidence" in arrays:
    arrays["valid"] = arrays["valid"] * (arrays["confidence"].max(-1) > 0)
    if not arrays["valid"].any():
      raise ValueError(f"sequence {record['sequence']} shows no person in any valid frame: leave it out or check its confidence")
  invalid = arrays["valid"] == 0
  for name, value in arrays.items():
    if name != "intrinsics":
      arrays[name] = np.where(invalid.reshape((-1,) + (1,) * (value.ndim - 1)), np.nan_to_num(value), value)
  return arrays


def mean_bones(tracks: Sequence[Track]) -> tuple[float, ...]:
  """Mean bone lengths [16] (m, to a tenth of a millimetre) of the subjects of labelled or world tracks, each subject counting once."""
  by_subject: dict[str, list[np.ndarray]] = {}
  for track in tracks:
    poses = track.arrays["motion" if "motion" in track.arrays else "poses"][track.arrays["valid"] > 0]
    if len(poses):
      # NumPy: `skeleton.bone_lengths` would be compiled anew for every length of track.
      lengths = np.linalg.norm(poses[:, 1:] - poses[:, np.array(skeleton.PARENTS[1:])], axis=-1).mean(0)
      by_subject.setdefault(track.info.get("subject", ""), []).append(lengths)
  return tuple(np.mean([np.mean(lengths, 0) for lengths in by_subject.values()], 0).astype(float).round(4).tolist())


class ClipSource(grain.RandomAccessDataSource):
  """Random access to every clip of the tracks, cut without overlap and in order (the paper's stride = clip length)."""

  def __init__(self, tracks: Sequence[Track], num_frames: int):
    if not tracks:
      raise ValueError("no sequences to cut into clips: check the dataset's split")
    self.tracks = tracks
    plans = [clips.make_cut(len(track), num_frames) for track in tracks]
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


def in_order(source: ClipSource, batch_size: int) -> Iterator[dict]:
  """Every clip once, in order; the last batch is padded with repeats whose `valid` is 0, so that shapes never change."""
  for start in range(0, len(source), batch_size):
    asked = np.arange(start, start + batch_size)
    batch = source.take(np.minimum(asked, len(source) - 1))
    batch["valid"][asked >= len(source)] = 0
    yield batch
