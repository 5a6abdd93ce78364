"""A denoiser scored on a labelled split: batched on the device, masked, every frame counted once, protocol attached."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float

from posynda_jax import diffusion, hypotheses, metrics, pipeline, sampler, skeleton

ROOTS = ("solve", "oracle")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """How poses are sampled and reduced. The seed is evaluation's own: two people get the same millimetres."""

  num_hypotheses: int = 1
  sampling_steps: int = 1
  flip: bool = False
  select: str = "mean"  # over hypotheses: mean (P-Agg), or sequence|frame|joint by reprojection
  root: str = "solve"  # whose root the reprojection uses; `oracle` is the dataset's own, for ablations
  seed: int = 2023
  batch_size: int = 64
  diffusion_steps: int = 1000

  def __post_init__(self):
    if self.select not in ("mean",) + hypotheses.GRANULARITIES:
      raise ValueError(f"select {self.select!r} is unknown; choose mean, {', '.join(hypotheses.GRANULARITIES)}")
    if self.root not in ROOTS:
      raise ValueError(f"root {self.root!r} is unknown; choose one of {', '.join(ROOTS)}")


def lift(denoise: sampler.Denoiser, clip: dict, key: Array, config: EvaluateConfig) -> Float[Array, "h b f j 3"]:
  """Hypotheses for a batch of clips; a clip's noise depends on the seed and its `index` alone."""
  if config.flip:
    denoise = sampler.with_flip(denoise)
  steps = diffusion.ddim_steps(diffusion.cosine_schedule(config.diffusion_steps), config.sampling_steps)
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(clip["index"])
  return sampler.propose(keys, denoise, clip["keypoints"], steps, config.num_hypotheses)


def combine(poses: Float[Array, "h b f j 3"], clip: dict, config: EvaluateConfig) -> Float[Array, "b f j 3"]:
  """One pose from H, by the configured rule, root-relative."""
  if config.select == "mean":
    return poses.mean(0)
  if config.root == "oracle":
    roots = clip["poses"][..., skeleton.ROOT, :]
  else:
    roots = hypotheses.solve_roots(poses, clip["keypoints"], clip["intrinsics"], clip["confidence"])
  errors = hypotheses.reprojection_error(poses, roots, clip["keypoints"], clip["intrinsics"])
  return hypotheses.pick(poses, hypotheses.choose(errors, clip["confidence"], config.select))


def make_scorer(make_denoiser: Callable, config: EvaluateConfig) -> Callable:
  """Compiled `(weights, clip) -> (poses [b f j 3] m, frame errors {name: [b f]} m)`, for `make_denoiser(weights)`.

  Weights are an argument, so one compilation scores source-only, adapted and ceiling alike.
  """
  key = jax.random.key(config.seed)

  @jax.jit
  def score(weights, clip):
    pose = combine(lift(make_denoiser(weights), clip, key, config), clip, config)
    pose = skeleton.root_centre(pose)
    target = skeleton.root_centre(clip["poses"])
    return pose, {
        "mpjpe": metrics.mpjpe(pose, target),
        "p_mpjpe": metrics.p_mpjpe(pose, target),
        "n_mpjpe": metrics.n_mpjpe(pose, target),
    }

  return score


def evaluate(score: Callable, weights, source: pipeline.ClipSource, batch_size: int) -> dict[str, float]:
  """Frame-weighted means over all valid frames: `<metric>_mm` and `frames`. Raises ValueError without a valid frame."""
  totals: dict[str, float] = {}
  frames = 0.0
  for clip in pipeline.in_order(source, batch_size):
    _, errors = score(weights, clip)
    valid = np.asarray(clip["valid"], np.float64)
    frames += valid.sum()
    for name, value in errors.items():
      value = np.where(valid > 0, np.asarray(value, np.float64), 0)
      totals[name] = totals.get(name, 0.0) + (value * valid).sum()
  if not frames:
    raise ValueError("no valid frame to score: check the split and its `valid` flags")
  return {f"{name}_mm": 1000 * total / frames for name, total in totals.items()} | {"frames": int(frames)}


def protocol(dataset: str, split: str, clip_fps: float, config: EvaluateConfig) -> dict:
  """What must be printed beside every number."""
  config_name = dataset.partition("/")[2]
  return {
      "dataset": dataset,
      "split": split,
      "keypoints_2d": "detected" if config_name.endswith("detected") else "gt",
      "joints": "17 (H36M order, root included)",
      "alignment": "root-relative (MPJPE); per-frame similarity (P-MPJPE)",
      "averaging": "all valid frames",
      "clip_fps": clip_fps,
      "hypotheses": config.num_hypotheses,
      "sampling_steps": config.sampling_steps,
      "selection": config.select,
      "root": config.root if config.select != "mean" else "not needed",
      "flip": config.flip,
      "seed": config.seed,
  }
