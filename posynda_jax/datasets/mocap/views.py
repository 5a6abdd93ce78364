"""Fixed virtual views of a motion: cut into shots, each shot seen by every camera of a rig.

A view's key is a pure function of (dataset, sequence, shot, view), so every build anywhere has the same views, and the
`gt` and `detected` configurations of a rig differ in their keypoints alone.
"""

import functools
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.geometry import rigs

SHOT_SECONDS = 6.0
WANTED_FPS = 50.0


def stride_to(fps: float, wanted: float = WANTED_FPS) -> int:
  """Every how many-th frame to keep for a rate nearest to `wanted`, by ratio: 120 fps becomes 60, not 40."""
  return min(range(1, max(1, round(fps)) + 1), key=lambda stride: abs(math.log(fps / stride / wanted)))


def shots(num_frames: int, max_frames: int) -> list[slice]:
  """The fewest pieces of at most `max_frames` that cover all frames once; their lengths differ by one frame at most.

  No piece of a long take is shorter than half a shot; a take shorter than that is one piece.
  """
  pieces = -(-num_frames // max_frames)
  cuts = [i * num_frames // pieces for i in range(pieces + 1)]
  return [slice(*cut) for cut in zip(cuts, cuts[1:])]


def see(motion: np.ndarray, rig_name: str, *, detected: bool, max_frames: int, dataset: str, sequence: str, shot: int):
  """Yields (view, camera-dependent fields of its record) of a shot [f 17 3] (m, Y up), f <= max_frames.

  Raises ValueError for a rig that `rigs.get_rig` does not know.
  """
  num_frames = len(motion)
  identity = np.array([zlib.crc32(dataset.encode()), zlib.crc32(sequence.encode()), shot], np.uint32)
  # One length means one compilation. Frames that hold the mean pose leave the shot's mean root and its nearest joint,
  # by which `draw_view` places it, where they are, and stay inside the room it takes in the image.
  rest = np.broadcast_to(motion.mean(0), (max_frames - num_frames,) + motion.shape[1:])
  seen, confidence = _make_see(rig_name, detected)(identity, np.concatenate([motion, rest]).astype(np.float32))
  seen, confidence = jax.tree.map(np.asarray, (seen, confidence))
  for view in range(len(confidence)):
    poses = seen.poses_camera[view, :num_frames]
    yield view, {
        "keypoints_px": seen.keypoints_px[view, :num_frames],
        "confidence": confidence[view, :num_frames],
        "poses_camera_m": poses,
        "valid": np.isfinite(poses).all((-2, -1)),
        "intrinsics": seen.intrinsics[view],
        "resolution": seen.resolution[view],
        "camera": f"{rig_name}/{view}",
    }


@functools.cache
def _make_see(rig_name: str, detected: bool):
  """A compiled function (identity [3], motion [f 17 3]) -> (View, confidence [v f 17]), all views at once."""
  rig = rigs.get_rig(rig_name)

  def see_from(view, identity, motion):
    key = jax.random.key(0, impl="threefry2x32")
    for number in (*identity, view):
      key = jax.random.fold_in(key, number)
    seen = rigs.draw_view(key, motion, rig, view)
    if not detected:
      return seen, jnp.ones(seen.keypoints_px.shape[:-1])
    # A stream of its own: the draws of the view are the same with and without a detector.
    keypoints, confidence = rigs.detect(jax.random.fold_in(key, zlib.crc32(b"detector")), seen.keypoints_px)
    return seen.replace(keypoints_px=keypoints), confidence

  views = jnp.arange(rig.num_views)
  return jax.jit(lambda identity, motion: jax.vmap(see_from, (0, None, None))(views, identity, motion))
