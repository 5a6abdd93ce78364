"""Unlabelled records lifted frame by frame, and scored by what can be measured of them: the reprojection error."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from posynda_jax.data import clips, tracks
from posynda_jax.diffusion import hypotheses
from posynda_jax.evaluation import people, scoring, spread, trust
from posynda_jax.evaluation.trust import Trust
from posynda_jax.geometry import camera, gravity, skeleton, virtual_camera
from posynda_jax.geometry.measured import Measured

ANKLE_TO_HEAD = 0.92  # the bones between them, as a share of a standing person: 1.60 m of CMU's people, mostly men
HEIGHTS_M = (0.5, 2.5)  # of people
TILTS_DEG = (10.0, 45.0)  # of cameras that are levelled by the up found, which is 2 to 7 degrees off
MOST_TILT_DEG = 60.0  # of cameras that are levelled at all: a level one in a steeper one's place sees nobody
_LEGS = [2, 3, 5, 6]  # knees and ankles
_BLOCK = 512  # frames that are placed at once
_LEAST_FILTERED = 10  # frames: the filter's padding


@dataclasses.dataclass(frozen=True)
class Program:
  """Compiled `(weights, measured, clip) -> {pose, hypotheses, deviation}`, each [b f ...], and for the rule `bones`
  what measures the person before (`people.make_observer`).
  """

  run: Callable
  observe: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Lifted:
  """Poses of one recording, frame by frame: `pose` [T 17 3] and `hypotheses` [T H 17 3] relative to the root, `root`
  [T 3] solved (m, camera frame); `deviation` [T 17 2], standard deviations of the pose (m) across the image and along
  depth, NaN for a base that does not state them; `reprojection_px` [T], NaN in frames that were interpolated; `frame`
  [T], their numbers in the video; which of them can be believed; the `up` [3] by which the camera was levelled."""

  pose: np.ndarray
  hypotheses: np.ndarray
  root: np.ndarray
  deviation: np.ndarray
  reprojection_px: np.ndarray
  frame: np.ndarray
  trust: Trust
  up: np.ndarray | None = None

  @property
  def sigma_m(self) -> np.ndarray:
    """How far off each joint [T 17] may be (m): the root of the mean square distance that is expected."""
    return spread.distance(self.deviation)


def reproject(pose: Float[Array, "b f j 3"], clip: dict) -> tuple[Float[Array, "b f 3"], Float[Array, "b f"]]:
  """(solved roots (m), distances to the clip's keypoints) of root-relative poses; joints weigh by confidence, or alike
  in frames without any.
  """
  observed, confidence = (clip["keypoints"], clip["intrinsics"]), camera.joint_weights(clip["confidence"])
  root = hypotheses.solve_roots(pose[None], *observed, confidence)
  error = hypotheses.reprojection_error(pose[None], root, *observed)[0]
  return root[0], (error * confidence).sum(-1) / jnp.maximum(confidence.sum(-1), 1e-9)


_reproject = jax.jit(reproject)
_rays = jax.jit(camera.rays)


def make_lifter(make_denoiser: Callable, config: scoring.SamplingConfig) -> Program:
  """The program for `make_denoiser(weights)`, which may give the channels of a doubt head too.

  Joints are weighted by confidence; in frames without a detection, where all are 0, they are weighted alike.
  """
  key = jax.random.key(config.seed)

  @jax.jit
  def lift(weights, measured, clip):
    clip = clip | {"confidence": camera.joint_weights(clip["confidence"])}
    found = scoring.propose(make_denoiser(weights), measured, clip, key, config)
    poses = skeleton.root_centre(found[..., :3])
    pose = skeleton.root_centre(scoring.combine(poses, measured, clip, config))
    root, _ = reproject(pose, clip)
    deviation = spread.deviations(found, root / jnp.maximum(jnp.linalg.norm(root, axis=-1, keepdims=True), 1e-6))
    deviation = deviation if found.shape[-1] > 3 else jnp.full_like(deviation, jnp.nan)
    return {"pose": pose, "hypotheses": jnp.moveaxis(poses, 0, 2), "deviation": deviation}

  return Program(lift, people.make_observer(make_denoiser, config) if config.select == "bones" else None)


def lift_record(
    program: Program, weights, measured: Measured, record: dict, clip_fps: float, num_frames: int, batch_size: int
) -> Lifted:
  """Every frame of a record lifted: its interleaved tracks are cut into clips, and the frames put back in their
  order. Every second track is lifted in the mirror image, and each frame's pose is the mean of what all tracks say
  about it. Frames are numbered from the record's `first_frame`. By its `up` [3], against gravity in the camera's axes,
  it is levelled, up to a tilt of MOST_TILT_DEG. The record may lack both.
  """
  up = record.get("up")
  up = None if up is None or gravity.angle_deg(up, gravity.CAMERA_UP) > MOST_TILT_DEG else up
  turn = None if up is None else gravity.levelling(up)
  found = tracks.make_tracks([record if turn is None else see_level(record, turn)], tracks.UNLABELLED, clip_fps)
  source = clips.ClipSource(found, num_frames)
  if program.observe:
    source = people.measure(program.observe, weights, measured, source, batch_size)
  parts: list[list[dict]] = [[] for _ in found]
  batches = -(-len(source) // batch_size)
  for clip in tqdm(clips.in_order(source, batch_size), total=batches, desc="lift", unit="batch", disable=batches < 3):
    mirrored = np.array([source.track_of(index) % 2 for index in clip["index"]], np.int32)
    lifted = jax.tree.map(np.asarray, program.run(weights, measured, clip | {"mirrored": mirrored}))
    first = int(clip["index"][0])
    for row in range(min(batch_size, len(source) - first)):
      parts[source.track_of(first + row)].append({field: value[row] for field, value in lifted.items()})
  whole = {}
  for field in ("pose", "hypotheses", "deviation"):
    of_clips = [np.stack([one[field] for one in part]) for part in parts]
    stitched = [clips.stitch(values, len(track)) for values, track in zip(of_clips, found, strict=True)]
    whole[field] = np.empty((len(record["valid"]), *stitched[0].shape[1:]), np.float32)
    for phase, values in enumerate(stitched):
      whole[field][phase :: len(found)] = values
  if turn is not None:
    whole |= {field: whole[field] @ np.float32(turn) for field in ("pose", "hypotheses")}
  seen = record["valid"] & (record["confidence"].max(-1) > 0)
  whole["pose"] = mean_of_tracks(whole["pose"], len(found), seen)
  whole["root"], error = place(whole["pose"], record)
  px = np.where(seen, error * float(record["resolution"][0]) / 2, np.nan)
  frame = record.get("first_frame", 0) + np.arange(len(px))
  judged = trust.judge(record, whole["root"], px, frame, spread.distance(whole["deviation"]))
  return Lifted(**whole, reprojection_px=px, frame=frame, trust=judged, up=up)


def excerpt(record: dict, clip_fps: float, num_frames: int, clips_wanted: int) -> dict:
  """About `clips_wanted` clips of a record, spread over it in whole clips of all its tracks, as a shorter record."""
  stride, length = max(1, round(float(record["fps"]) / clip_fps)), len(record["valid"])
  piece = stride * num_frames
  pieces = max(1, clips_wanted // stride)
  if length <= pieces * piece:
    return record
  starts = np.linspace(0, length - piece, pieces).astype(int)
  at = (starts[:, None] + np.arange(piece)).ravel()
  return record | {name: record[name][at] for name in ("keypoints_px", "confidence", "valid")}


def find_up(
    program: Program, weights, measured: Measured, record: dict, clip_fps: float, num_frames: int, batch_size: int
) -> np.ndarray | None:
  """Up [3] of a record's camera, found from upright people in one batch of its clips (`gravity.find_up`), in frames
  that show both legs; None where few stand upright, or where its angle to the image's is outside TILTS_DEG: nearly
  level, or of people who lie.
  """
  part = excerpt(record, clip_fps, num_frames, batch_size)
  shown = part["valid"] & (part["confidence"][:, _LEGS] > 0).all(-1)
  if shown.sum() < gravity.LEAST_FRAMES:
    return None
  lifted = lift_record(program, weights, measured, part, clip_fps, num_frames, batch_size)
  found = gravity.find_up(lifted.pose, shown)
  tilt = gravity.angle_deg(found.vector, gravity.CAMERA_UP)
  return found.vector if found.is_sure and TILTS_DEG[0] <= tilt <= TILTS_DEG[1] else None


def see_level(record: dict, turn: Float[np.ndarray, "3 3"]) -> dict:
  """The record as a pinhole camera sees it that is turned to the horizon: `turn` goes into its axes. Joints that would
  be behind it stay at the edge of a half space.
  """
  focal, centre = record["intrinsics"][:2], record["intrinsics"][2:4]
  ray = np.concatenate([_rays(record["keypoints_px"][rows], record["intrinsics"]) for rows in _blocks(record)])
  ray = ray[: len(record["keypoints_px"])]
  ray = np.concatenate([ray, np.ones_like(ray[..., :1])], -1) @ np.float32(turn.T)
  keypoints = focal * ray[..., :2] / np.maximum(ray[..., 2:], virtual_camera.MIN_DEPTH) + centre
  intrinsics = np.concatenate([focal, centre, np.zeros_like(record["intrinsics"][4:])])
  return record | {"keypoints_px": keypoints, "intrinsics": intrinsics}


def place(pose: Float[np.ndarray, "T 17 3"], record: dict) -> tuple[np.ndarray, np.ndarray]:
  """(roots [T 3] (m), distances [T] in screen units) of `reproject` for root-relative poses of a record's frames."""
  (track,) = tracks.make_tracks([record], tracks.UNLABELLED, float(record["fps"]))
  blocks = []
  for rows in _blocks(record):
    clip = {"keypoints": track.arrays["keypoints"][None, rows], "confidence": track.arrays["confidence"][None, rows],
            "intrinsics": track.arrays["intrinsics"][None]}
    blocks.append([np.asarray(values)[0] for values in _reproject(pose[None, rows], clip)])
  roots, errors = (np.concatenate(values)[: len(pose)] for values in zip(*blocks, strict=True))
  return roots, errors


def _blocks(record: dict) -> list[np.ndarray]:
  """Indices of a record's frames by _BLOCK, for one compiled shape: the last frame fills the last block up."""
  last = len(record["keypoints_px"]) - 1
  return [np.minimum(np.arange(first, first + _BLOCK), last) for first in range(0, last + 1, _BLOCK)]


def mean_of_tracks(values: Float[np.ndarray, "T *n"], stride: int, seen: np.ndarray) -> np.ndarray:
  """What `stride` interleaved tracks say about each frame [T], on average: each track is interpolated between its two
  frames around it.

  The tracks see the same motion and err apart from each other. A track counts where the frame itself was `seen` [T] and
  the track's two frames are there and were seen.
  """
  total, count = values.copy(), np.ones((len(values),) + (1,) * (values.ndim - 1), values.dtype)
  for before in range(1, min(stride, len(values))):
    after = stride - before
    at = np.arange(before, len(values) - after)
    at = at[seen[at] & seen[at - before] & seen[at + after]]
    total[at] += (after * values[at - before] + before * values[at + after]) / stride
    count[at] += 1
  return total / count


def smooth(lifted: Lifted, fps: float, cutoff_hz: float) -> Lifted:
  """Poses and roots without motion faster than `cutoff_hz`: a Butterworth filter of order 2 runs forth and back.

  The reprojection error and the trust stay those of the unfiltered poses. Raises ValueError for a cutoff that is not
  below half of the frame rate, and for fewer frames than the filter needs.
  """
  if not 0 < cutoff_hz < fps / 2:
    raise ValueError(f"{cutoff_hz:g} Hz cannot be filtered at {fps:g} frames a second: choose less than {fps / 2:g} Hz")
  if len(lifted.pose) < _LEAST_FILTERED:
    raise ValueError(f"{len(lifted.pose)} frames are too few to be filtered: give {_LEAST_FILTERED} or more")
  from scipy import signal  # a third of the time that a script would spend on imports

  sections = signal.butter(2, cutoff_hz, fs=fps, output="sos")
  found = {name: signal.sosfiltfilt(sections, getattr(lifted, name), axis=0).astype(np.float32)
           for name in ("pose", "hypotheses", "root")}
  return dataclasses.replace(lifted, **found)


def height(lifted: Lifted) -> float:
  """How tall (m) the lifted person would stand: ankles to head along the bones, median over trusted frames, of all
  frames where none is trusted.
  """
  used = lifted.trust.frames if lifted.trust.frames.any() else slice(None)
  bones = np.asarray(skeleton.bone_lengths(lifted.pose[used]))
  legs = bones[:, [1, 2, 4, 5]].sum(-1) / 2  # by the end joint less one: knees and ankles
  return float(np.median(legs + bones[:, 6:10].sum(-1))) / ANKLE_TO_HEAD


def scale_to_height(lifted: Lifted, height_m: float) -> Lifted:
  """The person at a known standing height (m). An image does not show size, so this changes no projection.

  Raises ValueError for a height outside HEIGHTS_M.
  """
  if not HEIGHTS_M[0] <= height_m <= HEIGHTS_M[1]:
    raise ValueError(f"a height of {height_m:g} m: expected a person's, from {HEIGHTS_M[0]} to {HEIGHTS_M[1]} m")
  factor = np.float32(height_m / height(lifted))
  found = {name: factor * getattr(lifted, name) for name in ("pose", "hypotheses", "root", "deviation")}
  return dataclasses.replace(lifted, **found)


def mean_reprojection(lifted: Sequence[Lifted]) -> dict[str, float]:
  """`reprojection_px`, the mean over detected frames of all recordings, and `frames`, their number."""
  errors = np.concatenate([one.reprojection_px for one in lifted])
  return {"reprojection_px": float(np.nanmean(errors)), "frames": int(np.isfinite(errors).sum())}


def rate_warning(record: dict, clip_fps: float) -> list[str]:
  """A warning where the tracks of a record are far from the frame rate a base was trained at; else empty."""
  fps = float(record["fps"])
  tracks_fps = fps / max(1, round(fps / clip_fps))
  if 0.8 < tracks_fps / clip_fps < 1.25:
    return []
  speed = "faster" if tracks_fps < clip_fps else "slower"
  return [
      f"the base was trained at {clip_fps:g} frames a second, and this video gives {tracks_fps:.3g}: motion appears "
      f"{speed} to it"
  ]
