"""Laws of F, of choosing hypotheses, of the adaptation step and of sharing it over devices."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posynda_jax.adaptation import adapt, labels, pretrain, synthesis
from posynda_jax.diffusion import hypotheses, process
from posynda_jax.geometry import camera, rigs, skeleton
from posynda_jax.peft import lora
from posynda_jax.runtime import parallel
from tests import scene

FRAMES = 3


BODY = tuple(np.linspace(0.1, 0.4, 16))


def clips(num: int, seed: int = 0, labelled: bool = False) -> dict:
  """A batch of target clips, or of labelled ones."""
  poses = scene.poses((num, FRAMES), seed)
  intrinsics = np.tile(scene.INTRINSICS, (num, 1))
  batch = {
      "keypoints": np.asarray(camera.project(poses, intrinsics)), "intrinsics": intrinsics,
      "confidence": np.ones((num, FRAMES, 17), np.float32), "valid": np.ones((num, FRAMES), np.float32),
  }
  return batch | ({"poses": poses} if labelled else {})


def batch(num: int = 8) -> dict:
  return {"source": clips(num, 1, labelled=True), "target": clips(num, 3)}


@functools.cache
def make_step(config: adapt.AdaptConfig, num_devices: int, plain: bool):
  """(step, optimizer), compiled once for all tests that ask for the same; `plain` gradient descent instead of Adam."""
  tx = optax.sgd(1e-2) if plain else adapt.make_optimizer(config)
  step = functools.partial(adapt.adapt_step, model=scene.tiny_model(FRAMES)[0], config=config, rig=None, tx=tx)
  return parallel.make_parallel_step(step, jax.local_devices()[:num_devices]), tx


def run_steps(config: adapt.AdaptConfig, num_devices: int, num_steps: int = 2, data=None, plain: bool = False):
  (step, tx), (_, base) = make_step(config, num_devices, plain), scene.tiny_model(FRAMES)
  state = adapt.init_state(jax.random.key(0), base, config)
  state = state.replace(opt_state=tx.init(state.adapter))
  state, base, key = parallel.replicate((state, base, jax.random.key(7)), jax.local_devices()[:num_devices])
  for _ in range(num_steps):
    state, metrics = step(state, base, parallel.shard(data or batch(), num_devices), key)
  return jax.device_get(state), jax.device_get(metrics)


def test_clip_placement_lands_on_the_targets_ray_at_the_targets_size():
  source, target = jnp.asarray(scene.poses((6, 1), 1)), clips(6, 2)
  flat = source.at[..., 2].set(source[..., :1, 2])  # without depth of its own the box is exactly the target's
  keypoints = target["keypoints"][:, :1]
  intrinsics = jnp.asarray(target["intrinsics"]).at[:, 4:].set(0)
  for align in synthesis.ALIGNMENTS:
    placed = synthesis.place(flat, keypoints, intrinsics, align)
    seen = camera.project(placed, intrinsics)
    np.testing.assert_allclose(seen[..., 0, :], keypoints[..., 0, :], atol=1e-5)
    size = lambda points: (points.max(-2) - points.min(-2)).sum(-1)
    np.testing.assert_allclose(size(seen), size(keypoints), rtol=1e-4)


def test_placement_keeps_the_pose_and_clip_placement_the_motion():
  source, target = jnp.asarray(scene.poses((4, 5), 1)), clips(4, 2)
  keypoints = jnp.repeat(jnp.asarray(target["keypoints"][:, :1]), 5, 1)
  for align in synthesis.ALIGNMENTS:
    placed = synthesis.place(source, keypoints, target["intrinsics"], align)
    np.testing.assert_allclose(skeleton.root_centre(placed), skeleton.root_centre(source), atol=1e-5)
  placed = synthesis.place(source, keypoints, target["intrinsics"], "clip")
  np.testing.assert_allclose(jnp.diff(placed[:, :, 0], axis=1), jnp.diff(source[:, :, 0], axis=1), atol=1e-5)


def test_placement_is_the_same_in_px_and_in_screen_units():
  source, target = jnp.asarray(scene.poses((4, 3), 1)), clips(4, 2)
  resolution = np.array([1000.0, 1002.0])
  px = target["intrinsics"].copy()
  px[:, :2] *= 500
  px[:, 2:4] = np.asarray(camera.unnormalise_screen(target["intrinsics"][:, None, 2:4], resolution))[:, 0]
  keypoints_px = camera.unnormalise_screen(target["keypoints"], resolution)
  for align in synthesis.ALIGNMENTS:
    ours = synthesis.place(source, target["keypoints"], target["intrinsics"], align)
    np.testing.assert_allclose(synthesis.place(source, keypoints_px, px, align), ours, atol=1e-3)


def test_nobody_is_placed_behind_the_camera():
  source = jnp.asarray(scene.poses((1, 9), 1))
  walk = source.at[..., 2].add(jnp.linspace(-4, 4, 9)[None, :, None])
  target = clips(1, 2)
  placed = synthesis.place(walk, jnp.repeat(target["keypoints"][:, :1], 9, 1) * 3, target["intrinsics"], "clip")
  assert placed[..., 2].min() >= synthesis.NEAR_M - 1e-5


def test_tilt_keeps_bones_and_adds_to_the_lean():
  pose, angle = jnp.asarray(scene.poses((3, 5))), jnp.array([-0.4, 0.0, 0.3])
  tilted = synthesis.tilt(pose, angle)
  np.testing.assert_allclose(skeleton.bone_lengths(tilted), skeleton.bone_lengths(pose), atol=1e-5)
  np.testing.assert_allclose(synthesis.lean(tilted) - synthesis.lean(pose), angle, atol=1e-5)
  np.testing.assert_allclose(tilted[..., 0, :].mean(1), pose[..., 0, :].mean(1), atol=1e-5)


def test_a_spine_is_turned_to_any_direction_even_the_opposite_and_bones_stay():
  pose = jnp.asarray(scene.poses((3, 5)))
  directions = jax.random.normal(jax.random.key(3), (len(pose), 3)).at[0].set(-2 * synthesis.spine(pose)[0])
  turned = synthesis.align_spine(pose, directions)
  unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  np.testing.assert_allclose(unit(synthesis.spine(turned)), unit(directions), atol=1e-5)
  np.testing.assert_allclose(skeleton.bone_lengths(turned), skeleton.bone_lengths(pose), atol=1e-5)
  np.testing.assert_allclose(synthesis.align_spine(pose, synthesis.spine(pose)), pose, atol=1e-5)


def test_stretch_makes_another_symmetric_body_of_the_same_directions():
  pose = jnp.asarray(scene.poses((5,)))
  other = synthesis.stretch(jax.random.key(0), pose, 0.1)
  ratio = np.asarray(skeleton.bone_lengths(other) / skeleton.bone_lengths(pose))
  np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-4)
  np.testing.assert_allclose(ratio[0, np.array(skeleton.LEFT) - 1], ratio[0, np.array(skeleton.RIGHT) - 1], rtol=1e-4)
  assert 0.02 < np.log(ratio[0]).std() < 0.3
  np.testing.assert_allclose(other[:, 0], pose[:, 0], atol=1e-6)


def test_bones_of_given_lengths_keep_their_directions():
  pose, lengths = jnp.asarray(scene.poses((3, 5))), jnp.asarray(BODY)
  other = synthesis.with_bones(pose, lengths)
  np.testing.assert_allclose(skeleton.bone_lengths(other), np.broadcast_to(lengths, (3, 5, 16)), rtol=1e-5)
  np.testing.assert_allclose(synthesis.with_bones(other, jnp.ones(16)), synthesis.with_bones(pose, jnp.ones(16)), atol=1e-5)
  np.testing.assert_allclose(other[..., 0, :], pose[..., 0, :])


def test_another_side_of_a_clip_keeps_bones_heights_and_place_and_every_side_is_seen():
  pose = jnp.broadcast_to(jnp.asarray(scene.poses((1, 5))), (400, 5, 17, 3))
  turned = synthesis.orbit(jax.random.split(jax.random.key(0), 400), pose, jnp.array([0.0, -1.0, 0.0]))
  np.testing.assert_allclose(skeleton.bone_lengths(turned), skeleton.bone_lengths(pose), atol=1e-5)
  np.testing.assert_allclose(turned[..., 1], pose[..., 1], atol=1e-5)
  np.testing.assert_allclose(turned[..., 0, :].mean(1), pose[..., 0, :].mean(1), atol=1e-5)
  across = turned[:, 0, 4] - turned[:, 0, 1]  # from hip to hip
  sides, _ = np.histogram(np.arctan2(across[:, 2], across[:, 0]), 8, (-np.pi, np.pi))
  assert sides.min() > 25


def test_tumbling_turns_clips_any_way_about_their_root_and_keeps_bones():
  pose = jnp.broadcast_to(jnp.asarray(scene.poses((1, 2))), (400, 2, 17, 3))
  turned = synthesis.tumble(jax.random.split(jax.random.key(0), 400), pose, jnp.full(400, 0.7))
  np.testing.assert_allclose(skeleton.bone_lengths(turned), skeleton.bone_lengths(pose), atol=1e-5)
  np.testing.assert_allclose(turned[..., 0, :].mean(1), pose[..., 0, :].mean(1), atol=1e-5)
  unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  moved = unit(synthesis.spine(turned))
  cosine = (moved * unit(synthesis.spine(pose))).sum(-1)
  assert cosine.max() > 0.999 and cosine.min() < 0.2 and moved.std(0).min() > 0.1
  np.testing.assert_allclose(synthesis.tumble(jax.random.split(jax.random.key(0), 3), pose[:3], jnp.zeros(3)), pose[:3], atol=1e-5)


def test_people_are_tumbled_as_far_as_the_teacher_sees_them_lean():
  target, config = clips(8, 3, labelled=True), adapt.AdaptConfig(tumble=1.0)
  target = jax.tree.map(jnp.asarray, target)
  poses, keys = target["poses"], jax.random.split(jax.random.key(0), 8)
  up = jnp.array([0.0, -0.8, 0.6])  # before cameras that look down
  seen = synthesis.align_spine(poses, jnp.broadcast_to(up, (8, 3)).at[3].set(jnp.array([1.0, 0.0, 0.0])))  # one lies
  film = jax.vmap(lambda seen, target: labels.film(keys, target["poses"], seen, target, config)[1], axis_name=parallel.AXIS)
  turned = jnp.abs(film(seen[None], jax.tree.map(lambda x: x[None], target))[0] - skeleton.root_centre(poses)).max((1, 2, 3))
  assert turned[3] > 3 * jnp.delete(turned, 3).mean() > 0


def test_novel_views_of_a_true_pose_are_exact_labels_of_what_is_seen():
  target = clips(6, 3, labelled=True)
  truth = skeleton.root_centre(jnp.asarray(target["poses"]))
  body = tuple(np.asarray(skeleton.bone_lengths(truth))[0, 0].tolist())
  config = adapt.AdaptConfig(novel_views=1.0, body=body)
  key_for = lambda purpose, num: jax.random.split(jax.random.key(purpose), num)
  on_one_device = jax.vmap(lambda target, truth: labels.novel_views(key_for, truth, None, target, config), axis_name=parallel.AXIS)
  keypoints, poses = (x[0] for x in on_one_device(jax.tree.map(lambda x: jnp.asarray(x)[None], target), truth[None]))
  np.testing.assert_allclose(skeleton.bone_lengths(poses), np.broadcast_to(body, (6, FRAMES, 16)), atol=1e-4)
  given = synthesis.with_bones(truth, jnp.asarray(body))
  up = synthesis.spine(given).sum(0)
  np.testing.assert_allclose(poses @ up, given @ up, atol=1e-4 * float(jnp.linalg.norm(up)))
  assert jnp.abs(poses - truth).max() > 0.1
  seen = (keypoints, target["intrinsics"], target["confidence"])
  roots = hypotheses.solve_roots(poses[None], *seen)
  assert hypotheses.reprojection_error(poses[None], roots, *seen[:2]).max() < 1e-4


def test_the_reprojection_term_is_of_the_targets_own_2d():
  data, (model, base) = batch(), scene.tiny_model(FRAMES)
  body = tuple(np.asarray(skeleton.bone_lengths(jnp.asarray(scene.poses((1, 1)))))[0, 0].tolist())
  shown = adapt.AdaptConfig(reprojection_weight=0.5, body=body)
  term = lambda config: run_steps(config, 1, 1, data)[1]["loss_reprojection"]
  target = jax.tree.map(jnp.asarray, data["target"])

  def of_the_base(target):
    keys = parallel.clip_keys(parallel.purpose_key(jax.random.key(7), 0, labels.STUDENT_TARGET), len(target["valid"]))
    noise = jax.vmap(lambda key: jax.random.normal(key, (FRAMES, 17, 3)))(keys)
    return adapt.reprojection_loss(model.apply(base, target["keypoints"], process.clamp(noise), jnp.full(len(noise), 999)), target)

  expected = jax.vmap(of_the_base, axis_name=parallel.AXIS)(jax.tree.map(lambda x: x[None], target))[0]
  np.testing.assert_allclose(term(shown), 0.5 * expected, rtol=1e-4)
  np.testing.assert_allclose(term(dataclasses.replace(shown, novel_views=1.0)), 0.5 * expected, rtol=1e-4)


def other_bodies(poses, seed: int = 0):
  """The poses by a body of other proportions with the same legs, and its factors."""
  factor = jnp.exp(0.2 * jax.random.normal(jax.random.key(seed), (17,))).at[jnp.array([0, 2, 3, 5, 6])].set(1)
  factor = factor.at[np.array(skeleton.LEFT)].set(factor[np.array(skeleton.RIGHT)])
  return synthesis.resize(poses, factor), factor


def test_proportions_of_other_bodies_are_found_whatever_their_size_and_legs_keep_their_length():
  own = jnp.linspace(0.1, 0.4, 16)
  factor = other_bodies(jnp.asarray(scene.poses((1, 1))))[1]
  found = synthesis.proportions(own, 1.3 * own * factor[1:])
  np.testing.assert_allclose(found[1:], factor[1:], rtol=1e-5)
  np.testing.assert_allclose(synthesis.proportions(own, 0.5 * own), 1, rtol=1e-5)


def test_2d_shows_a_teacher_who_believes_in_the_sources_body_the_targets_one():
  """The teacher answers every pose with the right directions and the source's bone lengths; keypoints are of another body."""
  poses = jnp.asarray(scene.poses((64, 2)))
  there, factor = other_bodies(poses)
  intrinsics = np.tile(scene.INTRINSICS, (64, 1))
  seen, trust = hypotheses.seen_bones(
      skeleton.root_centre(poses), camera.project(there, intrinsics), intrinsics, jnp.ones((64, 2, 17))
  )
  assert ((0 <= trust) & (trust <= 1)).all()
  mean = lambda lengths, weight: (lengths * weight).sum((0, 1)) / weight.sum((0, 1))
  found = synthesis.proportions(mean(skeleton.bone_lengths(poses), jnp.ones((64, 2, 1))), mean(seen, trust))
  truth, believed = jnp.log(factor[1:]), jnp.zeros(16)
  missed = jnp.abs(jnp.log(found[1:]) - truth)
  assert missed.mean() < 0.25 * jnp.abs(believed - truth).mean()
  hidden = jnp.ones((64, 2, 17)).at[..., 13].set(0)
  _, trust = hypotheses.seen_bones(skeleton.root_centre(poses), camera.project(there, intrinsics), intrinsics, hidden)
  assert not trust[..., 12].any() and trust[..., 11].any()


