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
from posynda_jax.adaptation import bases, job, placement, recipes, training
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.data import clips, tracks
from posynda_jax.diffusion import process
from posynda_jax.geometry import measured, skeleton, virtual_camera
from posynda_jax.interop.keypoints import recordings, targets
from posynda_jax.runtime import loop
from tests import scene
from tests.adaptation.batches import answering, target_clips
from tests.geometry.test_virtual_camera import VIEW
from tests.tolerance import assert_close

SMALL = {"clips": 8, "updates": 4, "adapter": AdapterConfig(rank=2, scale=0.5)}
SOURCE, TARGET = "synthetic_motion/source", "synthetic_motion/target_gt"
SPLITS = {"source_split": "train[:5%]", "target_split": "train[:2%]", "test_split": "test[:2%]"}
KEYPOINTS_PX = scene.filmed()[1]
ARRAY = targets.from_array(KEYPOINTS_PX, recordings.Options(**scene.VIDEO, layout="h36m17"))


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
      lifter.load(*weights, batch_size=4)(KEYPOINTS_PX, **scene.VIDEO).pose
      for weights in ((base, path), (result.adapted,), (base,))
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
    ({"bodiless": True}, "does not hold its source's bone lengths"),
])
def test_an_impossible_job_is_refused(changes, message, tiny_base, folders):
  base, changes = bases.load(tiny_base), dict(changes)
  if changes.pop("bodiless", False):
    base = dataclasses.replace(base, config={name: it for name, it in base.config.items() if name != "body"})
  asked = dataclasses.replace(job.Job(recipes.get("free", **SMALL), ARRAY, base, folders=folders), **changes)
  with pytest.raises(ValueError, match=message):
    job.run(asked)


def test_the_body_is_the_sources_with_the_proportions_that_unlabelled_2d_shows_and_a_ceilings_the_labelled():
  """The lifted poses have the right directions and the source's bones. The 2D is of people with other bones."""
  ratio = np.r_[0, np.random.default_rng(0).uniform(0.7, 1.3, 16)]
  ratio[[2, 3, 5, 6]] = 1  # legs of the source's length
  ratio[list(skeleton.LEFT)] = ratio[list(skeleton.RIGHT)]
  poses = placement.resize(jnp.asarray(scene.poses((64, 9), 5)), jnp.asarray(ratio))
  theirs = np.array(skeleton.bone_lengths(poses)).mean((0, 1))
  own = tuple((theirs / ratio[1:]).tolist())
  clip = target_clips(poses) | {"poses": np.asarray(poses)}
  target = clips.ClipSource([tracks.Track({name: x[i] for name, x in clip.items()}, {}) for i in range(64)], 9)
  rendered = virtual_camera.render_clip(clip, VIEW)[0]
  lifted = skeleton.root_centre(placement.resize(rendered["poses"], jnp.asarray(1 / np.maximum(ratio, 0.1))))
  denoise = answering(rendered["keypoints"], lifted)
  seen = measured.make(view=tuple(VIEW.tolist()))
  weights = types.SimpleNamespace(make_denoiser=lambda _: denoise, params=None, measured=seen)
  opened = types.SimpleNamespace(body=own, base=types.SimpleNamespace(diffusion=process.Diffusion()))
  body = training.find_body(opened, weights, recipes.get("novel"), target)
  np.testing.assert_allclose(np.array(body) / own, ratio[1:], rtol=0.06)
  assert training.find_body(opened, weights, recipes.get("posynda"), target) == own  # which resizes nobody
  np.testing.assert_allclose(training.find_body(opened, None, recipes.get("ceiling"), target), theirs, rtol=0.02)
