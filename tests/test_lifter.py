"""Bases by name, file or folder, and the one-call lifter: a base gives the same numbers from every place."""

import subprocess
import sys

import numpy as np
import pytest

from posynda_jax import lifter
from posynda_jax.adaptation import bases, tensors_file
from posynda_jax.geometry import skeleton
from posynda_jax.runtime import checkpoint, runs
from tests import ROOT, scene, tiny
from tests.tolerance import assert_close


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  """One base in two places: (run folder, file)."""
  folder = tiny.save_run(tmp_path_factory.mktemp("runs") / "base")
  tensors_file.save_base(folder.parent / "base.safetensors", tiny.base().params, tiny.CONFIG)
  return folder, folder.parent / "base.safetensors"


def test_a_base_is_the_same_from_a_folder_and_from_a_file(places):
  one, other = (bases.load(place) for place in places)
  assert one.digest == other.digest == checkpoint.digest(scene.tiny_model(3)[1])
  assert one.body == other.body and len(one.body) == 16
  assert (one.clip_fps, one.diffusion.num_steps) == (other.clip_fps, other.diffusion.num_steps) == (12.5, 1000)
  assert one.model == other.model


@pytest.mark.parametrize("where, message", [
    ("runs/nowhere", "runs/nowhere is no base: .*small"), ("nowhere.safetensors", "nowhere.safetensors"),
])
def test_a_place_without_a_base_is_refused(where, message):
  with pytest.raises(FileNotFoundError, match=message):
    bases.load(where)


def test_an_adaptation_run_is_no_base(tmp_path):
  runs.Run(tmp_path, {"recipe": {}})
  with pytest.raises(ValueError, match="a run of another kind"):
    bases.load(tmp_path)


def test_the_lifter_answers_for_every_frame_from_first_to_last_sighting(places):
  _, keypoints = scene.filmed(20)
  scores = np.ones((20, 17, 1), np.float32)
  scores[:2] = scores[7] = 0
  points = np.concatenate([keypoints, scores], -1)
  lifted, same = (lifter.load(place, num_hypotheses=2, batch_size=4)(points, **scene.VIDEO) for place in places)
  assert lifted.pose.shape == (18, 17, 3) and lifted.hypotheses.shape == (18, 2, 17, 3) and lifted.root.shape == (18, 3)
  np.testing.assert_array_equal(lifted.frame, np.arange(2, 20))
  np.testing.assert_array_equal(np.isnan(lifted.reprojection_px), lifted.frame == 7)
  assert_close(lifted.hypotheses.mean(1), lifted.pose)
  np.testing.assert_array_equal(same.pose, lifted.pose)


def test_keypoints_of_another_form_are_refused(places):
  lift = lifter.load(places[0], batch_size=4)
  for keypoints, message in ((np.ones((4, 16, 2)), "has 16 joints, expected 17"), (np.ones((17, 2)), r"(17, 2)")):
    with pytest.raises(ValueError, match=message):
      lift(keypoints, resolution=scene.VIDEO["resolution"])


def test_the_shipped_base_lifts_a_standing_person():
  """The body is synthetic and not in the training data; the keypoints are exact and the lens is usual."""
  poses, keypoints = scene.filmed()
  lifted, refined = (
      lifter.load(batch_size=16, refine=refine)(keypoints, **scene.VIDEO | {"fps": 15})
      for refine in ("none", "body")
  )
  errors = np.linalg.norm(lifted.pose - np.asarray(skeleton.root_centre(poses)), axis=-1)
  assert errors.mean() < 0.12 and np.abs(lifted.root[:, 2] - 4).mean() < 0.6
  assert np.nanmean(refined.reprojection_px) < np.nanmean(lifted.reprojection_px)


def test_the_shipped_base_is_small_and_says_what_it_is():
  path = bases.SHIPPED[bases.DEFAULT]
  base = bases.load(bases.DEFAULT)
  card = path.with_suffix(".md").read_text()
  assert path.stat().st_size < 3e6
  assert base.digest in card and "mocap.cs.cmu.edu" in card and "EIA-0196217" in card
  assert len(base.body) == 16 and all(0.05 < length < 0.6 for length in base.body)


HEAVY = ("matplotlib", "tensorboardX", "grain", "orbax", "optax")


@pytest.mark.parametrize("names, absent", [
    ("posynda_jax.lifter", (*HEAVY, "fcntl")),  # which Windows lacks; the standard library does without it
    (", ".join(f"posynda_jax.{name}" for name in ("data.clips", "runtime.checkpoint", "runtime.loop", "runtime.runs")),
     HEAVY),
    ("posynda_jax.visuals.page", ("matplotlib",)),
])
def test_importing_a_module_loads_no_library_that_it_does_not_need(names, absent):
  """A module that is None in `sys.modules` cannot be imported."""
  code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {names}"
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-2000:]
