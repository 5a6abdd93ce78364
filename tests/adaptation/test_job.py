"""The main job as one call, in memory and in a folder: results, files, resuming, and what it refuses."""

import dataclasses
import json
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax import lifter
from posynda_jax.adaptation import bases, job, placement, recipes, task, training
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.data import clips, tracks
from posynda_jax.diffusion import process
from posynda_jax.geometry import camera, measured, skeleton, virtual_camera
from posynda_jax.interop.keypoints import recordings, targets
from posynda_jax.runtime import loop
from tests import scene
from tests.adaptation.batches import answering
from tests.geometry.test_virtual_camera import VIEW
from tests.tolerance import assert_close

SMALL = {"clips": 8, "updates": 4, "adapter": AdapterConfig(rank=2, scale=0.5)}
VIDEO = {"resolution": (1000, 800), "fps": 12.5, "intrinsics": (900.0, 900.0, 500.0, 400.0), "layout": "h36m17"}
SOURCE, TARGET = "synthetic_motion/source", "synthetic_motion/target_gt"
SPLITS = {"source_split": "train[:5%]", "target_split": "train[:2%]", "test_split": "test[:2%]"}


def keypoints_px(num_frames: int = 30) -> np.ndarray:
  """Keypoints [T 17 2] of a swaying person 4 m before the camera of VIDEO."""
  poses = (scene.motion(num_frames) * [1, -1, -1] + [0, 0.95, 4]).astype(np.float32)
  return np.asarray(camera.project(poses, np.float32([*VIDEO["intrinsics"], 0, 0, 0, 0, 0])))


ARRAY = targets.from_array(keypoints_px(), recordings.Options(**VIDEO))


def poses_of(lift: lifter.Lifter) -> np.ndarray:
  video = {name: value for name, value in VIDEO.items() if name != "layout"}
  return lift(keypoints_px(), **video).pose


def test_an_array_of_keypoints_adapts_a_base_in_memory_and_the_saved_adapter_lifts_the_same(tiny_base, tmp_path):
  base, lines, started = bases.load(tiny_base), [], time.perf_counter()
  described = job.Job(
      Recipe((PseudoLabels(),), **SMALL), ARRAY, base, guard=False, saving=loop.Saving(log_every=10**6))
  result = job.run(described, lines.append)
  assert 0 < result.scores["adapted"]["seconds"] < time.perf_counter() - started
  assert result.folder is None and "Source-free: the adapter learns from the target alone" in lines
  assert set(result.scores) == {"source_only", "adapted"} and result.protocol["dataset"] == "keypoints"
  before, after = (result.scores[row]["reprojection_px"] for row in ("source_only", "adapted"))
  assert before > 0 and after > 0 and before != after and result.scores["adapted"]["frames"] == 30
  assert result.protocol["adapted_on"] == "keypoints:all frames (2D and intrinsics only)"
  path = tmp_path / "adapted.safetensors"
  result.adapted.save(path)
  loaded = bases.load_weights(path, base=base)
  jax.tree.map(np.testing.assert_array_equal, loaded.adapter, result.adapted.adapter)
  assert (loaded.config, loaded.body, loaded.view) == (SMALL["adapter"], result.adapted.body, ())
  saved, adapted, bare = (
      poses_of(lifter.load(*weights, batch_size=4)) for weights in ((base, path), (result.adapted,), (base,))
  )
  assert_close(saved, adapted)
  assert np.abs(adapted - bare).max() > 1e-4


@pytest.fixture(scope="module")
def result(tiny_base, folders, tmp_path_factory) -> job.Result:
  """The result of a job with a source, a labelled target, a virtual camera, a ceiling and a folder."""
  return job.run(job.Job(
      recipes.get("novel", **SMALL), TARGET, str(tiny_base), SOURCE, **SPLITS, ceiling=True, guard=False,
      folders=folders, workdir=str(tmp_path_factory.mktemp("runs") / "novel"), saving=loop.Saving(2, 2)))


def test_a_job_scores_before_and_after_between_source_only_and_ceiling(result):
  assert set(result.scores) == {"source_only", "view_alone", "adapted", "ceiling"}
  assert len({row["mpjpe_mm"] for row in result.scores.values()}) == 4
  assert len({row["frames"] for row in result.scores.values()}) == 1
  assert [row["trainable"] > 0 for row in result.scores.values()] == [False, False, True, True]
  protocol = result.protocol
  assert (protocol["dataset"], protocol["split"], protocol["keypoints_2d"]) == (TARGET, "test[:2%]", "gt")
  assert "virtual camera" in protocol["view"] and protocol["adapted_on"].startswith(f"{TARGET}:train[:2%] (2D")


