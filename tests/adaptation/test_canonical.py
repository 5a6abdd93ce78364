"""A base with a canonical camera: what its student learns from, and that jobs, files and lifters use the same view."""

import jax
import numpy as np
import pytest

from posynda_jax import lifter
from posynda_jax.adaptation import bases, job, sources, step
from posynda_jax.adaptation.lessons.adversarial import Adversarial
from posynda_jax.adaptation.lessons.labelled import Labelled, Purpose
from posynda_jax.adaptation.lessons.placed import Synthesis
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.lessons.target_labels import TargetLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.geometry import camera, skeleton, virtual_camera
from posynda_jax.geometry.measured import make, see
from tests import scene, tiny
from tests.adaptation.batches import BODY, FRAMES, batch, clips, run_steps
from tests.adaptation.test_job import ARRAY, KEYPOINTS_PX, SMALL, SOURCE, SPLITS, TARGET
from tests.tolerance import assert_close

CANONICAL = make(BODY, virtual_camera.CANONICAL, virtual_camera.CHANNELS)
TINY = scene.tiny_model(FRAMES, virtual_camera.CHANNELS)


@pytest.fixture
def base() -> bases.Base:
  return tiny.base(virtual_camera.CHANNELS)


def test_every_lessons_people_come_to_the_canonical_place_and_size():
  target = see(clips(6, 3), CANONICAL)
  placed = scene.poses((6, FRAMES), 9, depth=6.0)  # not where the target's people are
  labelled = Labelled(
      camera.project(placed, target["intrinsics"]), skeleton.root_centre(placed), np.ones((6, FRAMES), np.float32))
  inputs, poses, _ = step.student_clips(labelled, target, CANONICAL)
  x = np.asarray(inputs)
  assert_close(x[..., :2].mean((1, 2)), np.zeros((6, 2)))
  assert np.sqrt(((x[..., :2] - x[..., :2].mean(2, keepdims=True)) ** 2).sum(-1).mean((1, 2))) == pytest.approx(0.25)
  # Its poses are labels of its inputs: they reproject, through the zoom that the fourth channel tells.
  focal = 2 * np.exp(x[:, 0, 0, 3])
  ray = x[..., :2] / focal[:, None, None, None]
  root = camera.solve_root(poses, ray, np.ones(ray.shape[:-1], np.float32))
  points = np.asarray(poses + root[..., None, :])
  np.testing.assert_allclose(points[..., :2] / points[..., 2:], ray, atol=5e-3)


def test_the_targets_own_2d_is_seen_a_second_time_as_the_first():
  target = see(clips(6, 3) | {"confidence": np.full((6, FRAMES, 17), 0.9, np.float32)}, CANONICAL)
  labelled = Labelled(target["keypoints"], np.zeros((6, FRAMES, 17, 3)), target["valid"], target)
  np.testing.assert_allclose(step.student_clips(labelled, target, CANONICAL)[0], target["inputs"], atol=1e-4)


def test_all_kinds_of_lessons_train_an_adapter_of_such_a_base_and_one_that_learns_is_carried():
  recipe = Recipe((Synthesis(), PseudoLabels(), Adversarial(), TargetLabels()), 2, rate=1e-2, adapter=SMALL["adapter"])
  state, metrics = run_steps(
      recipe, 1, batch() | {"target": clips(8, 3, labelled=True)}, network=TINY, measured=CANONICAL)
  assert np.isfinite(metrics["loss"]) and np.abs(state.adapter["bias"]).max() > 0
  assert {"loss_generator", "loss_critic", "teacher_spread_mm"} <= set(metrics)
  before = Adversarial().init(jax.random.fold_in(jax.random.key(0), Purpose.GENERATOR), FRAMES)
  for name in ("generator", "critic"):
    pairs = zip(*(jax.tree.leaves(getattr(players, name)) for players in (before, state.memory[2][0])), strict=True)
    moved = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
    assert 0 < moved < 2e-3  # one Adam update from the same start
  assert [len(memory) for memory in state.memory] == [0, 0, 1, 0]


def test_a_job_scores_saves_and_lifts_through_the_canonical_camera(base, folders, tmp_path):
  recipe = Recipe((Synthesis(),), virtual_camera=True, **SMALL)
  result = job.run(job.Job(recipe, TARGET, base, SOURCE, **SPLITS, folders=folders, guard=False))
  assert set(result.scores) == {"source_only", "adapted"}  # its camera is not the recipe's
  assert result.adapted.view == base.view == virtual_camera.CANONICAL and "virtual camera" in result.protocol["view"]
  result.adapted.save(tmp_path / "adapted.safetensors")
  lift = lifter.load(base, tmp_path / "adapted.safetensors")
  assert lift.weights.view == base.view
  one = lift(KEYPOINTS_PX, **scene.VIDEO)
  # The same person in an image of twice the pixels, seen by a lens that is as much longer.
  twice = scene.VIDEO | {"resolution": (2000, 1600), "intrinsics": tuple(2 * x for x in scene.VIDEO["intrinsics"])}
  np.testing.assert_allclose(lift(2 * KEYPOINTS_PX, **twice).pose, one.pose, atol=1e-4)


def test_the_guard_leaves_a_base_alone_that_does_not_fit_the_2d(base, tmp_path):
  lines = []
  result = job.run(job.Job(Recipe((PseudoLabels(),), **SMALL), ARRAY, base, workdir=str(tmp_path)), lines.append)
  assert result.guard.share == 0 and any(line.startswith("Guard: not adapted, the base's poses") for line in lines)
  scores = {name: row["reprojection_px"] for name, row in result.scores.items()}
  assert scores["adapted"] == pytest.approx(scores["source_only"]) and scores["adapted"] != scores["unguarded"]
  assert all((tmp_path / name).exists() for name in ("account.json", "adapted", "unguarded"))
  assert not any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(result.adapted.adapter["bias"]))


def test_a_source_mixes_datasets_and_counts_one_twice():
  assert sources.split_source("cmu_mocap/a+b+2*accad_mocap/a+b") == [
      (1, "cmu_mocap", ["a", "b"]), (2, "accad_mocap", ["a", "b"])]
  assert sources.split_source("human36m/gt") == [(1, "human36m", ["gt"])]
