"""A denoiser scored on a labelled split: batched on the device, masked, every frame counted once, protocol attached."""

import collections
import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.adaptation import synthesis
from posynda_jax.data import pipeline
from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.evaluation import protocols, tally
from posynda_jax.geometry import metrics, skeleton, virtual_camera

ROOTS = ("solve", "oracle")
RULES = ("mean",) + hypotheses.GRANULARITIES  # that make one pose of H: their mean (P-Agg), or what reprojects best of each clip, frame or joint (J-Agg)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """How poses are sampled and reduced. The seed is evaluation's own: two people get the same millimetres."""

  num_hypotheses: int = 1
  sampling_steps: int = 1
  flip: bool = False
  select: str = "mean"  # one of RULES
  refine: str = "none"  # what the clip's own 2D mends of the pose: none, rays, or body, with `body`'s bone lengths (m)
  body: tuple[float, ...] = ()
  view: virtual_camera.View = ()  # of the virtual camera that the denoiser sees clips by; empty: their own
  root: str = "solve"  # whose root the reprojection uses; `oracle` is the dataset's own, for ablations
  seed: int = 2023
  batch_size: int = 64
  hypothesis_chunk: int = 0  # hypotheses computed at once, 0: all; it changes memory, not results
  diffusion_steps: int = 1000

  def __post_init__(self):
    if self.select not in RULES:
      raise ValueError(f"select {self.select!r} is unknown; choose one of {', '.join(RULES)}")
    hypotheses.check_refinement(self.refine, self.body)
    virtual_camera.check(self.view)
    if self.root not in ROOTS:
      raise ValueError(f"root {self.root!r} is unknown; choose one of {', '.join(ROOTS)}")


def lift(denoise: sampler.Denoiser, clip: dict, key: Array, config: EvaluateConfig) -> Float[Array, "h b f j 3"]:
  """Hypotheses for a batch of clips, in the axes of their cameras; a clip's noise depends on the seed and its `index` alone."""
  turn = None
  if config.view:
    clip, turn = virtual_camera.look(clip, config.view)
  if config.flip:
    denoise = sampler.with_flip(denoise)
  steps = process.ddim_steps(process.cosine_schedule(config.diffusion_steps), config.sampling_steps)
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(clip["index"])
  poses = sampler.propose(keys, denoise, clip["keypoints"], steps, config.num_hypotheses, config.hypothesis_chunk)
  return poses if turn is None else virtual_camera.turn_back(poses, turn)


def combine(poses: Float[Array, "h b f j 3"], clip: dict, config: EvaluateConfig) -> Float[Array, "b f j 3"]:
  """One pose from H, by the configured rule and refinement, root-relative."""
  seen = (clip["keypoints"], clip["intrinsics"], clip["confidence"])
  if config.select == "mean":
    pose = poses.mean(0)
  else:
    roots = clip["poses"][..., skeleton.ROOT, :] if config.root == "oracle" else hypotheses.solve_roots(poses, *seen)
    errors = hypotheses.reprojection_error(poses, roots, *seen[:2])
    pose = hypotheses.pick(poses, hypotheses.choose(errors, clip["confidence"], config.select))
  return hypotheses.refine(pose, *seen, config.refine, config.body)


def find_body(
    make_denoiser: Callable, weights, source: pipeline.ClipSource, own: tuple[float, ...], config: EvaluateConfig
) -> tuple[float, ...]:
  """Bone lengths [16] (m) of an unlabelled source's people: the ratios that their 2D shows, legs as long as those of the body `own`.

  Read through the poses of `make_denoiser(weights)` for eight batches spread over the clips, as F reads them in training.
  """
  key = jax.random.key(config.seed)

  @jax.jit
  def look(weights, clip):
    pose = lift(make_denoiser(weights), clip, key, config).mean(0)
    lengths, trust = hypotheses.seen_bones(pose, clip["keypoints"], clip["intrinsics"], clip["confidence"])
    return lengths, trust * clip["valid"][..., None]

  spread = np.linspace(0, len(source) - 1, 8 * config.batch_size).astype(int).reshape(8, -1)
  lengths, trust = zip(*(look(weights, source.take(indices)) for indices in spread), strict=True)
  flat = lambda parts: np.concatenate(parts).reshape(-1, len(own))
  factor = synthesis.proportions(np.asarray(own, np.float32), hypotheses.weighted_median(flat(lengths), flat(trust)))
  return tuple((np.asarray(own) * np.asarray(factor, np.float64)[1:]).round(4).tolist())


