"""Each lesson alone by its law, and the teacher that answers them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import placement
from posynda_jax.adaptation.lessons.adversarial import Adversarial
from posynda_jax.adaptation.lessons.novel_views import NovelViews
from posynda_jax.adaptation.lessons.placed import AsSeen, Synthesis, pair_by_uprightness
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.lessons.target_labels import TargetLabels
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.diffusion import hypotheses, process
from posynda_jax.geometry import camera, skeleton
from posynda_jax.runtime import parallel
from tests import scene
from tests.adaptation.batches import BODY, FRAMES, answering, clips, target_clips
from tests.adaptation.test_placement import other_bodies, unit
from tests.tolerance import assert_close

UP = np.float32([0.0, -0.8, 0.6])  # to cameras that look down
STEPS = process.ddim_steps(process.cosine_schedule(1000), 1)
LESSONS = {
    "synthesis": Synthesis(), "as seen": AsSeen(tumble=1.0),
    "pseudo-labels": PseudoLabels(), "novel views": NovelViews(), "adversarial": Adversarial(),
    "target labels": TargetLabels(),
}
NUM = 8
POSES = np.asarray(placement.with_bones(jnp.asarray(scene.poses((NUM, FRAMES), 3)), BODY))  # of the target's people
TRUTH = np.asarray(skeleton.root_centre(POSES))
DATA = {"source": clips(NUM, 1, labelled=True), "target": target_clips(POSES)}
for part in DATA.values():
  part["valid"][::3, 1] = 0
DATA["target"]["valid"][1::4, 2] = 0
SOURCE, TARGET = DATA["source"], DATA["target"]
LABELLED = {"source": SOURCE, "target": TARGET | {"poses": POSES}}
KNOWS = answering(TARGET["keypoints"], TRUTH)


def on_devices(function, data: dict, num_devices: int = 1):
  """What `function(keys, clips)` returns on shares of the batch, as a parallel step calls it; clips joined again."""

  def one(part):
    def keys(purpose, num_clips):
      return parallel.clip_keys(parallel.purpose_key(jax.random.key(0), 0, purpose), num_clips)

    return function(keys, part)

  made = jax.jit(jax.vmap(one, axis_name=parallel.AXIS))(parallel.shard(data, num_devices))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]) if x.ndim > 1 else x, made)


def make_teacher(keys, target: dict, denoise=KNOWS, num_hypotheses: int = 1, source_body=BODY) -> Teacher:
  target = target | {"inputs": target["keypoints"]}
  return Teacher(denoise, target, keys(1, len(target["valid"])), source_body, STEPS, num_hypotheses)


def teach(lesson, data: dict, **settings):
  """What a lesson returns for a batch."""
  return on_devices(lambda keys, part: lesson(keys, part, make_teacher(keys, part["target"], **settings)), data)


def refuse(*_):
  raise AssertionError("the teacher was asked")


@functools.cache
def taught(num_devices: int = 1) -> dict:
  """What each lesson returns for the labelled batch. The teacher refuses to answer the lessons that do not need it."""

  def ask(keys, part):
    found = {}
    for name, lesson in LESSONS.items():
      denoise = KNOWS if name in ("as seen", "pseudo-labels", "novel views") else refuse
      memory = [lesson.init(jax.random.key(0), FRAMES)] if hasattr(lesson, "init") else []
      labelled = lesson(keys, part, make_teacher(keys, part["target"], denoise, 2), *memory)
      found[name] = labelled.replace(memory=None, metrics={})
    return found

  return on_devices(ask, LABELLED, num_devices)


def reprojection(labelled, target: dict) -> float:
  """The largest error of the labels' projection, where the root is solved."""
  observed = labelled.keypoints, target["intrinsics"], np.ones(labelled.keypoints.shape[:3], np.float32)
  roots = hypotheses.solve_roots(labelled.poses[None], *observed)
  return float(hypotheses.reprojection_error(labelled.poses[None], roots, *observed[:2]).max())


def test_synthesis_labels_the_projection_of_source_poses_placed_at_the_targets_box():
  made = taught()["synthesis"]
  assert reprojection(made, TARGET) < 1e-4
  np.testing.assert_allclose(made.poses, skeleton.root_centre(SOURCE["poses"]), atol=1e-5)
  placed = placement.place(jnp.asarray(SOURCE["poses"]), TARGET["keypoints"], TARGET["intrinsics"])
  assert_close(made.keypoints, camera.project(placed, TARGET["intrinsics"]))


@pytest.mark.parametrize("name, keypoints, poses", [
    ("target labels", TARGET["keypoints"], POSES),
    ("adversarial", camera.project(SOURCE["poses"], TARGET["intrinsics"]), SOURCE["poses"]),  # a fresh generator
])
def test_lessons_that_change_nothing_label_clips_with_their_root_centred_poses(name, keypoints, poses):
  made = taught()[name]
  np.testing.assert_allclose(made.keypoints, keypoints, atol=1e-5)
  np.testing.assert_allclose(made.poses, skeleton.root_centre(poses), atol=1e-5)


