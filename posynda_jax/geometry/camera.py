"""Cameras as the pose-lifting field uses them: intrinsics, extrinsics, projection G and its inverse problem.

Frames: `world` is the dataset's own; `camera` is x right, y down, z forward, metres. Intrinsics are nine numbers
`[fx fy cx cy k1 k2 k3 p1 p2]`, in pixels or screen-normalised, always with 2D points in the same unit. Quaternions are
(w, x, y, z) and rotate camera coordinates into world coordinates. "Screen-normalised" divides both axes by half the
image *width*: x in [-1, 1], y in [-h/w, h/w] (VideoPose3D, common/camera.py). The distortion is the field's, not
OpenCV's: the tangential product has no factor 2 (DATASETS.md 1.2).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# One intrinsics vector serves all joints of all frames of a clip: [*b 9] against points [*b f j c].


def rotate(q: Float[Array, "*#b 4"], points: Float[Array, "*#b 3"]) -> Float[Array, "*#b 3"]:
  """Points turned by unit quaternions (w, x, y, z)."""
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


def distort(m: Float[Array, "*b n 2"], intrinsics: Float[Array, "*b 9"]) -> Float[Array, "*b n 2"]:
  """Radial and tangential distortion of ideal image points x/z, y/z (DATASETS.md 1.2)."""
  k, p = intrinsics[..., None, 4:7], intrinsics[..., None, 7:9]
  r2 = (m * m).sum(-1, keepdims=True)
  radial = 1 + k[..., :1] * r2 + k[..., 1:2] * r2**2 + k[..., 2:] * r2**3
  return m * (radial + (p * m).sum(-1, keepdims=True)) + p * r2


def undistort(m: Float[Array, "*b n 2"], intrinsics, iterations: int = 10) -> Float[Array, "*b n 2"]:
  """Ideal image points whose distortion is `m`, by fixed-point iteration (exact at once for zero coefficients)."""
  ideal = m
  for _ in range(iterations):
    ideal = ideal - (distort(ideal, intrinsics) - m)
  return ideal


def _per_clip(function):
  """Lets a function of points [*b n c] and intrinsics [*b 9] take points with more axes between b and c."""

  def wrapped(points, intrinsics):
    batch = intrinsics.shape[:-1]
    flat = points.reshape(batch + (-1, points.shape[-1])) if batch else points.reshape(-1, points.shape[-1])
    out = function(flat, intrinsics)
    return out.reshape(points.shape[:-1] + out.shape[-1:])

  wrapped.__doc__ = function.__doc__
  return wrapped


@_per_clip
def project(points, intrinsics):
  """G: image positions [*b ... 2] of camera-frame points [*b ... 3], with distortion, for intrinsics [*b 9].

  x/z and y/z are limited to [-1, 1] first, as VideoPose3D does: the distortion polynomial is not valid beyond.
  """
  m = jnp.clip(points[..., :2] / points[..., 2:], -1, 1)
  return intrinsics[..., None, :2] * distort(m, intrinsics) + intrinsics[..., None, 2:4]


@_per_clip
def project_linear(points, intrinsics):
  """As `project` with all distortion coefficients taken as zero."""
  m = jnp.clip(points[..., :2] / points[..., 2:], -1, 1)
  return intrinsics[..., None, :2] * m + intrinsics[..., None, 2:4]


@_per_clip
def rays(keypoints, intrinsics):
  """Directions [*b ... 2] (x/z, y/z) of image positions [*b ... 2]: the undistorted inverse of `project`."""
  return undistort((keypoints - intrinsics[..., None, 2:4]) / intrinsics[..., None, :2], intrinsics)


def normalise_screen(px, resolution):
  """Pixel positions [*b ... 2] in screen units, for `resolution` [*b 2] (w, h)."""
  w, h = _screen(resolution, px.ndim)
  return px / w * 2 - jnp.concatenate([jnp.ones_like(w), h / w], -1)


def unnormalise_screen(keypoints, resolution):
  """Inverse of `normalise_screen`."""
  w, h = _screen(resolution, keypoints.ndim)
  return (keypoints + jnp.concatenate([jnp.ones_like(w), h / w], -1)) * w / 2


def _screen(resolution, ndim):
  resolution = jnp.asarray(resolution, jnp.float32)
  resolution = resolution.reshape(resolution.shape[:-1] + (1,) * (ndim - resolution.ndim) + (2,))
  return resolution[..., :1], resolution[..., 1:]


def normalise_intrinsics(intrinsics_px: Float[Array, "*b 9"], resolution: Float[Array, "*b 2"]):
  """Pixel intrinsics in screen units: f' = 2 f / w for both axes, c' as any image point. Distortion has no unit."""
  w, h = resolution[..., :1], resolution[..., 1:]
  centre = intrinsics_px[..., 2:4] / w * 2 - jnp.concatenate([jnp.ones_like(w), h / w], -1)
  return jnp.concatenate([intrinsics_px[..., :2] / w * 2, centre, intrinsics_px[..., 4:]], -1)


def intrinsics_from_sensor(mm: Float[Array, "9"], resolution_and_sensor: Float[Array, "4"]) -> Float[Array, "9"]:
  """Pixel intrinsics of a camera given by focal length and principal-point offset from the image centre, in mm.

  `resolution_and_sensor` is (w px, h px, sensor width mm, sensor height mm), as for the 3DHP test set.
  """
  size, sensor = resolution_and_sensor[:2], resolution_and_sensor[2:]
  return jnp.concatenate([mm[:2] * size / sensor, mm[2:4] * size / sensor + size / 2, mm[4:]])


def solve_root(
    pose: Float[Array, "*b j 3"], ray: Float[Array, "*b j 2"], confidence: Float[Array, "*b j"]
) -> Float[Array, "*b 3"]:
  """Root translation (m, camera frame) that best reprojects root-relative poses onto `rays(keypoints)`.

  Least squares of x + tx - u (z + tz) and y + ty - v (z + tz), weighted by confidence: three unknowns a frame, linear,
  closed form. tx and ty are eliminated by weighted means, which leaves one division for tz. The depth is kept positive:
  no joint comes nearer than 0.1 m.
  """
  weight = confidence[..., None] / jnp.maximum(confidence.sum(-1), 1e-9)[..., None, None]  # *b j 1
  mean = lambda x: (weight * x).sum(-2, keepdims=True)
  z = pose[..., 2:]
  residual = ray * z - pose[..., :2]  # = (tx, ty) - ray tz
  ray_mean, residual_mean = mean(ray), mean(residual)
  ray_c, residual_c = ray - ray_mean, residual - residual_mean
  spread = (weight * ray_c * ray_c).sum((-1, -2))
  tz = -(weight * ray_c * residual_c).sum((-1, -2)) / jnp.maximum(spread, 1e-12)
  tz = jnp.maximum(tz, 0.1 - z.min((-1, -2)))
  txy = (residual_mean + ray_mean * tz[..., None, None])[..., 0, :]
  return jnp.concatenate([txy, tz[..., None]], -1)
