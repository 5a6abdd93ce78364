"""Tracks: records at the model's frame rate, as the same arrays for every dataset.

A record of `fps` frames a second becomes interleaved tracks of about `clip_fps` each, so every frame belongs to exactly
one track. Arrays of a track (float32):

    keypoints [f j 2], intrinsics [9]   screen units: x from -1 to 1 over the width, y in the same unit
    confidence [f j], valid [f]         0..1
    poses [f j 3]                       metres, camera frame, absolute; only in `LABELLED`
    motion [f j 3]                      metres, world frame, Y up; only in `WORLD`, which has no camera
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from posynda_jax.geometry import skeleton

UNLABELLED = ("keypoints", "intrinsics", "confidence", "valid")
LABELLED = UNLABELLED + ("poses",)
WORLD = ("motion", "valid")


@dataclasses.dataclass(frozen=True)
class Track:
  """Every n-th frame of one record: the arrays above, and the record's texts (subject, action...) as `info`."""

  arrays: dict[str, np.ndarray]
  info: dict[str, str]

  def __len__(self) -> int:
    return len(self.arrays["valid"])


def make_tracks(records: Sequence[dict], fields: Sequence[str], clip_fps: float) -> list[Track]:
  """Tracks with the arrays `fields`. With `UNLABELLED`, as in target training, 3D poses are never read.

  Frames without a confident joint become invalid, and invalid frames become finite. Raises ValueError, which names the
  sequence, for a missing field, for non-finite values in valid frames, and if no frame is valid.
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
  arrays, label = {}, record["sequence"]
  if "keypoints" in fields:
    w, h = (float(x) for x in record["resolution"])
    offset, px = np.array([1.0, h / w]), record["intrinsics"].astype(np.float64)
    arrays["keypoints"] = record["keypoints_px"] * (2 / w) - offset
    arrays["intrinsics"] = np.concatenate([px[:2] * 2 / w, px[2:4] * 2 / w - offset, px[4:]])
    arrays["confidence"] = record["confidence"]
  for name in set(fields) - {*UNLABELLED}:  # also arrays by frame that only one dataset has
    source = {"poses": "poses_camera_m", "motion": "poses_world_m"}.get(name, name)
    if source not in record:
      what = "3D poses: it can only be an unlabelled target" if name == "poses" else f"{name}: build the dataset anew"
      raise ValueError(f"sequence {label} has no {what}")
    arrays[name] = record[source]
  arrays = {k: np.asarray(v, np.float32) for k, v in arrays.items()}
  num_frames = len(next(v for k, v in arrays.items() if k != "intrinsics"))
  arrays["valid"] = np.asarray(record.get("valid", np.ones(num_frames)), np.float32)
  for name, value in arrays.items():
    frames = value[None] if name == "intrinsics" else value[arrays["valid"] > 0]
    if not np.isfinite(frames).all():
      raise ValueError(
          f"sequence {label} has non-finite {name} in frames marked valid: mark them invalid or repair them"
      )
  if "confidence" in arrays:
    arrays["valid"] = arrays["valid"] * (arrays["confidence"].max(-1) > 0)
    if not arrays["valid"].any():
      raise ValueError(f"sequence {label} shows no person in any valid frame: leave it out or check its confidence")
  invalid = arrays["valid"] == 0
  for name, value in arrays.items():
    if name != "intrinsics":
      arrays[name] = np.where(invalid.reshape((-1,) + (1,) * (value.ndim - 1)), np.nan_to_num(value), value)
  return arrays


def mean_bones(tracks: Sequence[Track]) -> tuple[float, ...]:
  """Mean bone lengths [16] (m, rounded to 0.1 mm) of labelled or world tracks. Each subject counts once."""
  by_subject: dict[str, list[np.ndarray]] = {}
  for track in tracks:
    poses = track.arrays["motion" if "motion" in track.arrays else "poses"][track.arrays["valid"] > 0]
    if len(poses):
      # `skeleton.bone_lengths` would be compiled for every length of track.
      lengths = np.linalg.norm(poses[:, 1:] - poses[:, np.array(skeleton.PARENTS[1:])], axis=-1).mean(0)
      by_subject.setdefault(track.info.get("subject", ""), []).append(lengths)
  return tuple(np.mean([np.mean(lengths, 0) for lengths in by_subject.values()], 0).astype(float).round(4).tolist())
