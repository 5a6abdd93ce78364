"""One update (Algorithm 1): the base stays frozen, an adapter is trained, and labels come from the lessons.

    target 2D --teacher (H noise samples)--> answers --+
                                                       +--> lessons --> labelled clips --> student (H = 1) --> loss
    source clips --------------------------------------+

Lessons also read target 2D and intrinsics directly. Only the adapter is differentiated. The base enters the compiled
step as an argument, with what was measured of the source.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from posynda_jax.adaptation import adapters
from posynda_jax.adaptation.lessons.labelled import Labelled, Purpose, student_purpose
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.adaptation.sources import render_source
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.diffusion import process
from posynda_jax.geometry import rigs, virtual_camera
from posynda_jax.geometry.measured import Measured, see
from posynda_jax.runtime import parallel


@flax.struct.dataclass
class AdaptState:
  """What a resumed run needs. No leaf belongs to the base; the teacher uses `adapter` from before the update."""

  step: Array
  adapter: PyTree
  opt_state: Any
  memory: tuple = ()  # of each lesson: (what it learnt,) or ()


@dataclasses.dataclass(frozen=True)
class Setting:
  """What is compiled into the step beside the recipe.

  `rig`: renders source clips of world motion; None for recorded views. `chunk`: hypotheses computed at once, and
  `at_once`: the student's clips whose gradient is computed at once; 0 is all. `merge=False` does not add the LoRA
  product to the base's kernels; a sweep needs this. These three change memory and time only.
  """

  model: nn.Module
  diffusion: process.Diffusion = process.Diffusion()
  rig: rigs.Rig | rigs.Mixture | None = None
  chunk: int = 0
  at_once: int = 0
  merge: bool = True


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
  """Adam at the recipe's rate, constant or with cosine decay to zero over its updates."""
  rate = optax.cosine_decay_schedule(recipe.rate, recipe.updates) if recipe.decay == "cosine" else recipe.rate
  return optax.adam(rate)


@functools.partial(jax.jit, static_argnames=("recipe", "num_frames"))
def init_state(key: Array, base: PyTree, recipe: Recipe, num_frames: int) -> AdaptState:
  """A fresh adapter with its optimizer state, and the memory of lessons that learn, for clips of `num_frames`."""
  adapter = adapters.init(key, base, recipe.adapter)
  lesson_key = jax.random.fold_in(key, Purpose.GENERATOR)
  memory = tuple((it.init(lesson_key, num_frames),) if hasattr(it, "init") else () for it in recipe.lessons)
  return AdaptState(jnp.zeros((), jnp.int32), adapter, make_optimizer(recipe).init(adapter), memory)


