"""Small bodies, cameras and models that the tests share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.geometry import camera

# A standing person, metres, Y up, hips at 0.95 m (H36M-17 order).
_STANDING = np.array([
    [0, 0.95, 0], [-0.13, 0.95, 0], [-0.14, 0.5, 0.03], [-0.14, 0.08, 0], [0.13, 0.95, 0], [0.14, 0.5, 0.03],
    [0.14, 0.08, 0], [0, 1.18, 0], [0, 1.43, 0], [0, 1.53, 0.04], [0, 1.65, 0], [0.16, 1.4, 0], [0.2, 1.12, 0],
    [0.22, 0.87, 0.05],
    [-0.16, 1.4, 0], [-0.2, 1.12, 0], [-0.22, 0.87, 0.05],
], np.float32)
VIDEO = {"resolution": (1000, 800), "fps": 12.5, "intrinsics": (900.0, 900.0, 500.0, 400.0)}  # of `filmed`
INTRINSICS = np.array([2.3, 2.3, 0.02, -0.01, -0.2, 0.24, -0.001, -0.0009, -0.0014], np.float32)  # screen-normalised


def motion(num_frames: int, seed: int = 0) -> np.ndarray:
  """World motion [f 17 3]: a standing person whose joints sway smoothly."""
  rng = np.random.default_rng(seed)
  phase, rate = rng.uniform(0, 6, (17, 3)), rng.uniform(0.05, 0.2, (17, 3))
  time = np.arange(num_frames)[:, None, None]
  return (_STANDING + 0.05 * np.sin(phase + rate * time)).astype(np.float32)


def poses(batch: tuple[int, ...], seed: int = 0, depth: float = 4.0) -> np.ndarray:
  """Absolute camera-frame poses [*batch 17 3] of swaying people around (0, 0, depth)."""
  rng = np.random.default_rng(seed)
  body = _STANDING * [1, -1, -1] + [0, 0.95, 0]
  place = rng.uniform([-0.8, -0.5, depth - 1], [0.8, 0.5, depth + 1], batch + (1, 3))
  return (body + 0.05 * rng.standard_normal(batch + (17, 3)) + place).astype(np.float32)


def filmed(num_frames: int = 30) -> tuple[np.ndarray, np.ndarray]:
  """Poses [T 17 3] of a swaying person 4 m before the camera of VIDEO, and their keypoints [T 17 2] in px."""
  poses = (motion(num_frames) * [1, -1, -1] + [0, 0.95, 4]).astype(np.float32)
  return poses, np.asarray(camera.project(poses, np.float32([*VIDEO["intrinsics"], 0, 0, 0, 0, 0])))


def tiny_model(num_frames: int = 3, inputs: int = 2, doubt: bool = False) -> tuple[MixSTE, dict]:
  """A denoiser 16 wide, one spatial and one temporal block, and parameters that answer to everything; a tree of the
  caller's own.
  """
  model, params = _tiny_model(num_frames, inputs, doubt)
  return model, jax.tree.map(lambda leaf: leaf, params)


@functools.cache
def _tiny_model(num_frames: int, inputs: int, doubt: bool) -> tuple[MixSTE, dict]:
  model = MixSTE(num_frames=num_frames, width=16, depth=1, num_heads=2, inputs=inputs, doubt=doubt)
  shape = (1, num_frames, 17)
  arguments = np.zeros((*shape, inputs)), np.zeros((*shape, 3)), np.zeros(1, np.int32)
  return model, draw(jax.eval_shape(model.init, jax.random.key(0), *arguments))


def draw(shapes, seed: int = 1):
  """A tree of these shapes with random numbers everywhere; scales and variances are around 1."""
  rng = np.random.default_rng(seed)

  def of(path, leaf):
    return jnp.array(0.2 * rng.standard_normal(leaf.shape) + (path[-1].key in ("scale", "var")), leaf.dtype)

  return jax.tree_util.tree_map_with_path(of, shapes)
