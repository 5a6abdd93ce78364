"""One update of diffusion training: the base theta_s learns the labelled source (Eq. 6-9), as D3DP trains its denoiser.

    world motion --augmentations--> --rig--> camera's 2D and poses --canonical camera--> channels --denoiser--> x_0

Augmentations are off unless the config names a share of clips, and the canonical camera is of bases that have one.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from posynda_jax.adaptation import augmentations
from posynda_jax.adaptation.bases import init_variables
from posynda_jax.adaptation.sources import render_source
from posynda_jax.diffusion import process
from posynda_jax.geometry import detector, rigs, skeleton, virtual_camera
from posynda_jax.geometry.measured import make, see
from posynda_jax.runtime import parallel

# Purposes of the step's keys.
_VIEW, _NOISE, _TIME, _FLIP, _DROP, _DROPOUT, _TURN, _PROPORTIONS, _HIDE, _MIX, _OFFSET, _SIZE = range(12)
MOTION_CHANGES = {  # share in PretrainConfig -> (change of world motion, purpose of its keys), in this order
    "mixed": (augmentations.mix, _MIX), "offset": (augmentations.offset, _OFFSET),
    "resized": (augmentations.resize, _SIZE), "turned": (augmentations.turn, _TURN),
    "reproportioned": (augmentations.reproportion, _PROPORTIONS),
}
MUON_LEAST = 32  # least size of both axes of a kernel that Muon trains
DOUBT_WEIGHT = 0.01  # of the doubt head's loss: it shares the bound on the gradient's norm with the base
LOSSES = ("mse", "mpjpe")
LR_DECAYS = ("cosine", "exponential")


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
  """Optimization of the base. Raises ValueError for an unknown decay or loss.

  `muon_rate`: peak rate of Muon for kernels of MUON_LEAST x MUON_LEAST and more; the rest is trained by AdamW at
  `learning_rate`. 0: AdamW trains all. `turned`, `reproportioned`, `hidden`, `mixed`, `offset`, `resized`: shares of
  clips that `augmentations` changes.
  `ema`: decay of the weight average that becomes the base; 0 keeps the last weights. `final_step_share`: share of
  clips trained at t = T-1, where inference with K = 1 happens. `diffusion_steps`, `noise_std`: of `process.Diffusion`.
  `detected_share`: share of rendered clips whose 2D gets a detector's errors; `detector`: whose, a name of
  `geometry.detector.ERRORS`.
  """

  learning_rate: float = 1.5e-3
  num_steps: int = 4000
  warmup_steps: int = 200
  decay: str = "cosine"
  weight_decay: float = 0.01
  clip_norm: float = 1.0
  ema: float = 0.995
  loss: str = "mpjpe"
  final_step_share: float = 0.5
  diffusion_steps: int = 1000
  noise_std: float = 1.0
  flip: bool = True
  detected_share: float = 0.0
  detector: str = "simulated"
  muon_rate: float = 0.0
  turned: float = 0.0
  reproportioned: float = 0.0
  hidden: float = 0.0
  mixed: float = 0.0
  offset: float = 0.0
  resized: float = 0.0

  def __post_init__(self):
    for name, choices in (("decay", LR_DECAYS), ("loss", LOSSES), ("detector", tuple(detector.ERRORS))):
      if getattr(self, name) not in choices:
        raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")


@flax.struct.dataclass
class PretrainState:
  """What a resumed run needs; `ema` is scored and saved as the base."""

  step: Array
  params: Any  # the model's variables: `params`, and `batch_stats` where it has batch norms
  ema: Any
  opt_state: Any


def make_optimizer(config: PretrainConfig) -> optax.GradientTransformation:
  """AdamW or Muon with gradient clipping under the configured schedule."""

  def schedule(peak):
    if config.decay == "cosine":
      warmup = min(config.warmup_steps, config.num_steps // 2)
      return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, config.num_steps)
    # The reference multiplies by 0.993 an epoch; a run counts as 100 epochs.
    return optax.exponential_decay(peak, max(config.num_steps // 100, 1), 0.993)

  if config.muon_rate:
    optimizer = optax.contrib.muon(
        schedule(config.muon_rate), weight_decay=config.weight_decay, adam_weight_decay=config.weight_decay,
        adam_learning_rate=schedule(config.learning_rate), muon_weight_dimension_numbers=muon_kernels,
    )
  else:
    optimizer = optax.adamw(schedule(config.learning_rate), weight_decay=config.weight_decay)
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)


def muon_kernels(params):
  """Which parameters Muon trains: optax's dimension numbers of a kernel, None for the others. A convolution's kernel
  [w i o] is a matrix of w i rows.
  """

  def numbers(path, leaf):
    rows = leaf.size // leaf.shape[-1] if leaf.ndim else 0
    if path[-1].key != "kernel" or min(rows, leaf.shape[-1]) < MUON_LEAST:
      return None
    return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

  return jax.tree_util.tree_map_with_path(numbers, params)


def init_state(key: Array, model: nn.Module, config: PretrainConfig) -> PretrainState:
  """A fresh base and the optimizer state of its `params`."""
  variables = init_variables(key, model)
  opt_state = make_optimizer(config).init({"params": variables["params"]})
  return PretrainState(jnp.zeros((), jnp.int32), variables, jax.tree.map(jnp.copy, variables), opt_state)


def pose_loss(pred, target, weight: Float[Array, "b f"], kind: str) -> Float[Array, ""]:
  """Weighted sum over frames of Eq. 9 (`mse`: over joints and coordinates) or of the mean joint distance (`mpjpe`)."""
  if kind == "mse":
    return (weight * ((pred - target) ** 2).mean((-2, -1))).sum()
  distance = jnp.sqrt(((pred - target) ** 2).sum(-1) + 1e-12)  # the norm has no gradient at zero
  return (weight * distance.mean(-1)).sum()


def doubt_loss(
    error: Float[Array, "b f j 3"], log_deviation: Float[Array, "b f j 2"]
) -> Float[Array, "b f"]:
  """Mean over joints of the negative log likelihood of an error (m), normal with the stated deviations (m) across the
  image (x, y) and along depth (z), without its constant. The root, which has no error, does not count.
  """
  scaled = error * jnp.exp(-log_deviation)[..., np.array([0, 0, 1])]
  return (0.5 * (scaled**2).sum(-1) + log_deviation @ jnp.array([2.0, 1.0]))[..., 1:].mean(-1)


def pretrain_step(
    state: PretrainState, frozen, batch: dict, seed_key: Array, *, model: nn.Module, config: PretrainConfig,
    rig: rigs.Rig | rigs.Mixture | None,
) -> tuple[PretrainState, dict[str, Array]]:
  """One update of the base on this device's share of the `source` clips, and its metrics. `frozen` is unused."""
  del frozen
  num_clips = len(batch["source"]["valid"])
  keys = [parallel.clip_keys(parallel.purpose_key(seed_key, state.step, p), num_clips) for p in range(_SIZE + 1)]
  source = dict(batch["source"])
  for name, (change, purpose) in MOTION_CHANGES.items():
    if share := getattr(config, name):
      source["motion"] = change(keys[purpose], source["motion"], share)
  source = render_source(keys[_VIEW], source, rig, config.detected_share, detector.ERRORS[config.detector])
  keypoints = source["keypoints"]
  if model.inputs == virtual_camera.CHANNELS:
    if config.hidden:
      source["confidence"] = augmentations.hide(keys[_HIDE], source["confidence"], config.hidden)
    source = see(source, make(view=virtual_camera.CANONICAL, inputs=model.inputs))
    keypoints = source["inputs"]
  x_0 = skeleton.root_centre(source["poses"])
  if config.flip:
    flipped = jax.vmap(jax.random.bernoulli)(keys[_FLIP])[:, None, None, None]
    keypoints = jnp.where(flipped, skeleton.flip(keypoints), keypoints)
    x_0 = jnp.where(flipped, skeleton.flip(x_0), x_0)
  t = jax.vmap(lambda key: _draw_time(key, config))(keys[_TIME])
  noise = config.noise_std * jax.vmap(lambda key: jax.random.normal(key, x_0.shape[1:]))(keys[_NOISE])
  x_t = process.clamp(process.q_sample(process.cosine_schedule(config.diffusion_steps), x_0, t, noise))
  has_doubt = getattr(model, "doubt", False)
  weight = source["valid"] / jnp.maximum(jax.lax.psum(source["valid"].sum(), parallel.AXIS), 1e-9)

  trained = {"params": state.params["params"]}
  statistics = {name: tree for name, tree in state.params.items() if name != "params"}  # of the whole batch
  rngs = {"drop_path": keys[_DROP][0], "dropout": parallel.purpose_key(seed_key, state.step, _DROPOUT)}

  def loss_fn(trained):
    variables = {**trained, **statistics}
    asked = {"with_doubt": True} if has_doubt else {}
    pred, moved = model.apply(variables, keypoints, x_t, t, train=True, rngs=rngs, mutable=list(statistics), **asked)
    pred, doubt = pred[..., :3], pred[..., 3:]
    loss = pose_loss(pred, x_0, weight, config.loss)
    if has_doubt:
      loss += DOUBT_WEIGHT * (weight * doubt_loss(jax.lax.stop_gradient(pred) - x_0, doubt)).sum()
    return loss, ((weight * jnp.linalg.norm(pred - x_0, axis=-1).mean(-1)).sum(), moved)

  (loss, (mpjpe, moved)), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained)
  loss, mpjpe, grads = jax.lax.psum((loss, mpjpe, grads), parallel.AXIS)
  updates, opt_state = make_optimizer(config).update(grads, state.opt_state, trained)
  params = {**optax.apply_updates(trained, updates), **moved}
  ema = jax.tree.map(lambda old, new: config.ema * old + (1 - config.ema) * new, state.ema, params)
  metrics = {"loss": loss, "train_mpjpe_mm": 1000 * mpjpe, "grad_norm": optax.global_norm(grads)}
  return PretrainState(state.step + 1, params, ema, opt_state), metrics


def _draw_time(key: Array, config: PretrainConfig) -> Array:
  """t = T-1 with probability `final_step_share`, else uniform."""
  share_key, time_key = jax.random.split(key)
  last = jax.random.bernoulli(share_key, config.final_step_share)
  uniform = jax.random.randint(time_key, (), 0, config.diffusion_steps)
  return jnp.where(last, config.diffusion_steps - 1, uniform)
