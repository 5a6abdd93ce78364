r"""Algorithm 1: a frozen base learns an unlabelled target through an adapter, taught by itself.

    source clips --F--> target's cameras --------------------> labelled pairs --+
                                                                                +--> student (one noise sample, H = 1) --> loss (Eq. 9)
    target 2D --teacher, vmapped over H--> hypotheses --Eq. 4-5--> pseudo-label-+
                                     \--> seen from another side (novel views) -+

What stands left of the student is in `labels.py`. Only the adapter is differentiated: the low-rank factors and the bias of
Eq. 11, a tree apart from the base, which enters the compiled step as an argument. The teacher is the student's own weights after
the last step (line 20), never differentiated. Target poses do not occur here, except under the names `ceiling`, which trains on
them to bound what any adaptation with this adapter could reach, and `oracle` root in ablations; both are printed beside their numbers.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from posynda_jax.adaptation import adversarial, labels, synthesis
from posynda_jax.adaptation.pretrain import LOSSES, pose_loss, see
from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.geometry import camera, skeleton, virtual_camera
from posynda_jax.peft import lora, tuning
from posynda_jax.runtime import parallel

SUPERVISIONS = ("adapt", "ceiling")
STUDENT_INPUTS = ("noise", "diffused")
TARGET_RULES = {"mixste": lora.ATTENTION, "videopose": lora.CONVOLUTIONS}  # what is adapted, by denoiser, unless told otherwise
LOW_RANK = ("lora", "dora")  # kinds of low-rank factors
TUNES = (*LOW_RANK, *tuning.RULES)
TILTS = ("none", "random", "teacher", "spine")
PAIRS = ("random", "upright")
PROPORTIONS = ("source", "target")
PSEUDO_LABELS = ("best", "mean")
_LATER = ("view", "novel_views", "tumble", "adversarial_penalty", "adversarial_share")  # settings that runs' folders did not have at first


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
  """The paper's settings are the defaults; each field says in DESIGN.md's words what another choice means."""

  num_hypotheses: int = 3
  select: hypotheses.Granularity = "frame"
  pseudo_label: str = "best"  # of the hypotheses by reprojection (Eq. 5), or their mean (P-Agg)
  teacher_flip: bool = False  # the teacher averages each answer with the mirrored one
  refine: str = "none"  # `rays` moves the pseudo-label's joints onto the rays of the observed keypoints, `body` to `body`'s size too
  body: tuple[float, ...] = ()  # mean bone lengths (m) of the source's people, for `refine=body`
  align: synthesis.Alignment = "clip"
  tilt: str = "none"  # F also turns source clips, which the paper's does not: pitched at random or as the teacher sees the
  # target, or with `spine` so that hips to thorax points as the teacher sees the target's
  tilt_deg: float = 25.0  # by at most this
  pair: str = "random"  # F takes source clips as they come, or those that stand most `upright` for the target's most upright
  proportions: str = "source"  # F also gives source bodies the bone-length ratios that the `target`'s 2D shows
  stretch: float = 0.0  # F also varies bone lengths by this log-standard deviation
  view: virtual_camera.View = ()  # of a virtual camera that sees the target as the source's cameras see people; empty: its own
  tumble: float = 0.0  # whom F and novel views show is also turned any way, by this times the angle at which the teacher sees them lean
  novel_views: float = 0.0  # weight of the target's people as the teacher sees them, of `body`'s size, seen from another side
  source: bool = True  # False is source-free: pseudo-labels or novel views alone, and the batch has no `source`
  synthesis: bool = True
  adversarial_rate: float = 0.0  # above 0, a generator that learns against a critic of 2D at this rate stands in for F
  adversarial_penalty: float = 0.0  # weight of the critic's squared slope; the first runs had none
  adversarial_share: float = 0.25  # the generator's rate, of the critic's
  pseudo: bool = True
  rank: int = 4
  scale: float = 1.0
  target_rule: str = lora.ATTENTION
  tune: str = "lora"  # low-rank factors, with `dora` magnitudes too; or a name of tuning.RULES: what is trained in their place
  bias: bool = True
  learning_rate: float = 6e-5
  num_steps: int = 1000
  decay: str = "constant"
  loss: str = "mse"
  pseudo_weight: float = 1.0
  reprojection_weight: float = 0.0
  student_input: str = "noise"
  teacher_ema: float = 0.0
  sampling_steps: int = 1
  diffusion_steps: int = 1000
  supervision: str = "adapt"

  def __post_init__(self):
    for name, choices in (
        ("select", hypotheses.GRANULARITIES), ("align", synthesis.ALIGNMENTS), ("supervision", SUPERVISIONS),
        ("student_input", STUDENT_INPUTS), ("pseudo_label", PSEUDO_LABELS),
        ("loss", LOSSES), ("tilt", TILTS), ("pair", PAIRS), ("proportions", PROPORTIONS),
        ("decay", ("constant", "cosine")), ("tune", TUNES),
    ):
      if getattr(self, name) not in choices:
        raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")
    for name in ("body", "view"):  # JSON, where runs keep their config, has lists
      object.__setattr__(self, name, tuple(getattr(self, name)))
    hypotheses.check_refinement("body" if self.novel_views else self.refine, self.body)
    virtual_camera.check(self.view)
    if not self.num_sets:
      raise ValueError("without a source, pseudo-labels and novel views there is nothing to learn from: keep one of them")

  @property
  def num_sets(self) -> int:
    """How many labelled sets the student learns from, each as large as the target's share of a batch."""
    return self.source + self.pseudo + (self.novel_views > 0)

  @property
  def looks(self) -> bool:
    """Whether the teacher is asked how the target's people stand before its cameras."""
    by_f = self.tilt in ("teacher", "spine") or self.pair == "upright" or self.proportions == "target"
    return self.pseudo or self.novel_views > 0 or self.source and (by_f or self.tumble > 0)


