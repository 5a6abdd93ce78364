"""Poses that nobody captured, and joints that nobody sees: changes of source clips, each with its own share of clips.

World motion is [b f j 3] in metres with Y up. Every clip draws from its own key, so a batch may lie on any number of
devices.
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
HIDDEN_JOINTS, HIDDEN_LEGS = 0.1, 0.2  # rates within a clip with hidden joints: of each joint, and of both legs


def turn(keys: Array, motion: Float[Array, "b f j 3"], share: float) -> Float[Array, "b f j 3"]:
  """Clips rotated about their mean root and a random axis, by angles of TURNS_RAD, and put back to their lowest
  height.
  """

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


def hide(keys: Array, confidence: Float[Array, "b f j"], share: float) -> Float[Array, "b f j"]:
  """Confidences with some joints of some clips at zero in all frames: each at a rate, and both legs at another."""

  def seen(key):
    joint_key, legs_key, share_key = jax.random.split(key, 3)
    hidden = jax.random.bernoulli(joint_key, HIDDEN_JOINTS, confidence.shape[2:])
    legs = jax.random.bernoulli(legs_key, HIDDEN_LEGS)
    hidden = hidden.at[_LOWER_BODY].set(hidden[_LOWER_BODY] | legs)
    return ~(hidden & jax.random.bernoulli(share_key, share))

  return confidence * jax.vmap(seen)(keys)[:, None]