@pytest.mark.parametrize("num_devices", [1, 4])
def test_source_clips_are_dealt_by_how_upright_they_stand_over_all_devices(num_devices):
  angles = lambda seed: jax.random.uniform(jax.random.key(seed), (8,), maxval=3)
  tilted = lambda seed: synthesis.tilt(jnp.asarray(scene.poses((8, 2), seed)), angles(seed))
  source, target, valid = tilted(1), tilted(2), jnp.arange(16.0).reshape(8, 2)
  share = lambda x: x.reshape(num_devices, -1, *x.shape[1:])
  dealt = jax.vmap(labels.deal_by_uprightness, axis_name=parallel.AXIS)(share(source), share(valid), share(target))
  poses, its_valid = (x.reshape(8, *x.shape[2:]) for x in dealt)
  up = synthesis.uprightness
  np.testing.assert_array_equal(up(poses).argsort(), up(target).argsort())
  which = [int(jnp.abs(source - pose).max((1, 2, 3)).argmin()) for pose in poses]
  assert sorted(which) == list(range(8))  # everybody once
  np.testing.assert_array_equal(its_valid, valid[np.array(which)])


def test_the_true_pose_is_chosen_at_every_granularity():
  target = clips(4, 5, labelled=True)
  truth = skeleton.root_centre(target["poses"])
  wrong = truth + 0.2 * np.random.default_rng(0).normal(size=(2,) + truth.shape)
  poses = jnp.stack([wrong[0], truth, wrong[1]])
  roots = hypotheses.solve_roots(poses, target["keypoints"], target["intrinsics"], target["confidence"])
  errors = hypotheses.reprojection_error(poses, roots, target["keypoints"], target["intrinsics"])
  for by in ("sequence", "frame"):
    index = hypotheses.choose(errors, target["confidence"], by)
    assert (index == 1).all()
    np.testing.assert_allclose(hypotheses.pick(poses, index), truth, atol=1e-6)
  oracle = jnp.asarray(target["poses"])[None, ..., 0, :]  # joint by joint a wrong root can flatter a wrong joint
  errors = hypotheses.reprojection_error(poses, oracle, target["keypoints"], target["intrinsics"])
  assert (hypotheses.choose(errors, target["confidence"], "joint")[..., 1:] == 1).mean() > 0.95


