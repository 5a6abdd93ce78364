"""Cameras in the pose-lifting field's convention: frames, projection G and its inverse, screen units, the root solver.

Frames: `world` is the dataset's own; `camera` is x right, y down, z forward, in metres. Intrinsics are nine numbers
`[fx fy cx cy k1 k2 k3 p1 p2]` in pixels or screen-normalised, in the same unit as the 2D points. One vector [*b 9]
serves all frames and joints of a clip [*b f j c]. Quaternions are (w, x, y, z) and rotate camera coordinates into
world coordinates.

Screen-normalised points are divided by half the image width on both axes: x in [-1, 1], y in [-h/w, h/w]
(VideoPose3D, common/camera.py). Distortion follows VideoPose3D and not OpenCV: the tangential product has no factor 2
(DATASETS.md 1.2).
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def rotate(q: Float[Array, "*#b 4"], points: Float[Array, "*#b 3"]) -> Float[Array, "*#b 3"]:
  """Points rotated by unit quaternions (w, x, y, z)."""
  w, v = q[..., :1], q[..., 1:]
  v, points = jnp.broadcast_arrays(v, points)
  uv = jnp.cross(v, points)
  return points + 2 * (w * uv + jnp.cross(v, uv))


def world_to_camera(points_world, orientation, position):
  """Points [*b n 3] in the frame of cameras with `orientation` [*b 4] and `position` [*b 3]."""
  conjugate = orientation * np.array([1, -1, -1, -1], np.float32)
  return rotate(conjugate[..., None, :], points_world - position[..., None, :])


def camera_to_world(points_camera, orientation, position):
  """Inverse of `world_to_camera`."""
  return rotate(orientation[..., None, :], points_camera) + position[..., None, :]


def _per_clip(function):
  """A function of points [*b n c] and intrinsics [*b 9] that also takes points with more axes between b and c."""

  @functools.wraps(function)
  def flattened(points, intrinsics):
    out = function(points.reshape(intrinsics.shape[:-1] + (-1, points.shape[-1])), intrinsics[..., None, :])
    return out.reshape(points.shape[:-1] + out.shape[-1:])

  return flattened


def _distort(m, intrinsics):
  """Points x/z, y/z [*b n 2] with radial and tangential distortion (DATASETS.md 1.2), for intrinsics [*b 1 9]."""
  k, p = intrinsics[..., 4:7], intrinsics[..., 7:9]
  r2 = (m * m).sum(-1, keepdims=True)
  radial = 1 + k[..., :1] * r2 + k[..., 1:2] * r2**2 + k[..., 2:] * r2**3
  return m * (radial + (p * m).sum(-1, keepdims=True)) + p * r2


@_per_clip
def project(points, intrinsics):
  """G: image positions [*b ... 2] of camera-frame points [*b ... 3], with distortion, for intrinsics [*b 9].

  x/z and y/z are first clipped to [-1, 1] as in VideoPose3D, because the distortion polynomial is not valid beyond.
  """
  m = jnp.clip(points[..., :2] / points[..., 2:], -1, 1)
  return intrinsics[..., :2] * _distort(m, intrinsics) + intrinsics[..., 2:4]


@_per_clip
def project_linear(points, intrinsics):
  """As `project`, without distortion."""
  return intrinsics[..., :2] * jnp.clip(points[..., :2] / points[..., 2:], -1, 1) + intrinsics[..., 2:4]


@_per_clip
def rays(keypoints, intrinsics):
  """Directions (x/z, y/z) of image positions [*b ... 2]: the inverse of `project`, by fixed-point iteration.

  A direction stays within 1 of the undistorted one on each axis: far outside the image the iteration would diverge.
  """
  m = (keypoints - intrinsics[..., 2:4]) / intrinsics[..., :2]
  ideal = m
  for _ in range(10):
    ideal = jnp.clip(ideal - (_distort(ideal, intrinsics) - m), m - 1, m + 1)
  return ideal


def normalise_screen(px, resolution):
  """Pixel positions [*b ... 2] in screen units, for `resolution` [*b 2] (w, h)."""
  resolution = _aligned(resolution, px)
  return px / resolution[..., :1] * 2 - _centre(resolution)


def unnormalise_screen(keypoints, resolution):
  """Inverse of `normalise_screen`."""
  resolution = _aligned(resolution, keypoints)
  return (keypoints + _centre(resolution)) * resolution[..., :1] / 2


def _aligned(resolution, points):
  """Resolutions [*b 2] with the unit axes that broadcast them against points [*b ... 2]."""
  resolution = jnp.asarray(resolution, jnp.float32)
  return resolution.reshape(resolution.shape[:-1] + (1,) * (points.ndim - resolution.ndim) + (2,))


def _centre(resolution):
  """The image's centre [*b 2], from its top left corner, in screen units: (1, h / w)."""
  w, h = resolution[..., :1], resolution[..., 1:]
  return jnp.concatenate([jnp.ones_like(w), h / w], -1)


