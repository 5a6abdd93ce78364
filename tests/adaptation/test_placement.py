"""Laws of F (Eq. 3), of the rotations, and of changes of the body."""

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.adaptation import placement
from posynda_jax.geometry import camera, skeleton
from tests import scene
from tests.adaptation.batches import BODY, clips

UP = np.float32([0, -1, 0])


def unit(vectors):
  return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def test_placement_keeps_the_pose_and_is_the_same_in_px_and_in_screen_units():
  source, target = jnp.asarray(scene.poses((4, 3), 1)), clips(4, 2)
  resolution, px = np.array([1000.0, 1002.0]), target["intrinsics"].copy()
  px[:, :2] *= 500
  px[:, 2:4] = np.asarray(camera.unnormalise_screen(target["intrinsics"][:, None, 2:4], resolution))[:, 0]
  keypoints_px = camera.unnormalise_screen(target["keypoints"], resolution)
  placed = placement.place(source, target["keypoints"], target["intrinsics"])
  np.testing.assert_allclose(placement.place(source, keypoints_px, px), placed, atol=1e-3)
  np.testing.assert_allclose(skeleton.root_centre(placed), skeleton.root_centre(source), atol=1e-5)


def test_placement_by_clip_keeps_the_motion_of_the_root_and_puts_no_joint_behind_the_camera():
  source, target = jnp.asarray(scene.poses((4, 5), 1)), clips(4, 2)
  keypoints = jnp.repeat(jnp.asarray(target["keypoints"][:, :1]), 5, 1)
  placed = placement.place(source, keypoints, target["intrinsics"])
  np.testing.assert_allclose(jnp.diff(placed[:, :, 0], axis=1), jnp.diff(source[:, :, 0], axis=1), atol=1e-5)
  walk = source.at[..., 2].add(jnp.linspace(-4, 4, 5)[None, :, None])
  placed = placement.keep_in_front(placement.place(walk, keypoints * 3, target["intrinsics"]))
  assert placed[..., 2].min() >= placement.NEAR_M - 1e-5


def test_a_spine_is_rotated_to_any_direction_even_the_opposite_and_bones_stay():
  pose = jnp.asarray(scene.poses((3, 5)))
  directions = jax.random.normal(jax.random.key(3), (len(pose), 3)).at[0].set(-2 * placement.spine(pose)[0])
  rotated = placement.align_spine(pose, directions)
  np.testing.assert_allclose(unit(placement.spine(rotated)), unit(directions), atol=1e-5)
  np.testing.assert_allclose(skeleton.bone_lengths(rotated), skeleton.bone_lengths(pose), atol=1e-5)
  np.testing.assert_allclose(placement.align_spine(pose, placement.spine(pose)), pose, atol=1e-5)


def test_bones_of_given_lengths_keep_their_directions():
  pose = jnp.asarray(scene.poses((3, 5)))
  other = placement.with_bones(pose, BODY)
  np.testing.assert_allclose(skeleton.bone_lengths(other), np.broadcast_to(BODY, (3, 5, 16)), rtol=1e-5)
  one = jnp.ones(16)
  np.testing.assert_allclose(placement.with_bones(other, one), placement.with_bones(pose, one), atol=1e-5)
  np.testing.assert_array_equal(other[..., 0, :], pose[..., 0, :])


def test_an_orbit_keeps_bones_heights_and_place_and_reaches_every_side():
  pose = jnp.broadcast_to(jnp.asarray(scene.poses((1, 5))), (400, 5, 17, 3))
  rotated = placement.orbit(jax.random.split(jax.random.key(0), 400), pose, UP)
  np.testing.assert_allclose(skeleton.bone_lengths(rotated), skeleton.bone_lengths(pose), atol=1e-5)
  np.testing.assert_allclose(rotated[..., 1], pose[..., 1], atol=1e-5)
  np.testing.assert_allclose(rotated[..., 0, :].mean(1), pose[..., 0, :].mean(1), atol=1e-5)
  across = rotated[:, 0, 4] - rotated[:, 0, 1]  # from hip to hip
  sides, _ = np.histogram(np.arctan2(across[:, 2], across[:, 0]), 8, (-np.pi, np.pi))
  assert sides.min() > 25


def test_tumbling_rotates_clips_about_any_axis_through_their_root_and_keeps_bones():
  pose = jnp.broadcast_to(jnp.asarray(scene.poses((1, 2))), (400, 2, 17, 3))
  keys = jax.random.split(jax.random.key(0), 400)
  rotated = placement.tumble(keys, pose, jnp.full(400, 0.7))
  np.testing.assert_allclose(skeleton.bone_lengths(rotated), skeleton.bone_lengths(pose), atol=1e-5)
  np.testing.assert_allclose(rotated[..., 0, :].mean(1), pose[..., 0, :].mean(1), atol=1e-5)
  moved = unit(placement.spine(rotated))
  cosine = (moved * unit(placement.spine(pose))).sum(-1)
  assert cosine.max() > 0.999 and cosine.min() < 0.2 and moved.std(0).min() > 0.1
  np.testing.assert_allclose(placement.tumble(keys[:3], pose[:3], jnp.zeros(3)), pose[:3], atol=1e-5)


def other_bodies(poses, seed: int = 0):
  """(the poses of a symmetric body of other proportions with legs of the same lengths, its factors [17])."""
  factor = jnp.exp(0.2 * jax.random.normal(jax.random.key(seed), (17,))).at[jnp.array([0, 2, 3, 5, 6])].set(1)
  factor = factor.at[np.array(skeleton.LEFT)].set(factor[np.array(skeleton.RIGHT)])
  return placement.resize(poses, factor), factor


def test_proportions_do_not_depend_on_size_and_legs_keep_their_length():
  poses = jnp.asarray(scene.poses((1, 1)))
  other, factor = other_bodies(poses)
  own = skeleton.bone_lengths(poses)[0, 0]
  np.testing.assert_allclose(skeleton.bone_lengths(other)[0, 0], own * factor[1:], rtol=1e-4)
  symmetric = jnp.linspace(0.1, 0.4, 16)
  found = placement.proportions(symmetric, 1.3 * symmetric * factor[1:])
  np.testing.assert_allclose(found, factor.at[0].set(1), rtol=1e-5)
  np.testing.assert_allclose(placement.proportions(symmetric, 0.5 * symmetric), 1, rtol=1e-5)
