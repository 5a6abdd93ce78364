"""Own keypoints: the files of every detector give the same Human3.6M-17 joints."""

import copy

import numpy as np
import pytest

from posynda_jax.geometry import skeleton, virtual_camera
from tests.interop import detector_files as files
from tests.interop.detector_files import ALL, detect, expected
from tests.interop.keypoint_formats import FORMATS, check, read, read_one, write


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_the_projected_joints_also_of_a_single_frame(name, tmp_path):
  (tmp_path / "alone").mkdir()
  alone = read_one(write(name, tmp_path / "alone" / name, detect(1)))
  check(alone, detect(1), name)
  assert alone.report["frames"] == 1
  written, seen = FORMATS[name], detect(7)
  path = write(name, tmp_path / name, seen)
  recording = read_one(path)
  check(recording, seen, name)
  report = recording.report
  assert (report["format"], report["format_was"], report["layout"]) == (written.format, "recognised", written.layout)
  assert report["joint_rule"] == {"halpe136": "halpe136", "mhformer": "h36m17 order"}.get(name, written.rule)
  assert report["interpolated_frames"] == report["longest_gap"] == 0
  assert report["warnings"] == report["never_seen"] == []
  assert recording.frames.tolist() == list(range(7)) and recording.record["valid"].all()
  assert read_one(path, format=written.format).report["format_was"] == "given"


@pytest.mark.parametrize("name", FORMATS)
def test_missing_frames_are_interpolated_with_no_confidence_and_counted(name, tmp_path):
  """Nobody in frames 0, 1 (before the first detection), 4, 5, 6, 8 and 10 (after the last)."""
  seen, there = detect(11), [2, 3, 7, 9]
  frames = [[person] if t in there else [] for t, person in enumerate(seen)]
  recording = read_one(FORMATS[name].write(tmp_path / name, frames))
  assert recording.frames.tolist() == list(range(2, 10))
  at = np.array(there) - 2
  check(recording, seen[there], name, at)
  keypoints, confidence = recording.record["keypoints_px"], recording.record["confidence"]
  for t, weight, before, after in ((3, 0.5, 1, 5), (2, 0.75, 1, 5), (6, 0.5, 5, 7)):
    mean = weight * keypoints[before] + (1 - weight) * keypoints[after]
    np.testing.assert_allclose(keypoints[t], mean, atol=1e-3)
  assert np.flatnonzero(recording.record["valid"]).tolist() == at.tolist()
  assert (confidence[~recording.record["valid"]] == 0).all() and (confidence[at] > 0).all()
  report = recording.report
  counts = ("interpolated_frames", "longest_gap", "first_frame", "last_frame")
  assert [report[name] for name in counts] == [4, 3, 2, 9]


@pytest.mark.parametrize("name", [name for name, written in FORMATS.items() if written.crowd])
def test_several_people_are_told_apart_and_chosen(name, tmp_path):
  """Two people stand side by side, in changing order in the file. The less confident one is there longer."""
  short, long = detect(20, 1, (-1.1, 0, 4.5)), detect(20, 2, (1.1, 0, 4.5))
  long[..., 2] *= 0.7
  turns = name not in ("yolo_full", "poseflow", "long.csv")  # where the order makes the ids
  both = [[short[t], long[t]] if turns and t % 2 else [long[t], short[t]] for t in range(16)]
  path = FORMATS[name].write(tmp_path / name, both + [[person] for person in long[16:]])
  first, second = read_one(path), read_one(path, person="1")
  check(first, short[:16], name)
  check(second, long, name)
  people = first.report["people"]
  assert first.report["num_people"] == 2 and second.report["frames"] == 20
  assert people.startswith("0 (") and ("id " in people) != turns
  with pytest.raises(ValueError, match="no person 2; there are 0"):
    read(path, person="2")


