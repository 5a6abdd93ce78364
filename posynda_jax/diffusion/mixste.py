"""MixSTE as a diffusion denoiser: attention over joints and over frames in turn (Zhang et al. 2022; D3DP; PoSynDA 3.4).

The noisy pose is an extra input, and t is embedded. Module names are the paths that adapters use.

    keypoints [b f j 2] + noisy [b f j 3] -> embed + joint positions + time -> spatial_0 -> + frame positions
        -> temporal_0 -> spatial_1 -> temporal_1 -> ... -> head [b f j 3]
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

USUAL_ERROR = 0.05  # metres: the standard deviation that an untrained doubt head states
_KEPT = ("qkv", "proj", "mlp_in")  # outputs of large products, kept for the backward pass of a rematerialised block


class MixSTE(nn.Module):
  """The denoiser: float32 parameters, computation in `dtype`. `diffusion=False` is the original 2D-to-3D lifter.

  `drop_path` is the rate of stochastic depth. It rises linearly from 0 in the first depth, and applies with
  `train=True` and an rng named `drop_path`. With `remat` the backward pass computes norms, GELU and attention again
  instead of keeping them: the same numbers in about a third of the memory. `doubt` adds a second head, which is asked
  by `with_doubt`; the network in front of it does not learn from it.
  """

  num_joints: int = 17
  num_frames: int = 243
  width: int = 512
  depth: int = 8
  num_heads: int = 8
  mlp_ratio: float = 2.0
  drop_path: float = 0.1
  diffusion: bool = True
  inputs: int = 2  # channels of the 2D input: keypoints, or 5 of `virtual_camera.channels`
  remat: bool = False
  doubt: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
      self, keypoints: Float[Array, "b f j i"], noisy: Float[Array, "b f j 3"] | None = None,
      t: Int[Array, "b"] | None = None, *, train: bool = False, with_doubt: bool = False,
  ) -> Float[Array, "b f j c"]:
    """x_0 (m), c = 3. `with_doubt` adds the logarithm of its error's deviations (m) across the image and in depth."""
    spatial_norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="spatial_norm")  # all depths share it
    temporal_norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="temporal_norm")
    shape = keypoints.shape[:-1]  # b f j
    inputs = jnp.concatenate([keypoints, noisy], -1) if self.diffusion else keypoints
    x = nn.Dense(self.width, dtype=self.dtype, name="embed")(inputs)
    x = x + self._position("joint_position", self.num_joints)
    if self.diffusion:
      x = x + self._time(t)[:, None, None, :]
    x = x.reshape(-1, self.width)  # tokens [(b f j) d], the fastest layout on CPU for all layers but attention
    block_type = Block
    if self.remat:
      policy = jax.checkpoint_policies.save_only_these_names(*_KEPT)
      block_type = nn.remat(Block, policy=policy, static_argnums=(2, 3))
    for i in range(self.depth):
      rate = self.drop_path * i / max(self.depth - 1, 1)
      spatial, temporal = (
          block_type(self.num_heads, self.mlp_ratio, axis, rate, self.dtype, name=f"{kind}_{i}")
          for kind, axis in (("spatial", 2), ("temporal", 1))
      )
      x = spatial_norm(spatial(x, shape, train))
      if i == 0:
        frame_position = self._position("frame_position", self.num_frames)
        x = (x.reshape(shape + (-1,)) + frame_position[:, None]).reshape(x.shape)
      x = temporal_norm(temporal(x, shape, train))
    x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="head_norm")(x)
    pose = nn.Dense(3, dtype=self.dtype, name="head")(x).astype(jnp.float32).reshape(shape + (-1,))
    if not self.doubt:
      return pose
    doubt = nn.Dense(2, dtype=jnp.float32, name="doubt")(jax.lax.stop_gradient(x)).reshape(shape + (-1,))
    return jnp.concatenate([pose, doubt + np.log(USUAL_ERROR)], -1) if with_doubt else pose

  def _position(self, name: str, length: int) -> Array:
    return self.param(name, nn.initializers.zeros_init(), (length, self.width)).astype(self.dtype)

  def _time(self, t: Int[Array, "b"]) -> Float[Array, "b d"]:
    x = nn.Dense(2 * self.width, dtype=self.dtype, name="time_in")(time_sinusoid(t, self.width).astype(self.dtype))
    return nn.Dense(self.width, dtype=self.dtype, name="time_out")(gelu(x))