def describe(config: AdaptConfig) -> dict[str, Any]:
  """The config as a run's folder keeps it: without what came later, where it is as it was then."""
  kept = lambda field: field.name not in _LATER or getattr(config, field.name) != field.default
  return {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if kept(field)}


def from_settings(settings: dict[str, Any]) -> AdaptConfig:
  """The config that a run's folder or an adapter's file keeps. Raises ValueError for settings that this version does not have."""
  if unknown := sorted(set(settings) - {field.name for field in dataclasses.fields(AdaptConfig)}):
    raise ValueError(f"the adapter has settings that this version does not know: {', '.join(unknown)}; use the version that made it")
  return AdaptConfig(**settings)


@flax.struct.dataclass
class AdaptState:
  """Everything a resumed run needs. No leaf belongs to the base."""

  step: Array
  adapter: PyTree  # {"lora": {path: {"a", "b"}}, "bias": [j 3]}, with DoRA also "m", or with "delta": {path: leaf} for "lora"
  teacher: PyTree  # the same tree, as the teacher uses it
  opt_state: Any
  players: Any = ()  # adversarial.Players, where there are any


def make_optimizer(config: AdaptConfig) -> optax.GradientTransformation:
  """Adam, as the paper; the rate constant or decaying to zero by a cosine."""
  rate = config.learning_rate
  return optax.adam(optax.cosine_decay_schedule(rate, config.num_steps) if config.decay == "cosine" else rate)


def init_adapter(key: Array, base: PyTree, config: AdaptConfig, num_joints: int = 17) -> PyTree:
  """An adapter that changes nothing yet: b = 0 and bias = 0, and so are deltas."""
  if config.tune in LOW_RANK:
    tuned = {"lora": lora.init(key, base, config.rank, config.target_rule, magnitudes=config.tune == "dora")}
  else:
    tuned = {"delta": tuning.init(base, config.tune)}
  return {**tuned, "bias": jnp.zeros((num_joints, 3))}


@functools.partial(jax.jit, static_argnames=("config", "num_frames"))
def init_state(key: Array, base: PyTree, config: AdaptConfig, num_frames: int = 0) -> AdaptState:
  """A fresh adapter with its optimizer state, and the same adapter as teacher; adversarial players need the clips' `num_frames`."""
  adapter = init_adapter(key, base, config)
  copy = jax.tree.map(jnp.copy, adapter)
  rate = config.adversarial_rate
  players = adversarial.init(jax.random.fold_in(key, labels.GENERATOR), num_frames, rate) if rate else ()
  return AdaptState(jnp.zeros((), jnp.int32), adapter, copy, make_optimizer(config).init(adapter), players)


def make_denoiser(
    model: nn.Module, base: PyTree, adapter: PyTree | None, scale: float, form: str = "merged"
) -> sampler.Denoiser:
  """P_theta of Eq. 11: the base with its low-rank update, plus the bias; the bare base for None.

  Forms of the same numbers: "merged" into the kernels once, to answer; "layerwise" (`lora.bind(frozen=True)`), to learn; and
  "factorised", whose products with the base's kernels are one for all members of a vmap over adapters.
  """
  if adapter is None:
    return lora.bind(model, base, None)
  if form == "merged" or "lora" not in adapter:
    denoise = lora.bind(model, merge(base, adapter, scale), None)
  else:
    denoise = lora.bind(model, base, adapter["lora"], scale, frozen=form == "layerwise")
  return lambda keypoints, noisy, t: denoise(keypoints, noisy, t) + adapter["bias"]


def merge(base: PyTree, adapter: PyTree, scale: float) -> PyTree:
  """The base with an adapter's low-rank update or its deltas; the bias of Eq. 11 is the caller's to add."""
  return tuning.add(lora.merge(base, adapter.get("lora", {}), scale), adapter.get("delta", {}))


