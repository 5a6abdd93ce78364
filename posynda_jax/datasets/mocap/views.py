"""Fixed virtual views of a motion: a take is cut into shots, and every camera of a rig renders each shot.

A view's key is a pure function of (dataset, sequence, shot, view). So every build has the same views, and the `gt` and
`detected` configurations of a rig differ in their keypoints only.
"""

import functools
import math
import zlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.data import clips
from posynda_jax.datasets import record
from posynda_jax.geometry import detector, rigs

SHOT_SECONDS = 6.0
WANTED_FPS = 50.0
LEAST_IN_IMAGE, LEAST_SECONDS = 0.5, 0.6  # share of the joints; the length of nine frames at 15 a second


def stride_to(fps: float) -> int:
  """The stride over frames that gives the rate nearest to WANTED_FPS by ratio: 120 fps becomes 60, not 40."""
  return min(range(1, max(1, round(fps)) + 1), key=lambda stride: abs(math.log(fps / stride / WANTED_FPS)))


def shots(num_frames: int, max_frames: int) -> list[slice]:
  """The fewest slices of at most `max_frames` that cover all frames once. Their lengths differ by at most one frame.

  A slice of a long take is at least half a shot long. A take shorter than that is one slice.
  """
  pieces = -(-num_frames // max_frames)
  cuts = [i * num_frames // pieces for i in range(pieces + 1)]
  return [slice(*cut) for cut in zip(cuts, cuts[1:])]


def render_shots(
    motion: np.ndarray, rig_name: str, max_frames: int, *, detected: bool, dataset: str, sequence: str
) -> Iterator[tuple[int, int, dict]]:
  """(shot, view, fields of the record but labels) of all shots of at most `max_frames` of a motion [f 17 3] (m, Y up).

  Raises ValueError for a rig that `rigs.get_rig` does not know.
  """
  render = _make_render(rig_name, detected)
  for shot, frames in enumerate(shots(len(motion), max_frames)):
    one, num_frames = motion[frames], frames.stop - frames.start
    identity = np.array([zlib.crc32(dataset.encode()), zlib.crc32(sequence.encode()), shot], np.uint32)
    # Padding to one length saves compilations. Frames of the mean pose change neither the mean root, the least depth
    # nor the extent in the image, so `draw_view` places the shot as without them.
    rest = np.broadcast_to(one.mean(0), (max_frames - num_frames,) + motion.shape[1:])
    rendered, confidence = jax.tree.map(np.asarray, render(identity, np.concatenate([one, rest]).astype(np.float32)))
    for view in range(len(confidence)):
      poses = rendered.poses_camera[view, :num_frames]
      yield shot, view, {
          "keypoints_px": rendered.keypoints_px[view, :num_frames],
          "confidence": confidence[view, :num_frames],
          "poses_camera_m": poses,
          "valid": np.isfinite(poses).all((-2, -1)),
          "intrinsics": rendered.intrinsics[view],
          "resolution": rendered.resolution[view],
          "camera": f"{rig_name}/{view}",
      }


def spans_in_image(view: dict, fps: float) -> list[slice]:
  """Frames in a row of a view's fields in which at least LEAST_IN_IMAGE of the joints are inside the image, for
  LEAST_SECONDS or the whole shot. A shot is placed as a whole, so runners leave the image and come back.
  """
  px = view["keypoints_px"]
  inside = ((px >= 0) & (px < view["resolution"])).all(-1).mean(-1) >= LEAST_IN_IMAGE
  least = min(LEAST_SECONDS * fps, len(inside))
  return [span for span in clips.stretches(inside) if span.stop - span.start >= least]


def frames_of(view: dict, span: slice) -> dict:
  """The frames `span` of a view's fields."""
  return {name: value[span] if name in record.PER_FRAME else value for name, value in view.items()}


@functools.cache
def _make_render(rig_name: str, detected: bool):
  """A compiled function (identity [3], motion [f 17 3]) -> (View, confidence [v f 17]) of all v views at once."""
  rig = rigs.get_rig(rig_name)

  def render(view, identity, motion):
    key = jax.random.key(0, impl="threefry2x32")
    for number in (*identity, view):
      key = jax.random.fold_in(key, number)
    exact = rigs.draw_view(key, motion, rig, view)
    if not detected:
      return exact, jnp.ones(exact.keypoints_px.shape[:-1])
    # The detector has its own key, so that the draws of the view are the same with and without it.
    detector_key = jax.random.fold_in(key, zlib.crc32(b"detector"))
    keypoints, confidence = detector.detect(detector_key, exact.keypoints_px)
    return exact.replace(keypoints_px=keypoints), confidence

  views = jnp.arange(rig.num_views)
  return jax.jit(lambda identity, motion: jax.vmap(render, (0, None, None))(views, identity, motion))
