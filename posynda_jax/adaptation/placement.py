"""F (Eq. 3): source poses placed before the target cameras, and the rotations and body changes that go beyond it.

The paper's F changes scale and position (`place`). `align_spine`, `orbit` and `tumble` rotate clips; `resize`,
`with_bones` and `proportions` change bodies. Poses are metres in the camera frame. 2D and intrinsics share one unit,
px or screen-normalised; the published code mixes them, which multiplies depth by about a thousand.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera, skeleton

NEAR_M = 0.5  # smallest depth of a placed joint
_THORAX = 8
_UP = np.array([0, -1, 0], np.float32)  # the image's y axis points down
_LEGS = np.array([2, 3, 5, 6])  # knees and ankles


def place(
    poses: Float[Array, "*b f j 3"], target_keypoints: Float[Array, "*b f j 2"], intrinsics: Float[Array, "*b 9"]
) -> Float[Array, "*b f j 3"]:
  """Source poses (m, camera frame, absolute) moved to where they project with the size and position of the target.

  Depth z = (fx dx + fy dy) / (w + h) from the mean extents of pose and target box. The mean root lies on the ray of the
  target's, ((u - cx) / fx z, (v - cy) / fy z, z), and keeps its motion. PoseDA does this for each frame: clips of one.
  """
  root = poses[..., skeleton.ROOT, :]
  size_3d, size_2d, root_2d, middle = (
      x.mean(-2, keepdims=True)  # *b 1 c
      for x in (_extent(poses), _extent(target_keypoints), target_keypoints[..., skeleton.ROOT, :], root))
  focal, centre = intrinsics[..., None, :2], intrinsics[..., None, 2:4]
  z = (focal * size_3d).sum(-1, keepdims=True) / jnp.maximum(size_2d.sum(-1, keepdims=True), 1e-6)
  placed = jnp.concatenate([(root_2d - centre) / focal * z, z], -1) + root - middle  # *b f 3
  return skeleton.root_centre(poses) + placed[..., None, :]


def _extent(points: Float[Array, "*b j c"]) -> Float[Array, "*b 2"]:
  """Width and height of the box around the joints (x and y only)."""
  return points[..., :2].max(-2) - points[..., :2].min(-2)


def keep_in_front(poses: Float[Array, "*b f j 3"]) -> Float[Array, "*b f j 3"]:
  """Clips moved back along z until no joint has a depth below NEAR_M."""
  deficit = jnp.maximum(NEAR_M - poses[..., 2].min((-2, -1), keepdims=True), 0)[..., None]
  return poses + deficit * jnp.array([0.0, 0.0, 1.0])


def spine(poses: Float[Array, "*b f j 3"]) -> Float[Array, "*b 3"]:
  """Mean vector (m) from hips to thorax over the frames of each clip."""
  return (poses[..., _THORAX, :] - poses[..., skeleton.ROOT, :]).mean(-2)


def uprightness(poses: Float[Array, "*b f j 3"], up: Float[Array, "3"] = _UP) -> Float[Array, "*b"]:
  """Cosine of the angle between a clip's mean spine and `up`, by default the camera's vertical."""
  along = spine(poses)
  return (along * up).sum(-1) / jnp.maximum(jnp.linalg.norm(along, axis=-1), 1e-6)


def align_spine(poses: Float[Array, "*b f j 3"], direction: Float[Array, "*b 3"]) -> Float[Array, "*b f j 3"]:
  """Clips rotated about their mean root by the smallest angle that turns their mean spine into `direction`."""
  start, end = _unit(spine(poses)), _unit(direction)
  cosine = (start * end).sum(-1, keepdims=True)
  across = jnp.cross(start, jax.nn.one_hot(jnp.abs(start).argmin(-1), 3))  # any axis is as good for opposite vectors
  opposite = jnp.concatenate([jnp.zeros_like(cosine), across], -1)
  rotation = jnp.where(cosine > -1 + 1e-6, jnp.concatenate([1 + cosine, jnp.cross(start, end)], -1), opposite)
  return turn(poses, _unit(rotation))


def _unit(vectors: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
  return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def orbit(keys: Array, poses: Float[Array, "b f j 3"], up: Float[Array, "3"]) -> Float[Array, "b f j 3"]:
  """Clips rotated about the unit vector `up` through their mean root, by uniform angles drawn from the keys [b]."""
  half = jax.vmap(lambda key: jax.random.uniform(key, minval=-jnp.pi / 2, maxval=jnp.pi / 2))(keys)[:, None]
  return turn(poses, jnp.concatenate([jnp.cos(half), jnp.sin(half) * up], -1))


def tumble(keys: Array, poses: Float[Array, "b f j 3"], deviation: Float[Array, "b"]) -> Float[Array, "b f j 3"]:
  """Clips rotated about their mean root and random axes by normal angles of the given deviations (radians)."""

  def draw(key, deviation):
    axis_key, angle_key = jax.random.split(key)
    axis, half = jax.random.normal(axis_key, (3,)), deviation * jax.random.normal(angle_key) / 2
    return jnp.concatenate([jnp.cos(half)[None], jnp.sin(half) * axis / jnp.linalg.norm(axis)])

  return turn(poses, jax.vmap(draw)(keys, deviation))


def turn(poses: Float[Array, "*b f j 3"], rotation: Float[Array, "*b 4"]) -> Float[Array, "*b f j 3"]:
  """Clips rotated about their mean root by unit quaternions (w, x, y, z)."""
  middle = poses[..., skeleton.ROOT : skeleton.ROOT + 1, :].mean(-3, keepdims=True)
  return camera.rotate(rotation[..., None, None, :], poses - middle) + middle


def resize(poses: Float[Array, "*b j 3"], factor: Float[Array, "*#b j"]) -> Float[Array, "*b j 3"]:
  """Poses with the bone to joint j scaled by `factor[j]`; directions stay. Left bones take the right ones' factor."""
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


def proportions(own: Float[Array, "16"], observed: Float[Array, "16"]) -> Float[Array, "17"]:
  """Factors for `resize` that give a body of bone lengths `own` (m) the proportions of `observed` (any one unit).

  2D does not show a person's size, so the legs from hip to ankle keep their mean length. Knees and ankles are the
  joints that all captures place alike; hips, spine, shoulders and head differ between them.
  """
  ratio = jnp.log(jnp.maximum(observed, 1e-6) / own)
  ratio = jnp.concatenate([jnp.zeros(1), ratio - ratio[_LEGS - 1].mean()])
  left, right = np.array(skeleton.LEFT), np.array(skeleton.RIGHT)  # in the same order
  both = (ratio[left] + ratio[right]) / 2
  return jnp.exp(ratio.at[left].set(both).at[right].set(both))
