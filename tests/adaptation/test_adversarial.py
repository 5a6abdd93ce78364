"""The adversarial baseline: what the generator may change, and how both players learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.adaptation.lessons.adversarial import Adversarial, Critic, Generator, change
from posynda_jax.geometry import camera, skeleton
from posynda_jax.runtime import parallel
from tests import scene
from tests.adaptation.batches import FRAMES, batch
from tests.tolerance import assert_close

RATE = 5e-4  # at four times this rate the players' distance to the target oscillates
LESSON = Adversarial(RATE)


def answer(rotation=(0.0, 0, 0), move=(0.0, 0, 0), bones=0.0) -> jnp.ndarray:
  return jnp.concatenate([jnp.array(rotation), jnp.array(move), jnp.broadcast_to(jnp.asarray(bones), 17)])[None]


def test_bones_rotation_and_place_change_nothing_else():
  poses = jnp.asarray(scene.poses((1, FRAMES), 0))
  lengths, root = skeleton.bone_lengths(poses), poses[..., 0, :].mean(1)
  longer_right = jnp.zeros(17).at[jnp.array(skeleton.RIGHT)].set(10.0).at[jnp.array(skeleton.LEFT)].set(-10.0)
  changed = skeleton.bone_lengths(change(poses, answer(bones=longer_right))) / lengths
  sides = np.isin(np.arange(1, 17), skeleton.LEFT + skeleton.RIGHT)  # the answer for the right side counts for both
  np.testing.assert_allclose(changed[..., sides], np.exp(0.3), rtol=1e-4)
  np.testing.assert_allclose(changed[..., ~sides], 1, rtol=1e-4)

  rotated = change(poses, answer(rotation=(0, np.pi / 2, 0)))
  np.testing.assert_allclose(skeleton.bone_lengths(rotated), lengths, rtol=1e-4)
  after, before = (x[0, 0, 8] - x[0, 0, 0] for x in (rotated, poses))
  np.testing.assert_allclose(after[:2], [before[2], before[1]], atol=1e-5)  # about the y axis

  moved = change(poses, answer(move=(np.arctanh(0.1), 0, np.arctanh(np.log(2) / 1.5))))
  np.testing.assert_allclose(skeleton.root_centre(moved), skeleton.root_centre(poses), atol=1e-5)
  expected = 2 * (root + root[:, 2:] * jnp.array([0.1, 0, 0]))
  np.testing.assert_allclose(moved[..., 0, :].mean(1), expected, rtol=1e-5)
  root = change(poses, answer(move=(9.0, -9.0, -9.0)))[..., 0, :].mean(1)
  assert root[0, 2] > 0.2 * poses[..., 0, 2].mean() and abs(root[0, :2] / root[0, 2]).max() < 2  # moves are bounded


@functools.cache
def make_turn(lesson: Adversarial, num_devices: int):
  """The compiled `(players, batch, key) -> (players, metrics)` of one update of both players."""

  def turn(players, part, key):
    def keys(purpose, num_clips):
      return parallel.clip_keys(jax.random.fold_in(key, purpose), num_clips)

    labelled = lesson(keys, part, None, players)
    return labelled.memory, labelled.metrics

  axes = dict(in_axes=(None, 0, None), out_axes=None, axis_name=parallel.AXIS, axis_size=num_devices)
  return jax.jit(jax.vmap(turn, **axes))


def play(data, num_devices: int = 1, lesson: Adversarial = LESSON):
  """Fresh players after one turn, and its metrics."""
  turn = make_turn(lesson, num_devices)
  return turn(lesson.init(jax.random.key(0), FRAMES), parallel.shard(data, num_devices), jax.random.key(1))


def test_devices_share_a_turn_and_clips_without_a_valid_frame_count_for_neither_player():
  data = batch(8)
  for name in ("source", "target"):
    data[name]["valid"][4:] = 0
  other = jax.tree.map(np.copy, data)
  other["source"]["poses"][4:] += 0.5
  other["target"]["keypoints"][4:] += 0.5
  assert_close(play(other, 4), play(data), updates=1)


def test_the_penalty_is_the_critics_squared_slope_and_the_share_is_of_the_generators_rate():
  data, fresh = batch(8), Adversarial().init(jax.random.key(0), FRAMES)
  made = camera.project(data["source"]["poses"], data["target"]["intrinsics"])  # a fresh generator changes nothing
  expected = 0.0
  for keypoints in (data["target"]["keypoints"], made):
    slope = jax.grad(lambda keypoints: Critic().apply(fresh.critic, keypoints).sum())(jnp.asarray(keypoints))
    expected += float((slope**2).sum((1, 2, 3)).mean())
  (ours, with_it), (other, without) = (play(data, lesson=it) for it in (LESSON, Adversarial(RATE, 0.0, 1.0)))
  assert expected > 1e-3
  np.testing.assert_allclose(with_it["loss_critic"] - without["loss_critic"], expected, rtol=1e-3)
  moved = [jax.tree.map(jnp.subtract, players.generator, fresh.generator) for players in (ours, other)]
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(moved[1])) > 0.5 * RATE
  assert_close(jax.tree.map(lambda leaf: 4 * leaf, moved[0]), moved[1])


def test_the_generator_learns_where_the_target_stands():
  data = batch(8)
  far, intrinsics = scene.poses((8, FRAMES), 3) + np.float32([0.8, 0, 3.0]), data["target"]["intrinsics"]
  data["target"]["keypoints"] = np.asarray(camera.project(far, intrinsics))
  poses, noise = jnp.asarray(data["source"]["poses"]), jax.random.normal(jax.random.key(9), (8, 16))

  def describe(keypoints):
    return np.concatenate([keypoints[..., 0, :].mean((0, 1)), keypoints.std(-2).mean((0, 1))])

  def distance(players):
    made = change(poses, Generator().apply(players.generator, poses, noise, intrinsics))
    return np.abs(describe(np.asarray(camera.project(made, intrinsics))) - describe(data["target"]["keypoints"])).sum()

  players, turn, shares = Adversarial().init(jax.random.key(0), FRAMES), make_turn(LESSON, 1), parallel.shard(data, 1)
  before = distance(players)
  for i in range(400):
    players, _ = turn(players, shares, jax.random.key(i))
  assert distance(players) < 0.5 * before
