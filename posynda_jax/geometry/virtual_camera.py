"""A virtual camera that renders the target's people at the direction, place and size of the source's people.

A lifter does not get focal length or viewing direction, so its error changes with the place of a person in the image.
A camera that rotates about its centre and zooms keeps all rays. Its image therefore follows exactly from 2D and
intrinsics, at any depth. The lifter works in the virtual camera's axes, and `to_camera_axes` rotates its poses back.
Perspective crop layers (arXiv 2011.13607) do this in training and in testing. A base with a canonical camera
(`CANONICAL`) does so too: it is trained with `channels`, which also encode zoom and viewing angle. For any other base
only the target is rendered anew, as the source's cameras show people.

A measured view is an array of five numbers, all medians over the source's clips: direction (x/z, y/z) of people
before the camera, place (x, y) in the image and size, both screen-normalised. Size is the root mean square distance
of joints from their mean.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera

_MIN_SIZE = 1e-3  # least size (x/z) of a person, so that a degenerate clip stays finite
MIN_DEPTH = 0.1  # least z in a division: limits x/z far from the optical axis
CANONICAL = (0.0, 0.0, 0.0, 0.0, 0.25)  # the view with people on the optical axis, at one size in the image
CHANNELS = 5  # of `channels`
SEEN = 0.2  # least confidence of a joint whose position counts
MOST_PITCH = 0.6  # largest sine of a camera's pitch that hypotheses assume
_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, without their whole part, are spread evenly, however many
_PITCHES = 1 << 31  # folded into a clip's key for its pitches; hypotheses fold in their numbers
_USUAL_FOCAL = 2.0  # of the canonical camera, for a person at about four metres


def measure_view(
    keypoints: Float[Array, "b f j 2"], poses: Float[Array, "b f j 3"], valid: Float[Array, "b f"]
) -> tuple[float, ...]:
  """The view of the source's cameras, from clips with absolute camera-frame poses (m): medians over clips, rounded.

  Raises ValueError without a valid frame.
  """
  keypoints, poses, weight = (np.asarray(x, np.float64) for x in (keypoints, poses, valid))
  used = weight.sum(-1) > 0
  if not used.any():
    raise ValueError("the source has no valid frame, so its cameras' view of people cannot be measured")

  def median(values):  # over clips, of the means over valid frames
    return np.median((values * weight[..., None]).sum(1)[used] / weight.sum(-1)[used, None], 0)

  direction, place = (poses[..., :2] / np.maximum(poses[..., 2:], MIN_DEPTH)).mean(2), keypoints.mean(2)
  spread = ((keypoints - place[:, :, None]) ** 2).sum(-1).mean(2)[..., None]
  return tuple(np.concatenate([median(direction), median(place), np.sqrt(median(spread))]).round(4).tolist())


def render_clip(clip: dict, view: Float[Array, "5"]) -> tuple[dict, Float[Array, "b 3 3"]]:
  """Clips as a virtual camera renders them, one camera a clip, and the rotations into its axes.

  Direction, place and size of a clip's people become those of `view`. They are means over valid frames, weighted by
  confidence. The new clip has new keypoints, new intrinsics (without distortion) and, if the clip has poses, new poses.
  """
  view = jnp.asarray(view, jnp.float32)
  weight = (clip["confidence"] * clip["valid"][..., None])[..., None] + 1e-9  # b f j 1

  def mean(x, axes):
    return (weight * x).sum(axes, keepdims=True) / weight.sum(axes, keepdims=True)

  ray = camera.rays(clip["keypoints"], clip["intrinsics"])
  ray = jnp.concatenate([ray, jnp.ones_like(ray[..., :1])], -1)
  direction = mean(ray / jnp.linalg.norm(ray, axis=-1, keepdims=True), (1, 2))[:, 0, 0]  # b 3
  rotation = product(jnp.swapaxes(facing(jnp.append(view[:2], 1.0)), -1, -2), facing(direction))
  ray = rotate_by_matrix(rotation, ray)
  image = ray[..., :2] / jnp.maximum(ray[..., 2:], MIN_DEPTH)
  middle = mean(image, (1, 2))
  size = jnp.sqrt(mean(((image - mean(image, 2)) ** 2).sum(-1, keepdims=True), (1, 2)))
  focal = view[4] / jnp.maximum(size, _MIN_SIZE)
  centre = view[2:4] - focal * middle
  distortion = jnp.zeros_like(clip["intrinsics"][:, 4:])
  intrinsics = jnp.concatenate([focal[:, 0, 0], focal[:, 0, 0], centre[:, 0, 0], distortion], -1)
  rendered = {**clip, "keypoints": focal * image + centre, "intrinsics": intrinsics}
  if "poses" in clip:
    rendered["poses"] = rotate_by_matrix(rotation, clip["poses"])
  return rendered, rotation


def channels(rendered: dict, rotation: Float[Array, "b 3 3"]) -> Float[Array, "b f j 5"]:
  """What a base with a canonical camera gets of a rendered clip, for the rotation from the real camera's axes.

  Channels: x, y and 1 of a joint with confidence SEEN or more, else three zeros; the logarithm of the zoom, which falls
  with a person's size in the real image; the sine of the angle by which the person is below the real camera's axis.
  """
  seen = (rendered["confidence"] >= SEEN)[..., None].astype(jnp.float32)
  of_clip = jnp.stack([jnp.log(rendered["intrinsics"][:, 0] / _USUAL_FOCAL), rotation[:, 2, 1]], -1)
  of_clip = jnp.broadcast_to(of_clip[:, None, None], seen.shape[:-1] + (2,))
  return jnp.concatenate([seen * rendered["keypoints"], seen, of_clip], -1)


def assume_pitches(inputs: Float[Array, "b f j 5"], keys: Array, count: int) -> Float[Array, "h b f j 5"]:
  """`channels` once for each of `count` hypotheses: as they are, then for cameras that are pitched.

  An image hardly tells a camera's pitch from a person's lean. So a sine of up to MOST_PITCH is added to the last
  channel, which says how far a person is below the camera's axis. Those of a clip are spread evenly from a start that
  is drawn with the clip's key (`keys` [b]).
  """
  start = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _PITCHES)))(keys)
  turns = (start + _GOLDEN * jnp.arange(count)[:, None]) % 1  # h b
  sines = (MOST_PITCH * (2 * turns - 1)).at[0].set(0)
  return jnp.broadcast_to(inputs, (count, *inputs.shape)).at[..., -1].add(sines[..., None, None])


def to_camera_axes(poses: Float[Array, "*h b f j 3"], rotation: Float[Array, "b 3 3"]) -> Float[Array, "*h b f j 3"]:
  """Poses from a virtual camera's axes in the axes of the real camera, for the `rotation` of `render_clip`."""
  return rotate_by_matrix(jnp.swapaxes(rotation, -1, -2), poses)


def facing(direction: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
  """The rotation by pan and tilt, without roll, that brings `direction` (z > 0) onto the optical axis."""

  def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

  ahead = unit(direction)
  right = unit(jnp.cross(jnp.array([0.0, 1.0, 0.0]), ahead))
  return jnp.stack([right, jnp.cross(ahead, right), ahead], -2)


def rotate_by_matrix(rotation: Float[Array, "b 3 3"], points: Float[Array, "*h b f j 3"]) -> Array:
  """Points [*h b f j 3] rotated by one matrix a clip, in float32 even where matrix products have lower precision."""
  return (rotation[:, None, None] * points[..., None, :]).sum(-1)


def product(a: Float[Array, "*#b 3 3"], b: Float[Array, "*#b 3 3"]) -> Float[Array, "*b 3 3"]:
  """a @ b in float32, as `rotate_by_matrix`."""
  return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
