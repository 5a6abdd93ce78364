"""Virtual camera rigs: one camera's view of a world motion, with a random yaw and placement drawn from a key.

A rig is data. `draw_view` is a pure function of (key, motion, rig, view), so dataset builders and training share it.
Motions are in metres with Y up and the floor at y = 0. The rigs differ first in a person's scale and position in the
image and then in viewpoint, as the paper's domains do.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.geometry import camera, camera_tables, skeleton

NEAR_M = 0.5  # least depth of a joint


@flax.struct.dataclass
class View:
  """One camera's view of `f` frames: absolute poses (m, camera frame), keypoints and intrinsics in px."""

  poses_camera: Float[Array, "*b f j 3"]
  keypoints_px: Float[Array, "*b f j 2"]
  intrinsics: Float[Array, "*b 9"]
  resolution: Float[Array, "*b 2"]


@dataclasses.dataclass(frozen=True)
class Rig:
  """Cameras, each (resolution, intrinsics in px), and the distribution of a person's place before them.

  With `extrinsics` (subject x view, Z up), the clip's mean root lies anywhere in `area_m` around the world's origin.
  Without, it lies at a depth in `distance_m` before a camera pitched by up to `pitch_deg`, anywhere that keeps the
  person in the image. `height_m`, a range for the camera's height above the floor, decides the vertical position
  instead.
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


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Several rigs with equal probability."""

  rigs: tuple[Rig, ...]


_H36M = camera_tables.H36M_INTRINSICS
_LANDSCAPE = ((1920, 1080), (1390.0, 1390.0, 960.0, 540.0, 0, 0, 0, 0, 0))  # a phone lens of 26 mm equivalent
_PORTRAIT = ((1080, 1920), (1390.0, 1390.0, 540.0, 960.0, 0, 0, 0, 0, 0))

RIGS = {
    rig.name: rig
    for rig in (
        Rig(
            "h36m_rig",
            tuple(_H36M.values()),
            extrinsics=tuple(tuple(views[i] for i in _H36M) for views in camera_tables.H36M_EXTRINSICS.values()),
            area_m=(4.0, 3.0),
        ),
        Rig(
            "dhp_rig", tuple(camera_tables.DHP_TEST_INTRINSICS.values()),
            distance_m=(2.5, 5.5), height_m=(0.9, 1.5), pitch_deg=5.0,
        ),
        Rig(
            "wild_rig", (_LANDSCAPE, _PORTRAIT) * 2, distance_m=(1.5, 7.0), pitch_deg=25.0, focal_scale=(0.85, 1.2)
        ),
        # The embedded target only, not the motion capture benchmarks: people fill the image of an upright phone.
        Rig("phone_rig", (_PORTRAIT,) * 4, distance_m=(1.3, 3.0), pitch_deg=15.0, focal_scale=(0.85, 1.2)),
    )
}


def get_rig(name: str) -> Rig | Mixture:
  """The named rig, or the mixture that `a+b` names. Raises ValueError that lists the choices."""
  if unknown := [part for part in name.split("+") if part not in RIGS]:
    choices = ", ".join(RIGS)
    raise ValueError(f"rig {unknown[0]!r} is unknown; choose one of {choices}, or a mixture as in h36m_rig+wild_rig")
  rigs = tuple(RIGS[part] for part in name.split("+"))
  return rigs[0] if len(rigs) == 1 else Mixture(rigs)