def adapt_step(
    state: AdaptState, frozen: tuple[PyTree, Measured], batch: dict, seed_key: Array, *, recipe: Recipe,
    setting: Setting,
) -> tuple[AdaptState, dict[str, Array]]:
  """One update of the adapter on this device's share of the batch (Algorithm 1, lines 4-20), and its metrics.

  `frozen`: the base's variables, and what was measured of the source. `batch`: `target` clips and, unless the recipe is
  source-free, as many `source` clips.
  """
  base, measured = frozen

  def keys(purpose, num_clips):
    return parallel.clip_keys(parallel.purpose_key(seed_key, state.step, purpose), num_clips)

  clips, num_clips = {"target": see(batch["target"], measured)}, len(batch["target"]["valid"])
  if recipe.needs_source:
    clips["source"] = render_source(keys(Purpose.RENDER_SOURCE, num_clips), batch["source"], setting.rig)
    if measured.is_canonical:
      clips["source"] = see(clips["source"], measured)

  make_denoiser = functools.partial(adapters.make_denoiser, setting.model, base, scale=recipe.adapter.scale)
  taught_by = jax.tree.map(jnp.zeros_like, state.adapter) if recipe.frozen_teacher else state.adapter
  teacher = Teacher(
      make_denoiser(taught_by, form="merged" if setting.merge else "factorised"), clips["target"],
      keys(Purpose.TEACHER, num_clips), measured.body,
      process.ddim_steps(setting.diffusion.schedule, recipe.sampling_steps),
      recipe.num_hypotheses, setting.chunk,
  )
  learnt = [lesson(keys, clips, teacher, *memory) for lesson, memory in zip(recipe.lessons, state.memory, strict=True)]
  asked = [student_clips(labelled, clips["target"], measured) for labelled in learnt]
  inputs, poses, weight = (jnp.concatenate(parts) for parts in zip(*asked, strict=True))
  weight = weight / jnp.maximum(jax.lax.psum(weight.sum(), parallel.AXIS), 1e-9)

  # One key for each of the student's clips.
  student_keys = jnp.concatenate([keys(student_purpose(i), len(it.weight)) for i, it in enumerate(learnt)])
  noise = setting.diffusion.noise_std * jax.vmap(lambda key: jax.random.normal(key, poses.shape[1:]))(student_keys)
  t = jnp.full(len(poses), setting.diffusion.num_steps - 1, jnp.int32)  # pure noise at T-1 (line 16)

  def loss_fn(adapter, inputs, noise, t, poses, weight):
    denoise = make_denoiser(adapter, form="layerwise" if setting.merge else "factorised")
    error = ((denoise(inputs, process.clamp(noise), t) - poses) ** 2).mean((-2, -1))  # Eq. 9, b f
    return (weight * error).sum()

  of_student = (inputs, noise, t, poses, weight)
  loss, grads = jax.lax.psum(summed_gradient(loss_fn, state.adapter, of_student, setting.at_once), parallel.AXIS)
  if not recipe.adapter.bias:
    grads = {**grads, "bias": jnp.zeros_like(grads["bias"])}
  updates, opt_state = make_optimizer(recipe).update(grads, state.opt_state, state.adapter)
  adapter = optax.apply_updates(state.adapter, updates)
  metrics = {"loss": loss, "grad_norm": optax.global_norm(grads), "adapter_norm": optax.global_norm(adapter)}
  metrics |= jax.lax.pmean(teacher.metrics, parallel.AXIS)
  for labelled in learnt:
    metrics |= labelled.metrics
  memory = tuple(() if labelled.memory is None else (labelled.memory,) for labelled in learnt)
  return AdaptState(state.step + 1, adapter, opt_state, memory), metrics


def summed_gradient(
    loss_fn: Callable, params: PyTree, clips: tuple[Array, ...], at_once: int = 0
) -> tuple[Array, PyTree]:
  """(value, gradient) of `loss_fn(params, *clips)`, a sum over the leading axis of arrays that is zero for clips of
  zeros. The gradient is accumulated over parts of `at_once` clips, to bound the memory of activations; 0 takes all.
  """
  value_and_grad = jax.value_and_grad(loss_fn)
  num_clips = len(clips[0])
  if not 0 < at_once < num_clips:
    return value_and_grad(params, *clips)
  missing = -num_clips % at_once
  parts = jax.tree.map(
      lambda x: jnp.concatenate([x, jnp.zeros_like(x[:missing])]).reshape(-1, at_once, *x.shape[1:]), clips)
  nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(value_and_grad, params, *clips))

  def add(total, part):
    return jax.tree.map(jnp.add, total, value_and_grad(params, *part)), None

  return jax.lax.scan(add, nothing, parts)[0]


def student_clips(labelled: Labelled, target: dict, measured: Measured) -> tuple[Array, Array, Array]:
  """(inputs, root-relative poses, weight) of labelled clips; for a canonical camera rendered again, as people moved."""
  if not measured.is_canonical:
    return labelled.keypoints, labelled.poses, labelled.weight
  clip = labelled.clip or {**target, "confidence": jnp.ones_like(target["confidence"])}
  clip = {**clip, "keypoints": labelled.keypoints, "poses": labelled.poses, "valid": labelled.weight}
  rendered, turned = virtual_camera.render_clip(clip, measured.view)
  rotation = virtual_camera.product(turned, clip["rotation"])
  return virtual_camera.channels(rendered, rotation), rendered["poses"], labelled.weight
