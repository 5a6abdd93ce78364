"""Pose errors as pure functions, one value a frame or a joint, so that the caller averages under its own mask.

Poses are root-relative unless a docstring says otherwise. Errors have the unit of the inputs. Leading axes broadcast.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

PCK_MM = 150.0
AUC_MM = np.arange(0.0, 151.0, 5.0)  # the 31 thresholds of the official 3DHP script
DHP_SCORED = tuple(range(14))  # in 3DHP-17 order: pelvis, spine and head are not scored


def joint_errors(pred: Float[Array, "*#b j 3"], target: Float[Array, "*#b j 3"]) -> Float[Array, "*#b j"]:
  """Euclidean distance of each joint."""
  return jnp.linalg.norm(pred - target, axis=-1)


def mpjpe(pred: Float[Array, "*#b j 3"], target: Float[Array, "*#b j 3"]) -> Float[Array, "*#b"]:
  """Mean distance over joints, per frame (protocol 1)."""
  return joint_errors(pred, target).mean(-1)


def n_mpjpe(pred: Float[Array, "*#b j 3"], target: Float[Array, "*#b j 3"]) -> Float[Array, "*#b"]:
  """`mpjpe` after the best scale of each frame (protocol 3)."""
  scale = (target * pred).sum((-2, -1), keepdims=True) / (pred * pred).sum((-2, -1), keepdims=True)
  return mpjpe(scale * pred, target)


def similarity_align(pred: Float[Array, "*#b j 3"], target: Float[Array, "*#b j 3"]) -> Float[Array, "*#b j 3"]:
  """`pred` after each frame's best scale, rotation (no reflection) and translation onto `target`."""
  pred_mean, target_mean = pred.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
  a, b = pred - pred_mean, target - target_mean
  with jax.default_matmul_precision("highest"):  # TPUs and GPUs would round products to 7 or 10 bits: millimetres
    u, s, vt = jnp.linalg.svd(jnp.swapaxes(a, -1, -2) @ b)
    sign = jnp.where(jnp.linalg.det(u @ vt) < 0, -1.0, 1.0)
    d = jnp.concatenate([jnp.ones_like(s[..., :2]), sign[..., None]], -1)  # makes a reflection the nearest rotation
    rotation = (u * d[..., None, :]) @ vt
    scale = (s * d).sum(-1)[..., None, None] / jnp.maximum((a * a).sum((-2, -1), keepdims=True), 1e-12)
    return scale * (a @ rotation) + target_mean


def p_mpjpe(pred: Float[Array, "*#b j 3"], target: Float[Array, "*#b j 3"]) -> Float[Array, "*#b"]:
  """`mpjpe` after similarity alignment of each frame (protocol 2)."""
  return mpjpe(similarity_align(pred, target), target)


def mpjve(pred: Float[Array, "*#b f j 3"], target: Float[Array, "*#b f j 3"]) -> Float[Array, "*#b f-1"]:
  """`mpjpe` of the differences between successive frames."""
  return mpjpe(jnp.diff(pred, axis=-3), jnp.diff(target, axis=-3))


def pck(errors: Float[Array, "*b j"], threshold: float) -> Float[Array, "*b"]:
  """Percentage of the given joints with an error strictly below the threshold, per frame."""
  return _percent((errors < threshold).sum(-1), errors.shape[-1])


def auc(errors_mm: Float[Array, "*b j"], thresholds=AUC_MM) -> Float[Array, "*b"]:
  """Mean of `pck` over the thresholds, per frame."""
  below = errors_mm[..., None] < jnp.asarray(thresholds, errors_mm.dtype)
  return _percent(below.sum((-1, -2)), errors_mm.shape[-1] * len(thresholds))


def _percent(count, total: int):
  """100 count / total, exactly rounded by a table: XLA multiplies by 1 / total, so the whole becomes 100.00001."""
  return jnp.asarray(100 * np.arange(total + 1) / total, jnp.float32)[count]
