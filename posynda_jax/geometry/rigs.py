"""Virtual camera rigs: a world-frame motion becomes one camera's view of it, with a fresh yaw and placement a key.

A rig is data; `draw_view` is a pure function of (key, motion, rig, view), so a builder's fixed views and the fresh views of
a training clip come from the same lines. Motions are metres with Y up and the floor at y = 0. The three rigs make the gap
the paper speaks of: scale and position in the image first, viewpoint second.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera, camera_tables, skeleton

NEAR_M = 0.5  # no joint comes nearer to the camera's plane than this


@flax.struct.dataclass
class View:
  """One camera's view of `f` frames: absolute poses (m, camera frame), keypoints and intrinsics in px."""

  poses_camera: Float[Array, "*b f j 3"]
  keypoints_px: Float[Array, "*b f j 2"]
  intrinsics: Float[Array, "*b 9"]
  resolution: Float[Array, "*b 2"]


@dataclasses.dataclass(frozen=True)
class Rig:
  """`num_views` cameras, each (resolution, intrinsics in px), and how a person is placed before them.

  With `extrinsics` (subject x view, Z up) the shot's mean root lies anywhere in `area_m` around the origin. Without, it lies
  `distance_m` in front of a camera pitched by up to `pitch_deg`, horizontally anywhere that keeps the person in the image,
  vertically likewise or, with `height_m`, where a camera at that height above the floor sees it.
  """

  name: str
  cameras: tuple
  extrinsics: tuple = ()
  area_m: tuple[float, float] = (0.0, 0.0)
  distance_m: tuple[float, float] = (0.0, 0.0)
  height_m: tuple[float, float] | None = None
  pitch_deg: float = 0.0
  focal_scale: tuple[float, float] = (1.0, 1.0)

  @property
  def num_views(self) -> int:
    return len(self.cameras)


_H36M_IDS = tuple(camera_tables.H36M_INTRINSICS)
_DHP = camera_tables.DHP_TEST_INTRINSICS
_LANDSCAPE = ((1920, 1080), (1390.0, 1390.0, 960.0, 540.0, 0, 0, 0, 0, 0))  # a 26 mm-equivalent phone lens
_PORTRAIT = ((1080, 1920), (1390.0, 1390.0, 540.0, 960.0, 0, 0, 0, 0, 0))

