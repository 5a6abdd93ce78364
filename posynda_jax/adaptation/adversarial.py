"""A learned generator of target poses in place of F: the adversarial baseline of the paper's Table 5, in the spirit of PoseAug.

    source clip, noise --G--> bone lengths, rotation, place --target's intrinsics--> 2D --critic--> like the target's, or not
                                                                          \\--> labelled pair --> student

G changes of a clip what stays one for the clip: the lengths of its bones, left as right, its rotation and its place before the
camera; it starts at none of these. The critic sees normalised keypoints alone, the target's as real. Both are least-squares (LSGAN),
and both learn at every step of the adaptation, from the same clips. The critic's slope at what it sees is penalised (zero-centred,
Mescheder et al., ICML 2018) and the generator learns slower than it (Heusel et al., NeurIPS 2017): without, the critic told all
apart in one start of four (docs/benchmark.md), and the generator has nothing to go by then. No target pose occurs here.
"""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from posynda_jax.adaptation import synthesis
from posynda_jax.geometry import camera, skeleton
from posynda_jax.runtime import parallel

_NOISE = 16
_BONES_SPREAD = 0.3  # bones may become longer or shorter by this, in their logarithm
_STEP = 0.1  # of the answer: Adam's first steps, all of one sign, would otherwise throw everybody to a bound
_MOVE_SPREAD = (1.0, 1.0, 1.5)  # the ray may move by this at depth 1 m, depth by this in its logarithm: further off nobody is in any image


class Generator(nn.Module):
  """Poses [b f 17 3] (m, camera frame), noise [b 16] and intrinsics [b 9] -> what to change of each clip, [b 23]; zero at first."""

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
  """Keypoints [b f 17 2], screen-normalised -> how real [b]: of the person relative to the root, and of the root."""

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


def _optimizer(rate: float) -> optax.GradientTransformation:
  return optax.adam(rate, b1=0.5)


@functools.partial(jax.jit, static_argnums=(1, 2))
def init(key: Array, num_frames: int, rate: float) -> Players:
  """Fresh players for clips of `num_frames`."""
  keys = jax.random.split(key)
  poses = jnp.ones((1, num_frames, len(skeleton.PARENTS), 3))
  generator = Generator().init(keys[0], poses, jnp.zeros((1, _NOISE)), jnp.zeros((1, 9)))
  critic = Critic().init(keys[1], poses[..., :2])
  return Players(generator, critic, _optimizer(rate).init(generator), _optimizer(rate).init(critic))  # states do not depend on the rate


def change(poses: Float[Array, "b f j 3"], answer: Float[Array, "b 23"]) -> Float[Array, "b f j 3"]:
  """Clips with other bones, turned about their mean root and moved: along the ray by exp(dz), and the ray by (dx, dy) at depth 1 m.

  Bones and moves are bounded: a generator that may put people beside the image gets no gradient back from there.
  """
  turn, move, bones = answer[:, :3], jnp.array(_MOVE_SPREAD) * jnp.tanh(answer[:, 3:6]), answer[:, 6:]
  poses = synthesis.resize(poses, jnp.exp(_BONES_SPREAD * jnp.tanh(bones))[:, None])
  angle = jnp.sqrt((turn**2).sum(-1, keepdims=True) + 1e-12)
  poses = synthesis.turn(poses, jnp.concatenate([jnp.cos(angle / 2), jnp.sin(angle / 2) * turn / angle], -1))
  root = poses[..., skeleton.ROOT, :].mean(1)
  depth = jnp.maximum(root[:, 2:], synthesis.NEAR_M)
  place = jnp.concatenate([root[:, :2] / depth + move[:, :2], jnp.ones_like(depth)], -1) * depth * jnp.exp(move[:, 2:])
  return synthesis.keep_before(poses + (place - root)[:, None, None])


def play(
    players: Players, keys: Array, poses: Float[Array, "b f j 3"], valid: Float[Array, "b f"], target: dict, rate: float, penalty: float, share: float
) -> tuple[tuple[Float[Array, "b f j 2"], Float[Array, "b f j 3"]], Players, dict[str, Array]]:
  """One turn of both players inside a parallel step. Returns the pairs (2D, root-relative labels), the players after it, scalars.

  Source clip i is seen with the intrinsics of target clip i; a clip without a valid frame counts for nobody. `penalty` weighs the
  squared norm of the critic's gradient by a clip's keypoints against its squared error; the critic learns at `rate`, the generator at `share` of it.
  """
  noise = jax.vmap(lambda key: jax.random.normal(key, (_NOISE,)))(keys)
  judge = lambda params, keypoints: Critic().apply(params, keypoints)
  mean = lambda scores, weight: (scores * weight).sum() / jnp.maximum(jax.lax.psum(weight.sum(), parallel.AXIS), 1e-9)
  ours, theirs = (x.any(-1).astype(jnp.float32) for x in (valid > 0, target["valid"] > 0))

  def generate(params):
    made = change(poses, Generator().apply(params, poses, noise, target["intrinsics"]))
    return camera.project(made, target["intrinsics"]), made

  def fool(params):
    keypoints, made = generate(params)
    return mean((judge(players.critic, keypoints) - 1) ** 2, ours), (keypoints, skeleton.root_centre(made))

  (fooled, pairs), generator_grads = jax.value_and_grad(fool, has_aux=True)(players.generator)
  pairs = jax.lax.stop_gradient(pairs)

  def tell(params):
    slope = jax.grad(lambda keypoints: judge(params, keypoints).sum())
    cost = lambda keypoints, real: (judge(params, keypoints) - real) ** 2 + penalty * (slope(keypoints) ** 2).sum((1, 2, 3))
    return mean(cost(target["keypoints"], 1.0), theirs) + mean(cost(pairs[0], 0.0), ours)

  told, critic_grads = jax.value_and_grad(tell)(players.critic)
  generator_grads, critic_grads, fooled, told = jax.lax.psum((generator_grads, critic_grads, fooled, told), parallel.AXIS)
  generator, generator_opt = _optimizer(share * rate).update(generator_grads, players.generator_opt)
  critic, critic_opt = _optimizer(rate).update(critic_grads, players.critic_opt)
  players = Players(
      optax.apply_updates(players.generator, generator), optax.apply_updates(players.critic, critic), generator_opt, critic_opt
  )
  return pairs, players, {"generator": fooled, "critic": told}