def test_a_joint_without_confidence_has_no_say():
  errors = jnp.array([[0.1, 9.0], [0.2, 0.0]]).reshape(2, 1, 1, 2)
  choose = lambda confidence: int(hypotheses.choose(errors, jnp.array(confidence).reshape(1, 1, 2), "frame")[0, 0, 0])
  assert choose([1.0, 1.0]) == 1 and choose([1.0, 0.0]) == 0


def test_unknown_selection_lists_the_choices():
  with pytest.raises(ValueError, match="sequence, frame, joint"):
    hypotheses.choose(jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1)), "video")


def test_ray_refinement_is_identity_on_the_truth_and_mends_the_image_plane():
  target = clips(4, 5, labelled=True)
  truth = skeleton.root_centre(target["poses"])
  refine = lambda pose: hypotheses.onto_rays(pose, target["keypoints"], target["intrinsics"], target["confidence"])
  np.testing.assert_allclose(refine(jnp.asarray(truth)), truth, atol=2e-4)
  off = truth + np.array([0.05, 0.05, 0]) * np.random.default_rng(0).normal(size=truth.shape)
  error = lambda pose: np.linalg.norm(pose - truth, axis=-1).mean()
  assert error(refine(jnp.asarray(off))) < 0.5 * error(off)


def test_fitting_a_body_keeps_the_truth_mends_size_and_does_not_hear_untrusted_keypoints():
  target = clips(4, 5, labelled=True)
  truth = np.asarray(skeleton.root_centre(target["poses"]))
  lengths = np.asarray(skeleton.bone_lengths(truth))
  seen = (target["keypoints"], target["intrinsics"], target["confidence"])
  np.testing.assert_allclose(hypotheses.fit_body(jnp.asarray(truth), *seen, lengths), truth, atol=1e-3)
  error = lambda pose: np.linalg.norm(pose - truth, axis=-1).mean()
  small = jnp.asarray(0.8 * truth)  # seen nearer, it projects almost alike
  assert error(hypotheses.fit_body(small, *seen, lengths)) < 0.35 * error(small)
  doubted = np.array(target["confidence"])
  doubted[..., [13, 16]] = 0
  wrong = np.array(target["keypoints"])
  wrong[..., [13, 16], :] += 0.3  # a third of half the screen
  fitted = [hypotheses.fit_body(small, keypoints, seen[1], doubted, lengths) for keypoints in (seen[0], wrong)]
  np.testing.assert_allclose(*fitted, atol=1e-6)
  assert error(fitted[0]) < 0.45 * error(small)