RIGS = {
    rig.name: rig
    for rig in (
        Rig(
            "h36m_rig",
            tuple(camera_tables.H36M_INTRINSICS.values()),
            extrinsics=tuple(tuple(c[i] for i in _H36M_IDS) for c in camera_tables.H36M_EXTRINSICS.values()),
            area_m=(4.0, 3.0),
        ),
        Rig("dhp_rig", tuple(_DHP.values()), distance_m=(2.5, 5.5), height_m=(0.9, 1.5), pitch_deg=5.0),
        Rig(
            "wild_rig",
            (_LANDSCAPE, _PORTRAIT, _LANDSCAPE, _PORTRAIT),
            distance_m=(1.5, 7.0),
            pitch_deg=25.0,
            focal_scale=(0.85, 1.2),
        ),
        # Not for the motion capture benchmarks: the embedded target, where people fill an upright phone's image.
        Rig("phone_rig", (_PORTRAIT,) * 4, distance_m=(1.3, 3.0), pitch_deg=15.0, focal_scale=(0.85, 1.2)),
    )
}


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Several rigs, each as likely: what a lifter is trained on that should know many cameras."""

  rigs: tuple[Rig, ...]


def get_rig(name: str) -> Rig | Mixture:
  """The named rig; of `a+b` the mixture. Raises ValueError that lists the choices."""
  if unknown := [part for part in name.split("+") if part not in RIGS]:
    raise ValueError(f"rig {unknown[0]!r} is unknown; choose one of {', '.join(RIGS)}, or a mixture as in h36m_rig+wild_rig")
  rigs = tuple(RIGS[part] for part in name.split("+"))
  return rigs[0] if len(rigs) == 1 else Mixture(rigs)


def draw_view(key: Array, motion_world: Float[Array, "f j 3"], rig: Rig | Mixture, view: int | None = None) -> View:
  """The motion seen by camera `view` of the rig (drawn too when None) with a random yaw and placement.

  Of a mixture the rig is drawn as well; `view` must be None then, as its rigs number their cameras each for itself.
  """
  if isinstance(rig, Mixture):
    assert view is None
    which = jax.random.randint(jax.random.fold_in(key, len(rig.rigs)), (), 0, len(rig.rigs))
    return jax.lax.switch(which, [lambda key, motion, one=one: draw_view(key, motion, one) for one in rig.rigs], key, motion_world)
  view_key, yaw_key, place_key, focal_key = jax.random.split(key, 4)
  if view is None:
    view = jax.random.randint(view_key, (), 0, rig.num_views)
  resolution = jnp.array([c[0] for c in rig.cameras], jnp.float32)[view]
  intrinsics = jnp.array([c[1] for c in rig.cameras], jnp.float32)[view]
  zoom = jax.random.uniform(focal_key, minval=rig.focal_scale[0], maxval=rig.focal_scale[1])
  intrinsics = intrinsics.at[:2].multiply(zoom)

  root = motion_world[:, skeleton.ROOT]
  middle = root.mean(0) * np.array([1, 0, 1], np.float32)
  yaw = jax.random.uniform(yaw_key, maxval=2 * jnp.pi)
  motion = camera.rotate(_axis_rotation(1, yaw), motion_world - middle)  # the mean root stands over the origin
  place = _place_by_extrinsics if rig.extrinsics else _place_in_image
  poses = place(place_key, motion, rig, view, intrinsics, resolution)
  deficit = jnp.maximum(NEAR_M - poses[..., 2].min(), 0)
  poses = poses + deficit * np.array([0, 0, 1], np.float32)
  return View(poses, camera.project(poses, intrinsics), intrinsics, resolution)


def _place_by_extrinsics(key, motion, rig, view, intrinsics, resolution):
  """Someone in the capture area of a tabled camera; which subject's calibration is drawn too."""
  del intrinsics, resolution
  subject_key, area_key = jax.random.split(key)
  subject = jax.random.randint(subject_key, (), 0, len(rig.extrinsics))
  orientation = jnp.array([[c[0] for c in s] for s in rig.extrinsics], jnp.float32)[subject, view]
  position = jnp.array([[c[1] for c in s] for s in rig.extrinsics], jnp.float32)[subject, view]
  offset = jax.random.uniform(area_key, (2,), minval=-0.5, maxval=0.5) * np.array(rig.area_m, np.float32)
  z_up = jnp.stack([motion[..., 0], -motion[..., 2], motion[..., 1]], -1) + jnp.append(offset, 0.0)
  return camera.world_to_camera(z_up.reshape(-1, 3), orientation, position).reshape(motion.shape)


def _place_in_image(key, motion, rig, view, intrinsics, resolution):
  """Someone at a drawn distance, wherever the whole shot fits into the image (centred where it does not fit)."""
  del view
  pitch_key, distance_key, height_key, image_key = jax.random.split(key, 4)
  pitch = jnp.deg2rad(jax.random.uniform(pitch_key, minval=-rig.pitch_deg, maxval=rig.pitch_deg))
  distance = jax.random.uniform(distance_key, minval=rig.distance_m[0], maxval=rig.distance_m[1])
  turn = _axis_rotation(0, pitch)
  poses = camera.rotate(turn, motion * np.array([1, -1, -1], np.float32))  # y down, z forward, then pitched
  poses = poses - poses[:, skeleton.ROOT].mean(0)
  # Extent of the shot as seen at that distance; free room is what the image leaves.
  seen = intrinsics[:2] * poses[..., :2] / jnp.maximum(distance + poses[..., 2:], NEAR_M)
  low, high = seen.min((0, 1)), seen.max((0, 1))
  free = jnp.maximum(resolution - (high - low), 0)
  spot = resolution / 2 - (low + high) / 2 + jax.random.uniform(image_key, (2,), minval=-0.5, maxval=0.5) * free
  xy = (spot - intrinsics[2:4]) / intrinsics[:2] * distance
  if rig.height_m is not None:  # the floor decides where the root is seen: undo the pitch at the drawn camera height
    height = jax.random.uniform(height_key, minval=rig.height_m[0], maxval=rig.height_m[1])
    below = height - motion[:, skeleton.ROOT, 1].mean()  # the root is this far below the camera, along gravity
    xy = xy.at[1].set((below - distance * jnp.sin(pitch)) / jnp.cos(pitch))
  return poses + jnp.append(xy, distance)


def _axis_rotation(axis: int, angle) -> Array:
  """Quaternion of a rotation by `angle` about a coordinate axis."""
  return jnp.zeros(4).at[0].set(jnp.cos(angle / 2)).at[axis + 1].set(jnp.sin(angle / 2))
