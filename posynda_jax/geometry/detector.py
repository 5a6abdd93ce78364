"""A simulated 2D detector: exact keypoints become noisy ones with confidences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Standard deviation of the error of each joint, as a share of the person's box. Wrists and ankles are the hardest.
_ERROR_SHARE = (
    0.008, 0.009, 0.011, 0.016, 0.009, 0.011, 0.016, 0.008, 0.007, 0.008, 0.008, 0.008, 0.011, 0.016, 0.008, 0.011,
    0.016,
)
_LIMBS = ((1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16))  # legs and arms: a detector confuses their sides


@dataclasses.dataclass(frozen=True)
class Errors:
  """A detector's errors in clips of about 15 frames a second.

  `spread` [17]: standard deviation of a joint's error, as a share of the person's box. `bias`: that of its mean error
  in a clip, as a multiple. `correlation`: of errors, and of difficulties, of successive frames. `misses`: rate of
  keypoints with six times the error. `swaps`: rate of frames in which the legs, or the arms, exchange sides.
  """

  spread: tuple[float, ...] = _ERROR_SHARE
  bias: float = 0.0
  correlation: float = 0.0
  misses: float = 0.02
  swaps: float = 0.01


SIMULATED = Errors()
# BlazePose's on three views of real footage, by `experiments.detector_errors` (docs/results/detector.json). Spreads are
# the fitted ones without the part that the difficulty adds. Lasting exchanges are not among them: `lift` mends them.
REAL = Errors(
    spread=(
        0.0069, 0.0069, 0.0094, 0.0105, 0.0069, 0.0094, 0.0105, 0.0063, 0.0063, 0.0063, 0.0063, 0.0063, 0.0109, 0.0173,
        0.0063, 0.0109, 0.0173,
    ),
    bias=0.75, correlation=0.54,
)
ERRORS = {"simulated": SIMULATED, "real": REAL}


def detect(
    key: Array, keypoints_px: Float[Array, "f 17 2"], errors: Errors = SIMULATED
) -> tuple[Float[Array, "f 17 2"], Float[Array, "f 17"]]:
  """Noisy keypoints (px) and their confidences in 0..1.

  The error is Gaussian. It scales with the person's box, the joint and a log-normal difficulty of each keypoint, and
  the confidence falls with this difficulty; misses have confidence below 0.2, exchanged sides half of theirs.
  """
  noise_key, hard_key, miss_key, swap_key = jax.random.split(key, 4)
  shape = keypoints_px.shape[:-1]
  box = (keypoints_px.max(-2) - keypoints_px.min(-2)).max(-1)[:, None]  # f 1
  hardness = jnp.exp(0.5 * _normal(hard_key, shape, errors.correlation))
  miss = jax.random.bernoulli(miss_key, errors.misses, shape)
  spread = box * np.array(errors.spread, np.float32)
  sigma = spread * hardness * jnp.where(miss, 6.0, 1.0)
  confidence = jnp.where(miss, 0.15 / hardness, 1 / (1 + 0.15 * hardness**2))
  swapped = jax.random.bernoulli(swap_key, errors.swaps, (shape[0], len(_LIMBS)))
  for limb, joints in enumerate(_LIMBS):
    order = np.arange(17)
    order[list(joints)] = joints[3:] + joints[:3]
    where = swapped[:, limb, None]
    keypoints_px = jnp.where(where[..., None], keypoints_px[:, order], keypoints_px)
    confidence = jnp.where(where & np.isin(np.arange(17), joints), confidence / 2, confidence)
  moved = sigma[..., None] * _normal(noise_key, shape + (2,), errors.correlation)
  if errors.bias:
    bias_key = jax.random.fold_in(noise_key, 1)
    moved += errors.bias * spread[..., None] * jax.random.normal(bias_key, (1, *shape[1:], 2))
  return keypoints_px + moved, jnp.clip(confidence, 0, 1)


def _normal(key: Array, shape: tuple[int, ...], correlation: float) -> Float[Array, "f ..."]:
  """Standard normal numbers with this correlation between successive frames, the first axis."""
  white = jax.random.normal(key, shape)
  if not correlation:
    return white
  lag = np.subtract.outer(np.arange(shape[0]), np.arange(shape[0]))
  weight = np.where(lag >= 0, correlation ** np.maximum(lag, 0), 0) * np.sqrt(1 - correlation**2)
  weight[:, 0] = correlation ** np.arange(shape[0])
  return jnp.tensordot(jnp.float32(weight), white, 1)