def test_a_refinement_that_cannot_be_done_is_refused():
  with pytest.raises(ValueError, match="refine 'bones' is unknown; choose one of none, rays, body"):
    adapt.AdaptConfig(refine="bones")
  for setting in (dict(refine="body"), dict(novel_views=1.0)):
    with pytest.raises(ValueError, match="needs 16 bone lengths in metres, 0 are given"):
      adapt.AdaptConfig(**setting)


def test_no_leaf_of_the_state_belongs_to_the_base():
  model, base = scene.tiny_model(FRAMES)
  config = adapt.AdaptConfig(rank=2)
  state = adapt.init_state(jax.random.key(0), base, config)
  num_adapter = lora.count(state.adapter)
  assert num_adapter == lora.count(state.adapter["lora"]) + 51
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert sum(leaf.size for leaf in moments) == 2 * num_adapter  # Adam's two moments, of the adapter alone
  base_shapes = {leaf.shape for leaf in jax.tree.leaves(base)}
  assert not base_shapes & {leaf.shape for leaf in jax.tree.leaves(state.adapter["lora"])}


def test_a_step_moves_the_adapter_and_synchronises_the_teacher():
  state, metrics = run_steps(adapt.AdaptConfig(rank=2, learning_rate=1e-2), 1)
  assert metrics["loss"] > 0 and metrics["teacher_spread_mm"] > 0
  assert np.abs(state.adapter["bias"]).max() > 0
  for ours, teacher in zip(jax.tree.leaves(state.adapter), jax.tree.leaves(state.teacher), strict=True):
    np.testing.assert_array_equal(ours, teacher)


