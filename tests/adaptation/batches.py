"""Small batches of clips, denoisers with known answers, and adaptation steps that are compiled once for all tests."""

import collections
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posynda_jax.adaptation import recipes, step
from posynda_jax.data import tracks
from posynda_jax.geometry import camera, skeleton
from posynda_jax.geometry.measured import Measured
from posynda_jax.runtime import parallel
from tests import scene

FRAMES = 3
BODY = np.asarray(skeleton.bone_lengths(scene.motion(1)[0]))  # of the person in `scene`, m
MEASURED = Measured(BODY)
TRACES = collections.Counter()  # how often each (recipe, number of devices, setting) was traced


def target_clips(poses) -> dict:
  """Target clips [b f ...] of people with absolute camera-frame poses [b f 17 3] (m), without the poses."""
  poses = np.asarray(poses, np.float32)
  intrinsics = np.tile(scene.INTRINSICS, (len(poses), 1))
  return {
      "keypoints": np.asarray(camera.project(poses, intrinsics)), "intrinsics": intrinsics,
      "confidence": np.ones(poses.shape[:3], np.float32), "valid": np.ones(poses.shape[:2], np.float32),
  }


def track(poses, **info) -> tracks.Track:
  """A labelled track of absolute camera-frame poses [T 17 3] (m)."""
  arrays = {name: value[0] for name, value in target_clips(poses[None]).items()}
  return tracks.Track(arrays | {"poses": np.asarray(poses, np.float32)}, info)


def clips(num: int, seed: int = 0, labelled: bool = False) -> dict:
  """Clips of swaying people; `labelled` ones have their absolute poses."""
  poses = scene.poses((num, FRAMES), seed)
  return target_clips(poses) | ({"poses": poses} if labelled else {})


def batch(num: int = 8, target_seed: int = 3) -> dict:
  """A batch for the step, without target poses."""
  return {"source": clips(num, 1, labelled=True), "target": clips(num, target_seed)}


def answering(keypoints, poses, spread: float = 0.0) -> Callable:
  """A denoiser that answers known keypoints [n f 17 2] with their poses [n f 17 3], plus `spread` times its noise."""

  def denoise(asked, noisy, t):
    which = ((asked[:, None] - jnp.asarray(keypoints)[None]) ** 2).sum((2, 3, 4)).argmin(1)
    return jnp.asarray(poses)[which] + spread * noisy

  return denoise


@functools.cache
def make_step(recipe: recipes.Recipe, num_devices: int, setting: step.Setting):
  """The compiled step of a recipe on a number of CPU devices."""

  def one(*arguments):
    TRACES[recipe, num_devices, setting] += 1
    return step.adapt_step(*arguments, recipe=recipe, setting=setting)

  return parallel.make_parallel_step(one, jax.local_devices()[:num_devices])


def run_steps(
    recipe: recipes.Recipe, num_steps: int = 1, data: dict | None = None, num_devices: int = 1, seed: int = 7,
    network: tuple | None = None, measured: Measured = MEASURED, state=None, at_once: int = 0,
):
  """(state, metrics of the last update) after some updates on one batch, from `state` or a fresh adapter. `network`:
  (model, variables).
  """
  model, base = network or scene.tiny_model(FRAMES)
  state = state or step.init_state(jax.random.key(0), base, recipe, FRAMES)
  setting = step.Setting(model, at_once=at_once)
  arguments = state, (base, measured), jax.random.key(seed)
  state, frozen, key = parallel.replicate(arguments, jax.local_devices()[:num_devices])
  data = parallel.shard(batch() if data is None else data, num_devices)
  for _ in range(num_steps):
    state, metrics = make_step(recipe, num_devices, setting)(state, frozen, data, key)
  return jax.device_get((state, metrics))


def gradients(state):
  """The gradients of a first update, from Adam's first moment, relative to the largest of all.

  Adam divides a gradient by its own size, so it turns the rounding of one that is zero into a whole step.
  """
  moment = optax.tree_utils.tree_get(state.opt_state, "mu")
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(moment))
  return jax.tree.map(lambda leaf: leaf / largest, moment)
