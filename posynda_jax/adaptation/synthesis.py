"""Target-specific source augmentation F (Eq. 3): source poses re-placed before the target's cameras.

A source clip is paired with a random target clip (the input pipeline draws it) and moved so that the target's camera sees it at the target's size and
place; its labels stay root-relative. Scale and position are all that the paper's F changes. Beyond it, for who asks: clips are turned
(`tilt`, `align_spine`, `orbit`, `tumble`), performed by other bodies (`stretch`, `proportions`). Everything is in one
unit system: metres, and 2D with its intrinsics either both in px or both screen-normalised (the published code mixes them,
which multiplies the depth by about a thousand).
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera, skeleton

Alignment = Literal["clip", "frame"]
_THORAX = 8
_UP = np.array([0, -1, 0], np.float32)  # image y points down
_LEGS = np.array([2, 3, 5, 6])  # knees and ankles
ALIGNMENTS = ("clip", "frame")
NEAR_M = 0.5  # no joint is placed nearer to the camera's plane than this


def _extent(points: Float[Array, "*b j c"]) -> Float[Array, "*b 2"]:
  """Width and height of the box around the joints (x and y only)."""
  return points[..., :2].max(-2) - points[..., :2].min(-2)


def place(
    poses: Float[Array, "*b f j 3"],
    target_keypoints: Float[Array, "*b f j 2"],
    intrinsics: Float[Array, "*b 9"],
    align: Alignment = "clip",
) -> Float[Array, "*b f j 3"]:
  """Source poses (m, camera frame, absolute) where the target camera sees them at the target's size and place.

  Depth z = (fx dx + fy dy) / (w + h) from the extents of pose and target box; the root lies on the target root's ray
  ((u - cx) / fx z, (v - cy) / fy z, z). `frame` does so for every frame (PoseDA); `clip` finds one depth and one ray for the
  clip, from mean extents and mean root, and keeps the source's own root motion around it.
  """
  if align not in ALIGNMENTS:
    raise ValueError(f"alignment {align!r} is unknown; choose one of {', '.join(ALIGNMENTS)}")
  size_3d, size_2d = _extent(poses), _extent(target_keypoints)  # *b f 2
  root_2d = target_keypoints[..., skeleton.ROOT, :]
  source_root = poses[..., skeleton.ROOT, :]
  if align == "clip":
    size_3d, size_2d, root_2d = (x.mean(-2, keepdims=True) for x in (size_3d, size_2d, root_2d))
    motion = source_root - source_root.mean(-2, keepdims=True)
  else:
    motion = 0.0
  focal, centre = intrinsics[..., None, :2], intrinsics[..., None, 2:4]
  z = (focal * size_3d).sum(-1, keepdims=True) / jnp.maximum(size_2d.sum(-1, keepdims=True), 1e-6)  # *b f|1 1
  root = jnp.concatenate([(root_2d - centre) / focal * z, z], -1) + motion  # *b f 3
  placed = skeleton.root_centre(poses) + root[..., None, :]
  return keep_before(placed) if align == "clip" else placed


def keep_before(poses: Float[Array, "*b f j 3"]) -> Float[Array, "*b f j 3"]:
  """Clips moved back as far as they need so that no joint comes nearer than NEAR_M: nobody walks through the camera."""
  deficit = jnp.maximum(NEAR_M - poses[..., 2].min((-2, -1), keepdims=True), 0)[..., None]
  return poses + deficit * jnp.array([0.0, 0.0, 1.0])


def spine(poses: Float[Array, "*b f j 3"]) -> Float[Array, "*b 3"]:
  """The clip's mean vector (m) from hips to thorax."""
  return (poses[..., _THORAX, :] - poses[..., skeleton.ROOT, :]).mean(-2)


def lean(poses: Float[Array, "*b f j 3"]) -> Float[Array, "*b"]:
  """Angle (radians) of the clip's mean spine from the camera's vertical, in the y-z plane: positive leans away."""
  along = spine(poses)
  return jnp.arctan2(along[..., 2], -along[..., 1])


def uprightness(poses: Float[Array, "*b f j 3"], up: Float[Array, "3"] = _UP) -> Float[Array, "*b"]:
  """Cosine of the angle between the clip's mean spine and `up`, the camera's vertical by default: 1 stands, 0 lies or is seen from above."""
  along = spine(poses)
  return (along * up).sum(-1) / jnp.maximum(jnp.linalg.norm(along, axis=-1), 1e-6)


def tilt(poses: Float[Array, "*b f j 3"], angle: Float[Array, "*b"]) -> Float[Array, "*b f j 3"]:
  """Clips pitched about their mean root so that their `lean` grows by `angle` (radians): cameras look up or down at people."""
  half, zero = -angle / 2, jnp.zeros_like(angle)
  return turn(poses, jnp.stack([jnp.cos(half), jnp.sin(half), zero, zero], -1))