def test_without_bias_the_bias_stays_zero():
  state, _ = run_steps(adapt.AdaptConfig(rank=2, learning_rate=1e-2, bias=False), 1)
  assert not state.adapter["bias"].any()


@pytest.mark.parametrize("num_devices, extras", [
    (2, dict(tilt="spine", pair="upright", proportions="target", pseudo=False, novel_views=1.0, body=BODY,
             tumble=1.0)), (8, dict(tilt="teacher", stretch=0.1, refine="rays")),
])
def test_devices_sharing_a_batch_make_the_single_device_update(num_devices, extras):
  # With plain gradient descent: Adam would magnify rounding of near-zero gradients into whole steps.
  config = adapt.AdaptConfig(rank=2, **extras)
  alone, metrics = run_steps(config, 1, plain=True)
  shared, shared_metrics = run_steps(config, num_devices, plain=True)
  for ours, theirs in zip(jax.tree.leaves(alone.adapter), jax.tree.leaves(shared.adapter), strict=True):
    np.testing.assert_allclose(theirs, ours, atol=1e-6)
  np.testing.assert_allclose(shared_metrics["loss"], metrics["loss"], rtol=1e-5)


def test_pretraining_is_shared_over_devices_too():
  model, _ = scene.tiny_model(FRAMES)
  config = pretrain.PretrainConfig(num_steps=10, loss="mse")
  data = {"source": {"motion": np.stack([scene.motion(FRAMES, i) for i in range(8)]), "valid": np.ones((8, FRAMES), np.float32)}}
  results = []
  for num_devices in (1, 4):
    devices, tx = jax.local_devices()[:num_devices], optax.sgd(1e-3)
    static = dict(model=model.clone(drop_path=0.0), config=config, rig=rigs.RIGS["h36m_rig"], tx=tx)
    step = parallel.make_parallel_step(functools.partial(pretrain.pretrain_step, **static), devices)
    state = pretrain.init_state(jax.random.key(0), model, config).replace(opt_state=None)
    state = parallel.replicate(state.replace(opt_state=tx.init(state.params)), devices)
    state, _ = step(state, (), parallel.shard(data, num_devices), parallel.replicate(jax.random.key(1), devices))
    results.append(jax.device_get(state.params))
  for ours, theirs in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_batch_that_devices_cannot_share_is_refused():
  with pytest.raises(ValueError, match="batch size 6 is not divisible by 4 devices"):
    parallel.shard(clips(6), 4)


