"""2D keypoints of a video in, 3D poses out: functions, and one call.

    lift = lifter.load()                                     # the base that ships; or a run's folder or a file
    lifted = lift(keypoints_px, resolution=(1920, 1080), fps=30, intrinsics=(1450, 1450, 960, 540))
    lifted.pose + lifted.root[:, None]                       # [T 17 3] m, camera frame

Keypoints are px and poses metres, both in Human3.6M-17 order unless `layout` names another one for the keypoints.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from posynda_jax.adaptation import adapt, bases
from posynda_jax.data import clips, pipeline
from posynda_jax.diffusion import hypotheses
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import skeleton
from posynda_jax.interop.keypoints import recordings


@dataclasses.dataclass(frozen=True)
class Lifted:
  """Poses of one recording, frame by frame, in the camera frame (m)."""

  pose: np.ndarray  # [T 17 3] relative to the root
  hypotheses: np.ndarray  # [T H 17 3] relative to the root
  root: np.ndarray  # [T 3] solved by reprojection
  reprojection_px: np.ndarray  # [T] weighted by confidence; NaN in frames that were interpolated
  frame: np.ndarray  # [T] numbers of the frames in the video


def make_lifter(make_denoiser: Callable, config: evaluate.EvaluateConfig) -> Callable:
  """Compiled `(weights, clip) -> {pose, hypotheses, root, reprojection}`, each [b f ...], for `make_denoiser(weights)`.

  Confidence weighs the joints. Where it is 0 for all joints of a frame, all count alike.
  """
  key = jax.random.key(config.seed)

  @jax.jit
  def lift(weights, clip):
    seen = clip["confidence"].max(-1, keepdims=True) > 0
    clip = clip | {"confidence": jnp.where(seen, clip["confidence"], 1.0)}
    poses = skeleton.root_centre(evaluate.lift(make_denoiser(weights), clip, key, config))
    pose = skeleton.root_centre(evaluate.combine(poses, clip, config))
    root = hypotheses.solve_roots(pose[None], clip["keypoints"], clip["intrinsics"], clip["confidence"])
    error = hypotheses.reprojection_error(pose[None], root, clip["keypoints"], clip["intrinsics"])[0]
    error = (error * clip["confidence"]).sum(-1) / clip["confidence"].sum(-1)
    return {"pose": pose, "hypotheses": jnp.moveaxis(poses, 0, 2), "root": root[0], "reprojection": error}

  return lift


def lift_record(
    lifter: Callable, weights, record: dict, clip_fps: float, num_frames: int, batch_size: int
) -> Lifted:
  """Poses of every frame of a record, by a lifter of `make_lifter`.

  The record's tracks are cut into clips of `num_frames` at `clip_fps`, and the lifted frames return to their order.
  """
  tracks = pipeline.make_tracks([record], pipeline.UNLABELLED, clip_fps)
  source = pipeline.ClipSource(tracks, num_frames)
  parts: list[list[dict]] = [[] for _ in tracks]
  batches = -(-len(source) // batch_size)
  bar = {"total": batches, "desc": "lift", "unit": "batch", "disable": batches < 3}
  for clip in tqdm(pipeline.in_order(source, batch_size), **bar):
    lifted = jax.tree.map(np.asarray, lifter(weights, clip))
    first = int(clip["index"][0])
    for row in range(min(batch_size, len(source) - first)):
      parts[source.track_of(first + row)].append({field: value[row] for field, value in lifted.items()})
  whole = {}
  for field in parts[0][0]:
    for phase, (part, track) in enumerate(zip(parts, tracks, strict=True)):
      values = clips.stitch(np.stack([clip[field] for clip in part]), len(track))
      whole.setdefault(field, np.empty((len(record["valid"]), *values.shape[1:]), np.float32))
      whole[field][phase :: len(tracks)] = values
  px = whole.pop("reprojection") * float(record["resolution"][0]) / 2
  px = np.where(record["valid"] & (record["confidence"].max(-1) > 0), px, np.nan)
  return Lifted(**whole, reprojection_px=px, frame=np.arange(len(px)))


def rate(
    lifter: Callable, weights, records: Sequence[dict], clip_fps: float, num_frames: int, batch_size: int
) -> dict[str, float]:
  """Mean reprojection error in px over the frames of the records with a detection, and the number of these frames."""
  lifted = (lift_record(lifter, weights, record, clip_fps, num_frames, batch_size) for record in records)
  errors = np.concatenate([one.reprojection_px for one in lifted])
  return {"reprojection_px": float(np.nanmean(errors)), "frames": int(np.isfinite(errors).sum())}


def save_comparison(
    path, recording: recordings.Recording, lifters: Mapping[str, tuple], clip_fps: float, num_frames: int,
    batch_size: int,
) -> None:
  """Saves a picture of a few frames, lifted by each named (lifter, weights)."""
  from posynda_jax.interop.keypoints import pictures  # loads matplotlib

  columns = {
      name: lift_record(lifter, weights, recording.record, clip_fps, num_frames, batch_size)
      for name, (lifter, weights) in lifters.items()
  }
  pictures.save_lifted(path, recording, columns)


def rate_warning(record: dict, clip_fps: float) -> list[str]:
  """A warning if the frame rate of the record's tracks is far from that of the base's training clips."""
  fps = float(record["fps"])
  tracks_fps = fps / max(1, round(fps / clip_fps))
  if 0.8 < tracks_fps / clip_fps < 1.25:
    return []
  looks = "faster" if tracks_fps < clip_fps else "slower"
  rates = f"the base was trained at {clip_fps:g} frames a second, this video gives {tracks_fps:.3g}"
  return [f"{rates}: motion looks {looks} to it"]


@dataclasses.dataclass(frozen=True)
class Lifter:
  """A base with an adapter or None, and its compiled lifter. `load` makes one."""

  base: bases.Base
  adapter: dict | None
  lift: Callable
  batch_size: int

  def __call__(
      self, keypoints_px, *, resolution: tuple[float, float], fps: float | None = None,
      intrinsics: tuple[float, ...] | None = None, layout: str = "h36m17",
  ) -> Lifted:
    """Poses for one person's keypoints [T j 2] or, with scores, [T j 3], in px of a video of `resolution` (w, h).

    `intrinsics` are fx, fy, cx, cy in px, or these and k1, k2, k3, p1, p2 in the form of `camera.distort`. The default
    focal length is the longest side, the default `fps` 30. `layout` names the joint order of the keypoints, one of
    `geometry.layouts.LAYOUTS`. NaN, (0, 0) or score 0 mark lost joints, which are interpolated. A frame without any
    joint has the reprojection error NaN. Raises ValueError for another shape, unit or layout.
    """
    options = recordings.Options(resolution=resolution, fps=fps, intrinsics=intrinsics, layout=layout)
    recording = recordings.from_array(keypoints_px, options)
    weights, num_frames = (self.base.params, self.adapter), self.base.model.num_frames
    lifted = lift_record(self.lift, weights, recording.record, self.base.clip_fps, num_frames, self.batch_size)
    return dataclasses.replace(lifted, frame=recording.frames)


def load(base=bases.DEFAULT, adapter: dict | None = None, scale: float = 1.0, **settings) -> Lifter:
  """A lifter of `base` (as for `bases.load`) and `adapter` ({"lora", "bias"}) or None.

  `settings` are fields of EvaluateConfig. With `refine="body"`, `body` is the base's mean body unless it is given.
  """
  base = base if isinstance(base, bases.Base) else bases.load(base)
  defaults = {"body": base.body, "view": base.view, "diffusion_steps": base.diffusion_steps}
  config = evaluate.EvaluateConfig(**defaults | settings)
  lift = make_lifter(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config)
  return Lifter(base, adapter, lift, config.batch_size)
