"""What H hypotheses are worth: the best of them, and how well what they leave open tells the error.

Hypotheses are root-relative poses [h b f j 3] in metres, in the camera frame; targets [b f j 3].
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special

from posynda_jax.diffusion import hypotheses
from posynda_jax.geometry import skeleton

SHARES = (0.5, 0.9)  # of the credible regions whose coverage is measured
MOST = SHARES[-1]
_LEAST_M = 1e-4  # least standard deviation, so that equal hypotheses cover nothing


def deviations(found: Float[Array, "h b f j c"], axis: Float[Array, "b f 3"]) -> Float[Array, "b f j 2"]:
  """Standard deviations (m) of each joint across the image (in one direction) and along `axis`, a unit vector.

  That of a mixture: the variance of the hypotheses, and the mean variance that a doubt head states about each of
  them (channels 3 and 4, logarithms), where the base has one. Poses are root-relative, so the root has none.
  """
  poses, most = found[..., :3], max(len(found) - 1, 1)
  centred = poses - poses.mean(0)
  along = ((centred * axis[..., None, :]).sum(-1) ** 2).sum(0) / most
  across = ((centred**2).sum((0, -1)) / most - along) / 2
  variance = jnp.maximum(jnp.stack([across, along], -1), 0)
  if found.shape[-1] > 3:
    variance += jnp.exp(2 * found[..., 3:]).mean(0)
  return jnp.sqrt(variance).at[..., skeleton.ROOT, :].set(0)


def distance(deviation: Float[Array, "*b 2"]) -> Float[Array, "*b"]:
  """Root of the mean square distance (m) that deviations across and along depth amount to."""
  return (2 * deviation[..., 0] ** 2 + deviation[..., 1] ** 2) ** 0.5


def measure(
    found: Float[Array, "h b f j c"], target: Float[Array, "b f j 3"], axis: Float[Array, "b f 3"]
) -> tuple[dict[str, Float[Array, "b f"]], dict[str, Float[Array, "b f j"]]]:
  """(errors of frames (m), quantities of joints) of hypotheses, with a doubt head's channels where there is one.

  Errors: of one hypothesis, of the mean, of the best pose of a frame, of the best hypothesis of each joint; the
  energy score mean |x - y| - mean |x - x'| / 2 of a joint (Gneiting and Raftery 2007), which is least for the true
  distribution. Joints: `error` of the mean and `sigma`, what `deviations` amount to (m); `covered_depth_50%`, ...:
  whether the target lies in the normal region of that share, along `axis`, the ray to the person, and across it;
  `temperature_depth`, ...: the factor on deviations that would put it on the border of the region of MOST.
  """
  poses = found[..., :3]
  mean, made = poses.mean(0), hypotheses.aggregate(poses, target)
  errors = jnp.linalg.norm(poses - target, axis=-1)  # h b f j
  apart = jax.lax.map(lambda one: jnp.linalg.norm(poses - one, axis=-1).mean(0), poses).mean(0)
  off = made["p_agg"]
  frames = {
      "one": errors[0].mean(-1), "mean": off.mean(-1), "best_pose": errors.mean(-1).min(0),
      "best_joint": made["j_best"].mean(-1), "energy": (errors.mean(0) - apart / 2).mean(-1),
  }
  stated = deviations(found, axis)
  across, depth = jnp.moveaxis(jnp.maximum(stated, _LEAST_M), -1, 0)
  miss = mean - target
  miss_depth = (miss * axis[..., None, :]).sum(-1)
  miss_across = jnp.sqrt(jnp.maximum((miss**2).sum(-1) - miss_depth**2, 0))
  joints = {"error": off, "sigma": distance(stated)}
  # The miss in stated deviations, and the dimensions of the region, which give its radius in the same unit.
  parts = {"depth": (jnp.abs(miss_depth) / depth, 1), "across": (miss_across / across, 2)}
  for where, (scaled, dimensions) in parts.items():
    radii = {share: np.sqrt(special.chdtri(dimensions, 1 - share)) for share in SHARES}
    joints[f"temperature_{where}"] = scaled / radii[MOST]
    joints |= {f"covered_{where}_{share:.0%}": scaled < radius for share, radius in radii.items()}
  return frames, joints


class Totals:
  """Measures over batches: means over valid frames, and Spearman's rank correlation of sigma and error over joints."""

  def __init__(self):
    self._parts = collections.defaultdict(list)

  def add(self, frames: dict, joints: dict, valid: Float[np.ndarray, "b f"]) -> None:
    """Adds a batch of `measure`; the root, whose error is 0, does not count among the joints."""
    kept = np.asarray(valid) > 0
    for name, values in frames.items():
      self._parts[f"{name}_mm"].append(1000 * np.asarray(values, np.float64)[kept])
    for name, values in joints.items():
      self._parts[name].append(np.asarray(values, np.float64)[kept][:, 1:].ravel())

  def row(self) -> dict[str, float]:
    """The measures: errors in mm, `sigma_mm`, coverages as shares, `rank` and `frames`; and `temperature_depth` and
    `temperature_across`, the factors on deviations with which the regions of MOST would hold that share. Raises
    ValueError without a frame.
    """
    if not self._parts or not sum(map(len, self._parts["one_mm"])):
      raise ValueError("no valid frame to measure: check the split and its `valid` flags")
    whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}
    sigma, error = whole.pop("sigma"), whole.pop("error")
    row = {name: float(np.quantile(values, MOST) if name.startswith("temperature") else values.mean())
           for name, values in whole.items()}
    from scipy import stats  # slow to import

    rank = stats.spearmanr(sigma, error).statistic if sigma.std() > 0 else 0.0
    return row | {"sigma_mm": 1000 * float(sigma.mean()), "rank": float(rank), "frames": len(whole["one_mm"])}