def time_sinusoid(t: Int[Array, "b"], width: int) -> Float[Array, "b d"]:
  """[sin(t f_i), cos(t f_i)] with f_i = 10000^(-i / (width/2 - 1))."""
  half = width // 2
  frequencies = np.exp(-np.arange(half) * (np.log(10000.0) / (half - 1))).astype(np.float32)
  angles = t.astype(jnp.float32)[:, None] * frequencies
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def gelu(x: Array) -> Array:
  """x (1 + erf(x / sqrt 2)) / 2, as in PyTorch. The erfc of `jax.nn.gelu` takes two more passes on CPU."""
  return x * (0.5 + 0.5 * jax.lax.erf(x * np.float32(0.5**0.5).astype(x.dtype)))


class Block(nn.Module):
  """x + attention(norm1(x)), then x + mlp(norm2(x)), for tokens x [(b f j) d] of `shape` (b, f, j).

  Attention runs along `axis` of `shape`: 2 is joints, 1 is frames.
  """

  num_heads: int
  mlp_ratio: float
  axis: int
  drop_path: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, "n d"], shape: tuple[int, int, int], train: bool) -> Float[Array, "n d"]:
    width = x.shape[-1]
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm1")(x)
    y = Attention(self.num_heads, self.axis, self.dtype, name="attention")(y, shape)
    x = x + self._drop(y, shape, train)
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm2")(x)
    y = checkpoint_name(nn.Dense(int(width * self.mlp_ratio), dtype=self.dtype, name="mlp_in")(y), "mlp_in")
    y = nn.Dense(width, dtype=self.dtype, name="mlp_out")(gelu(y))
    return x + self._drop(y, shape, train)

  def _drop(self, y: Array, shape: tuple[int, int, int], train: bool) -> Array:
    """Stochastic depth: y with whole attention groups (one frame, or one joint) set to zero, as in the reference."""
    if not train or self.drop_path == 0:
      return y
    group = tuple(1 if axis == self.axis else n for axis, n in enumerate(shape))
    keep = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.drop_path, group)
    return jnp.where(jnp.broadcast_to(keep, shape).reshape(-1, 1), y / (1 - self.drop_path), 0)


class Attention(nn.Module):
  """Multi-head self-attention along `axis` of `shape` for tokens x [(b f j) d]. Columns of qkv: q, k, v, then head."""

  num_heads: int
  axis: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, "n d"], shape: tuple[int, int, int]) -> Float[Array, "n d"]:
    width = x.shape[-1]
    qkv = checkpoint_name(nn.Dense(3 * width, dtype=self.dtype, name="qkv")(x), "qkv")
    qkv = qkv.reshape(shape + (3, self.num_heads, width // self.num_heads))
    order = (0, 1, 3, 2, 4) if self.axis == 2 else (0, 2, 3, 1, 4)  # the attended axis goes last but one
    q, k, v = (jnp.transpose(qkv[..., i, :, :], order) for i in range(3))
    out = jnp.transpose(attend(q, k, v), np.argsort(order)).reshape(x.shape)
    return checkpoint_name(nn.Dense(width, dtype=self.dtype, name="proj")(out), "proj")


def attend(q: Float[Array, "*b n c"], k: Float[Array, "*b n c"], v: Float[Array, "*b n c"]) -> Float[Array, "*b n c"]:
  """softmax(q k^T / sqrt(c)) v, with the softmax in float32.

  A flat batch axis before [n c] makes it twice as fast on CPU as an einsum over separate heads.
  """
  batch = q.shape[:-2]
  q, k, v = (a.reshape((-1,) + a.shape[-2:]) for a in (q * q.shape[-1] ** -0.5, k, v))
  scores = jnp.einsum("nqc,nkc->nqk", q, k, preferred_element_type=jnp.float32)
  out = jnp.einsum("nqk,nkc->nqc", jax.nn.softmax(scores).astype(v.dtype), v)
  return out.reshape(batch + out.shape[1:])
