"""Corrections of a pose by its keypoints: its joints move onto their rays, or a body of known bone lengths is fitted.

Poses are root-relative, in metres, in the camera frame. Keypoints and intrinsics are screen-normalised.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera, skeleton

REFINEMENTS = ("none", "rays", "body")
RIGIDITY = 1.0  # weight in `fit_body` of a metre of relative depth against a metre of bone length
NEAR_M = 0.3  # least depth of a joint in `fit_body`
_PARENT = np.array(skeleton.PARENTS[1:])


def onto_rays(pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence) -> Float[Array, "b f j 3"]:
  """The pose with its joints moved onto the keypoints' rays at unchanged depth, in proportion to confidence.

  With the solved root, a joint of confidence 1 gets x = u z and y = v z. Depth stays because 2D does not show it.
  """
  ray = camera.rays(keypoints, intrinsics)
  root = camera.solve_root(pose, ray, confidence)[..., None, :]
  z = pose[..., 2:] + root[..., 2:]
  observed = jnp.concatenate([ray * z, z], -1)
  trust = confidence[..., None]
  return skeleton.root_centre(trust * observed + (1 - trust) * (pose + root))


def observed_bones(pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence) -> tuple[Array, Array]:
  """Bone lengths [b f 16] (m) of the pose moved `onto_rays`, and their weights [b f 16] in 0..1.

  The image shows the length of a bone across the line of sight, but not of one along it. The weight is the square of
  the squared share that lies across, times the confidences of both ends.
  """
  placed = onto_rays(pose, keypoints, intrinsics, confidence)
  lengths = skeleton.bone_lengths(placed)
  depth = placed[..., 1:, 2] - placed[..., _PARENT, 2]
  across = 1 - (depth / jnp.maximum(lengths, 1e-6)) ** 2
  return lengths, across**2 * confidence[..., 1:] * confidence[..., _PARENT]


def weighted_median(values: Float[Array, "n k"], weight: Float[Array, "n k"]) -> Float[Array, "k"]:
  """The weighted median of each column: the first sorted value at which half of the column's weight is reached."""
  order = values.argsort(0)
  below = jnp.take_along_axis(weight, order, 0).cumsum(0)
  return jnp.take_along_axis(jnp.take_along_axis(values, order, 0), (2 * below >= below[-1:]).argmax(0)[None], 0)[0]


def fit_body(pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence, lengths: Float[Array, "*b 16"]) -> Array:
  """A pose [b f j 3] on the keypoints' rays with the given bone lengths (m) and relative depths near those of `pose`.

  2D alone cannot separate a small body nearby from a large one far away, but bone lengths can. The depths z along the
  rays d minimise the sum over bones of (|z_c d_c - z_p d_p| - length)^2 plus RIGIDITY^2 times the squared changes of
  relative depth. Eight damped Gauss-Newton steps start at the solved root. A keypoint of low confidence is replaced, in
  proportion, by the projection of its joint, because a wrong keypoint would move the whole body.
  """
  observed = camera.rays(keypoints, intrinsics)
  placed = pose + camera.solve_root(pose, observed, confidence)[..., None, :]
  own = placed[..., :2] / jnp.maximum(placed[..., 2:], NEAR_M)
  ray = own + confidence[..., None] * (observed - own)
  ray = jnp.concatenate([ray, jnp.ones_like(ray[..., :1])], -1)  # b f j 3
  lengths = jnp.asarray(lengths, jnp.float32)
  child = np.arange(1, pose.shape[-2])
  one_hot = np.eye(pose.shape[-2], dtype=np.float32)
  relative = np.delete(one_hot, skeleton.ROOT, 0)
  relative[:, skeleton.ROOT] = -1
  depth = pose[..., 2] - pose[..., skeleton.ROOT : skeleton.ROOT + 1, 2]

  def step(z, _):
    joints = ray * z[..., None]
    bone = joints[..., child, :] - joints[..., _PARENT, :]
    length = jnp.linalg.norm(bone, axis=-1)
    along = bone / jnp.maximum(length, 1e-6)[..., None]

    def slope(end):  # derivative of each bone's length in all depths, through one of its ends
      return (along * ray[..., end, :]).sum(-1)[..., None] * one_hot[end]

    jacobian = slope(child) - slope(_PARENT)
    gradient = jnp.einsum("...ni,...n->...i", jacobian, length - lengths)
    gradient += RIGIDITY**2 * (z @ relative.T - depth[..., 1:]) @ relative
    hessian = jnp.einsum("...ni,...nj->...ij", jacobian, jacobian)
    hessian = hessian + RIGIDITY**2 * relative.T @ relative + 1e-3 * one_hot
    change = jnp.linalg.solve(hessian, gradient[..., None])[..., 0]
    return jnp.maximum(z - jnp.clip(change, -0.3, 0.3), NEAR_M), None

  with jax.default_matmul_precision("highest"):  # TPUs and GPUs would round depths to 7 or 10 bits
    depths, _ = jax.lax.scan(step, jnp.maximum(placed[..., 2], NEAR_M), None, length=8)
  return skeleton.root_centre(ray * depths[..., None])


def refine(pose: Float[Array, "b f j 3"], keypoints, intrinsics, confidence, how: str, lengths=()) -> Array:
  """`pose` unchanged (`none`), by `onto_rays` (`rays`) or by `fit_body` with `lengths` [*b 16] (`body`)."""
  if how == "rays":
    return onto_rays(pose, keypoints, intrinsics, confidence)
  if how == "body":
    return fit_body(pose, keypoints, intrinsics, confidence, lengths)
  return pose


def check_refinement(how: str, lengths) -> None:
  """Raises ValueError for an unknown refinement, and for `body` without a length for each bone."""
  if how not in REFINEMENTS:
    raise ValueError(f"refine {how!r} is unknown; choose one of {', '.join(REFINEMENTS)}")
  if how == "body" and len(lengths) != len(_PARENT):
    raise ValueError(f"refine body needs {len(_PARENT)} bone lengths in metres, {len(lengths)} are given")
