"""A virtual camera for the target: it sees people where and as large as the source's cameras do (`--view=source`).

A camera that turns about its own centre and zooms sees along the same rays, so its image of the same people follows from 2D and
intrinsics alone, exactly, whatever the depth. Poses then come in its axes and are turned back. A lifter knows neither focal length
nor axis of its camera: what it takes for a pose changes with where someone stands in the image. Here that is undone, not learned.
Perspective crop layers (arXiv 2011.13607) do it in training and test alike; here the base is given, and only the target is turned.

A view is five numbers: the direction (x/z, y/z) of people before the source's cameras, their place (x, y) in its images and their
size there, both screen-normalised; size is the root mean square distance of joints from their middle.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera

View = tuple[float, ...]  # direction x, y; place x, y; size
VIEWS = ("own", "source")
_LEAST = 1e-3  # size (x/z) of the smallest person: a degenerate clip stays finite
_AHEAD = 0.1  # cosine: nothing is seen further from the axis than this


def check(view) -> None:
  """Raises ValueError for what is neither five numbers nor empty."""
  if len(view) not in (0, 5):
    raise ValueError(f"a view is five numbers (direction x, y; place x, y; size) or empty, {len(view)} are given")


def usual_view(keypoints: Float[Array, "b f j 2"], poses: Float[Array, "b f j 3"], valid: Float[Array, "b f"]) -> View:
  """How the source's cameras see people, of clips with absolute camera-frame poses (m): medians over clips, rounded.

  Raises ValueError without a valid frame.
  """
  keypoints, poses, weight = (np.asarray(x, np.float64) for x in (keypoints, poses, valid))
  seen = weight.sum(-1) > 0
  if not seen.any():
    raise ValueError("the source has no valid frame, so how its cameras see people is unknown")
  of_clips = lambda x: np.median((x * weight[..., None]).sum(1)[seen] / weight.sum(-1)[seen, None], 0)
  direction, place = (poses[..., :2] / np.maximum(poses[..., 2:], _AHEAD)).mean(2), keypoints.mean(2)
  spread = ((keypoints - place[:, :, None]) ** 2).sum(-1).mean(2)[..., None]
  return tuple(np.concatenate([of_clips(direction), of_clips(place), np.sqrt(of_clips(spread))]).round(4).tolist())


def look(clip: dict, view: View) -> tuple[dict, Float[Array, "b 3 3"]]:
  """Clips as a virtual camera sees them, one camera a clip, and the rotation into its axes.

  The clip's people, each joint by its confidence in valid frames, are seen in the direction, at the place and in the size that
  `view` says. Of `clip`, keypoints, intrinsics (without distortion) and, where there are any, poses are new.
  """
  weight = (clip["confidence"] * clip["valid"][..., None])[..., None] + 1e-9  # b f j 1
  mean = lambda x, axes: (weight * x).sum(axes, keepdims=True) / weight.sum(axes, keepdims=True)
  ray = camera.rays(clip["keypoints"], clip["intrinsics"])
  ray = jnp.concatenate([ray, jnp.ones_like(ray[..., :1])], -1)
  direction = mean(ray / jnp.linalg.norm(ray, axis=-1, keepdims=True), (1, 2))[:, 0, 0]  # b 3
  turn = _product(jnp.swapaxes(facing(jnp.array([*view[:2], 1.0])), -1, -2), facing(direction))
  ray = rotate(turn, ray)
  seen = ray[..., :2] / jnp.maximum(ray[..., 2:], _AHEAD)
  middle = mean(seen, (1, 2))
  size = jnp.sqrt(mean(((seen - mean(seen, 2)) ** 2).sum(-1, keepdims=True), (1, 2)))
  focal = view[4] / jnp.maximum(size, _LEAST)
  centre = jnp.array(view[2:4]) - focal * middle
  intrinsics = jnp.concatenate([focal[:, 0, 0], focal[:, 0, 0], centre[:, 0, 0], jnp.zeros_like(clip["intrinsics"][:, 4:])], -1)
  clip = {**clip, "keypoints": focal * seen + centre, "intrinsics": intrinsics}
  return clip | ({"poses": rotate(turn, clip["poses"])} if "poses" in clip else {}), turn


def turn_back(poses: Float[Array, "*h b f j 3"], turn: Float[Array, "b 3 3"]) -> Float[Array, "*h b f j 3"]:
  """Poses in a virtual camera's axes, in those of the camera that filmed them."""
  return rotate(jnp.swapaxes(turn, -1, -2), poses)


def facing(direction: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
  """Rotation that brings `direction` (z > 0) onto the axis of a camera by panning and tilting: it never rolls."""
  unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  ahead = unit(direction)
  right = unit(jnp.cross(jnp.array([0.0, 1.0, 0.0]), ahead))
  return jnp.stack([right, jnp.cross(ahead, right), ahead], -2)


def rotate(turn: Float[Array, "b 3 3"], points: Float[Array, "*h b f j 3"]) -> Float[Array, "*h b f j 3"]:
  """Points turned clip by clip, in float32 also where matrix products are not."""
  return (turn[:, None, None] * points[..., None, :]).sum(-1)


def _product(a: Float[Array, "*#b 3 3"], b: Float[Array, "*#b 3 3"]) -> Float[Array, "*b 3 3"]:
  return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
