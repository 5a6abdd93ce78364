"""The script for pictures: the output of `experiments.lift` and a run's weights become page, film and figure."""

import json

import jax
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest

from posynda_jax.adaptation import adapters, recipes
from posynda_jax.runtime import checkpoint, files, runs
from posynda_jax.visuals import output, pose_sequence
from tests import scene, tiny
from tests.scripts import run_well
from tests.visuals.sequences import K, swaying


def write_lifted(path, num_hypotheses: int = 3) -> dict[str, np.ndarray]:
  """Arrays of an npz file of 12 frames, written as `experiments.lift` writes it."""
  given = swaying(12, num_hypotheses)
  metadata = {"sequence": "<walk>", "selection": "frame", "format": "openpose", "warnings": ["a", "b"]}
  arrays = {
      "frame": np.arange(7, 19), "pose_root_m": given["hypotheses"][-1], "keypoints_px": given["keypoints_px"],
      "confidence": np.ones((12, 17), np.float32), "detected": np.arange(12) != 3, "intrinsics": K,
      "resolution": np.array([1920, 1080], np.float32), "fps": np.float32(25),
      "metadata": np.array(json.dumps(metadata)),
  }
  np.savez_compressed(path, **arrays, **({"hypotheses_root_m": given["hypotheses"]} if num_hypotheses > 1 else {}))
  return arrays


def test_a_lifted_file_becomes_page_film_and_figure(tmp_path):
  write_lifted(tmp_path / "walk.npz")
  outputs = ",".join(str(tmp_path / f"walk.{ending}") for ending in ("html", "gif", "png"))
  options = ("--rows=2", "--seconds=0.4")
  out = run_well("visualize", f"--lifted={tmp_path}/walk.npz", f"--output={outputs}", *options)
  assert "walk.html: 10 frames" in out and "walk.gif: 10 pictures of 0.4 s" in out
  assert "walk.png: hypotheses in frames 9, 13" in out
  page = (tmp_path / "walk.html").read_text()
  assert "Lifted: &lt;walk&gt;" in page and "<dt>format</dt><dd>openpose</dd>" in page and "<dd>a; b</dd>" in page
  assert '"lifted, select=frame"' in page and '"first_frame": 7' in page and '"hypothesis 3"' in page
  assert PIL.Image.open(tmp_path / "walk.gif").n_frames == 10 and plt.imread(tmp_path / "walk.png").shape[0] > 400


def test_a_lifted_file_is_read_unchanged_and_other_files_are_refused_in_one_line(tmp_path):
  arrays = write_lifted(tmp_path / "one.npz", num_hypotheses=1)
  found = pose_sequence.read_lifted(tmp_path / "one.npz")
  assert found.hypotheses is found.truth is None and list(found.poses) == ["lifted"] and found.first_frame == 7
  np.testing.assert_array_equal(found.poses["lifted"], arrays["pose_root_m"])
  assert found.doubts == [] == found.pictures
  jpegs = [b"one", b"another"]
  metadata = json.loads(str(arrays["metadata"])) | {"untrusted": [{"first": 8, "last": 9, "why": "dark"}]}
  np.savez(tmp_path / "video.npz", **arrays | {
      "metadata": np.array(json.dumps(metadata)), "picture_frames": np.array([7, 12]),
      "picture_ends": np.array([3, 10]),
      "picture_bytes": np.frombuffer(b"".join(jpegs), np.uint8)})
  of_video = pose_sequence.read_lifted(tmp_path / "video.npz")
  assert of_video.pictures == [(7, jpegs[0]), (12, jpegs[1])] and of_video.doubts == [(8, 9, "dark")]
  cut = found.first_seconds(0.2)
  assert len(cut.poses["lifted"]) == len(cut.valid) == len(cut.keypoints_px) == 5
  np.savez(tmp_path / "other.npz", poses=np.zeros(3))
  (tmp_path / "text.npz").write_text("no zip")
  np.savez(tmp_path / "objects.npz", **arrays | {"metadata": np.array([{}], object)})
  for name, error, message in (
      ("none.npz", FileNotFoundError, "does not exist"),
      ("other.npz", ValueError, "of another kind: it lacks confidence, detected"),
      ("text.npz", ValueError, "cannot be read as an npz"), ("objects.npz", ValueError, "cannot be read as an npz"),
  ):
    with pytest.raises(error, match=message) as caught:
      pose_sequence.read_lifted(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
  """Folder of an adaptation run with random weights: a base, an adapter and a ceiling."""
  folder, recipe, base = tmp_path_factory.mktemp("runs"), recipes.get("posynda"), tiny.base()
  runs.Run(folder / "run", {
      "recipe": recipes.describe(recipe), "base": base.digest, "base_folder": str(tiny.save_run(folder / "base")),
      "target": "synthetic_motion/target_gt",
  })
  shapes = jax.eval_shape(lambda: adapters.init(jax.random.key(0), base.params, recipe.adapter))
  for seed, name in enumerate(("adapted", "ceiling")):
    checkpoint.save_tree(folder / "run" / name, scene.draw(shapes, seed))
  measured = {name: {"body": [], "view": []} for name in ("source_only", "adapted", "ceiling")}
  files.write_json(folder / "run" / "measured.json", measured)
  return folder / "run"


def test_the_weights_of_a_run_are_shown_with_hypotheses_methods_and_truth(adapted, data, tmp_path):
  options = ("--split=test[:2%]", data, "--hypotheses=2", "--figure=methods", "--rows=1")
  out = run_well("visualize", f"--run={adapted}", f"--output={tmp_path}/a.html,{tmp_path}/a.png", *options)
  assert "MPJPE adapted " in out and ", source only " in out and ", ceiling " in out
  assert "a.png: methods in frames" in out
  page = (tmp_path / "a.html").read_text()
  series = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])["series"]
  names = [one["name"] for one in series]
  assert names == ["adapted", "source only", "ceiling", "hypothesis 1", "hypothesis 2", "ground truth"]
  assert len({one["pose"]["values"] for one in series}) == 6
  assert "<dt>selection</dt><dd>frame</dd>" in page and "synthetic_motion/target_gt: " in page


def test_a_sequence_is_found_by_name_and_camera():
  records = [{"sequence": f"walk{n}", "camera": camera} for n in range(10) for camera in ("left", "right")]
  for asked, index in (((None, None), 0), (("walk3", "right"), 7), ((None, "right"), 1)):
    assert pose_sequence.find_record(records, "x test", *asked) is records[index]
  for asked, message in (
      (("run", None), "x test has no sequence run: choose one of walk0, .*walk7, ...$"),
      (("walk2", "top"), "camera top has no view of walk2: choose one of left, right$"),
      ((None, "top"), "camera top has no view of x test: choose one of left, right$"),
  ):
    with pytest.raises(ValueError, match=message):
      pose_sequence.find_record(records, "x test", *asked)


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
  for name, error, message in (
      ("a.jpg", ValueError, "a.jpg ends in none of .html, .gif, .mp4, .png"),
      ("none/a.gif", FileNotFoundError, "the folder of .*none/a.gif does not exist"),
  ):
    with pytest.raises(error, match=message):
      output.check_path(tmp_path / name)
  for name in ("a.html", "a.gif", "a.png"):
    output.check_path(tmp_path / name)
