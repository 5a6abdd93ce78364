"""MixSTE as a diffusion denoiser: attention over joints and over frames in turn (Zhang et al. 2022; D3DP; PoSynDA 3.4).

The contract of every denoiser is `(keypoints, noisy, t) -> x_0`: what it knows of diffusion is one extra input and a time
embedding. It knows neither hypotheses nor adapters. Module names are the addresses that `posynda_jax.peft.lora` targets.

    keypoints [b f j 2] + noisy [b f j 3] -> embed + joint positions + time -> spatial_0 -> + frame positions -> temporal_0
        -> spatial_1 -> temporal_1 -> ... -> head [b f j 3]
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

NUM_COORDINATES = 3
_LINEAR = ("qkv", "proj", "mlp_in")  # what the backward pass of a rematerialised block keeps: outputs of its large products


class MixSTE(nn.Module):
  """Parameters are float32; `dtype` is the computation's. With `diffusion=False` it is the original 2D-to-3D lifter.

  `drop_path` is the rate of stochastic depth in the last depth (rising linearly from 0 in the first), used when called with
  `train=True` and an rng named `drop_path`. With `remat` the backward pass computes norms, GELU and attention of each block
  again instead of keeping them: the same numbers in about a third of the memory.
  """

  num_joints: int = 17
  num_frames: int = 243
  width: int = 512
  depth: int = 8
  num_heads: int = 8
  mlp_ratio: float = 2.0
  drop_path: float = 0.1
  diffusion: bool = True
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
      self,
      keypoints: Float[Array, "b f j 2"],
      noisy: Float[Array, "b f j 3"] | None = None,
      t: Int[Array, "b"] | None = None,
      *,
      train: bool = False,
  ) -> Float[Array, "b f j 3"]:
    spatial_norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="spatial_norm")  # one each, shared by all depths
    temporal_norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="temporal_norm")
    shape = keypoints.shape[:-1]  # b f j
    inputs = jnp.concatenate([keypoints, noisy], -1) if self.diffusion else keypoints
    x = nn.Dense(self.width, dtype=self.dtype, name="embed")(inputs)
    x = x + self._position("joint_position", self.num_joints)
    if self.diffusion:
      x = x + self._time(t)[:, None, None, :]
    x = x.reshape(-1, self.width)  # tokens: every layer but attention sees [(b f j) d], which XLA's CPU code likes best
    block_type = Block
    if self.remat:
      policy = jax.checkpoint_policies.save_only_these_names(*_LINEAR)
      block_type = nn.remat(Block, policy=policy, static_argnums=(2, 3))
    for i in range(self.depth):
      rate = self.drop_path * i / max(self.depth - 1, 1)
      block = lambda name, axis: block_type(self.num_heads, self.mlp_ratio, axis, rate, self.dtype, name=f"{name}_{i}")
      x = spatial_norm(self._see("spatial", i, block("spatial", 2)(x, shape, train)))
      if i == 0:
        frame_position = self._position("frame_position", self.num_frames)
        x = (x.reshape(shape + (-1,)) + frame_position[:, None]).reshape(x.shape)
      x = temporal_norm(self._see("temporal", i, block("temporal", 1)(x, shape, train)))
    x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="head_norm")(x)
    return nn.Dense(NUM_COORDINATES, dtype=self.dtype, name="head")(x).astype(jnp.float32).reshape(shape + (-1,))

  def _position(self, name: str, length: int) -> Array:
    return self.param(name, nn.initializers.zeros_init(), (length, self.width)).astype(self.dtype)

  def _time(self, t: Int[Array, "b"]) -> Float[Array, "b d"]:
    x = nn.Dense(2 * self.width, dtype=self.dtype, name="time_in")(time_sinusoid(t, self.width).astype(self.dtype))
    return nn.Dense(self.width, dtype=self.dtype, name="time_out")(gelu(x))

  def _see(self, kind: str, depth: int, x: Array) -> Array:
    """Leaves a block's output where `capture_intermediates` tests can find it."""
    self.sow("intermediates", f"{kind}_{depth}_out", x)
    return x