@pytest.mark.parametrize("name", ["alphapose", "plain", "detectron", "mediapipe_npz", "mmpose"])
def test_lost_joints_are_nan_zero_or_without_score_and_keep_their_neighbours(name, tmp_path):
  seen = detect(5)
  hurt = copy.deepcopy(seen)
  wrist, knee, ankle = (ALL.index(n) for n in ("l_wri", "r_kne", "l_ank"))
  hurt[2, wrist, :2] = np.nan
  hurt[2, knee] = 0
  hurt[4, ankle, 2] = 0
  recording = read_one(write(name, tmp_path / name, hurt))
  points, scores = expected(seen, "simple")
  points[2, [13, 2]] = (points[1, [13, 2]] + points[3, [13, 2]]) / 2
  points[4, 6] = points[3, 6]  # held after the last sighting
  scores[2, [13, 2]], scores[4, 6] = virtual_camera.SEEN, 0  # between two sightings, and after the last
  np.testing.assert_allclose(recording.record["keypoints_px"], points, atol=1e-3)
  np.testing.assert_allclose(recording.record["confidence"], scores, atol=1e-6)
  assert recording.record["valid"].all() and recording.report["interpolated_frames"] == 0
  assert 0 < recording.report["lost_joints_percent"] < 5
  hurt[..., :2] = np.nan
  with pytest.raises(ValueError, match="shows no person"):
    read(write(name, tmp_path / f"{name}_none", hurt))


def test_joints_that_no_frame_shows_are_named_and_put_on_the_body(tmp_path):
  seen = detect(3)
  seen[:, [ALL.index(n) for n in ("r_kne", "r_ank", "l_eye", "mid_hip")]] = 0
  recording = read_one(write("openpose", tmp_path / "openpose", seen))
  keypoints, confidence = recording.record["keypoints_px"], recording.record["confidence"]
  names = ["hip", "right_knee", "right_ankle", "spine", "head"]
  assert recording.report["never_seen"] == names
  whole = expected(detect(3), "body25")[0]
  size = np.ptp(whole, axis=(0, 1)).max()
  assert (np.linalg.norm(keypoints - whole, axis=-1) < 0.1 * size).all()  # near where a standing person has them
  unseen = [skeleton.JOINTS.index(n) for n in names]
  assert (confidence[:, unseen] == 0).all() and (np.delete(confidence, unseen, 1) > 0).all()
  assert any("never seen" in warning and "right_knee" in warning for warning in recording.report["warnings"])


def test_scores_of_a_hundred_are_shares_and_images_of_two_videos_are_two_recordings(tmp_path):
  seen = detect(4)
  hundred = seen * [1, 1, 100]
  check(read_one(write("alphapose", tmp_path / "a.json", hundred)), seen, "alphapose")
  entries = list(files.alphapose_entries([[person] for person in seen]))
  for entry, name in zip(entries, ("a_5.jpg", "a_6.jpg", "b_1.jpg", "b_3.jpg")):
    entry["image_id"] = name
  found = read(files.write_json(tmp_path / "two.json", entries))
  assert [(one.report["sequence"], one.frames.tolist()) for one in found] == [("a", [5, 6]), ("b", [1, 2, 3])]


@pytest.mark.parametrize("name", ["mediapipe", "ultralytics", "skeletons"])
def test_joints_far_outside_do_not_change_the_unit(name, tmp_path):
  """Of somebody who is cut off by the image's edge, ankles may be guessed at more than twice its height."""
  seen = detect(3)
  seen[:, [ALL.index("l_ank"), ALL.index("r_ank")], 1] = 2.4 * files.H
  recording = read_one(write(name, tmp_path / name, seen))
  np.testing.assert_allclose(recording.record["keypoints_px"], expected(seen, "simple")[0], rtol=1e-4, atol=0.5)


def test_a_videopose3d_file_of_human36m_and_one_of_many_videos(tmp_path):
  seen = detect(4)
  h36m = expected(seen, "simple")[0].astype(np.float32)
  metadata = {"num_joints": 17, "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]}
  positions = {"S9": {"Walking 1": [h36m + i for i in range(4)]}}
  np.savez_compressed(tmp_path / "h36m.npz", positions_2d=positions, metadata=metadata)
  views = read(tmp_path / "h36m.npz")
  assert [view.report["sequence"] for view in views] == [f"S9/Walking 1/{i}" for i in range(4)]
  np.testing.assert_array_equal(views[2].record["keypoints_px"], h36m + 2)
  path = files.write_videopose3d(tmp_path / "many.npz", [[person] for person in seen], ("a", "b"))
  assert [one.record["sequence"] for one in read(path, resolution=None)] == ["many.npz/a.mp4", "many.npz/b.mp4"]
  assert read_one(path, sequence="b.mp4").record["sequence"] == "many.npz/b.mp4"
  with pytest.raises(ValueError, match="no sequence 'c'; it has a.mp4, b.mp4"):
    read(path, sequence="c")
