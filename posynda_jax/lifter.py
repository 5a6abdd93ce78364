"""2D keypoints of a video in, 3D poses out: what `experiments.lift` does, as functions and as one call.

    lift = lifter.load()                                     # the base that ships; or a run's folder, or a .safetensors file
    lifted = lift(keypoints_px, resolution=(1920, 1080), fps=30, intrinsics=(1450, 1450, 960, 540))
    lifted.pose + lifted.root[:, None]                       # [T 17 3] metres before the camera

Keypoints are px, poses metres; both in Human3.6M-17 order unless another `layout` is named for the keypoints.
"""

import dataclasses
from collections.abc import Callable

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
  """Poses of one recording, frame by frame: `pose` [T 17 3] and `hypotheses` [T H 17 3] relative to the root, `root` [T 3] solved
  (m, camera frame); `reprojection_px` [T], NaN in frames that were interpolated; `frame` [T], their numbers in the video."""

  pose: np.ndarray
  hypotheses: np.ndarray
  root: np.ndarray
  reprojection_px: np.ndarray
  frame: np.ndarray


def make_lifter(make_denoiser: Callable, config: evaluate.EvaluateConfig) -> Callable:
  """Compiled `(weights, clip) -> {pose, hypotheses, root, reprojection}`, each [b f ...], for `make_denoiser(weights)`.

  Joints count by their confidence; in frames that nobody detected, where all are 0, they count alike.
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


def lift_record(lifter: Callable, weights, record: dict, clip_fps: float, num_frames: int, batch_size: int) -> Lifted:
  """Every frame of a record lifted: its interleaved tracks are cut into clips, and the frames put back in their order."""
  tracks = pipeline.make_tracks([record], pipeline.UNLABELLED, clip_fps)
  source = pipeline.ClipSource(tracks, num_frames)
  parts: list[list[dict]] = [[] for _ in tracks]
  batches = -(-len(source) // batch_size)
  for clip in tqdm(pipeline.in_order(source, batch_size), total=batches, desc="lift", unit="batch", disable=batches < 3):
    lifted = jax.tree.map(np.asarray, lifter(weights, clip))
    first = int(clip["index"][0])
    for row in range(min(batch_size, len(source) - first)):
      parts[source.track_of(first + row)].append({field: value[row] for field, value in lifted.items()})
  whole = {}
  for field in ("pose", "hypotheses", "root", "reprojection"):
    of_clips = [np.stack([one[field] for one in part]) for part in parts]
    stitched = [clips.stitch(values, len(track)) for values, track in zip(of_clips, tracks, strict=True)]
    whole[field] = np.empty((len(record["valid"]), *stitched[0].shape[1:]), np.float32)
    for phase, values in enumerate(stitched):
      whole[field][phase :: len(tracks)] = values
  px = whole.pop("reprojection") * float(record["resolution"][0]) / 2
  px = np.where(record["valid"] & (record["confidence"].max(-1) > 0), px, np.nan)
  return Lifted(**whole, reprojection_px=px, frame=np.arange(len(px)))


def rate_warning(record: dict, clip_fps: float) -> list[str]:
  """A warning where the tracks of a record are far from the frame rate a base was trained at."""
  fps = float(record["fps"])
  tracks_fps = fps / max(1, round(fps / clip_fps))
  if 0.8 < tracks_fps / clip_fps < 1.25:
    return []
  looks = "faster" if tracks_fps < clip_fps else "slower"
  return [f"the base was trained at {clip_fps:g} frames a second, this video gives {tracks_fps:.3g}: motion looks {looks} to it"]


@dataclasses.dataclass(frozen=True)
class Lifter:
  """A base, an adapter on it or None, and how poses are sampled; `load` makes one."""

  base: bases.Base
  adapter: dict | None
  lift: Callable
  batch_size: int

  def __call__(
      self, keypoints_px, *, resolution: tuple[float, float], fps: float | None = None,
      intrinsics: tuple[float, ...] | None = None, layout: str = "h36m17",
  ) -> Lifted:
    """Poses for one person's keypoints [T j 2] or, with scores, [T j 3], in px of a video of `resolution` (width, height).

    `intrinsics` are fx, fy, cx, cy in px, or with k1, k2, k3, p1, p2 as `camera.distort` takes them; None guesses the focal
    length as the longest side. `fps` None means 30. `layout` names the joint order (`interop.keypoints.layouts.LAYOUTS`);
    poses come in Human3.6M-17 order. NaN, (0, 0) or score 0 mean unseen: such joints are interpolated, such frames come back
    with a NaN reprojection error. Raises ValueError for another shape, unit or layout.
    """
    options = recordings.Options(resolution=resolution, fps=fps, intrinsics=intrinsics, layout=layout)
    recording = recordings.from_array(keypoints_px, options)
    weights, num_frames = (self.base.params, self.adapter), self.base.model.num_frames
    lifted = lift_record(self.lift, weights, recording.record, self.base.clip_fps, num_frames, self.batch_size)
    return dataclasses.replace(lifted, frame=recording.frames)


def load(base=bases.DEFAULT, adapter: dict | None = None, scale: float = 1.0, **settings) -> Lifter:
  """A lifter of `base` (`bases.load`): with `adapter` ({"lora", "bias"}) or bare; `settings` are fields of `EvaluateConfig`.

  Settings `refine="body"` takes the base's own mean body unless `body` is given.
  """
  base = base if isinstance(base, bases.Base) else bases.load(base)
  config = evaluate.EvaluateConfig(**{"body": base.body, "view": base.view, "diffusion_steps": base.diffusion_steps, **settings})
  lift = make_lifter(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config)
  return Lifter(base, adapter, lift, config.batch_size)
