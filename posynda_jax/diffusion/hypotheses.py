"""One pose from H hypotheses: reprojection error (Eq. 4), selection (Eq. 5) and the aggregations that D3DP reports.

Hypotheses are root-relative poses [h b f j 3] in metres, in the camera frame. Keypoints, intrinsics and errors are
screen-normalised. The first of equal hypotheses wins.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera, metrics, skeleton

Granularity = Literal["sequence", "frame", "joint"]
GRANULARITIES = get_args(Granularity)
BONE_M = 0.008  # chosen on HDM05's choosing actor


def solve_roots(poses: Float[Array, "h b f j 3"], keypoints, intrinsics, confidence) -> Float[Array, "h b f 3"]:
  """The root (m, camera frame) that reprojects each hypothesis best, because the target's root is not measured."""
  return camera.solve_root(poses, camera.rays(keypoints, intrinsics)[None], confidence[None])


def reprojection_error(
    poses: Float[Array, "h b f j 3"], roots: Float[Array, "*h b f 3"], keypoints: Float[Array, "b f j 2"], intrinsics
) -> Float[Array, "h b f j"]:
  """||G(y_h + root) - x_2D|| per joint (Eq. 4)."""
  points = jnp.moveaxis(poses + roots[..., None, :], 0, 1)  # b h f j 3
  return jnp.moveaxis(jnp.linalg.norm(camera.project(points, intrinsics) - keypoints[:, None], axis=-1), 1, 0)


def choose(errors: Float[Array, "h b f j"], confidence: Float[Array, "b f j"], by: Granularity) -> Array:
  """Index [b f j] of the hypothesis with the least confidence-weighted error, per clip, per frame or per joint."""
  weighted = errors * confidence
  if by == "sequence":
    weighted = weighted.mean((-2, -1), keepdims=True)
  elif by == "frame":
    weighted = weighted.mean(-1, keepdims=True)
  elif by == "joint":
    weighted = errors  # a joint's confidence scales all hypotheses alike
  else:
    raise ValueError(f"selection {by!r} is unknown; choose one of {', '.join(GRANULARITIES)}")
  return jnp.broadcast_to(weighted.argmin(0), errors.shape[1:])


def pick(poses: Float[Array, "h b f j 3"], index: Array) -> Float[Array, "b f j 3"]:
  """The pose made of the hypotheses that `index` [b f j] chooses (Eq. 5)."""
  return jnp.take_along_axis(poses, index[None, ..., None], axis=0)[0]


def by_bones(poses: Float[Array, "h b f j 3"], lengths: Float[Array, "b 16"]) -> Float[Array, "b f j 3"]:
  """The pose whose bones are means over hypotheses, each weighted by how near its length is to the person's (m).

  The bones are chosen one by one and put together from the root. The weight falls by e within BONE_M.
  """
  parent = np.array(skeleton.PARENTS[1:])
  bones = poses[..., 1:, :] - poses[..., parent, :]
  off = jnp.abs(jnp.linalg.norm(bones, axis=-1) - lengths[:, None])
  chosen = (jax.nn.softmax(-off / BONE_M, axis=0)[..., None] * bones).sum(0)
  joints = [jnp.zeros_like(chosen[..., 0, :])]
  for bone, joint in enumerate(parent):
    joints.append(joints[joint] + chosen[..., bone, :])
  return jnp.stack(joints, -2)


def aggregate(
    poses: Float[Array, "h b f j 3"], target: Float[Array, "b f j 3"], errors_2d=None, valid=None, align: bool = False
) -> dict[str, Array]:
  """Joint errors [b f j] (m) of D3DP's aggregations: `j_best`, `p_best`, `p_agg`, and with `errors_2d` also `j_agg`.

  `j_best` takes the closest hypothesis per joint, `p_best` the hypothesis with the least mean error over all frames
  (those in `valid` [b f] where given). Both need the ground truth and bound any selection. `p_agg` is the mean pose.
  `j_agg` takes the hypothesis with the least 2D error per joint. `align` applies similarity alignment to the errors,
  but not to j_agg's choice.
  """

  def joint_errors(pose):
    return metrics.joint_errors(metrics.similarity_align(pose, target) if align else pose, target)

  errors = joint_errors(poses)  # h b f j
  weight = jnp.ones(errors.shape[1:3]) if valid is None else valid.astype(errors.dtype)
  out = {
      "j_best": errors.min(0),
      "p_best": errors[(errors * weight[..., None]).sum((1, 2, 3)).argmin()],
      "p_agg": joint_errors(poses.mean(0)),
  }
  if errors_2d is not None:
    out["j_agg"] = jnp.take_along_axis(errors, errors_2d.argmin(0)[None], axis=0)[0]
  return out
