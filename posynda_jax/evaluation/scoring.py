"""A denoiser scored on a labelled split: batched on the device, masked, every frame counted once, protocol attached."""

import collections
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.data import clips
from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.evaluation import protocols, tally
from posynda_jax.geometry import body, metrics, skeleton, virtual_camera
from posynda_jax.geometry.measured import Measured, see

ROOTS = ("solve", "oracle")
# What reduces H hypotheses to one pose: their mean (P-Agg), the person's bones, or the least reprojection error.
RULES = ("mean", "bones") + hypotheses.GRANULARITIES


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """How poses are sampled and reduced to one. The seed is fixed, so two people get the same millimetres.

  `select`: one of RULES. `refine`: one of `body.REFINEMENTS`, what the clip's own 2D corrects. `root`: whose root the
  reprojection uses; `oracle` is the dataset's own, for ablations. `hypothesis_chunk`: hypotheses computed at once, 0
  is all; it changes memory, not results. Raises ValueError for an unknown choice.
  """

  num_hypotheses: int = 1
  sampling_steps: int = 1
  flip: bool = False
  select: str = "mean"
  refine: str = "none"
  root: str = "solve"
  seed: int = 2023
  batch_size: int = 64
  hypothesis_chunk: int = 0
  diffusion: process.Diffusion = process.Diffusion()

  def __post_init__(self):
    for name, choices in (("select", RULES), ("refine", body.REFINEMENTS), ("root", ROOTS)):
      if getattr(self, name) not in choices:
        raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")


def propose(
    denoise: sampler.Denoiser, measured: Measured, clip: dict, key: Array, config: SamplingConfig
) -> Float[Array, "h b f j 3"]:
  """Hypotheses for a batch of clips, in the axes of their own cameras; with `measured.view` through that camera.

  A clip's hypotheses depend on the seed and its `index` alone. Every second is found in the mirror image, where a
  network errs differently; of clips whose `mirrored` is 1 these are the first, the third, ... All but the first assume
  another pitch of the camera (`virtual_camera.assume_pitches`) if the base has a canonical one. Channels that a
  denoiser gives beside the pose come with it.
  """
  seen = see(clip, measured)
  if config.flip:
    denoise = sampler.with_flip(denoise)
  steps = process.ddim_steps(config.diffusion.schedule, config.sampling_steps)
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(clip["index"])
  count, inputs = config.num_hypotheses, seen["inputs"]
  if measured.is_canonical and count > 1:
    inputs = virtual_camera.assume_pitches(inputs, keys, count)
  turns = jnp.arange(count)[:, None] + clip.get("mirrored", jnp.zeros_like(clip["index"]))
  in_mirror = (turns % 2 == 1)[..., None, None, None]  # h b 1 1 1

  def mirror(x):
    return jnp.where(in_mirror, skeleton.flip(x), x)

  poses = mirror(sampler.propose(keys, denoise, mirror(inputs), steps, count, config.hypothesis_chunk))
  if measured.view is None:
    return poses
  turned = virtual_camera.to_camera_axes(poses[..., :3], seen["rotation"])
  return jnp.concatenate([turned, poses[..., 3:]], -1) if poses.shape[-1] > 3 else turned


def combine(
    poses: Float[Array, "h b f j 3"], measured: Measured, clip: dict, config: SamplingConfig
) -> Float[Array, "b f j 3"]:
  """One root-relative pose from H, by the configured rule and refinement. `refine=body` fits it to `measured.body`;
  the rule `bones` needs the clip's `body` (`people.measure`).
  """
  observed = (clip["keypoints"], clip["intrinsics"], clip["confidence"])
  if config.select == "mean":
    pose = poses.mean(0)
  elif config.select == "bones":
    if "body" not in clip:
      raise ValueError("the rule bones chooses by the bones of each person: measure them first (people.measure)")
    pose = hypotheses.by_bones(poses, clip["body"])
  else:
    oracle = config.root == "oracle"
    roots = clip["poses"][..., skeleton.ROOT, :] if oracle else hypotheses.solve_roots(poses, *observed)
    errors = hypotheses.reprojection_error(poses, roots, *observed[:2])
    pose = hypotheses.pick(poses, hypotheses.choose(errors, clip["confidence"], config.select))
  return body.refine(pose, *observed, config.refine, measured.body)


def frame_errors(pose: Float[Array, "*b 17 3"], target: Float[Array, "*b 17 3"]) -> dict[str, Float[Array, "*b"]]:
  """The field's three errors of every frame, in the unit of the root-relative inputs."""
  return {
      "mpjpe": metrics.mpjpe(pose, target),
      "p_mpjpe": metrics.p_mpjpe(pose, target),
      "n_mpjpe": metrics.n_mpjpe(pose, target),
  }


def aggregations(poses: Float[Array, "h b f j 3"], clip: dict) -> dict[str, Float[Array, "b f"]]:
  """MPJPE (m) of D3DP's four aggregations of root-relative hypotheses: `p_agg`, their mean; `j_agg`, the least
  reprojection error of each joint; `p_best`, the hypothesis of a clip, and `j_best`, of each joint, that the truth
  chooses.
  """
  observed = (clip["keypoints"], clip["intrinsics"], clip["confidence"])
  errors_2d = hypotheses.reprojection_error(poses, hypotheses.solve_roots(poses, *observed), *observed[:2])

  def of_clip(poses, target, errors_2d, valid):
    return hypotheses.aggregate(poses[:, None], target[None], errors_2d[:, None], valid[None])

  target = skeleton.root_centre(clip["poses"])
  errors = jax.vmap(of_clip, in_axes=(1, 0, 1, 0))(poses, target, errors_2d, clip["valid"])  # b 1 f j
  return {name: values[:, 0].mean(-1) for name, values in errors.items()}