def test_weights_come_back_from_a_run_folder_with_what_was_measured(result):
  found, bare = bases.load_weights(result.folder), bases.load_weights(result.folder, "source_only")
  jax.tree.map(np.testing.assert_array_equal, found.adapter, jax.device_get(result.adapted.adapter))
  assert (found.body, found.view, found.config) == (result.adapted.body, result.adapted.view, result.adapted.config)
  assert bare.adapter is None and bare.view == () != found.view
  ceiling = bases.load_weights(result.folder, "ceiling")
  assert ceiling.adapter["bias"].any() and len({found.body, bare.body, ceiling.body}) == 3
  with pytest.raises(FileNotFoundError, match="no weights 'best'; it has adapted, ceiling, source_only"):
    bases.load_weights(result.folder, "best")
  assert {**result.scores, "protocol": result.protocol} == json.loads((result.folder / "metrics.json").read_text())


@pytest.mark.parametrize("changes, message", [
    ({"recipe": recipes.get("novel")}, "learns from source poses: give a source, or use the recipe free"),
    ({"recipe": recipes.get("free", virtual_camera=True)}, "a virtual camera needs the cameras of a source"),
    ({"ceiling": True}, "a ceiling is trained on labels, which keypoints does not have"),
    ({"recipe": recipes.get("ceiling")}, "a ceiling is trained on labels, which keypoints does not have"),
    ({"target": "kinect/lab"}, "dataset 'kinect' is unknown"),
])
def test_an_impossible_job_is_refused(changes, message, tiny_base, folders):
  asked = dataclasses.replace(job.Job(recipes.get("free", **SMALL), ARRAY, str(tiny_base), folders=folders), **changes)
  with pytest.raises(ValueError, match=message):
    job.run(asked)


def test_novel_views_on_a_base_that_does_not_hold_its_body_need_a_source(tiny_base):
  base = bases.load(tiny_base)
  bare = dataclasses.replace(base, config={name: it for name, it in base.config.items() if name != "body"})
  with pytest.raises(ValueError, match="does not hold its source's bone lengths"):
    task.load_task(job.Job(recipes.get("free"), ARRAY, bare))


def people(ratio: np.ndarray) -> tuple[dict, clips.ClipSource, tuple[float, ...]]:
  """(clips with poses, the same unlabelled, source's body) of people whose bones are `ratio` times the source's."""
  poses = placement.resize(jnp.asarray(scene.poses((64, 9), 5)), jnp.asarray(ratio))
  body = np.array(skeleton.bone_lengths(poses)).mean((0, 1)) / ratio[1:]
  keypoints = np.asarray(camera.project(poses, np.tile(scene.INTRINSICS, (64, 1))))
  ones = {"confidence": np.ones((9, 17), np.float32), "valid": np.ones(9, np.float32)}
  found = [tracks.Track({"keypoints": x, "intrinsics": scene.INTRINSICS} | ones, {}) for x in keypoints]
  source = clips.ClipSource(found, 9)
  return source.take(range(64)) | {"poses": poses}, source, tuple(body.tolist())


@pytest.mark.parametrize("view", [(), tuple(VIEW.tolist())])
def test_the_body_is_the_sources_with_the_proportions_that_unlabelled_2d_shows(view):
  """The lifted poses have the right directions and the source's bones. The 2D is of people with other bones."""
  ratio = np.r_[0, np.random.default_rng(0).uniform(0.7, 1.3, 16)]
  ratio[[2, 3, 5, 6]] = 1  # legs of the source's length
  ratio[list(skeleton.LEFT)] = ratio[list(skeleton.RIGHT)]
  clip, target, own = people(ratio)
  rendered = virtual_camera.render_clip(clip, view)[0] if view else clip
  lifted = skeleton.root_centre(placement.resize(rendered["poses"], jnp.asarray(1 / np.maximum(ratio, 0.1))))
  denoise = answering(rendered["keypoints"], lifted)
  weights = types.SimpleNamespace(make_denoiser=lambda _: denoise, params=None, measured=measured.make(view=view))
  opened = types.SimpleNamespace(body=own, base=types.SimpleNamespace(diffusion=process.Diffusion()))
  found = training.find_body(opened, weights, recipes.get("novel"), target)
  np.testing.assert_allclose(np.array(found) / own, ratio[1:], rtol=0.06)
  assert training.find_body(opened, weights, recipes.get("posynda"), target) == own  # which resizes nobody


def test_the_body_of_a_ceiling_is_the_labelled_targets():
  clip, target, own = people(np.ones(17))
  for track, poses in zip(target.tracks, clip["poses"], strict=True):
    track.arrays["poses"] = np.asarray(poses)
  found = training.find_body(types.SimpleNamespace(body=(0.3,) * 16), None, recipes.get("ceiling"), target)
  np.testing.assert_allclose(found, own, rtol=0.02)
