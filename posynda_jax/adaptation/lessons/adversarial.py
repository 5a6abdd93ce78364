"""A learned generator of target poses in place of F: the adversarial baseline of the paper's Table 5, after PoseAug.

    source clip, noise --generator--> bone lengths, rotation, place --target intrinsics--> 2D --critic--> score
                                                                                     \\--> labelled clip --> student

Both losses are least-squares (LSGAN); both players learn at every update of the adaptation. The critic's gradient
with respect to its input is penalised (zero-centred, Mescheder et al., ICML 2018), and the generator has a lower rate
(Heusel et al., NeurIPS 2017). Without these one start in four ended with a perfect critic, whose generator gets no
gradient (docs/tables.md). No target pose is read.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from posynda_jax.adaptation import placement
from posynda_jax.adaptation.lessons.labelled import Labelled, Lesson, Purpose
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.geometry import camera, skeleton
from posynda_jax.runtime import parallel

_NOISE = 16
_BONES_SPREAD = 0.3  # largest change of a bone's length, in its logarithm
_STEP = 0.1  # factor on the generator's output, because Adam's first updates would drive all outputs to a bound
_MOVE_SPREAD = (1.0, 1.0, 1.5)  # largest move of the ray at depth 1 m, and of depth in its logarithm


class Generator(nn.Module):
  """Changes [b 23] of clips from absolute poses [b f 17 3] (m), noise [b 16], intrinsics [b 9]; zero at first."""

  width: int = 256

  @nn.compact
  def __call__(self, poses, noise, intrinsics):
    middle = skeleton.root_centre(poses)[:, poses.shape[1] // 2].reshape(len(poses), -1)
    root = poses[..., skeleton.ROOT, :].mean(1)
    x = jnp.concatenate([middle, root, noise, intrinsics[:, :4]], -1)
    for i in range(3):
      x = nn.leaky_relu(nn.Dense(self.width, name=f"hidden_{i}")(x), 0.2)
    return _STEP * nn.Dense(3 + 3 + len(skeleton.PARENTS), kernel_init=nn.initializers.zeros, name="head")(x)


class Critic(nn.Module):
  """Score [b] of screen-normalised keypoints [b f 17 2]: 1 for the target's, 0 for the generator's."""

  width: int = 256

  @nn.compact
  def __call__(self, keypoints):
    root = keypoints[..., skeleton.ROOT, :]
    x = jnp.concatenate([part.reshape(len(keypoints), -1) for part in (keypoints - root[..., None, :], root)], -1)
    for i in range(3):
      x = nn.leaky_relu(nn.Dense(self.width, name=f"hidden_{i}")(x), 0.2)
    return nn.Dense(1, name="head")(x)[..., 0]


@flax.struct.dataclass
class Players:
  """Parameters and optimizer states of generator and critic."""

  generator: PyTree
  critic: PyTree
  generator_opt: Any
  critic_opt: Any


def change(poses: Float[Array, "b f j 3"], answer: Float[Array, "b 23"]) -> Float[Array, "b f j 3"]:
  """Clips with other bones, rotated about their mean root and moved: the ray by (dx, dy) at depth 1 m, the depth by
  exp(dz).

  Bones and moves are bounded, because a generator that moves people out of the image gets no gradient there.
  """
  rotation, move, bones = answer[:, :3], jnp.array(_MOVE_SPREAD) * jnp.tanh(answer[:, 3:6]), answer[:, 6:]
  poses = placement.resize(poses, jnp.exp(_BONES_SPREAD * jnp.tanh(bones))[:, None])
  angle = jnp.sqrt((rotation**2).sum(-1, keepdims=True) + 1e-12)
  poses = placement.turn(poses, jnp.concatenate([jnp.cos(angle / 2), jnp.sin(angle / 2) * rotation / angle], -1))
  root = poses[..., skeleton.ROOT, :].mean(1)
  depth = jnp.maximum(root[:, 2:], placement.NEAR_M)
  ray = jnp.concatenate([root[:, :2] / depth + move[:, :2], jnp.ones_like(depth)], -1)
  return placement.keep_in_front(poses + (ray * depth * jnp.exp(move[:, 2:]) - root)[:, None, None])


@dataclasses.dataclass(frozen=True)
class Adversarial(Lesson):
  """A generator that learns with the student, at `generator_share` of the critic's Adam `rate`.

  `penalty` weighs the squared norm of the critic's gradient with respect to a clip's keypoints.
  """

  rate: float = 1e-3
  penalty: float = 1.0
  generator_share: float = 0.25
  needs_source = True

  def init(self, key: Array, num_frames: int) -> Players:
    """Fresh players for clips of `num_frames`."""
    keys = jax.random.split(key)
    poses = jnp.ones((1, num_frames, len(skeleton.PARENTS), 3))
    generator = Generator().init(keys[0], poses, jnp.zeros((1, _NOISE)), jnp.zeros((1, 9)))
    critic = Critic().init(keys[1], poses[..., :2])
    tx = _optimizer(self.rate)  # the state does not depend on the rate
    return Players(generator, critic, tx.init(generator), tx.init(critic))

  def __call__(self, keys, clips: dict, teacher: Teacher, players: Players) -> Labelled:
    source, target = clips["source"], clips["target"]
    poses = source["poses"]
    noise = jax.vmap(lambda key: jax.random.normal(key, (_NOISE,)))(keys(Purpose.GENERATOR, len(poses)))
    made_weight, real_weight = ((clip["valid"] > 0).any(-1).astype(jnp.float32) for clip in (source, target))

    def generator_loss(params):
      made = change(poses, Generator().apply(params, poses, noise, target["intrinsics"]))
      keypoints = camera.project(made, target["intrinsics"])
      score = Critic().apply(players.critic, keypoints)
      return _mean((score - 1) ** 2, made_weight), (keypoints, skeleton.root_centre(made))

    (generated, labelled), generator_grads = jax.value_and_grad(generator_loss, has_aux=True)(players.generator)
    keypoints, labels = jax.lax.stop_gradient(labelled)

    def critic_cost(params, keypoints, wanted):
      slope = jax.grad(lambda keypoints: Critic().apply(params, keypoints).sum())(keypoints)
      return (Critic().apply(params, keypoints) - wanted) ** 2 + self.penalty * (slope**2).sum((1, 2, 3))

    def critic_loss(params):
      real = _mean(critic_cost(params, target["keypoints"], 1.0), real_weight)
      return real + _mean(critic_cost(params, keypoints, 0.0), made_weight)

    judged, critic_grads = jax.value_and_grad(critic_loss)(players.critic)
    summed = jax.lax.psum((generator_grads, critic_grads, generated, judged), parallel.AXIS)
    generator_grads, critic_grads, generated, judged = summed
    updates, generator_opt = _optimizer(self.generator_share * self.rate).update(generator_grads, players.generator_opt)
    generator = optax.apply_updates(players.generator, updates)
    updates, critic_opt = _optimizer(self.rate).update(critic_grads, players.critic_opt)
    critic = optax.apply_updates(players.critic, updates)
    after = Players(generator, critic, generator_opt, critic_opt)
    losses = {"loss_generator": generated, "loss_critic": judged}
    return Labelled(keypoints, labels, source["valid"], memory=after, metrics=losses)


def _optimizer(rate: float) -> optax.GradientTransformation:
  return optax.adam(rate, b1=0.5)


def _mean(scores: Float[Array, "b"], weight: Float[Array, "b"]) -> Float[Array, ""]:
  """This device's share of the weighted mean over the clips of all devices."""
  return (scores * weight).sum() / jnp.maximum(jax.lax.psum(weight.sum(), parallel.AXIS), 1e-9)
