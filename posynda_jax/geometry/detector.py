"""A simulated 2D detector: exact keypoints become noisy ones with confidences."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Standard deviation of the error of each joint, as a share of the person's box. Wrists and ankles are the hardest.
_ERROR_SHARE = np.array(
    [0.008, 0.009, 0.011, 0.016, 0.009, 0.011, 0.016, 0.008, 0.007, 0.008, 0.008, 0.008, 0.011, 0.016, 0.008, 0.011,
     0.016], np.float32,
)
_LIMBS = ((1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16))  # legs and arms: a detector confuses their sides


def detect(key: Array, keypoints_px: Float[Array, "f 17 2"]) -> tuple[Float[Array, "f 17 2"], Float[Array, "f 17"]]:
  """Noisy keypoints (px) and their confidences in 0..1.

  The error is Gaussian. It scales with the person's box, the joint and a log-normal difficulty of each keypoint, and
  the confidence falls with this difficulty. 2% of the keypoints are misses: six times the error, confidence below
  0.2. In 1% of the frames the legs or the arms swap sides, at half the confidence.
  """
  noise_key, hard_key, miss_key, swap_key = jax.random.split(key, 4)
  shape = keypoints_px.shape[:-1]
  box = (keypoints_px.max(-2) - keypoints_px.min(-2)).max(-1)[:, None]  # f 1
  hardness = jnp.exp(0.5 * jax.random.normal(hard_key, shape))
  miss = jax.random.bernoulli(miss_key, 0.02, shape)
  sigma = box * _ERROR_SHARE * hardness * jnp.where(miss, 6.0, 1.0)
  confidence = jnp.where(miss, 0.15 / hardness, 1 / (1 + 0.15 * hardness**2))
  swapped = jax.random.bernoulli(swap_key, 0.01, (shape[0], len(_LIMBS)))
  for limb, joints in enumerate(_LIMBS):
    order = np.arange(17)
    order[list(joints)] = joints[3:] + joints[:3]
    where = swapped[:, limb, None]
    keypoints_px = jnp.where(where[..., None], keypoints_px[:, order], keypoints_px)
    confidence = jnp.where(where & np.isin(np.arange(17), joints), confidence / 2, confidence)
  noise = jax.random.normal(noise_key, shape + (2,))
  return keypoints_px + sigma[..., None] * noise, jnp.clip(confidence, 0, 1)
