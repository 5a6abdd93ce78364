"""Laws of the augmentations: what each changes, what it keeps, and in how many clips."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import augmentations, base_job, placement, pretraining
from posynda_jax.geometry import camera, skeleton
from tests import scene
from tests.tolerance import assert_close

NUM, FRAMES = 200, 2
KEYS = jax.random.split(jax.random.key(2), NUM)
MOTION = np.broadcast_to(scene.motion(FRAMES), (NUM, FRAMES, 17, 3)).astype(np.float32)


def changed(before, after):
  return (np.abs(np.asarray(before) - np.asarray(after)) > 1e-4).any(tuple(range(1, np.ndim(before))))


PEOPLE = np.stack([scene.motion(FRAMES, seed) for seed in range(NUM)])


@pytest.mark.parametrize("name", pretraining.MOTION_CHANGES)
def test_a_share_of_clips_of_world_motion_is_changed_and_the_rest_is_not(name):
  change = jax.jit(pretraining.MOTION_CHANGES[name][0])
  assert 0.2 < changed(PEOPLE, change(KEYS, PEOPLE, 0.3)).mean() < 0.45
  assert not changed(PEOPLE, change(KEYS, PEOPLE, 0.0)).any()
  plan = dataclasses.replace(base_job.get("smoke"), source="human36m/gt")
  base_job.check_plan(plan)
  with pytest.raises(ValueError, match=f"human36m/gt is recorded views: only world motion can be {name}"):
    base_job.check_plan(base_job.changed(plan, **{name: 0.1}))


def test_a_turn_keeps_the_body_and_the_lowest_height():
  turned = augmentations.turn(KEYS, MOTION, 1.0)
  assert_close(skeleton.bone_lengths(turned), skeleton.bone_lengths(MOTION))
  assert_close(turned[..., 1].min((1, 2)), MOTION[..., 1].min((1, 2)))
  upright = (turned[:, 0, skeleton.JOINTS.index("head")] - turned[:, 0, 0])[:, 1]
  assert (upright < 0).any()  # some people are upside down


def test_new_proportions_keep_directions_legs_and_symmetry_in_every_frame():
  made = np.asarray(augmentations.reproportion(KEYS, MOTION, 1.0))
  bones, own = (np.asarray(skeleton.bone_lengths(poses)) for poses in (made, MOTION))
  factor = bones / own
  assert_close(factor[:, 0], factor[:, 1])
  right, left = np.array(skeleton.RIGHT) - 1, np.array(skeleton.LEFT) - 1
  assert_close(factor[..., right], factor[..., left])
  assert_close(np.log(factor[..., [1, 2]]).sum(-1), np.zeros((NUM, FRAMES)))  # thigh and shin
  assert np.log(factor[:, 0, 0]).std() > 0.2  # hips
  parents = np.array(skeleton.PARENTS[1:])
  assert_close((made[:, :, 1:] - made[:, :, parents]) / bones[..., None],
               (MOTION[:, :, 1:] - MOTION[:, :, parents]) / own[..., None])


def test_a_resized_person_walks_the_floor_at_another_size():
  made = np.asarray(augmentations.resize(KEYS, PEOPLE, 1.0))
  factor = made[:, 0, 10, 1] / PEOPLE[:, 0, 10, 1]
  assert_close(made, PEOPLE * factor[:, None, None, None])
  assert 0.08 < np.log(factor).std() < 0.12


def test_a_mixed_person_walks_on_their_own_legs_under_the_neighbours_trunk():
  facing = placement.turn(PEOPLE, np.array([np.cos(0.5), 0, np.sin(0.5), 0], np.float32))  # a radian about Y
  people = np.where(np.arange(NUM)[:, None, None, None] % 2, facing, PEOPLE)
  made = np.asarray(augmentations.mix(KEYS, people, 1.0))
  legs, trunk = list(range(7)), list(range(7, 17))
  np.testing.assert_array_equal(made[:, :, legs], people[:, :, legs])
  neighbour = np.asarray(skeleton.root_centre(people)).reshape(-1, 2, FRAMES, 17, 3)[:, ::-1].reshape(people.shape)
  angle = augmentations._heading(people) - augmentations._heading(neighbour)
  turned = jax.vmap(camera.rotate)(
      jnp.stack([jnp.cos(angle / 2), 0 * angle, jnp.sin(angle / 2), 0 * angle], -1)[:, None, None], neighbour)
  assert_close(skeleton.root_centre(made)[:, :, trunk], turned[:, :, trunk])


def test_offset_joints_move_with_the_body_and_stay_symmetric():
  made = np.asarray(augmentations.offset(KEYS, PEOPLE, 1.0))
  moved = made - PEOPLE
  assert_close(moved[:, :, [0, 2, 3, 5, 6, *range(11, 17)]], 0)
  assert 0.015 < moved[:, :, 8].std() < 0.025
  turn = np.array([np.cos(0.7), 0.6 * np.sin(0.7), 0, 0.8 * np.sin(0.7)], np.float32)
  assert_close(augmentations.offset(KEYS, placement.turn(PEOPLE, turn), 1.0), placement.turn(made, turn))
  mirrored = np.asarray(skeleton.flip(PEOPLE))
  both = mirrored[:, :1] / 2 + PEOPLE[:, :1] / 2  # people that are their own mirror images
  again = np.asarray(augmentations.offset(KEYS, both, 1.0))
  assert_close(again, skeleton.flip(again))


def test_hidden_joints_are_hidden_in_all_frames_of_a_share_of_clips():
  confidence = np.full((NUM, FRAMES, 17), 0.9, np.float32)
  hidden = np.asarray(augmentations.hide(KEYS, confidence, 0.5)) == 0
  assert (hidden[:, 0] == hidden[:, 1]).all()
  assert 0.3 < hidden.any((1, 2)).mean() < 0.6
  assert 0.03 < hidden[:, 0, [1, 2, 3, 4, 5, 6]].all(-1).mean() < 0.2  # both legs
