"""Figures, films and the script that makes them: the chosen pose is the red one, up is up, films keep real time."""

import dataclasses
import io
import json
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.animation
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from experiments import visualize
from posynda_jax.adaptation import adapt, pretrain
from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.geometry import camera, skeleton
from posynda_jax.runtime import checkpoint, runs
from posynda_jax.visuals import animation, render
from tests import scene
from tests.experiments.test_experiments import run_well

K = np.array([1150, 1150, 960, 540, 0, 0, 0, 0, 0], np.float32)


def people(num_frames: int, num_hypotheses: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(Keypoints [T 17 2] in px, hypotheses [H T 17 3], truth [T 17 3]) of a swaying person, camera frame, root-relative."""
  absolute = (scene.motion(num_frames) * [1, -1, -1] + [0, 0.95, 4]).astype(np.float32)
  truth = absolute - absolute[:, :1]
  stray = 0.05 * np.random.default_rng(0).standard_normal((num_hypotheses, num_frames, 17, 3)).astype(np.float32)
  return np.asarray(camera.project(absolute, K)), skeleton.root_centre(truth + stray), truth


def skeletons(axes) -> list[tuple[str, np.ndarray]]:
  """(Label and colour, bones [16 2 3]) of what is drawn in 3D axes."""
  drawn = [one for one in axes.collections if isinstance(one, Line3DCollection)]
  return [((one.get_label(), matplotlib.colors.to_hex(one.get_colors()[0])), np.array(one._segments3d)) for one in drawn]


def test_the_chosen_hypothesis_is_the_red_one_and_all_are_there():
  keypoints, hypotheses, truth = people(2)
  chosen = np.stack([hypotheses[2, 0], hypotheses[1, 1]])
  figure = render.hypotheses_figure(keypoints, hypotheses, chosen, truth, ["frame 3", "frame 9"])
  for i in range(2):
    image, *spaces = figure.axes[3 * i : 3 * i + 3]
    assert image.get_title() == f"frame {(3, 9)[i]}" and image.yaxis_inverted()
    np.testing.assert_allclose(image.collections[0].get_segments(), render.segments(keypoints[i]))
    for axes in spaces:
      drawn = dict(skeletons(axes))
      red = [bones for (_, colour), bones in drawn.items() if colour == render.CHOSEN]
      assert len(red) == 1 and len(drawn) == 5 and len({colour for _, colour in drawn}) == 5
      np.testing.assert_allclose(red[0], render.segments(chosen[i]))
      for h in range(3):
        np.testing.assert_allclose(drawn[f"hypothesis {h + 1}", render.PALETTE[h]], render.segments(hypotheses[h, i]))
      np.testing.assert_allclose(drawn["ground truth", render.TRUTH], render.segments(truth[i]))
      front = max(axes.collections, key=lambda one: one.get_zorder() if one.get_label() != "ground truth" else -1)
      assert front.get_label() == "chosen" and not axes.computed_zorder
  names = [text.get_text() for text in figure.legends[0].get_texts()]
  assert names == ["hypothesis 1", "hypothesis 2", "hypothesis 3", "ground truth", "chosen"]
  plt.close(figure)


def test_bones_join_joints_to_parents_up_is_up_and_sides_have_colours():
  _, _, truth = people(1)
  bones = render.segments(truth[0])
  up = {name: bones[i - 1, 0, 2] for i, name in enumerate(skeleton.JOINTS) if i}
  assert up["head"] > up["neck"] > up["spine"] > 0 > up["left_knee"] > up["left_ankle"]
  for child, parent in enumerate(skeleton.PARENTS):
    if child:
      np.testing.assert_allclose(bones[child - 1, :, [0, 1]].T, truth[0][[child, parent]][:, [0, 2]])
  figure = plt.figure()
  axes = figure.add_subplot(projection="3d")
  render.draw_3d(axes, truth[0], "x")
  colours = [matplotlib.colors.to_hex(colour) for colour in axes.collections[0].get_colors()]
  sides = {colour: {i + 1 for i in range(16) if colours[i] == colour} for colour in colours}
  assert sorted(map(sorted, sides.values())) == sorted(map(sorted, (skeleton.LEFT, skeleton.RIGHT, {7, 8, 9, 10})))
  plt.close(figure)


def test_methods_stand_beside_the_truth_with_their_error():
  keypoints, hypotheses, truth = people(2)
  off = truth + np.where(np.arange(17) == 0, 0, 0.017)[:, None] * [1.0, 0, 0]
  figure = render.methods_figure(keypoints, {"ours": off, "exact": truth, "ground truth": truth})
  titles = [axes.get_title() for axes in figure.axes]
  assert titles == ["2D input", "ours\n16 mm", "exact\n0 mm", "ground truth", "", "16 mm", "0 mm", ""]
  np.testing.assert_allclose(skeletons(figure.axes[5])[0][1], render.segments(off[1]))
  picture = PIL.Image.open(io.BytesIO(render.png(figure)))
  assert picture.format == "PNG" and picture.size == (round(4 * 2.6 * 110), round(2 * 2.7 * 110)) and not plt.get_fignums()
  without = render.methods_figure(keypoints, {"lifted": off})
  assert [axes.get_title() for axes in without.axes] == ["2D input", "lifted", "", ""]
  plt.close(without)


def test_pictures_of_a_run_are_written(tmp_path):
  keypoints, hypotheses, truth = people(2)
  render.save_comparison(tmp_path / "a.png", keypoints, {"adapted": hypotheses[0], "ground truth": truth})
  render.save_curves(tmp_path / "b.png", [{"step": i, "loss": 1 / (i + 1)} for i in range(5)], ("loss", "not logged"))
  for name in ("a.png", "b.png"):
    assert plt.imread(tmp_path / name)[..., :3].std() > 0.02
  assert not plt.get_fignums()


@pytest.mark.parametrize(
    "num_frames, fps", [(1, 25), (100, 50), (100, 60), (10, 29.97), (30, 12.5), (9, 4), (500, 240), (2, 0.5)]
)
def test_films_last_as_long_as_the_sequence_and_show_the_frame_of_their_instant(num_frames, fps):
  _, rate = animation._writer(pathlib.Path("a.gif"), fps)
  assert round(100 / rate) == 100 / rate and rate <= max(fps, 1)  # whole hundredths of a second, or players round them
  shown = animation._instants(num_frames, fps, rate)
  assert len(shown) == 1 or abs(len(shown) / rate - num_frames / fps) <= 0.5 / rate
  wanted = np.minimum(np.arange(len(shown)) / rate * fps, num_frames - 1)
  assert (np.abs(shown - wanted) <= 1).all() and (np.diff(shown) >= 0).all()


def test_a_gif_plays_in_real_time_and_moves(tmp_path):
  keypoints, hypotheses, truth = people(20)
  count = animation.save_animation(
      tmp_path / "a.gif", keypoints_px=keypoints, poses={"chosen": hypotheses[0]}, fps=50, hypotheses=hypotheses, truth=truth)
  film = PIL.Image.open(tmp_path / "a.gif")
  assert count == film.n_frames == 10 and film.info["duration"] == 40 and film.info["loop"] == 0
  first = np.asarray(film.convert("RGB"), float)
  film.seek(9)
  assert np.abs(np.asarray(film.convert("RGB"), float) - first).max() > 100 and not plt.get_fignums()


def test_mp4_is_written_where_ffmpeg_is_and_refused_in_one_line_where_not(tmp_path, monkeypatch):
  keypoints, hypotheses, _ = people(5)
  make = lambda name: animation.save_animation(tmp_path / name, keypoints_px=keypoints, poses={"a": hypotheses[0]}, fps=25)
  with pytest.raises(ValueError, match=r"neither .gif nor .mp4"):
    make("a.avi")
  with monkeypatch.context() as patch:
    patch.setattr(matplotlib.animation.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(ValueError, match="needs the program ffmpeg, which is not installed: install it, or write a .gif"):
      make("a.mp4")
  if not matplotlib.animation.FFMpegWriter.isAvailable():
    pytest.skip("no ffmpeg on this machine: writing an MP4 was not tried")
  assert make("a.mp4") == 5 and (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


# ---- the script ----


def write_lifted(path, num_frames: int = 12, num_hypotheses: int = 3) -> dict:
  """An npz as experiments.lift writes it; its arrays."""
  keypoints, hypotheses, _ = people(num_frames, num_hypotheses)
  metadata = {"sequence": "<walk>", "selection": "frame", "format": "openpose", "warnings": ["a", "b"]}
  arrays = {
      "frame": np.arange(7, 7 + num_frames), "pose_root_m": np.asarray(hypotheses[-1]), "keypoints_px": keypoints,
      "confidence": np.ones((num_frames, 17), np.float32), "detected": np.arange(num_frames) != 3, "intrinsics": K,
      "resolution": np.array([1920, 1080], np.float32), "fps": np.float32(25),
      "metadata": np.array(json.dumps(metadata)),
      **({"hypotheses_root_m": np.asarray(hypotheses)} if num_hypotheses > 1 else {}),
  }
  np.savez_compressed(path, **arrays)
  return arrays


def test_what_lift_wrote_becomes_page_film_and_figure(tmp_path):
  write_lifted(tmp_path / "walk.npz")
  outputs = ",".join(str(tmp_path / f"walk.{ending}") for ending in ("html", "gif", "png"))
  how = ("--rows=2", "--seconds=0.4", "--title=My <walk>")
  out = run_well("visualize", f"--lifted={tmp_path}/walk.npz", f"--output={outputs}", *how)
  assert "walk.html: 10 frames" in out and "walk.gif: 10 pictures of 0.4 s" in out
  assert "walk.png: hypotheses in frames 9, 13" in out
  page = (tmp_path / "walk.html").read_text()
  assert "My &lt;walk&gt;" in page and "<dt>format</dt><dd>openpose</dd>" in page and "<dd>a; b</dd>" in page
  assert '"chosen by frame"' in page and '"first_frame": 7' in page and '"hypothesis 3"' in page
  assert PIL.Image.open(tmp_path / "walk.gif").n_frames == 10 and plt.imread(tmp_path / "walk.png").shape[0] > 400


def test_what_lift_wrote_is_read_as_it_is_and_other_files_are_refused_in_one_line(tmp_path):
  arrays = write_lifted(tmp_path / "one.npz", num_hypotheses=1)
  found = visualize.read_lifted(str(tmp_path / "one.npz"))
  assert found.hypotheses is None and list(found.poses) == ["lifted"] and found.first_frame == 7 and found.truth is None
  np.testing.assert_array_equal(found.poses["lifted"], arrays["pose_root_m"])
  cut = found.cut(0.2)
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
      visualize.read_lifted(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
  """An adaptation run that never trained, with a ceiling, on a base that never did."""
  folder = tmp_path_factory.mktemp("runs")
  pretraining, config = pretrain.PretrainConfig(), adapt.AdaptConfig(num_steps=1)
  model = {"num_frames": 3, "width": 16, "depth": 1, "num_heads": 1, "drop_path": 0.0, "dtype": "float32"}
  runs.Run(folder / "base", {"model": model, "pretrain": dataclasses.asdict(pretraining), "clip_fps": 12.5})
  denoiser, rng = MixSTE(**model | {"dtype": jnp.float32}), np.random.default_rng(0)
  some = lambda tree: jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), tree)
  params = some(jax.eval_shape(lambda: pretrain.init_state(jax.random.key(0), denoiser, pretraining).params))
  checkpoint.save_tree(folder / "base" / "base", params)
  links = {"base": checkpoint.digest(params), "base_folder": str(folder / "base"), "target": "synthetic_motion/target_gt"}
  runs.Run(folder / "run", {"adapt": dataclasses.asdict(config), **links})
  for name in ("adapted", "ceiling"):
    adapter = jax.eval_shape(lambda: adapt.init_adapter(jax.random.key(0), params, config))
    checkpoint.save_tree(folder / "run" / name, some(adapter))
  return folder / "run"


def test_a_runs_weights_are_shown_with_hypotheses_methods_and_truth(adapted, data, tmp_path):
  what = (f"--run={adapted}", "--split=test[:2%]", data, "--hypotheses=2")
  out = run_well("visualize", *what, f"--output={tmp_path}/a.html,{tmp_path}/a.png", "--figure=methods", "--rows=1")
  assert "MPJPE adapted " in out and ", source only " in out and ", ceiling " in out and "a.png: methods in frames" in out
  page = (tmp_path / "a.html").read_text()
  series = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])["series"]
  assert [one["name"] for one in series] == ["adapted", "source only", "ceiling", "hypothesis 1", "hypothesis 2", "ground truth"]
  assert len({one["pose"]["values"] for one in series}) == 6
  assert "<dt>selection</dt><dd>frame</dd>" in page and "synthetic_motion/target_gt: " in page


def test_a_sequence_is_found_by_name_and_camera():
  records = [{"sequence": f"walk{n}", "camera": camera} for n in range(10) for camera in ("left", "right")]
  assert visualize.find_record(records, "x test", None, None) is records[0]
  assert visualize.find_record(records, "x test", "walk3", "right") is records[7]
  assert visualize.find_record(records, "x test", None, "right") is records[1]
  for asked, message in (
      (("run", None), "x test has no sequence run: choose one of walk0, .*walk7, ...$"),
      (("walk2", "top"), "--camera=top did not see walk2 of x test: choose one of left, right$"),
      ((None, "top"), "--camera=top saw nothing of x test: choose one of left, right$"),
  ):
    with pytest.raises(ValueError, match=message):
      visualize.find_record(records, "x test", *asked)


def test_files_that_cannot_be_made_are_refused_before_anything_is_read(tmp_path):
  for names, error, message in (
      ([], ValueError, "--output is needed"), (["a.html", "a.jpg"], ValueError, "a.jpg ends in none of .html, .gif, .mp4, .png"),
      (["a.html", "none/a.gif"], FileNotFoundError, "the folder of .*none/a.gif does not exist"),
  ):
    with pytest.raises(error, match=message):
      visualize.check_outputs([tmp_path / name for name in names])
  visualize.check_outputs([tmp_path / "a.html", tmp_path / "a.gif", tmp_path / "a.png"])
