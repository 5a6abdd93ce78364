"""Choosing among H hypotheses: reprojection error (Eq. 4), selection (Eq. 5), and the field's four aggregations.

Hypotheses are root-relative camera-frame poses [h b f j 3] in metres; keypoints, intrinsics and errors are screen-normalised.
Ties go to the first hypothesis.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from posynda_jax import camera, metrics, skeleton

Granularity = Literal["sequence", "frame", "joint"]
GRANULARITIES = ("sequence", "frame", "joint")


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
