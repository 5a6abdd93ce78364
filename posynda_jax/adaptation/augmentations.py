"""Augmentations of source clips: new poses, other bodies, hidden joints; each changes its own share of clips.

World motion is [b f j 3] in metres with Y up. Every clip draws from its own key, so a batch may lie on any number of
devices; `mix` needs clips 2i and 2i + 1 on one device.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.adaptation import placement
from posynda_jax.geometry import skeleton

TURNS_RAD = (0.15, 0.6, 1.6)  # deviations of a turn's angle, equally often
# Deviation of the logarithm of each bone's length, by its end joint. Hips, spine, neck, head and shoulders differ most,
# because laboratories and detectors place these joints differently. The left side follows the right one.
BONES = np.array([0, 0.25, 0.04, 0.04, 0, 0, 0, 0.12, 0.12, 0.15, 0.15, 0, 0, 0, 0.12, 0.06, 0.06], np.float32)
_LEG = np.array([2, 3])  # thigh and shin: together they keep their length, so a person keeps their size
_LOWER_BODY = np.array(skeleton.LEFT[:3] + skeleton.RIGHT[:3])
SIZE = 0.1  # deviation of the logarithm of a person's size
OFFSETS_M = np.zeros((17, 3), np.float32)  # standard deviation of a joint's offset: right, up the trunk, forward
OFFSETS_M[[1, 4, 7, 8, 9, 10]] = 0.02
_MIDDLE = np.array([7, 8, 9, 10])  # spine, thorax, neck and head stay in the middle
HIDDEN_JOINTS, HIDDEN_LEGS = 0.1, 0.2  # rates within a clip with hidden joints: of each joint, and of both legs


def turn(keys: Array, motion: Float[Array, "b f j 3"], share: float) -> Float[Array, "b f j 3"]:
  """Clips rotated about their mean root and a random axis, by TURNS_RAD, and put back to their lowest height."""

  def deviation(key):
    which_key, share_key = jax.random.split(key)
    which = jax.random.choice(which_key, jnp.array(TURNS_RAD))
    return jnp.where(jax.random.bernoulli(share_key, share), which, 0.0)

  turn_keys, deviation_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
  turned = placement.tumble(turn_keys, motion, jax.vmap(deviation)(deviation_keys))
  lifted = (motion[..., 1].min((1, 2)) - turned[..., 1].min((1, 2)))[:, None, None]
  return turned.at[..., 1].add(lifted)


def reproportion(keys: Array, motion: Float[Array, "b f j 3"], share: float) -> Float[Array, "b f j 3"]:
  """Clips of people with other bone lengths, by BONES, whose legs are as long as before."""

  def factor(key):
    bone_key, share_key = jax.random.split(key)
    change = BONES * jax.random.normal(bone_key, BONES.shape)
    change = change.at[_LEG].add(-change[_LEG].mean())
    return jnp.exp(jnp.where(jax.random.bernoulli(share_key, share), change, 0.0))

  return placement.resize(motion, jax.vmap(factor)(keys)[:, None])


def resize(keys: Array, motion: Float[Array, "b f j 3"], share: float) -> Float[Array, "b f j 3"]:
  """Clips of larger and smaller people, by SIZE: all lengths, the path and the height above the floor together."""

  def factor(key):
    size_key, share_key = jax.random.split(key)
    return jnp.exp(SIZE * jax.random.normal(size_key) * jax.random.bernoulli(share_key, share))

  return motion * jax.vmap(factor)(keys)[:, None, None, None]


def mix(keys: Array, motion: Float[Array, "b f j 3"], share: float) -> Float[Array, "b f j 3"]:
  """Clips whose trunk, arms and head are those of the neighbouring clip, turned about the vertical to face the same
  way. Clips 2i and 2i+1 are neighbours, so an even share of a batch is the same on any number of devices.
  """
  other = motion.reshape((-1, 2) + motion.shape[1:])[:, ::-1].reshape(motion.shape)
  other = skeleton.root_centre(other)
  half = (_heading(motion) - _heading(other)) / 2
  other = placement.turn(other, jnp.stack([jnp.cos(half), 0 * half, jnp.sin(half), 0 * half], -1))
  mixed = (motion[..., :1, :] + skeleton.root_centre(other)).at[..., _LOWER_BODY, :].set(motion[..., _LOWER_BODY, :])
  mixed = mixed.at[..., 0, :].set(motion[..., 0, :])
  chosen = jax.vmap(lambda key: jax.random.bernoulli(key, share))(keys)
  return jnp.where(chosen[:, None, None, None], mixed, motion)


def _heading(motion: Float[Array, "b f j 3"]) -> Float[Array, "b"]:
  """Angle (radians) about Y of a clip's mean vector from left to right hip."""
  across = (motion[..., 1, :] - motion[..., 4, :]).mean(1)
  return jnp.arctan2(-across[..., 2], across[..., 0])


def offset(keys: Array, motion: Float[Array, "b f j 3"], share: float) -> Float[Array, "b f j 3"]:
  """Clips whose hips, spine, thorax, neck and head lie elsewhere in the body, by OFFSETS_M: each laboratory and
  detector puts them at places of its own. Both hips move alike.
  """

  def draw(key):
    offset_key, share_key = jax.random.split(key)
    moved = OFFSETS_M * jax.random.normal(offset_key, OFFSETS_M.shape) * jax.random.bernoulli(share_key, share)
    return moved.at[_MIDDLE, 0].set(0.0).at[4].set(moved[1] * jnp.array([-1.0, 1.0, 1.0]))

  up = motion[..., 8, :] - motion[..., 0, :]
  up = up / jnp.maximum(jnp.linalg.norm(up, axis=-1, keepdims=True), 1e-6)
  right = motion[..., 1, :] - motion[..., 4, :]
  right = right - (right * up).sum(-1, keepdims=True) * up
  right = right / jnp.maximum(jnp.linalg.norm(right, axis=-1, keepdims=True), 1e-6)
  axes = jnp.stack([right, up, jnp.cross(up, right)], -2)  # b f axis 3
  return motion + jnp.einsum("bja,bfac->bfjc", jax.vmap(draw)(keys), axes)


def hide(keys: Array, confidence: Float[Array, "b f j"], share: float) -> Float[Array, "b f j"]:
  """Confidences with some joints of some clips at zero in all frames: each at a rate, and both legs at another."""

  def seen(key):
    joint_key, legs_key, share_key = jax.random.split(key, 3)
    hidden = jax.random.bernoulli(joint_key, HIDDEN_JOINTS, confidence.shape[2:])
    legs = jax.random.bernoulli(legs_key, HIDDEN_LEGS)
    hidden = hidden.at[_LOWER_BODY].set(hidden[_LOWER_BODY] | legs)
    return ~(hidden & jax.random.bernoulli(share_key, share))

  return confidence * jax.vmap(seen)(keys)[:, None]
