"""Choosing among H hypotheses: reprojection error (Eq. 4), selection (Eq. 5), the field's four aggregations; and what the
target's 2D can mend of a pose beyond choosing (`onto_rays`, `fit_body`).

Hypotheses are root-relative camera-frame poses [h b f j 3] in metres; keypoints, intrinsics and errors are screen-normalised.
Ties go to the first hypothesis.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera, metrics, skeleton

Granularity = Literal["sequence", "frame", "joint"]
GRANULARITIES = ("sequence", "frame", "joint")
REFINEMENTS = ("none", "rays", "body")
RIGIDITY = 1.0  # of `fit_body`: how much a metre of changed relative depth weighs against a metre of bone length
NEAR_M = 0.3  # `fit_body` keeps joints this far before the camera


def solve_roots(poses: Float[Array, "h b f j 3"], keypoints, intrinsics, confidence) -> Float[Array, "h b f 3"]:
  """Each hypothesis' own best root (m, camera frame): nobody has the target's (DESIGN.md, method decision 5)."""
  return camera.solve_root(poses, camera.rays(keypoints, intrinsics)[None], confidence[None])


def reprojection_error(
    poses: Float[Array, "h b f j 3"],
    roots: Float[Array, "*h b f 3"],
    keypoints: Float[Array, "b f j 2"],
    intrinsics: Float[Array, "b 9"],
) -> Float[Array, "h b f j"]:
  """||G(y_h + root) - x_2D|| per joint (Eq. 4)."""
  points = jnp.moveaxis(poses + roots[..., None, :], 0, 1)  # b h f j 3
  return jnp.moveaxis(jnp.linalg.norm(camera.project(points, intrinsics) - keypoints[:, None], axis=-1), 1, 0)


def choose(errors: Float[Array, "h b f j"], confidence: Float[Array, "b f j"], by: Granularity) -> Array:
  """Index of the chosen hypothesis [b f j]: least confidence-weighted error per clip, per frame or per joint."""
  weighted = errors * confidence
  if by == "sequence":
    weighted = weighted.mean((-2, -1), keepdims=True)
  elif by == "frame":
    weighted = weighted.mean(-1, keepdims=True)
  elif by == "joint":
    weighted = errors  # a joint's own confidence scales all hypotheses alike
  else:
    raise ValueError(f"selection {by!r} is unknown; choose one of {', '.join(GRANULARITIES)}")
  return jnp.broadcast_to(weighted.argmin(0), errors.shape[1:])


def pick(poses: Float[Array, "h b f j 3"], index: Array) -> Float[Array, "b f j 3"]:
  """The pose assembled from the chosen hypotheses (Eq. 5), `index` [b f j]."""
  return jnp.take_along_axis(poses, index[None, ..., None], axis=0)[0]


def onto_rays(pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence) -> Float[Array, "b f j 3"]:
  """A pose whose joints keep their depth but lie on the rays of the observed keypoints, as far as these are trusted.

  The teacher errs across the image plane too, and there the target's own 2D knows better: with the solved root, x = u z and
  y = v z for every joint. What the image cannot see, depth, stays the teacher's.
  """
  ray = camera.rays(keypoints, intrinsics)
  root = camera.solve_root(pose, ray, confidence)[..., None, :]
  z = pose[..., 2:] + root[..., 2:]
  observed = jnp.concatenate([ray * z, z], -1)
  trust = confidence[..., None]
  return skeleton.root_centre(trust * observed + (1 - trust) * (pose + root))


def seen_bones(pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence) -> tuple[Array, Array]:
  """Bone lengths [b f 16] (m) of a pose moved onto the rays of the observed keypoints, and how much each tells [b f 16], 0..1.

  A bone across the line of sight shows its length against the whole body's; of a bone along it there is only the teacher's guess.
  So a bone counts by the squared share of it that lies across, squared, and by the confidence of both its ends.
  """
  placed = onto_rays(pose, keypoints, intrinsics, confidence)
  parent = np.array(skeleton.PARENTS[1:])
  lengths = skeleton.bone_lengths(placed)
  depth = placed[..., 1:, 2] - placed[..., parent, 2]
  across = 1 - (depth / jnp.maximum(lengths, 1e-6)) ** 2
  return lengths, across**2 * confidence[..., 1:] * confidence[..., parent]


def weighted_median(values: Float[Array, "n k"], weight: Float[Array, "n k"]) -> Float[Array, "k"]:
  """The value of each column that has half of its column's weight below it."""
  order = values.argsort(0)
  below = jnp.take_along_axis(weight, order, 0).cumsum(0)
  return jnp.take_along_axis(jnp.take_along_axis(values, order, 0), (2 * below >= below[-1:]).argmax(0)[None], 0)[0]


