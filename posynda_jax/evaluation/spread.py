"""What H hypotheses are worth: the best of them, and how well their spread tells the error.

Hypotheses are root-relative poses [h b f j 3] in metres, in the camera frame; targets [b f j 3].
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from posynda_jax.diffusion import hypotheses

SHARES = (0.5, 0.9)  # of the credible regions whose coverage is measured
_LEAST_M = 1e-4  # least standard deviation, so that equal hypotheses cover nothing


def measure(
    poses: Float[Array, "h b f j 3"], target: Float[Array, "b f j 3"]
) -> tuple[dict[str, Float[Array, "b f"]], dict[str, Float[Array, "b f j"]]]:
  """(errors of frames (m), quantities of joints).

  Errors: of one hypothesis, of the mean, of the best pose of a frame, of the best hypothesis of each joint; the
  energy score mean |x - y| - mean |x - x'| / 2 of a joint (Gneiting and Raftery 2007), which is least for the true
  distribution. Joints: `error` of the mean and `spread`, the mean distance from it (m); `covered_depth_50%`, ...:
  whether the target lies in the normal credible region of that share, along the camera's depth and across it.
  """
  mean, made = poses.mean(0), hypotheses.aggregate(poses, target)
  errors = jnp.linalg.norm(poses - target, axis=-1)  # h b f j
  distance = jnp.linalg.norm(poses - mean, axis=-1).mean(0)
  apart = jax.lax.map(lambda one: jnp.linalg.norm(poses - one, axis=-1).mean(0), poses).mean(0)
  off = made["p_agg"]
  frames = {
      "one": errors[0].mean(-1), "mean": off.mean(-1), "best_pose": errors.mean(-1).min(0),
      "best_joint": made["j_best"].mean(-1), "energy": (errors.mean(0) - apart / 2).mean(-1),
  }
  deviation = jnp.maximum(poses.std(0, ddof=1), _LEAST_M)
  depth = jnp.abs(mean - target)[..., 2] / deviation[..., 2]
  across = jnp.sqrt(((mean - target)[..., :2] ** 2).sum(-1) / (deviation[..., :2] ** 2).mean(-1))
  joints = {"error": off, "spread": distance}
  for share in SHARES:
    joints[f"covered_depth_{share:.0%}"] = depth < stats.norm.ppf((1 + share) / 2)
    joints[f"covered_across_{share:.0%}"] = across < np.sqrt(stats.chi2.ppf(share, 2))
  return frames, joints


class Totals:
  """Measures over batches: means over valid frames, and Spearman's rank correlation of spread and error over joints."""

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
    """The measures: errors in mm, `spread_mm`, coverages as shares, `rank` and `frames`. Raises ValueError without a
    frame.
    """
    if not self._parts or not sum(map(len, self._parts["one_mm"])):
      raise ValueError("no valid frame to measure: check the split and its `valid` flags")
    whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}
    spread, error = whole.pop("spread"), whole.pop("error")
    row = {name: float(values.mean()) for name, values in whole.items()}
    rank = stats.spearmanr(spread, error).statistic if spread.std() > 0 else 0.0
    return row | {"spread_mm": 1000 * float(spread.mean()), "rank": float(rank), "frames": len(whole["one_mm"])}