def test_as_seen_gives_source_people_the_spines_and_the_proportions_of_the_target():
  people, factor = other_bodies(jnp.asarray(POSES))
  source = SOURCE | {"poses": np.asarray(placement.with_bones(jnp.asarray(SOURCE["poses"]), BODY))}
  data = {"source": source, "target": target_clips(people)}
  made = teach(AsSeen(), data, denoise=answering(data["target"]["keypoints"], skeleton.root_centre(people)))
  assert reprojection(made, data["target"]) < 1e-4
  np.testing.assert_allclose(unit(placement.spine(made.poses)), unit(placement.spine(people)), atol=1e-3)
  lengths = np.broadcast_to(BODY * factor[1:], (NUM, FRAMES, 16))  # legs keep theirs: 2D does not show size
  np.testing.assert_allclose(skeleton.bone_lengths(made.poses), lengths, rtol=0.02)


def test_source_clips_are_paired_by_uprightness_over_all_devices():
  def rotated(seed):
    directions = jax.random.normal(jax.random.key(seed), (NUM, 3))
    return np.asarray(placement.align_spine(jnp.asarray(scene.poses((NUM, 2), seed)), directions))

  data = {"source": rotated(1), "valid": np.arange(2.0 * NUM).reshape(NUM, 2), "target": rotated(2)}
  poses, valid = on_devices(
      lambda keys, part: pair_by_uprightness(part["source"], part["valid"], part["target"]), data, 4
  )
  np.testing.assert_array_equal(
      placement.uprightness(poses).argsort(), placement.uprightness(data["target"]).argsort()
  )
  which = [int(np.abs(data["source"] - pose).max((1, 2, 3)).argmin()) for pose in poses]
  assert sorted(which) == list(range(NUM))  # each source clip once
  np.testing.assert_array_equal(valid, data["valid"][np.array(which)])


@pytest.mark.parametrize("lesson", [AsSeen(tumble=1.0), NovelViews()])
def test_people_are_tumbled_in_proportion_to_their_lean(lesson):
  """The cameras look down. One person lies, and its clip does not count for the mean direction of the others."""
  directions = np.tile(UP, (NUM, 1))
  directions[3] = [1.0, 0.0, 0.0]
  people = np.asarray(placement.align_spine(jnp.asarray(POSES), directions))
  data = {"source": SOURCE, "target": target_clips(people)}
  data["target"]["valid"][3] = 0
  knows = answering(data["target"]["keypoints"], np.asarray(skeleton.root_centre(people)))
  spines = unit(placement.spine(teach(lesson, data, denoise=knows).poses))
  moved = np.abs((spines - directions) @ UP)  # neither an orbit nor an alignment changes this
  assert moved[3] > 0.1 > 0.02 > np.delete(moved, 3).max()


def test_a_pseudo_label_is_the_hypothesis_of_least_reprojection_error():
  denoise = answering(TARGET["keypoints"], TRUTH, 0.1)

  def ask(keys, part):
    teacher = make_teacher(keys, part["target"], denoise, 5)
    made = {select: PseudoLabels(select)(keys, part, teacher) for select in hypotheses.GRANULARITIES}
    return jnp.moveaxis(teacher.hypotheses, 0, 1), jnp.moveaxis(teacher.errors, 0, 1), made

  proposed, errors, made = jax.tree.map(np.asarray, on_devices(ask, {"target": TARGET}))  # b h f j c
  for select, axes in {"sequence": (2, 3), "frame": 3, "joint": ()}.items():
    best = errors.mean(axes, keepdims=True).argmin(1, keepdims=True) if axes else errors.argmin(1, keepdims=True)
    best = np.broadcast_to(best, errors[:, :1].shape)[..., None]
    assert_close(made[select].poses, np.take_along_axis(proposed, best, 1)[:, 0])
    np.testing.assert_array_equal(made[select].keypoints, TARGET["keypoints"])
    assert len(np.unique(best)) > 1


def test_pseudo_labels_by_bones_use_the_persons_bones():
  denoise = answering(TARGET["keypoints"], TRUTH, 0.1)
  body = np.tile(BODY, (NUM, 1)) * np.linspace(0.9, 1.1, NUM, dtype=np.float32)[:, None]
  lesson, data = PseudoLabels("bones"), {"target": TARGET | {"body": body}}

  def ask(keys, part):
    teacher = make_teacher(keys, part["target"], denoise, 5)
    return jnp.moveaxis(teacher.hypotheses, 0, 1), lesson(keys, part, teacher)

  proposed, made = jax.tree.map(np.asarray, on_devices(ask, data))  # b h f j c
  by_bones = hypotheses.by_bones(jnp.moveaxis(proposed, 1, 0), jnp.asarray(body))
  assert_close(made.poses, by_bones, dtype=np.float16)
  assert lesson.needs_people and not PseudoLabels().needs_people