def align_spine(poses: Float[Array, "*b f j 3"], direction: Float[Array, "*b 3"]) -> Float[Array, "*b f j 3"]:
  """Clips turned about their mean root, the shortest way, so that their mean spine points along `direction`: F with rotation."""
  unit = lambda x: x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
  start, end = unit(spine(poses)), unit(direction)
  cosine = (start * end).sum(-1, keepdims=True)
  across = jnp.cross(start, jax.nn.one_hot(jnp.abs(start).argmin(-1), 3))  # where they are opposite, every way is as short
  opposite = jnp.concatenate([jnp.zeros_like(cosine), across], -1)
  return turn(poses, unit(jnp.where(cosine > -1 + 1e-6, jnp.concatenate([1 + cosine, jnp.cross(start, end)], -1), opposite)))


def orbit(keys: Array, poses: Float[Array, "b f j 3"], up: Float[Array, "3"]) -> Float[Array, "b f j 3"]:
  """Clips turned about the unit vector `up` through their mean root, each by an angle of its own key: seen from any side."""
  half = jax.vmap(lambda key: jax.random.uniform(key, minval=-jnp.pi / 2, maxval=jnp.pi / 2))(keys)[:, None]
  return turn(poses, jnp.concatenate([jnp.cos(half), jnp.sin(half) * up], -1))


def tumble(keys: Array, poses: Float[Array, "b f j 3"], deviation: Float[Array, "b"]) -> Float[Array, "b f j 3"]:
  """Clips turned about their mean root and any axis by normal angles of these standard deviations (radians)."""

  def draw(key, deviation):
    axis_key, angle_key = jax.random.split(key)
    axis, half = jax.random.normal(axis_key, (3,)), deviation * jax.random.normal(angle_key) / 2
    return jnp.concatenate([jnp.cos(half)[None], jnp.sin(half) * axis / jnp.linalg.norm(axis)])

  return turn(poses, jax.vmap(draw)(keys, deviation))


def turn(poses: Float[Array, "*b f j 3"], rotation: Float[Array, "*b 4"]) -> Float[Array, "*b f j 3"]:
  """Clips turned about their mean root by unit quaternions."""
  middle = poses[..., skeleton.ROOT : skeleton.ROOT + 1, :].mean(-3, keepdims=True)
  return camera.rotate(rotation[..., None, None, :], poses - middle) + middle


def stretch(key: Array, poses: Float[Array, "f j 3"], spread: float) -> Float[Array, "f j 3"]:
  """A clip performed by another body: every bone length times exp(N(0, spread)), directions kept."""
  return resize(poses, jnp.exp(spread * jax.random.normal(key, (len(skeleton.PARENTS),))))


def resize(poses: Float[Array, "*b j 3"], factor: Float[Array, "*#b j"]) -> Float[Array, "*b j 3"]:
  """Poses with the bone to joint j times `factor[j]`, of a left bone the right one's; the root and all directions stay."""
  return _scale_bones(poses, factor.at[..., np.array(skeleton.LEFT)].set(factor[..., np.array(skeleton.RIGHT)]))


def with_bones(poses: Float[Array, "*b j 3"], lengths: Float[Array, "16"]) -> Float[Array, "*b j 3"]:
  """Poses whose bones have the given lengths (m); the root and all directions stay."""
  factor = lengths / jnp.maximum(skeleton.bone_lengths(poses), 1e-6)
  return _scale_bones(poses, jnp.concatenate([jnp.ones_like(factor[..., :1]), factor], -1))


def _scale_bones(poses, factor):
  joints = [poses[..., skeleton.ROOT, :]]
  for child, parent in enumerate(skeleton.PARENTS[1:], start=1):
    joints.append(joints[parent] + factor[..., child, None] * (poses[..., child, :] - poses[..., parent, :]))
  return jnp.stack(joints, -2)


def proportions(own: Float[Array, "16"], seen: Float[Array, "16"]) -> Float[Array, "17"]:
  """Factors for `resize` that give bodies of mean bone lengths `own` (m) the proportions of `seen` (in any one unit).

  How large people are is not in 2D, so the legs from hip to ankle keep their length: knees and ankles are what all captures
  mean alike, while hips, spine, shoulders and head are drawn differently by each.
  """
  ratio = jnp.log(jnp.maximum(seen, 1e-6) / own)
  ratio = jnp.concatenate([jnp.zeros(1), ratio - ratio[_LEGS - 1].mean()])
  left, right = np.array(skeleton.LEFT), np.array(skeleton.RIGHT)  # in the same order
  both = (ratio[left] + ratio[right]) / 2
  return jnp.exp(ratio.at[left].set(both).at[right].set(both))