def test_invalid_frames_do_not_teach():
  data = batch()
  spoiled = jax.tree.map(np.copy, data)
  for name in ("source", "target"):
    spoiled[name]["valid"][:, -1] = data[name]["valid"][:, -1] = 0
  spoiled["source"]["poses"][:, -1] += 0.3 * np.random.default_rng(0).normal(size=(8, 17, 3)).astype(np.float32)
  config = adapt.AdaptConfig(rank=2, synthesis=False, pseudo=True)
  ours, _ = run_steps(config, 1, 1, data)
  theirs, _ = run_steps(config, 1, 1, spoiled)
  for a, b in zip(jax.tree.leaves(ours.adapter), jax.tree.leaves(theirs.adapter), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-7)


def test_the_step_is_traced_once():
  model, base = scene.tiny_model(FRAMES)
  config, traces = adapt.AdaptConfig(rank=2), []

  def counted(*args, **kwargs):
    traces.append(1)
    return adapt.adapt_step(*args, **kwargs)

  devices = jax.local_devices()[:2]
  tx = adapt.make_optimizer(config)
  step = parallel.make_parallel_step(functools.partial(counted, model=model, config=config, rig=None, tx=tx), devices)
  state = adapt.init_state(jax.random.key(0), base, config)
  state, base, key = parallel.replicate((state, base, jax.random.key(7)), devices)
  for _ in range(3):
    state, _ = step(state, base, parallel.shard(batch(), 2), key)
  assert len(traces) == 1


