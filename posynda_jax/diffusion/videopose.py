"""VideoPose3D's temporal convolutions as a denoiser (Pavllo et al. 2019; PoSynDA Table 2, "Ours (VideoPose)").

A frame is one vector of all joints' coordinates, and the convolutions run over time. The first has width
filter_widths[0]. Each further width w adds a residual block of a dilated and a pointwise convolution.

    keypoints + noisy [b f j 5] -> expand_conv -> + time -> conv_0 -> conv_1 -> + middle -> ... -> shrink [b f j 3]

Batch norm, ReLU and dropout follow every convolution but `shrink`. The running statistics of the norms are a second
collection, `batch_stats`, beside `params`. Only pretraining updates them.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from posynda_jax.diffusion.mixste import time_sinusoid


class VideoPose(nn.Module):
  """The denoiser: float32 parameters, computation in `dtype`. `diffusion=False` is the original 2D-to-3D lifter.

  MixSTE's time embedding is added after the first norm. Before it, the norm would subtract an embedding that most
  clips of a batch share, as they do in training at t = T-1.

  Clips are padded at their ends with their first and last frames. Published results of the plain lifter pad whole
  sequences, so a larger `num_frames` comes closer to them, with the same weights.

  Batch norm is PyTorch's, but the running variance lacks the factor n / (n - 1), and the momentum stays 0.1 where the
  reference decays it to 0.001. Averaging the base over updates (`PretrainConfig.ema`) also averages its statistics.

  Raises ValueError for even widths, odd `channels`, or a receptive field that a clip of `num_frames` cannot fill.
  """

  num_joints: int = 17
  num_frames: int = 243
  filter_widths: tuple[int, ...] = (3, 3, 3, 3, 3)
  channels: int = 1024
  causal: bool = False  # an output depends on no later frame
  dropout: float = 0.25
  diffusion: bool = True
  inputs: int = 2  # channels of the 2D input: keypoints, or 5 of `virtual_camera.channels`
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = "devices"  # mapped axis over which training shares a batch

  def __post_init__(self):
    super().__post_init__()
    widths = ",".join(map(str, self.filter_widths))
    if not self.filter_widths or any(w < 1 or w % 2 == 0 for w in self.filter_widths):
      raise ValueError(f"filter widths {widths or 'of no number'} are not all odd: give odd ones, as in 3,3,3")
    if self.channels < 4 or self.channels % 2:
      raise ValueError(f"channels {self.channels} are not an even number of 4 or more: choose one")
    if not 0 <= self.dropout < 1:
      raise ValueError(f"dropout {self.dropout} is not a rate from 0 to below 1: choose one")
    if self.reach >= self.num_frames:
      raise ValueError(
          f"filter widths {widths} reach {self.reach} frames away, but a clip has {self.num_frames}: give fewer or "
          f"smaller widths, or clips of {self.reach + 1} frames or more"
      )

  @property
  def receptive_field(self) -> int:
    """Number of frames that one output depends on."""
    return math.prod(self.filter_widths)

  @property
  def reach(self) -> int:
    """Distance in frames from an output to the first frame that it depends on."""
    return self.receptive_field - 1 if self.causal else self.receptive_field // 2

  @nn.compact
  def __call__(
      self, keypoints: Float[Array, "b f j i"], noisy: Float[Array, "b f j 3"] | None = None,
      t: Int[Array, "b"] | None = None, *, train: bool = False, pad: bool = True,
  ) -> Float[Array, "b g j 3"]:
    """Poses of all frames: g = f. With `pad=False`, of those with a full receptive field: g = f - receptive_field + 1.

    Padding repeats the first and the last frame, as the reference does in evaluation. Raises ValueError without
    padding for fewer frames than the receptive field.
    """
    x = jnp.concatenate([keypoints, noisy], -1) if self.diffusion else keypoints
    x = x.reshape(x.shape[:2] + (-1,))  # b f (j c)
    if pad:
      x = jnp.pad(x, ((0, 0), (self.reach, self.receptive_field - 1 - self.reach), (0, 0)), mode="edge")
    elif x.shape[1] < self.receptive_field:
      raise ValueError(f"{x.shape[1]} frames need padding: without it give {self.receptive_field} or more")
    dilation, *further = self.filter_widths
    x = self._layer(x, "expand_conv", "expand_bn", dilation, 1, train)
    if self.diffusion:
      x = x + self._time(t)[:, None]
    for i, width in enumerate(further):
      y = self._layer(x, f"conv_{2 * i}", f"bn_{2 * i}", width, dilation, train)
      y = self._layer(y, f"conv_{2 * i + 1}", f"bn_{2 * i + 1}", 1, 1, train)
      own = (width - 1 if self.causal else width // 2) * dilation  # place of the output's own frame in the window
      x = x[:, own : own + y.shape[1]] + y
      dilation *= width
    x = nn.Conv(self.num_joints * 3, (1,), padding="VALID", dtype=self.dtype, name="shrink")(x)
    return x.astype(jnp.float32).reshape(x.shape[:2] + (self.num_joints, 3))

  def _layer(self, x: Array, conv: str, norm: str, width: int, dilation: int, train: bool) -> Float[Array, "b g d"]:
    """Convolution over time, batch norm, ReLU, dropout."""
    x = nn.Conv(
        self.channels, (width,), kernel_dilation=dilation, padding="VALID", use_bias=False, dtype=self.dtype, name=conv
    )(x)
    x = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, axis_name=self.axis_name, name=norm
    )(x)
    x = nn.relu(x)
    if not train or self.dropout == 0:
      return x
    # Dropout has one key a clip, by the clip's place in the global batch, so the number of devices has no effect.
    key, num_clips = self.make_rng("dropout"), len(x)
    first = 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name) * num_clips

    def keep(i):
      return jax.random.bernoulli(jax.random.fold_in(key, first + i), 1 - self.dropout, x.shape[1:])

    return jnp.where(jax.vmap(keep)(jnp.arange(num_clips)), x / (1 - self.dropout), 0)

  def _time(self, t: Int[Array, "b"]) -> Float[Array, "b d"]:
    x = time_sinusoid(t, self.channels).astype(self.dtype)
    x = nn.gelu(nn.Dense(2 * self.channels, dtype=self.dtype, name="time_in")(x), approximate=False)
    return nn.Dense(self.channels, dtype=self.dtype, name="time_out")(x)