def normalise_intrinsics(intrinsics_px: Float[Array, "*b 9"], resolution: Float[Array, "*b 2"]):
  """Pixel intrinsics in screen units: f' = 2 f / w for both axes, and c' as any image point. Distortion has no unit."""
  scaled = intrinsics_px[..., :4] / resolution[..., :1] * 2
  return jnp.concatenate([scaled[..., :2], scaled[..., 2:] - _centre(resolution), intrinsics_px[..., 4:]], -1)


def intrinsics_from_sensor(mm: Float[Array, "9"], resolution_and_sensor: Float[Array, "4"]) -> Float[Array, "9"]:
  """Pixel intrinsics from focal lengths and the principal point's offset from the image centre, both in mm.

  `resolution_and_sensor` is (w px, h px, sensor width mm, sensor height mm), as in the 3DHP test set.
  """
  size, sensor = resolution_and_sensor[:2], resolution_and_sensor[2:]
  return jnp.concatenate([mm[:2] * size / sensor, mm[2:4] * size / sensor + size / 2, mm[4:]])


def joint_weights(confidence: Float[Array, "*b j"]) -> Float[Array, "*b j"]:
  """Confidence as weights of joints: in a frame without any, all joints count alike."""
  return jnp.where(confidence.max(-1, keepdims=True) > 0, confidence, 1.0)


def solve_root(
    pose: Float[Array, "*b j 3"], ray: Float[Array, "*b j 2"], confidence: Float[Array, "*b j"]
) -> Float[Array, "*b 3"]:
  """Root translation (m, camera frame) that best reprojects root-relative poses onto `rays(keypoints)`, in closed form.

  Minimises the confidence-weighted squares of x + tx - u (z + tz) and y + ty - v (z + tz), linear in three unknowns a
  frame. Weighted means eliminate tx and ty, which leaves one division for tz. tz keeps every joint at least 0.1 m
  from the camera. Joints of a frame without any confidence count alike.
  """
  confidence = joint_weights(confidence)
  weight = confidence[..., None] / jnp.maximum(confidence.sum(-1), 1e-9)[..., None, None]  # *b j 1

  def mean(x):
    return (weight * x).sum(-2, keepdims=True)

  z = pose[..., 2:]
  residual = ray * z - pose[..., :2]  # = (tx, ty) - ray tz
  ray_mean, residual_mean = mean(ray), mean(residual)
  ray_c, residual_c = ray - ray_mean, residual - residual_mean
  spread = (weight * ray_c * ray_c).sum((-1, -2))
  tz = -(weight * ray_c * residual_c).sum((-1, -2)) / jnp.maximum(spread, 1e-12)
  tz = jnp.maximum(tz, 0.1 - z.min((-1, -2)))
  txy = (residual_mean + ray_mean * tz[..., None, None])[..., 0, :]
  return jnp.concatenate([txy, tz[..., None]], -1)
