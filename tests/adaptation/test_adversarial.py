"""The adversarial baseline: the generator starts at no change, changes what it may, and learns where the target stands."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import adapt, adversarial
from posynda_jax.geometry import camera, skeleton
from posynda_jax.runtime import parallel
from tests import scene
from tests.adaptation.test_adaptation import batch, clips, run_steps
from tests.experiments.test_experiments import SMOKE, run_well

FRAMES = 3
RATE = 2e-3


def answer(turn=(0.0, 0, 0), move=(0.0, 0, 0), bones=0.0) -> jnp.ndarray:
  return jnp.concatenate([jnp.array(turn), jnp.array(move), jnp.broadcast_to(jnp.asarray(bones), 17)])[None]


def test_a_fresh_generator_changes_nothing():
  poses, intrinsics = jnp.asarray(scene.poses((4, FRAMES), 0)), jnp.tile(scene.INTRINSICS, (4, 1))
  players = adversarial.init(jax.random.key(0), FRAMES, RATE)
  made = adversarial.change(poses, adversarial.Generator().apply(players.generator, poses, jnp.ones((4, 16)), intrinsics))
  np.testing.assert_allclose(made, poses, atol=1e-5)


def test_bones_rotation_and_place_change_nothing_else():
  poses = jnp.asarray(scene.poses((1, FRAMES), 0))
  lengths, root = skeleton.bone_lengths(poses), poses[..., 0, :].mean(1)
  right_longer = answer(bones=jnp.zeros(17).at[jnp.array(skeleton.RIGHT)].set(10.0).at[jnp.array(skeleton.LEFT)].set(-10.0))
  changed = skeleton.bone_lengths(adversarial.change(poses, right_longer)) / lengths
  sides = np.isin(np.arange(1, 17), skeleton.LEFT + skeleton.RIGHT)  # the right one's answer counts for both
  np.testing.assert_allclose(changed[..., sides], np.exp(0.3), rtol=1e-4)
  np.testing.assert_allclose(changed[..., ~sides], 1, rtol=1e-4)

  turned = adversarial.change(poses, answer(turn=(0, np.pi / 2, 0)))
  np.testing.assert_allclose(skeleton.bone_lengths(turned), lengths, rtol=1e-4)
  bone = lambda x: x[0, 0, 8] - x[0, 0, 0]
  np.testing.assert_allclose(bone(turned)[1], bone(poses)[1], atol=1e-5)  # about the y axis
  np.testing.assert_allclose(bone(turned)[0], bone(poses)[2], atol=1e-5)

  moved = adversarial.change(poses, answer(move=(np.arctanh(0.1), 0, np.arctanh(np.log(2) / 1.5))))
  np.testing.assert_allclose(skeleton.root_centre(moved), skeleton.root_centre(poses), atol=1e-5)
  expected = 2 * (root + root[:, 2:] * jnp.array([0.1, 0, 0]))
  np.testing.assert_allclose(moved[..., 0, :].mean(1), expected, rtol=1e-5)
  root = adversarial.change(poses, answer(move=(9.0, -9.0, -9.0)))[..., 0, :].mean(1)
  assert root[0, 2] > 0.2 * poses[..., 0, 2].mean() and abs(root[0, :2] / root[0, 2]).max() < 2  # bounded


def play(data, num_devices: int, seed: int, penalty: float = 1.0, share: float = 0.25):
  """Fresh players after one turn, and its scalars."""
  players, devices = adversarial.init(jax.random.key(0), FRAMES, RATE), jax.local_devices()[:num_devices]

  def step(players, frozen, part, key):
    keys = parallel.clip_keys(key, len(part["target"]["valid"]))
    source = part["source"]
    _, players, scalars = adversarial.play(players, keys, source["poses"], source["valid"], part["target"], RATE, penalty, share)
    return players, scalars

  players, key = parallel.replicate((players, jax.random.key(seed)), devices)
  return parallel.make_parallel_step(step, devices)(players, (), parallel.shard(data, num_devices), key)


def test_devices_share_a_turn():
  one, four = (jax.device_get(play(batch(8), num, 1)) for num in (1, 4))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, four)


def test_clips_without_a_valid_frame_count_for_nobody():
  data = batch(4)
  for name in ("source", "target"):
    data[name]["valid"][2:] = 0
  other = jax.tree.map(np.copy, data)
  other["source"]["poses"][2:] += 0.5
  other["target"]["keypoints"][2:] += 0.5
  one, two = (jax.device_get(play(part, 1, 1)) for part in (data, other))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), one, two)


def test_the_penalty_is_the_critics_squared_slope():
  data = batch(8)
  data["source"]["valid"][:], data["target"]["valid"][:] = 1, 1
  critic = adversarial.init(jax.random.key(0), FRAMES, RATE).critic
  judge = lambda keypoints: adversarial.Critic().apply(critic, keypoints).sum()
  made = camera.project(data["source"]["poses"], data["target"]["intrinsics"])  # a fresh generator changes nothing
  slopes = [np.asarray(jax.grad(judge)(jnp.asarray(keypoints))) for keypoints in (data["target"]["keypoints"], made)]
  expected = sum((slope**2).sum((1, 2, 3)).mean() for slope in slopes)
  with_it, without = (jax.device_get(play(data, 1, 1, penalty)[1]) for penalty in (2.0, 0.0))
  assert expected > 1e-3
  np.testing.assert_allclose(with_it["critic"] - without["critic"], 2 * expected, rtol=1e-3)


def test_the_share_is_of_the_generators_steps_alone():
  data, fresh = batch(8), jax.device_get(adversarial.init(jax.random.key(0), FRAMES, RATE).generator)
  quarter, whole = (jax.device_get(play(data, 1, 1, share=share)[0]) for share in (0.25, 1.0))
  jax.tree.map(np.testing.assert_array_equal, quarter.critic, whole.critic)
  moved = [jax.tree.map(lambda new, old: new - old, players.generator, fresh) for players in (quarter, whole)]
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(moved[1])) > 0.5 * RATE
  jax.tree.map(lambda a, b: np.testing.assert_allclose(4 * a, b, atol=1e-6), *moved)


def test_the_generator_learns_where_the_target_stands():
  source, target = clips(32, 1, labelled=True), clips(32, 3)
  far = target | {"keypoints": np.asarray(camera.project(scene.poses((32, FRAMES), 3) + np.array([0.8, 0, 3.0]), target["intrinsics"]))}
  data = {"source": source, "target": far}
  players = adversarial.init(jax.random.key(0), FRAMES, RATE)

  def distance(players):
    poses = jnp.asarray(source["poses"])
    made = adversarial.change(
        poses, adversarial.Generator().apply(players.generator, poses, jax.random.normal(jax.random.key(9), (32, 16)), far["intrinsics"])
    )
    seen = camera.project(made, far["intrinsics"])
    describe = lambda points: np.concatenate([points[..., 0, :].mean((0, 1)), points.std(-2).mean((0, 1))])
    return np.abs(describe(np.asarray(seen)) - describe(far["keypoints"])).sum()

  before, devices = distance(players), jax.local_devices()[:1]

  def step(players, frozen, part, key):
    keys = parallel.clip_keys(key, 32)
    _, players, scalars = adversarial.play(players, keys, part["source"]["poses"], part["source"]["valid"], part["target"], RATE, 1.0, 0.25)
    return players, scalars

  step, part = parallel.make_parallel_step(step, devices), parallel.shard(data, 1)
  players = parallel.replicate(players, devices)
  after = []
  for i in range(500):
    players, _ = step(players, (), part, jax.random.key(i))
    if i >= 300 and i % 20 == 0:
      after.append(distance(jax.device_get(players)))
  assert np.median(after) < 0.5 * before  # players circle: one moment says little


def test_the_students_step_carries_the_players():
  config = adapt.AdaptConfig(adversarial_rate=RATE, pseudo=False)
  model, base = scene.tiny_model(FRAMES)
  state = adapt.init_state(jax.random.key(0), base, config, FRAMES)
  devices = jax.local_devices()[:1]
  step = parallel.make_parallel_step(
      functools.partial(adapt.adapt_step, model=model, config=config, rig=None, tx=adapt.make_optimizer(config)), devices
  )
  before = jax.device_get(state.players)
  state, frozen, key = parallel.replicate((state, base, jax.random.key(7)), devices)
  state, metrics = step(state, frozen, parallel.shard(batch(), 1), key)
  changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.generator, jax.device_get(state.players.generator))
  assert any(jax.tree.leaves(changed)) and {"loss", "loss_generator", "loss_critic"} <= set(metrics)
  plain, metrics = run_steps(adapt.AdaptConfig(pseudo=False), 1)
  assert plain.players == () and "loss_critic" not in metrics


@pytest.mark.long
def test_a_run_resumes_with_its_players(data, smoke_base, tmp_path):
  flags = (SMOKE, data, smoke_base, "--adversarial_rate=1e-3", "--nopseudo", "--save_every=3", "--log_every=3")
  run_well("adapt", *flags, f"--workdir={tmp_path}/whole")
  whole = (tmp_path / "whole" / "metrics.json").read_text()
  folder = tmp_path / "whole" / "checkpoints" / "adapted"
  last = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
  for path in sorted((folder / str(last)).rglob("*"), reverse=True):
    path.rmdir() if path.is_dir() else path.unlink()
  (folder / str(last)).rmdir()
  (tmp_path / "whole" / "metrics.json").unlink()
  assert "Resuming adapted at step 3" in run_well("adapt", *flags, f"--workdir={tmp_path}/whole")
  strip = lambda text: "\n".join(line for line in text.splitlines() if "seconds" not in line)
  assert strip((tmp_path / "whole" / "metrics.json").read_text()) == strip(whole)