def adapt_step(
    state: AdaptState, frozen: PyTree, batch: dict, seed_key: Array, *, model, config: AdaptConfig, rig, tx, chunk: int = 0,
    merge: bool = True,
):
  """One update of the adapter on this device's share of the batch (Algorithm 1, lines 4-20).

  `batch` holds as many clips under `source` (labelled; absent when source-free) as under `target` (unlabelled); `frozen` is the
  base. The teacher computes `chunk` hypotheses at once, 0: all; `merge=False` keeps adapters factorised, for a vmap over them.
  Both change memory and time, not results.
  """
  target = virtual_camera.look(batch["target"], config.view)[0] if config.view else batch["target"]
  num_clips = len(target["valid"])
  key_for = lambda purpose, n: parallel.clip_keys(parallel.purpose_key(seed_key, state.step, purpose), n)

  diagnostics, players, scalars = {}, state.players, {}
  first = 0  # of the target's own 2D among what the student sees
  if config.supervision == "ceiling":
    sets = [(target["keypoints"], skeleton.root_centre(target["poses"]), target["valid"])]
  else:
    label = pose = bones = None
    if config.looks:
      teacher = make_denoiser(model, frozen, state.teacher, config.scale, "merged" if merge else "factorised")
      label, pose, diagnostics = labels.pseudo_label(key_for(labels.TEACHER, num_clips), teacher, target, config, chunk)
      if config.proportions == "target":  # in the unrefined pose: refinement may have given it the source's bones
        bones = labels.seen_bones(pose, target)
    sets = []
    if config.source and config.adversarial_rate:
      source, keys = batch["source"], key_for(labels.GENERATOR, num_clips)
      _, absolute = see(key_for(labels.VIEW, num_clips), source, rig)
      how = config.adversarial_rate, config.adversarial_penalty, config.adversarial_share
      pairs, players, scalars = adversarial.play(players, keys, absolute, source["valid"], target, *how)
      sets.append((*pairs, source["valid"]))
    elif config.source:
      sets.append(labels.labelled_pairs(key_for, batch["source"], target, label, bones, config, rig))
    if config.pseudo:
      first = sum(len(keypoints) for keypoints, *_ in sets)
      sets.append((target["keypoints"], label, config.pseudo_weight * target["valid"]))
    if config.novel_views:
      sets.append((*labels.novel_views(key_for, pose, bones, target, config), config.novel_views * target["valid"]))
  keypoints, poses, weight = (jnp.concatenate(parts) for parts in zip(*sets, strict=True))
  student_keys = jnp.concatenate([key_for(p, len(part[0])) for p, part in zip(labels.STUDENTS, sets)])  # one noise a clip
  noise = jax.vmap(lambda key: jax.random.normal(key, poses.shape[1:]))(student_keys)
  x_t, t = _student_input(noise, poses, student_keys, config)
  weight = weight / jnp.maximum(jax.lax.psum(weight.sum(), parallel.AXIS), 1e-9)

  def loss_fn(adapter):
    denoise = make_denoiser(model, frozen, adapter, config.scale, "layerwise" if merge else "factorised")
    pred = denoise(keypoints, process.clamp(x_t), t)
    terms = {"pose": pose_loss(pred, poses, weight, config.loss)}
    if config.reprojection_weight and config.pseudo:
      terms["reprojection"] = config.reprojection_weight * reprojection_loss(pred[first : first + num_clips], target)
    return sum(terms.values()), terms

  grads, terms = jax.grad(loss_fn, has_aux=True)(state.adapter)
  grads, terms = jax.lax.psum((grads, terms), parallel.AXIS)
  diagnostics = jax.lax.pmean(diagnostics, parallel.AXIS)
  if not config.bias:
    grads = {**grads, "bias": jnp.zeros_like(grads["bias"])}
  updates, opt_state = tx.update(grads, state.opt_state, state.adapter)
  adapter = optax.apply_updates(state.adapter, updates)
  keep = config.teacher_ema
  teacher = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, state.teacher, adapter)
  metrics = {
      "loss": sum(terms.values()),
      **{f"loss_{name}": value for name, value in terms.items()},
      **{f"teacher_{name}": value for name, value in diagnostics.items()},
      **{f"loss_{name}": value for name, value in scalars.items()},
      "grad_norm": optax.global_norm(grads),
      "adapter_norm": optax.global_norm(adapter),
  }
  return AdaptState(state.step + 1, adapter, teacher, opt_state, players), metrics


def _student_input(noise, poses, keys, config: AdaptConfig):
  """(x_t, t): pure noise at t = T-1 (Algorithm 1, line 16), or the diffused label at a random t."""
  num_clips = len(poses)
  if config.student_input == "noise":
    return noise, jnp.full(num_clips, config.diffusion_steps - 1, jnp.int32)
  draw = lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, config.diffusion_steps)
  t = jax.vmap(draw)(keys)
  return process.q_sample(process.cosine_schedule(config.diffusion_steps), poses, t, noise), t


def reprojection_loss(pred: Float[Array, "b f j 3"], target: dict) -> Float[Array, ""]:
  """Confidence-weighted squared 2D error of predictions under their own solved roots, a share of the global mean."""
  rays = camera.rays(target["keypoints"], target["intrinsics"])
  roots = jax.lax.stop_gradient(camera.solve_root(pred, rays, target["confidence"]))
  seen = camera.project(pred + roots[..., None, :], target["intrinsics"])
  weight = target["confidence"] * target["valid"][..., None]
  total = jax.lax.psum(weight.sum(), parallel.AXIS)
  return (weight * ((seen - target["keypoints"]) ** 2).sum(-1)).sum() / jnp.maximum(total, 1e-9)
