"""VideoPose3D's temporal convolutions as a diffusion denoiser (Pavllo et al. 2019; PoSynDA Table 2, "Ours (VideoPose)").

A frame is one vector, all its joints' coordinates in their order, and convolutions see it over time: a first one of width
filter_widths[0], then for each further width w a dilated one and a pointwise one, added to the middle of what they looked at.

    [keypoints, noisy] [b f j 5] -> expand_conv -> + time -> conv_0 -> conv_1 -> + middle -> conv_2 -> ... -> shrink [b f j 3]

Each but `shrink` is followed by batch norm, ReLU and dropout. The norms' running statistics are a second collection,
`batch_stats`, beside `params`: training moves them, everybody else only reads them.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from posynda_jax.diffusion.mixste import NUM_COORDINATES, time_sinusoid

FORMS = ("padded", "valid", "strided")


class VideoPose(nn.Module):
  """Parameters are float32; `dtype` is the computation's. With `diffusion=False` it is the original 2D-to-3D lifter.

  The time embedding (MixSTE's) joins after the first norm, where the residual stream begins: before it, an embedding that most
  clips of a batch share, as training at t = T-1 has it, would be subtracted again with the batch's mean.

  Padding is at the edges of clips, of which the pipeline makes any length. Published numbers of the plain lifter come from
  whole sequences padded at their own ends: the longer `num_frames`, the nearer, with the same weights.

  Batch norm is PyTorch's but for a running variance that is not multiplied by n / (n - 1). The reference lets its momentum
  decay from 0.1 to 0.001, so that the last statistics are an average over many batches; here it stays 0.1, and the average of
  the base over updates (`PretrainConfig.ema`), which takes in the statistics too, does the same for weights and statistics alike.

  Raises ValueError for widths that are not odd, odd `channels`, or a receptive field with taps that no clip ever fills.
  """

  num_joints: int = 17
  num_frames: int = 243
  filter_widths: tuple[int, ...] = (3, 3, 3, 3, 3)
  channels: int = 1024
  causal: bool = False  # a frame sees no later ones
  dropout: float = 0.25
  diffusion: bool = True
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = "devices"  # in training: the mapped axis whose devices share a batch and its statistics

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
          f"filter widths {widths} look {self.reach} frames away, a clip has {self.num_frames}: give fewer or smaller widths, or "
          f"clips of {self.reach + 1} frames or more"
      )

  @property
  def receptive_field(self) -> int:
    """Frames that one output depends on."""
    return math.prod(self.filter_widths)

  @property
  def reach(self) -> int:
    """How far from its own frame an output looks."""
    return self.receptive_field - 1 if self.causal else self.receptive_field // 2

  @nn.compact
  def __call__(
      self,
      keypoints: Float[Array, "b f j 2"],
      noisy: Float[Array, "b f j 3"] | None = None,
      t: Int[Array, "b"] | None = None,
      *,
      train: bool = False,
      form: str = "padded",
  ) -> Float[Array, "b g j 3"]:
    """Poses of every frame: g = f. The clip's first and last frames are repeated, as the reference repeats them in evaluation.

    Other forms, with the same parameters and numbers: `valid` pads nothing, g = f - receptive_field + 1; `strided`, the
    reference's training form, computes one pose for each of g chunks of receptive_field frames. Raises ValueError where the
    frames do not fit the form.
    """
    strided = self._check_form(form, keypoints.shape[1])
    x = jnp.concatenate([keypoints, noisy], -1) if self.diffusion else keypoints
    x = x.reshape(x.shape[:2] + (-1,))  # b f (j c)
    if form == "padded":
      before = self.receptive_field // 2 + (self.receptive_field // 2 if self.causal else 0)
      x = jnp.pad(x, ((0, 0), (before, self.receptive_field - 1 - before), (0, 0)), mode="edge")
    first, *further = self.filter_widths
    x = self._layer(x, "expand_conv", "expand_bn", first, first if strided else 1, 1, train)
    if self.diffusion:
      x = x + self._time(t)[:, None]
    dilation = first
    for i, width in enumerate(further):
      stride, spread = (width, 1) if strided else (1, dilation)
      y = self._layer(x, f"conv_{2 * i}", f"bn_{2 * i}", width, stride, spread, train)
      y = self._layer(y, f"conv_{2 * i + 1}", f"bn_{2 * i + 1}", 1, 1, 1, train)
      own = (width - 1 if self.causal else width // 2) * spread  # where the output's own frame lies in the window
      x = x[:, own : own + stride * (y.shape[1] - 1) + 1 : stride] + y
      dilation *= width
    x = nn.Conv(self.num_joints * NUM_COORDINATES, (1,), padding="VALID", dtype=self.dtype, name="shrink")(x)
    return x.astype(jnp.float32).reshape(x.shape[:2] + (self.num_joints, NUM_COORDINATES))

  def _check_form(self, form: str, num_frames: int) -> bool:
    """Whether the form is strided; raises ValueError for one that is unknown, or that this many frames do not fit."""
    if form not in FORMS:
      raise ValueError(f"form {form!r} is unknown; choose one of {', '.join(FORMS)}")
    if form == "valid" and num_frames < self.receptive_field or form == "strided" and num_frames % self.receptive_field:
      wanted = f"{self.receptive_field} or more" if form == "valid" else f"a multiple of {self.receptive_field}"
      raise ValueError(f"{num_frames} frames do not fit the {form} form: give {wanted}")
    return form == "strided"

  def _layer(self, x: Array, conv: str, norm: str, width: int, stride: int, dilation: int, train: bool) -> Float[Array, "b g d"]:
    """Convolution along time, batch norm, ReLU, dropout."""
    x = nn.Conv(
        self.channels, (width,), strides=(stride,), kernel_dilation=(dilation,), padding="VALID", use_bias=False,
        dtype=self.dtype, name=conv,
    )(x)
    x = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, axis_name=self.axis_name, name=norm
    )(x)
    return self._drop(nn.relu(x), train)

  def _drop(self, x: Float[Array, "b g d"], train: bool) -> Float[Array, "b g d"]:
    """Dropout by the clip's place in the whole batch, so that devices that share it drop what one would."""
    if not train or self.dropout == 0:
      return x
    key, num_clips = self.make_rng("dropout"), len(x)
    first = 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name) * num_clips
    keys = jax.vmap(lambda i: jax.random.fold_in(key, first + i))(jnp.arange(num_clips))
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - self.dropout), 0)

  def _time(self, t: Int[Array, "b"]) -> Float[Array, "b d"]:
    x = nn.Dense(2 * self.channels, dtype=self.dtype, name="time_in")(time_sinusoid(t, self.channels).astype(self.dtype))
    return nn.Dense(self.channels, dtype=self.dtype, name="time_out")(nn.gelu(x, approximate=False))