def make_scorer(
    make_denoiser: Callable, config: SamplingConfig, measure: Callable = frame_errors, with_aggregations: bool = False
) -> Callable:
  """Compiled `(weights, measured, clip) -> (poses [b f j 3] m, frame scores {name: [b f]})`, for
  `make_denoiser(weights)`.

  Weights are an argument, so one compilation scores source-only, adapted and ceiling. `measure(pose, target)` takes
  root-relative poses (m); a protocol's is `functools.partial(protocols.frame_scores, protocol)`. `with_aggregations`
  adds D3DP's four (`aggregations`).
  """
  score = make_rule_scorer(make_denoiser, config, (config.select,), measure, with_aggregations)
  return jax.jit(lambda weights, measured, clip: score(weights, measured, clip)[config.select])


def make_rule_scorer(
    make_denoiser: Callable, config: SamplingConfig, rules: tuple[str, ...], measure: Callable = frame_errors,
    with_aggregations: bool = False,
) -> Callable:
  """As `make_scorer`, with the same hypotheses reduced by each of the rules in place of `config.select`: {rule:
  (poses, scores)}.
  """
  key = jax.random.key(config.seed)

  @jax.jit
  def score(weights, measured, clip):
    poses = propose(make_denoiser(weights), measured, clip, key, config)
    target = skeleton.root_centre(clip["poses"])
    more = aggregations(skeleton.root_centre(poses), clip) if with_aggregations else {}
    found = {}
    for rule in rules:
      pose = skeleton.root_centre(combine(poses, measured, clip, dataclasses.replace(config, select=rule)))
      found[rule] = (pose, measure(pose, target) | more)
    return found

  return score


def evaluate(
    score: Callable, weights, measured: Measured, source: clips.ClipSource, batch_size: int
) -> dict[str, float]:
  """Frame-weighted means over all valid frames: `<metric>_mm` and `frames`. Raises ValueError without a valid frame."""
  totals: dict[str, float] = collections.defaultdict(float)
  frames = 0.0
  for clip in clips.in_order(source, batch_size):
    _, errors = score(weights, measured, clip)
    valid = np.asarray(clip["valid"], np.float64)
    frames += valid.sum()
    for name, value in errors.items():
      totals[name] += (np.where(valid > 0, np.asarray(value, np.float64), 0) * valid).sum()
  if not frames:
    raise ValueError("no valid frame to score: check the split and its `valid` flags")
  return {f"{name}_mm": 1000 * total / frames for name, total in totals.items()} | {"frames": int(frames)}


def evaluate_rules(
    score: Callable, weights, measured: Measured, source: clips.ClipSource, batch_size: int, chosen: protocols.Protocol
) -> dict[str, dict]:
  """The protocol's result by rule (`tally.Tally.row`), with the frames left out and what the records state about
  themselves.

  `score` is of `make_rule_scorer` with the protocol's `frame_scores`; the clips hold its `fields`. Raises ValueError
  as the tally does.
  """
  totals: dict[str, tally.Tally] = collections.defaultdict(lambda: tally.Tally(chosen))
  for clip in clips.in_order(source, batch_size):
    infos = [source.tracks[source.track_of(index)].info for index in clip["index"]]
    labels = {name: np.array([info[name] for info in infos])[:, None] for name in ("subject", "action", "sequence")}
    labels |= {name: clip[name].astype(int) for name in chosen.fields}
    for rule, (_, scores) in score(weights, measured, clip).items():
      totals[rule].add(scores, clip["valid"], labels)
  infos = [track.info for track in source.tracks]
  stated = sorted(set().union(*infos) - {"subject", "action", "camera", "sequence"})
  records = {name: sorted({info[name] for info in infos if name in info}) for name in stated}
  rows = {rule: total.row() | {"records": records} for rule, total in totals.items()}
  for row in rows.values():
    row["counts"]["left_out"] = sum(map(len, source.tracks)) - row["counts"]["frames"]  # not valid, or nobody detected
  return rows


def describe_protocol(
    dataset: str, split: str, clip_fps: float, config: SamplingConfig, view: tuple[float, ...] = (),
    chosen: protocols.Protocol | None = None,
) -> dict:
  """What must be printed beside every number."""
  config_name = dataset.partition("/")[2]
  detected = "detected" if config_name.endswith("detected") else config_name if "_ft_" in config_name else None
  how = chosen.describe() if chosen else {
      "joints": "17 (H36M order, root included)",
      "alignment": "root-relative (MPJPE); per-frame similarity (P-MPJPE)",
      "averaging": "all valid frames",
  }
  return {
      "dataset": dataset, "split": split, "keypoints_2d": detected or "gt", **how, "clip_fps": clip_fps,
      **describe_sampling(config), **({"view": f"virtual camera {view}"} if view else {}),
      "root": config.root if config.select in hypotheses.GRANULARITIES else "not needed",
  }


def describe_sampling(config: SamplingConfig) -> dict:
  """The sampling part of a protocol."""
  return {
      "hypotheses": config.num_hypotheses, "sampling_steps": config.sampling_steps, "selection": config.select,
      "refine": config.refine, "flip": config.flip, "seed": config.seed,
  }