def frame_errors(pose: Float[Array, "*b 17 3"], target: Float[Array, "*b 17 3"]) -> dict[str, Float[Array, "*b"]]:
  """The field's three errors of every frame, in the unit of the root-relative inputs."""
  return {
      "mpjpe": metrics.mpjpe(pose, target),
      "p_mpjpe": metrics.p_mpjpe(pose, target),
      "n_mpjpe": metrics.n_mpjpe(pose, target),
  }


def make_scorer(make_denoiser: Callable, config: EvaluateConfig, measure: Callable = frame_errors) -> Callable:
  """Compiled `(weights, clip) -> (poses [b f j 3] m, frame scores {name: [b f]})`, for `make_denoiser(weights)`.

  Weights are an argument, so one compilation scores source-only, adapted and ceiling alike. `measure(pose, target)` takes
  root-relative poses (m); the scores of a protocol are `functools.partial(protocols.frame_scores, protocol)`.
  """
  score = make_rule_scorer(make_denoiser, config, (config.select,), measure)
  return jax.jit(lambda weights, clip: score(weights, clip)[config.select])


def make_rule_scorer(
    make_denoiser: Callable, config: EvaluateConfig, rules: tuple[str, ...], measure: Callable = frame_errors
) -> Callable:
  """As `make_scorer`, but the same hypotheses are reduced by each of the rules in place of `config.select`: {rule: (poses, scores)}."""
  key = jax.random.key(config.seed)

  @jax.jit
  def score(weights, clip):
    poses, target = lift(make_denoiser(weights), clip, key, config), skeleton.root_centre(clip["poses"])
    reduced = {rule: skeleton.root_centre(combine(poses, clip, dataclasses.replace(config, select=rule))) for rule in rules}
    return {rule: (pose, measure(pose, target)) for rule, pose in reduced.items()}

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


def evaluate_protocol(
    score: Callable, weights, source: pipeline.ClipSource, batch_size: int, chosen: protocols.Protocol
) -> dict:
  """The protocol's result (`tally.Tally.row`), with the frames left out and what the records state about themselves.

  `score` measures the protocol's `frame_scores`; the clips hold its `fields`. Raises ValueError as the tally does.
  """
  return evaluate_rules(lambda *inputs: {"": score(*inputs)}, weights, source, batch_size, chosen)[""]


def evaluate_rules(
    score: Callable, weights, source: pipeline.ClipSource, batch_size: int, chosen: protocols.Protocol
) -> dict[str, dict]:
  """The results of `evaluate_protocol` by rule, for a scorer of several (`make_rule_scorer`)."""
  totals: dict[str, tally.Tally] = collections.defaultdict(lambda: tally.Tally(chosen))
  for clip in pipeline.in_order(source, batch_size):
    infos = [source.tracks[source.track_of(index)].info for index in clip["index"]]
    labels = {name: np.array([info[name] for info in infos])[:, None] for name in ("subject", "action", "sequence")}
    labels |= {name: clip[name].astype(int) for name in chosen.fields}
    for rule, (_, scores) in score(weights, clip).items():
      totals[rule].add(scores, clip["valid"], labels)
  infos = [track.info for track in source.tracks]
  stated = sorted(set().union(*infos) - {"subject", "action", "camera", "sequence"})
  records = {name: sorted({info[name] for info in infos if name in info}) for name in stated}
  rows = {rule: total.row() for rule, total in totals.items()}
  for row in rows.values():
    row["counts"]["left_out"] = sum(map(len, source.tracks)) - row["counts"]["frames"]  # not valid, or nobody detected
    row["records"] = records
  return rows


def protocol(
    dataset: str, split: str, clip_fps: float, config: EvaluateConfig, chosen: protocols.Protocol | None = None
) -> dict:
  """What must be printed beside every number."""
  config_name = dataset.partition("/")[2]
  detector = "detected" if config_name.endswith("detected") else config_name if "_ft_" in config_name else None
  how = chosen.describe() if chosen else {
      "joints": "17 (H36M order, root included)",
      "alignment": "root-relative (MPJPE); per-frame similarity (P-MPJPE)",
      "averaging": "all valid frames",
  }
  return {
      "dataset": dataset,
      "split": split,
      "keypoints_2d": detector or "gt",
      **how,
      "clip_fps": clip_fps,
      "hypotheses": config.num_hypotheses,
      "sampling_steps": config.sampling_steps,
      "selection": config.select,
      "refine": config.refine,
      **({"view": f"virtual camera {config.view}"} if config.view else {}),
      "root": config.root if config.select != "mean" else "not needed",
      "flip": config.flip,
      "seed": config.seed,
  }