def test_novel_views_are_exact_labels_of_the_targets_people_at_the_source_bodys_size():
  people = np.asarray(placement.align_spine(jnp.asarray(POSES), np.tile(UP, (NUM, 1))))  # without lean nobody tumbles
  truth, size = np.asarray(skeleton.root_centre(people)), 0.9
  target = target_clips(truth * size + people[..., :1, :])
  made = teach(NovelViews(), {"target": target}, denoise=answering(target["keypoints"], size * truth))
  assert reprojection(made, target) < 1e-4
  lengths = np.broadcast_to(BODY, (NUM, FRAMES, 16))
  np.testing.assert_allclose(skeleton.bone_lengths(made.poses), lengths, rtol=2e-3)
  np.testing.assert_allclose(made.poses @ UP, truth @ UP, atol=2e-3)  # an orbit keeps heights
  assert np.abs(made.poses - truth).max((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_needs_what_its_class_says(name):
  lesson = LESSONS[name]
  memory = [lesson.init(jax.random.key(0), FRAMES)] if hasattr(lesson, "init") else []

  def ask(without):
    data = {"target": TARGET if "labels" in without else LABELLED["target"]}
    data |= {} if "source" in without else {"source": SOURCE}
    settings = {"source_body": None if "body" in without else BODY}

    def one(keys, part):
      return lesson(keys, part, make_teacher(keys, part["target"], **settings), *memory)

    return jax.eval_shape(functools.partial(on_devices, one), data).poses.shape

  needs = {need for need in ("source", "labels", "body") if getattr(lesson, f"needs_{need}")}
  assert ask({"source", "labels", "body"} - needs) == TRUTH.shape
  for need in needs:
    with pytest.raises((KeyError, TypeError)):
      ask({need})
  assert lesson.needs_labels == (name == "target labels")


def test_devices_that_share_a_batch_make_the_labels_of_one():
  assert_close(taught(4), taught(), updates=1)  # rays are solved by iteration


@pytest.mark.parametrize("name", LESSONS)
def test_the_weight_of_a_frame_is_one_and_zero_where_it_is_not_valid(name):
  valid, weight = DATA["source" if LESSONS[name].needs_source else "target"]["valid"], taught()[name].weight
  if name == "as seen":  # which pairs source clips anew
    weight, valid = np.sort(weight, 0), np.sort(valid, 0)
  np.testing.assert_array_equal(weight, valid)


def test_the_teacher_answers_each_question_once():
  calls = []

  def counted(*asked):
    calls.append(1)
    return KNOWS(*asked)

  def ask(keys, part):
    teacher = make_teacher(keys, part["target"], counted, 2)
    assert teacher.metrics == {} and not calls
    for lesson in (AsSeen(tumble=1.0), PseudoLabels(), NovelViews()):
      lesson(keys, part, teacher)
    assert teacher.hypotheses is teacher.hypotheses and teacher.pose is teacher.chosen("frame")
    assert teacher.bones is teacher.bones and teacher.lean is teacher.lean
    return teacher.metrics

  metrics = jax.eval_shape(lambda: on_devices(ask, DATA))
  assert len(calls) == 1 and set(metrics) == {"teacher_spread_mm", "teacher_reprojection"}


def test_no_gradient_flows_through_the_teacher():
  @jax.jit
  @jax.value_and_grad
  def loss(offset):
    def ask(keys, part):
      teacher = make_teacher(keys, part, lambda *asked: KNOWS(*asked) * offset)
      return teacher.pose, teacher.errors.sum(), teacher.bones.sum(), teacher.up.sum(), teacher.lean.sum()

    return sum(answer.sum() for answer in on_devices(ask, TARGET))

  (value, gradient), (other, _) = loss(1.0), loss(0.9)
  assert gradient == 0 and value != other


def test_2d_shows_the_targets_body_to_a_teacher_that_answers_with_the_sources_body():
  """The teacher's directions are right and its bone lengths are the source's; keypoints are of another body."""
  poses = jnp.asarray(scene.poses((64, FRAMES)))
  people, factor = other_bodies(poses)
  target = target_clips(people)
  denoise = answering(target["keypoints"], skeleton.root_centre(poses))
  own = skeleton.bone_lengths(poses).mean((0, 1))
  seen = on_devices(lambda keys, part: make_teacher(keys, part, denoise).bones[None], target)[0]
  found, truth = jnp.log(placement.proportions(own, seen)[1:]), jnp.log(factor[1:])
  assert jnp.abs(found - truth).mean() < 0.25 * jnp.abs(truth).mean()


def test_the_teachers_up_follows_a_pitched_camera_and_ignores_clips_that_are_not_valid():
  people = np.array(placement.align_spine(jnp.asarray(POSES), np.tile(UP, (NUM, 1))))
  people[0] *= [1, -1, 1]
  target = target_clips(people + np.float32([0, 0, 1]))
  target["valid"][0] = 0
  denoise = answering(target["keypoints"], np.asarray(skeleton.root_centre(people)))

  def ask(keys, part):
    teacher = make_teacher(keys, part, denoise)
    return teacher.up[None], teacher.lean

  up, lean = on_devices(ask, target, 2)
  np.testing.assert_allclose(up, np.tile(UP, (2, 1)), atol=1e-4)
  assert lean[1:].max() < 0.02 < 1 < lean[0]
