"""Records become tracks: the same dictionary for every dataset, source and target alike.

A record of `fps` frames a second is read as interleaved tracks of about `clip_fps` each. Models then see one frame rate, and
every recorded frame belongs to exactly one track. Arrays of a track (float32):

    keypoints [f j 2], intrinsics [9]   screen-normalised        confidence [f j], valid [f]   0..1
    poses [f j 3]                       absolute, camera frame, metres; only where labels are asked for
    motion [f j 3]                      of `world` records, which have no camera: metres, Y up
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
