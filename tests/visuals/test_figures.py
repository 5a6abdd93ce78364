"""Figures and films: the chosen pose is red, up is up, and films keep real time."""

import io
import pathlib

import matplotlib.animation
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from posynda_jax.geometry import skeleton
from posynda_jax.visuals import figures, film, output
from posynda_jax.visuals.pose_sequence import CHOSEN, PALETTE, TRUTH, PoseSequence
from tests.visuals.sequences import swaying


def skeletons(axes) -> dict[tuple[str, str], np.ndarray]:
  """(Label, colour) -> bones [16 2 3] of the skeletons in 3D axes."""
  drawn = [one for one in axes.collections if isinstance(one, Line3DCollection)]
  names = [(one.get_label(), matplotlib.colors.to_hex(one.get_colors()[0])) for one in drawn]
  return {name: np.array(one._segments3d) for name, one in zip(names, drawn, strict=True)}


def test_the_chosen_hypothesis_is_red_and_all_hypotheses_are_drawn():
  given = PoseSequence(**swaying(10), first_frame=3)
  figure = figures.hypotheses_figure(given, [0, 6])
  for row, t in enumerate((0, 6)):
    image, *spaces = figure.axes[3 * row : 3 * row + 3]
    assert image.get_title() == f"2D input, frame {3 + t}" and image.yaxis_inverted()
    np.testing.assert_allclose(image.collections[0].get_segments(), figures.segments(given.keypoints_px[t]))
    for axes in spaces:
      drawn = skeletons(axes)
      assert len({colour for _, colour in drawn}) == len(drawn) == 5
      want = {(f"hypothesis {h + 1}", PALETTE[h]): given.hypotheses[h, t] for h in range(3)}
      want |= {("ground truth", TRUTH): given.truth[t], ("chosen", CHOSEN): given.hypotheses[2, t]}
      for name, pose in want.items():
        np.testing.assert_allclose(drawn[name], figures.segments(pose))
      solid = [one for one in axes.collections if one.get_label() != "ground truth"]
      assert max(solid, key=lambda one: one.get_zorder()).get_label() == "chosen" and not axes.computed_zorder
  names = [text.get_text() for text in figure.legends[0].get_texts()]
  assert names == ["chosen", "hypothesis 1", "hypothesis 2", "hypothesis 3", "ground truth"]
  with pytest.raises(ValueError, match="needs several hypotheses"):
    figures.hypotheses_figure(PoseSequence(**swaying(2) | {"hypotheses": None}), [0])


def test_bones_join_joints_to_parents_up_is_up_and_sides_have_colours():
  (pose,) = swaying(1)["truth"]
  bones = figures.segments(pose - pose[0])
  up = {name: bones[i - 1, 0, 2] for i, name in enumerate(skeleton.JOINTS) if i}
  assert up["head"] > up["neck"] > up["spine"] > 0 > up["left_knee"] > up["left_ankle"]
  for child, parent in list(enumerate(skeleton.PARENTS))[1:]:
    np.testing.assert_allclose(bones[child - 1, :, [0, 1]].T, (pose - pose[0])[[child, parent]][:, [0, 2]])
  axes = Figure().add_subplot(projection="3d")
  figures.add_pose(axes, pose, "x")
  colours = [matplotlib.colors.to_hex(colour) for colour in axes.collections[0].get_colors()]
  sides = {colour: {i + 1 for i in range(16) if colours[i] == colour} for colour in colours}
  assert sorted(map(sorted, sides.values())) == sorted(map(sorted, (skeleton.LEFT, skeleton.RIGHT, {7, 8, 9, 10})))


def test_methods_stand_beside_the_truth_with_their_error_or_a_caption():
  given = swaying(2)
  keypoints, truth = given["keypoints_px"], given["truth"]
  off = truth + np.where(np.arange(17) == 0, 0, 0.017)[:, None] * [1.0, 0, 0]
  figure = figures.methods_figure(keypoints, {"ours": off, "exact": truth, "ground truth": truth})
  titles = [axes.get_title() for axes in figure.axes]
  assert titles == ["2D input", "ours\n16 mm", "exact\n0 mm", "ground truth", "", "16 mm", "0 mm", ""]
  np.testing.assert_allclose(*skeletons(figure.axes[5]).values(), figures.segments(off[1]))
  picture = PIL.Image.open(io.BytesIO(figures.image(figure)))
  assert picture.format == "PNG" and picture.size == (round(4 * 2.6 * 110), round(2 * 2.7 * 110))
  figure = figures.methods_figure(keypoints, {"lifted": off}, ["a", "b"], {"lifted": ["3 px", "4 px"]})
  assert [axes.get_title() for axes in figure.axes] == ["a", "lifted\n3 px", "b", "4 px"]


def test_curves_have_a_panel_per_logged_scalar_and_a_line_per_training(tmp_path):
  scalars = {"adapted/loss": {20: 1.0, 10: 50.0}, "ceiling/loss": {10: 3.0}, "adapted/mm": {10: 90.0, 20: 70.0}}
  figure = figures.curves_figure(scalars, ("loss", "mm", "not logged"))
  assert [(axes.get_title(), axes.get_yscale()) for axes in figure.axes] == [("loss", "log"), ("mm", "linear")]
  found = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
  assert found == {"adapted": [[10, 50], [20, 1]], "ceiling": [[10, 3]]}
  figures.save(tmp_path / "b.png", figure)
  assert plt.imread(tmp_path / "b.png")[..., :3].std() > 0.02 and not plt.get_fignums()


@pytest.mark.parametrize(
    "num_frames, fps", [(1, 25), (100, 50), (100, 60), (10, 29.97), (30, 12.5), (9, 4), (500, 240), (2, 0.5)]
)
def test_films_last_as_long_as_the_sequence_and_show_the_frame_of_their_instant(num_frames, fps):
  _, rate = film._writer(pathlib.Path("a.gif"), fps)
  assert round(100 / rate) == 100 / rate and rate <= max(fps, 1)  # players round other durations
  shown = film._instants(num_frames, fps, rate)
  assert len(shown) == 1 or abs(len(shown) / rate - num_frames / fps) <= 0.5 / rate
  wanted = np.minimum(np.arange(len(shown)) / rate * fps, num_frames - 1)
  assert (np.abs(shown - wanted) <= 1).all() and (np.diff(shown) >= 0).all()


def test_a_gif_plays_in_real_time_and_moves(tmp_path):
  count = film.save_film(tmp_path / "a.gif", PoseSequence(**swaying(20)))
  pictures = PIL.Image.open(tmp_path / "a.gif")
  assert count == pictures.n_frames == 10 and pictures.info["duration"] == 40 and pictures.info["loop"] == 0
  first = np.asarray(pictures.convert("RGB"), float)
  pictures.seek(9)
  assert np.abs(np.asarray(pictures.convert("RGB"), float) - first).max() > 100


def test_mp4_is_written_with_ffmpeg_and_refused_in_one_line_without(tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(matplotlib.animation.FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(ValueError, match="needs the program ffmpeg, which is not installed"):
      output.check_path(tmp_path / "a.mp4")
  if not matplotlib.animation.FFMpegWriter.isAvailable():
    pytest.skip("no ffmpeg on this machine: no MP4 was written")
  assert film.save_film(tmp_path / "a.mp4", PoseSequence(**swaying(5) | {"fps": 25})) == 5
  assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