def time_sinusoid(t: Int[Array, "b"], width: int) -> Float[Array, "b d"]:
  """[sin(t f_i), cos(t f_i)] with f_i = 10000^(-i / (width/2 - 1))."""
  half = width // 2
  frequencies = np.exp(-np.arange(half) * (np.log(10000.0) / (half - 1))).astype(np.float32)
  angles = t.astype(jnp.float32)[:, None] * frequencies
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def gelu(x: Array) -> Array:
  """x (1 + erf(x / sqrt 2)) / 2, as PyTorch computes it; by erfc, as `jax.nn.gelu` does, XLA's CPU code takes two passes more."""
  return x * (0.5 + 0.5 * jax.lax.erf(x * np.float32(0.5**0.5).astype(x.dtype)))


class Block(nn.Module):
  """x + attention(norm1(x)), then x + mlp(norm2(x)), for tokens x [(b f j) d] of `shape` (b, f, j).

  Attention runs along `axis` of that shape: 2 is joints, 1 is frames.
  """

  num_heads: int
  mlp_ratio: float
  axis: int
  drop_path: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, "n d"], shape: tuple[int, int, int], train: bool) -> Float[Array, "n d"]:
    width = x.shape[-1]
    norm = lambda name: nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)
    y = Attention(self.num_heads, self.axis, self.dtype, name="attention")(norm("norm1")(x), shape)
    x = x + self._drop(y, shape, train)
    y = checkpoint_name(nn.Dense(int(width * self.mlp_ratio), dtype=self.dtype, name="mlp_in")(norm("norm2")(x)), "mlp_in")
    y = nn.Dense(width, dtype=self.dtype, name="mlp_out")(gelu(y))
    return x + self._drop(y, shape, train)

  def _drop(self, y: Array, shape: tuple[int, int, int], train: bool) -> Array:
    """Stochastic depth: drops the branch for a whole attention group (one frame, or one joint), as the reference."""
    if not train or self.drop_path == 0:
      return y
    group = tuple(1 if axis == self.axis else n for axis, n in enumerate(shape))
    keep = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.drop_path, group)
    return jnp.where(jnp.broadcast_to(keep, shape).reshape(-1, 1), y / (1 - self.drop_path), 0)


class Attention(nn.Module):
  """Multi-head self-attention along `axis` of `shape` for tokens x [(b f j) d]; qkv columns are q, k, v, then head."""

  num_heads: int
  axis: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, "n d"], shape: tuple[int, int, int]) -> Float[Array, "n d"]:
    width = x.shape[-1]
    qkv = checkpoint_name(nn.Dense(3 * width, dtype=self.dtype, name="qkv")(x), "qkv")
    qkv = qkv.reshape(shape + (3, self.num_heads, width // self.num_heads))
    order = (0, 1, 3, 2, 4) if self.axis == 2 else (0, 2, 3, 1, 4)  # heads and the other axis before the attended one
    q, k, v = (jnp.transpose(qkv[..., i, :, :], order) for i in range(3))
    out = jnp.transpose(attend(q, k, v), np.argsort(order)).reshape(x.shape)
    return checkpoint_name(nn.Dense(width, dtype=self.dtype, name="proj")(out), "proj")


def attend(q: Float[Array, "*b n c"], k: Float[Array, "*b n c"], v: Float[Array, "*b n c"]) -> Float[Array, "*b n c"]:
  """softmax(q k^T / sqrt(c)) v, softmax in float32.

  One flat batch axis before [n c]: XLA's CPU code is twice as fast on it as on an einsum that leaves the heads inside.
  """
  batch = q.shape[:-2]
  q, k, v = (a.reshape((-1,) + a.shape[-2:]) for a in (q * q.shape[-1] ** -0.5, k, v))
  scores = jnp.einsum("nqc,nkc->nqk", q, k, preferred_element_type=jnp.float32)
  out = jnp.einsum("nqk,nkc->nqc", jax.nn.softmax(scores).astype(v.dtype), v)
  return out.reshape(batch + out.shape[1:])