def fit_body(
    pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence, lengths: Float[Array, "*b 16"], iterations: int = 8
) -> Float[Array, "b f j 3"]:
  """A pose on the rays of the observed keypoints whose bones have the given lengths (m), its depths as near as may be to `pose`'s.

  2D cannot tell a small body near from a large one far; a lifter under new cameras errs there first. Given how large people
  are, each joint's depth z along its ray d follows: minimise the sum over bones of (|z_c d_c - z_p d_p| - length)^2 plus
  RIGIDITY^2 times the squared changes of depth relative to the root, by damped Gauss-Newton from the solved root. As far as a
  keypoint is not trusted its joint lies on the ray of the pose itself: one that is wrong would else pull the whole body along.
  """
  seen = camera.rays(keypoints, intrinsics)
  placed = pose + camera.solve_root(pose, seen, confidence)[..., None, :]
  own = placed[..., :2] / jnp.maximum(placed[..., 2:], NEAR_M)
  ray = own + confidence[..., None] * (seen - own)
  ray = jnp.concatenate([ray, jnp.ones_like(ray[..., :1])], -1)
  child, parent = np.arange(1, pose.shape[-2]), np.array(skeleton.PARENTS[1:])
  one_hot = np.eye(pose.shape[-2], dtype=np.float32)
  relative = np.delete(one_hot, skeleton.ROOT, 0)
  relative[:, skeleton.ROOT] = -1
  depth = pose[..., 2] - pose[..., skeleton.ROOT : skeleton.ROOT + 1, 2]

  def step(z, _):
    joints = ray * z[..., None]
    bone = joints[..., child, :] - joints[..., parent, :]
    length = jnp.linalg.norm(bone, axis=-1)
    along = bone / jnp.maximum(length, 1e-6)[..., None]
    slope = lambda end: (along * ray[..., end, :]).sum(-1)[..., None] * one_hot[end]  # of a bone's length in each depth
    jacobian = slope(child) - slope(parent)
    gradient = jnp.einsum("...ni,...n->...i", jacobian, length - np.asarray(lengths, np.float32))
    gradient += RIGIDITY**2 * (z @ relative.T - depth[..., 1:]) @ relative
    hessian = jnp.einsum("...ni,...nj->...ij", jacobian, jacobian) + RIGIDITY**2 * relative.T @ relative + 1e-3 * one_hot
    change = jnp.linalg.solve(hessian, gradient[..., None])[..., 0]
    return jnp.maximum(z - jnp.clip(change, -0.3, 0.3), NEAR_M), None

  with jax.default_matmul_precision("highest"):  # else TPUs and GPUs round depths of metres to 7 or 10 bits
    depths, _ = jax.lax.scan(step, jnp.maximum(placed[..., 2], NEAR_M), None, length=iterations)
  return skeleton.root_centre(ray * depths[..., None])


def refine(pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence, how: str, lengths=()) -> Float[Array, "b f j 3"]:
  """`pose` as it is (`none`), by `onto_rays` (`rays`) or by `fit_body` (`body`, which needs `lengths`)."""
  if how == "rays":
    return onto_rays(pose, keypoints, intrinsics, confidence)
  if how == "body":
    return fit_body(pose, keypoints, intrinsics, confidence, lengths)
  return pose


def check_refinement(how: str, lengths) -> None:
  """Raises ValueError for an unknown refinement, and for `body` without its bone lengths."""
  if how not in REFINEMENTS:
    raise ValueError(f"refine {how!r} is unknown; choose one of {', '.join(REFINEMENTS)}")
  if how == "body" and len(lengths) != len(skeleton.PARENTS) - 1:
    raise ValueError(f"refine body needs {len(skeleton.PARENTS) - 1} bone lengths in metres, {len(lengths)} are given")


def aggregate(
    poses: Float[Array, "h b f j 3"], target: Float[Array, "b f j 3"], errors_2d=None, valid=None, align: bool = False
) -> dict[str, Array]:
  """Joint errors [b f j] (m) of D3DP's aggregations: `j_best`, `p_best` and `p_agg`, and `j_agg` where `errors_2d` is given.

  j_best and p_best need the truth and bound what a choice could reach: per joint the closest hypothesis; the one hypothesis
  whose mean error over all given (and `valid` [b f]) frames is least. p_agg is the mean pose. j_agg takes per joint the
  hypothesis of least reprojection error. With `align` errors are taken after similarity alignment; the choice of j_agg is not.
  """
  fit = metrics.similarity_align if align else lambda pose, _: pose
  errors = metrics.joint_errors(fit(poses, target), target)  # h b f j
  weight = jnp.ones(errors.shape[1:3]) if valid is None else valid.astype(errors.dtype)
  out = {
      "j_best": errors.min(0),
      "p_best": errors[(errors * weight[..., None]).sum((1, 2, 3)).argmin()],
      "p_agg": metrics.joint_errors(fit(poses.mean(0), target), target),
  }
  if errors_2d is not None:
    out["j_agg"] = jnp.take_along_axis(errors, errors_2d.argmin(0)[None], axis=0)[0]
  return out