def draw_view(key: Array, motion_world: Float[Array, "f j 3"], rig: Rig | Mixture, view: int | None = None) -> View:
  """The motion rendered by camera `view` of the rig, with a random yaw and placement.

  `None` draws the camera too. A mixture draws its rig and needs `view=None`, because each rig numbers its own cameras.
  """
  if isinstance(rig, Mixture):
    assert view is None
    which = jax.random.randint(jax.random.fold_in(key, len(rig.rigs)), (), 0, len(rig.rigs))
    branches = [functools.partial(draw_view, rig=one) for one in rig.rigs]
    return jax.lax.switch(which, branches, key, motion_world)
  view_key, yaw_key, place_key, focal_key = jax.random.split(key, 4)
  if view is None:
    view = jax.random.randint(view_key, (), 0, rig.num_views)
  resolution = jnp.array([c[0] for c in rig.cameras], jnp.float32)[view]
  intrinsics = jnp.array([c[1] for c in rig.cameras], jnp.float32)[view]
  zoom = jax.random.uniform(focal_key, minval=rig.focal_scale[0], maxval=rig.focal_scale[1])
  intrinsics = intrinsics.at[:2].multiply(zoom)

  middle = motion_world[:, skeleton.ROOT].mean(0) * np.array([1, 0, 1], np.float32)
  yaw = jax.random.uniform(yaw_key, maxval=2 * jnp.pi)
  motion = camera.rotate(_axis_rotation(1, yaw), motion_world - middle)  # the mean root is above the origin
  if rig.extrinsics:
    poses = _place_in_area(place_key, motion, rig, view)
  else:
    poses = _place_in_image(place_key, motion, rig, intrinsics, resolution)
  deficit = jnp.maximum(NEAR_M - poses[..., 2].min(), 0)
  poses = poses + deficit * np.array([0, 0, 1], np.float32)
  return View(poses, camera.project(poses, intrinsics), intrinsics, resolution)


def _place_in_area(key, motion, rig, view):
  """Camera-frame poses of a person in the capture area of a tabled camera, of a random subject's calibration."""
  subject_key, area_key = jax.random.split(key)
  subject = jax.random.randint(subject_key, (), 0, len(rig.extrinsics))
  orientation = jnp.array([[c[0] for c in s] for s in rig.extrinsics], jnp.float32)[subject, view]
  position = jnp.array([[c[1] for c in s] for s in rig.extrinsics], jnp.float32)[subject, view]
  offset = jax.random.uniform(area_key, (2,), minval=-0.5, maxval=0.5) * np.array(rig.area_m, np.float32)
  z_up = jnp.stack([motion[..., 0], -motion[..., 2], motion[..., 1]], -1) + jnp.append(offset, 0.0)
  return camera.world_to_camera(z_up.reshape(-1, 3), orientation, position).reshape(motion.shape)


def _place_in_image(key, motion, rig, intrinsics, resolution):
  """Camera-frame poses of a person at a random distance, with the whole clip in the image or, if too large, centred."""
  pitch_key, distance_key, height_key, image_key = jax.random.split(key, 4)
  pitch = jnp.deg2rad(jax.random.uniform(pitch_key, minval=-rig.pitch_deg, maxval=rig.pitch_deg))
  distance = jax.random.uniform(distance_key, minval=rig.distance_m[0], maxval=rig.distance_m[1])
  turn = _axis_rotation(0, pitch)
  poses = camera.rotate(turn, motion * np.array([1, -1, -1], np.float32))  # y down, z forward, then pitched
  poses = poses - poses[:, skeleton.ROOT].mean(0)
  offset_px = intrinsics[:2] * poses[..., :2] / jnp.maximum(distance + poses[..., 2:], NEAR_M)
  low, high = offset_px.min((0, 1)), offset_px.max((0, 1))
  free = jnp.maximum(resolution - (high - low), 0)
  spot = resolution / 2 - (low + high) / 2 + jax.random.uniform(image_key, (2,), minval=-0.5, maxval=0.5) * free
  xy = (spot - intrinsics[2:4]) / intrinsics[:2] * distance
  if rig.height_m is not None:
    height = jax.random.uniform(height_key, minval=rig.height_m[0], maxval=rig.height_m[1])
    below = height - motion[:, skeleton.ROOT, 1].mean()  # depth of the root below the camera, along gravity
    xy = xy.at[1].set((below - distance * jnp.sin(pitch)) / jnp.cos(pitch))
  return poses + jnp.append(xy, distance)


def _axis_rotation(axis: int, angle) -> Array:
  """Quaternion of a rotation by `angle` about a coordinate axis."""
  return jnp.zeros(4).at[0].set(jnp.cos(angle / 2)).at[axis + 1].set(jnp.sin(angle / 2))