@pytest.mark.parametrize("field, value", [("select", "video"), ("align", "joint"), ("loss", "l1"), ("refine", "depth"), ("pair", "tall")])
def test_unknown_settings_list_the_choices(field, value):
  with pytest.raises(ValueError, match="choose one of"):
    adapt.AdaptConfig(**{field: value})


def test_nothing_to_learn_from_is_refused():
  with pytest.raises(ValueError, match="nothing to learn from"):
    adapt.AdaptConfig(source=False, pseudo=False)
  assert adapt.AdaptConfig(source=False, pseudo=False, novel_views=1.0, body=BODY).num_sets == 1


def test_a_config_comes_back_from_what_a_folder_keeps_and_unknown_settings_are_named():
  config = adapt.AdaptConfig(tune="dora", view=(0.0, -0.1, 0.0, 0.1, 0.3), body=BODY)
  assert adapt.from_settings(json.loads(json.dumps(adapt.describe(config)))) == config
  with pytest.raises(ValueError, match="settings that this version does not know: bend, twist; use the version that made it"):
    adapt.from_settings({"rank": 4, "twist": 1, "bend": 2})


def test_source_free_adaptation_sees_no_source_and_draws_the_student_to_its_pseudo_labels():
  """Pseudo-labels on the keypoints' rays: what the student is taught without any source lowers its reprojection error."""
  model, base = scene.tiny_model(FRAMES)
  config = adapt.AdaptConfig(rank=4, learning_rate=1e-2, source=False, refine="rays", pseudo_label="mean", tilt="teacher")
  target = {"target": clips(8, 4)}
  state, metrics = run_steps(config, 2, 40, target)

  def error(adapter):
    seen = jax.tree.map(jnp.asarray, target["target"])
    noise = jax.random.normal(jax.random.key(5), seen["keypoints"].shape[:-1] + (3,))
    pose = adapt.make_denoiser(model, base, adapter, 1.0)(seen["keypoints"], process.clamp(noise), jnp.full(8, 999))
    roots = hypotheses.solve_roots(pose[None], seen["keypoints"], seen["intrinsics"], seen["confidence"])
    return hypotheses.reprojection_error(pose[None], roots, seen["keypoints"], seen["intrinsics"]).mean()

  assert error(state.adapter) < 0.7 * error(None) and np.isfinite(metrics["loss"])


def test_learning_from_labels_lowers_the_error():
  """The ceiling's step fits its labels: the whole chain of gradients is wired to the adapter."""
  data = {"target": clips(8, 4, labelled=True)}
  config = adapt.AdaptConfig(rank=4, learning_rate=2e-2, supervision="ceiling")
  _, first = run_steps(config, 1, 1, data)
  _, last = run_steps(config, 1, 60, data)
  assert last["loss"] < 0.3 * first["loss"]
