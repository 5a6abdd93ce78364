"""Supervised diffusion training of the base theta_s on the labelled source (Eq. 6-9), as D3DP trains its denoiser.

Batches are source clips: either labelled views, or world motion that a virtual rig sees afresh at every step.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from posynda_jax.diffusion import process
from posynda_jax.geometry import camera, rigs, skeleton
from posynda_jax.runtime import parallel

_VIEW, _NOISE, _TIME, _FLIP, _DROP, _DROPOUT = range(6)  # purposes of the step's keys
LOSSES = ("mse", "mpjpe")


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
  """Optimization of the base: AdamW, warm-up, cosine or exponential decay, EMA (0 turns it off)."""

  learning_rate: float = 1.5e-3
  num_steps: int = 4000
  warmup_steps: int = 200
  decay: str = "cosine"
  weight_decay: float = 0.01
  clip_norm: float = 1.0
  ema: float = 0.995
  loss: str = "mpjpe"
  final_step_share: float = 0.5  # of the clips, trained at t = T-1, where inference with K = 1 happens
  diffusion_steps: int = 1000
  flip: bool = True
  detected_share: float = 0.0  # of the clips, whose keypoints are as a detector would give them (`rigs.detect`)


@flax.struct.dataclass
class PretrainState:
  """Everything a resumed run needs; `ema` is what is evaluated and saved as the base."""

  step: Array
  params: Any  # the model's variables: `params`, and `batch_stats` where it has batch norms
  ema: Any
  opt_state: Any


def make_optimizer(config: PretrainConfig) -> optax.GradientTransformation:
  """AdamW with gradient clipping under the configured schedule. Raises ValueError for an unknown decay."""
  if config.decay == "cosine":
    warmup = min(config.warmup_steps, config.num_steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, config.num_steps)
  elif config.decay == "exponential":  # the reference's habit: x 0.993 an epoch, here 100 times over the run
    rate = optax.exponential_decay(config.learning_rate, max(config.num_steps // 100, 1), 0.993)
  else:
    raise ValueError(f"decay {config.decay!r} is unknown; choose cosine or exponential")
  adamw = optax.adamw(rate, weight_decay=config.weight_decay)
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def init_state(key: Array, model: nn.Module, config: PretrainConfig) -> PretrainState:
  """A fresh base and the optimizer state of its `params`."""
  shape = (1, model.num_frames, model.num_joints)
  params = jax.jit(model.init)(key, jnp.zeros(shape + (2,)), jnp.zeros(shape + (3,)), jnp.zeros(1, jnp.int32))
  params = {name: params[name] for name in ("params", "batch_stats") if name in params}
  copy = jax.tree.map(jnp.copy, params)
  return PretrainState(jnp.zeros((), jnp.int32), params, copy, make_optimizer(config).init({"params": params["params"]}))


def pose_loss(pred, target, weight: Float[Array, "b f"], kind: str) -> Float[Array, ""]:
  """Weighted sum over frames of Eq. 9: mean square error over joints and coordinates, or mean joint distance."""
  if kind == "mse":
    error = ((pred - target) ** 2).mean((-2, -1))
  elif kind == "mpjpe":
    error = jnp.sqrt(((pred - target) ** 2).sum(-1) + 1e-12).mean(-1)  # the norm has no gradient at zero
  else:
    raise ValueError(f"loss {kind!r} is unknown; choose one of {', '.join(LOSSES)}")
  return (weight * error).sum()


def see(
    keys: Array, batch: dict, rig: rigs.Rig | rigs.Mixture | None, detected_share: float = 0.0
) -> tuple[Float[Array, "b f j 2"], Float[Array, "b f j 3"]]:
  """Keypoints (screen-normalised) and absolute camera-frame poses of source clips, drawn afresh for world motion.

  In `detected_share` of the clips of world motion the keypoints have a detector's errors.
  """
  if "motion" not in batch:
    return batch["keypoints"], batch["poses"]
  view = jax.vmap(lambda key, motion: rigs.draw_view(key, motion, rig))(keys, batch["motion"])
  keypoints_px = view.keypoints_px
  if detected_share:
    detect_keys, share_keys = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(2))
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, detected_share))(share_keys)
    detected, _ = jax.vmap(rigs.detect)(detect_keys, keypoints_px)
    keypoints_px = jnp.where(chosen[:, None, None, None], detected, keypoints_px)
  return camera.normalise_screen(keypoints_px, view.resolution), view.poses_camera


def pretrain_step(state: PretrainState, frozen, batch, seed_key, *, model, config: PretrainConfig, rig, tx):
  """One update of the base on this device's share of the batch. `frozen` is unused: the base has nothing frozen."""
  del frozen
  source = batch["source"]
  num_clips = len(source["valid"])
  keys = [parallel.clip_keys(parallel.purpose_key(seed_key, state.step, p), num_clips) for p in range(5)]
  keypoints, poses = see(keys[_VIEW], source, rig, config.detected_share)
  x_0 = skeleton.root_centre(poses)
  if config.flip:
    flipped = jax.vmap(jax.random.bernoulli)(keys[_FLIP])[:, None, None, None]
    keypoints = jnp.where(flipped, skeleton.flip(keypoints), keypoints)
    x_0 = jnp.where(flipped, skeleton.flip(x_0), x_0)
  t = jax.vmap(lambda key: _draw_time(key, config))(keys[_TIME])
  noise = jax.vmap(lambda key: jax.random.normal(key, x_0.shape[1:]))(keys[_NOISE])
  schedule = process.cosine_schedule(config.diffusion_steps)
  x_t = process.clamp(process.q_sample(schedule, x_0, t, noise))
  weight = source["valid"] / jnp.maximum(jax.lax.psum(source["valid"].sum(), parallel.AXIS), 1e-9)

  trained = {"params": state.params["params"]}
  statistics = {name: tree for name, tree in state.params.items() if name != "params"}  # those of the whole batch, on every device
  rngs = {"drop_path": keys[_DROP][0], "dropout": parallel.purpose_key(seed_key, state.step, _DROPOUT)}

  def loss_fn(trained):
    variables = {**trained, **statistics}
    pred, moved = model.apply(variables, keypoints, x_t, t, train=True, rngs=rngs, mutable=list(statistics))
    loss = pose_loss(pred, x_0, weight, config.loss)
    return loss, ((weight * jnp.linalg.norm(pred - x_0, axis=-1).mean(-1)).sum(), moved)

  (loss, (mpjpe, moved)), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained)
  loss, mpjpe, grads = jax.lax.psum((loss, mpjpe, grads), parallel.AXIS)
  updates, opt_state = tx.update(grads, state.opt_state, trained)
  params = {**optax.apply_updates(trained, updates), **moved}
  ema = jax.tree.map(lambda old, new: config.ema * old + (1 - config.ema) * new, state.ema, params)
  metrics = {"loss": loss, "train_mpjpe_mm": 1000 * mpjpe, "grad_norm": optax.global_norm(grads)}
  return PretrainState(state.step + 1, params, ema, opt_state), metrics


def _draw_time(key: Array, config: PretrainConfig) -> Array:
  """t = T-1 for the configured share of clips, uniform otherwise."""
  share_key, time_key = jax.random.split(key)
  last = jax.random.bernoulli(share_key, config.final_step_share)
  uniform = jax.random.randint(time_key, (), 0, config.diffusion_steps)
  return jnp.where(last, config.diffusion_steps - 1, uniform)
