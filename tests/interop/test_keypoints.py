"""Own keypoints: every detector's file comes back as the same Human3.6M-17 joints, and no file does harm."""

import copy
import json
import os
import time
import tracemalloc

import numpy as np
import pytest

from posynda_jax.data import pipeline, safe_pickle
from posynda_jax.geometry import camera, layouts, skeleton
from posynda_jax.interop.keypoints import detections, folders, formats, json_stream, people, recordings
from tests.data.test_safe_pickle import Payload, object_array
from tests.interop import detector_files as files
from tests.interop.detector_files import ALL, COCO17, FORMATS, INTRINSICS, H, W, detect, expected, pick

LEFT = [4, 5, 6, 11, 12, 13]
NPZ = ["mediapipe_npz", "videopose3d", "detectron", "video_to_pose3d", "mhformer"]
KNOWN = dict(resolution=(W, H), intrinsics=tuple(INTRINSICS.tolist()), fps=25.0)


def read(path, **options) -> list[recordings.Recording]:
  if path.name.startswith("plain") and "layout" not in options:
    options["layout"] = "coco17"
  return recordings.read(path, recordings.Options(**KNOWN | options))


def read_one(path, **options) -> recordings.Recording:
  (only,) = read(path, **options)
  return only


def check(recording, seen, name, frames=slice(None)):
  """A recording shows `seen` [T names 3] by the format's rule."""
  _, _, _, rule, digits, scored, _ = FORMATS[name]
  points, scores = expected(seen, rule)
  np.testing.assert_allclose(recording.record["keypoints_px"][frames], points, atol=digits + 3e-4)
  scores = scores if scored else np.ones_like(scores)
  np.testing.assert_allclose(recording.record["confidence"][frames], scores, atol=1e-3 if digits else 1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_the_projected_joints(name, tmp_path):
  writer, form, layout, rule, *_ = FORMATS[name]
  seen = detect(7)
  path = writer(tmp_path / name, [[person] for person in seen])
  recording = read_one(path)
  check(recording, seen, name)
  report = recording.report
  assert (report["format"], report["format_was"], report["layout"]) == (form, "recognised", layout)
  assert report["joint_rule"] == {"halpe136": "halpe136", "mhformer": "h36m17 order"}.get(name, rule)
  assert report["interpolated_frames"] == report["longest_gap"] == 0 and report["warnings"] == [] and report["never_seen"] == []
  assert recording.frames.tolist() == list(range(7)) and recording.record["valid"].all()
  assert read_one(path, format=form).report["format_was"] == "given"


@pytest.mark.parametrize("name", FORMATS)
def test_a_single_frame_is_enough(name, tmp_path):
  seen = detect(1)
  recording = read_one(FORMATS[name][0](tmp_path / name, [[seen[0]]]))
  check(recording, seen, name)
  assert recording.report["frames"] == 1


@pytest.mark.parametrize("name", FORMATS)
def test_missing_frames_are_interpolated_with_no_confidence_and_counted(name, tmp_path):
  """Nobody in frames 0, 1 (before the first sighting), 4, 5, 6, 8 and 10 (after the last)."""
  seen = detect(11)
  there = [2, 3, 7, 9]
  recording = read_one(FORMATS[name][0](tmp_path / name, [[person] if t in there else [] for t, person in enumerate(seen)]))
  assert recording.frames.tolist() == list(range(2, 10))
  at = np.array(there) - 2
  check(recording, seen[there], name, at)
  keypoints, confidence = recording.record["keypoints_px"], recording.record["confidence"]
  np.testing.assert_allclose(keypoints[3], 0.5 * keypoints[1] + 0.5 * keypoints[5], atol=1e-3)
  np.testing.assert_allclose(keypoints[2], 0.75 * keypoints[1] + 0.25 * keypoints[5], atol=1e-3)
  np.testing.assert_allclose(keypoints[6], 0.5 * keypoints[5] + 0.5 * keypoints[7], atol=1e-3)
  assert np.flatnonzero(recording.record["valid"]).tolist() == at.tolist()
  assert (confidence[~recording.record["valid"]] == 0).all() and (confidence[at] > 0).all()
  assert (recording.report["interpolated_frames"], recording.report["longest_gap"]) == (4, 3)
  assert (recording.report["first_frame"], recording.report["last_frame"]) == (2, 9)


@pytest.mark.parametrize("name", [name for name, row in FORMATS.items() if row[-1]])
def test_several_people_are_told_apart_and_chosen(name, tmp_path):
  """Two people stand side by side; the detector lists them in changing order, the less confident one is there longer."""
  short, long = detect(20, 1, (-1.1, 0, 4.5)), detect(20, 2, (1.1, 0, 4.5))
  long[..., 2] *= 0.4
  turns = name != "yolo_full"  # whose ids are the order here
  frames = [[long[t]] if t >= 12 else [short[t], long[t]] if turns and t % 2 else [long[t], short[t]] for t in range(20)]
  path = FORMATS[name][0](tmp_path / name, frames)
  first, second = read_one(path), read_one(path, person="1")
  check(first, short[:12], name)
  check(second, long, name)
  assert first.report["num_people"] == 2 and second.report["frames"] == 20
  assert first.report["people"].startswith("0 (") and ("id 2, 12 frames" in first.report["people"]) == (name == "yolo_full")
  with pytest.raises(ValueError, match="no person 2; there are 0"):
    read(path, person="2")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"openpose_old", "openpose_coco", "halpe136", "wholebody"}))
def test_a_truncated_file_is_an_error_that_names_it(name, tmp_path):
  path = FORMATS[name][0](tmp_path / name, [[person] for person in detect(3)])
  whole = path if path.is_file() else sorted(path.iterdir())[0]
  raw = whole.read_bytes()
  for length in (0, 1, len(raw) // 2, len(raw) - 3):
    whole.write_bytes(raw[:length])
    if whole.suffix == ".txt" and length in (0, len(raw) - 3):
      continue  # an empty file is a frame without people; a number that lost digits is still a number
    with pytest.raises(ValueError) as error:
      read(path)
    assert name.partition("_")[0] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_people_says_so(name, tmp_path):
  path = FORMATS[name][0](tmp_path / name, [[], []])
  with pytest.raises(ValueError, match=r"no person|empty list|no \.json file|JSON of no format") as error:
    read(path)
  assert name in str(error.value) and "\n" not in str(error.value)


def test_a_folder_or_file_of_nothing_known_says_what_is(tmp_path):
  for name, raw, message in (
      ("a.json", b"", "is empty"), ("b.json", b'{"a": 1}', "JSON of no format"), ("c.json", b"[1, 2]", "JSON of no format"),
      ("d.mp4", b"\x00\x00\x00 ftypisom", "neither npz, npy, JSON"), ("e.json", b'[{"image_id": "1.jpg"', "breaks off"),
      ("f.json", b"[" * 100_000, "nested too deeply"), ("g.json", b'{"a": "\xff\xff"}', "not text"),
      ("h.json", b'{"version": 1.3, "people": []}{"version": 1.3, "people": []}', "goes on after its end"),
  ):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=message):
      read(tmp_path / name)
  with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
    read(tmp_path / "nowhere")
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="no .json file"):
    read(tmp_path / "empty")
  with pytest.raises(ValueError, match="is a folder, alphapose is a file"):
    read(tmp_path / "empty", format="alphapose")
  files.write_alphapose(tmp_path / "empty" / "alphapose-results.json", [[person] for person in detect(2)])
  with pytest.raises(ValueError, match="alphapose-results.json in it is a whole video's alphapose output: give the file itself"):
    read(tmp_path / "empty")


@pytest.mark.parametrize("document, form, message", [
    ([{"image_id": "0.jpg", "keypoints": [1.0] * 50}], None, r"frame 0.jpg: keypoints of the wrong form"),
    ([{"image_id": "0.jpg", "keypoints": [1.0] * 27}], None, r"frame 0.jpg has 9 joints; expected one of 17 \(coco17\)"),
    ([{"image_id": "0.jpg", "keypoints": [1.0] * n} for n in (51, 78)], None, "has 26 joints, expected the 17"),
    ([{"image_id": "0.jpg", "keypoints": [[1.0]]}], None, "keypoints of the wrong form"),
    ([{"image_id": "0.jpg", "keypoints": ["a"] * 51}], None, "keypoints of the wrong form"),
    ([{"image_id": "0.jpg"}], None, "has no 'keypoints'"),
    ([{"image_id": name, "keypoints": [1.0] * 51} for name in ("0.jpg", 3)], None, "or images' names throughout"),
    ([{"image_id": -1, "keypoints": [1.0] * 51}], None, "expected frame numbers from 0"),
    ([{"image_id": i, "keypoints": [100.0] * 51} for i in (0, 5_000_000)], None, "frames 0 to 5,000,000, more than 1,000,000"),
    ([[1, 2]], "alphapose", "is a list, expected an object with 'image_id'"),
    ([{"frame_id": "a", "instances": []}], None, "frame_id 'a', expected numbers from 0"),
    ([{"frame_id": 0, "instances": {}}], None, "is a dict, expected a list"),
    ([{"frame_id": 0, "instances": [{"keypoints": [[1, 2]] * 17}]}], None, "has no 'keypoint_scores'"),
    ([{"frame_id": 0, "instances": [{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1] * 16}]}], None, "wrong form"),
    ({"meta_info": {}}, None, "has no instance_info"),
    ({"meta_info": {"num_keypoints": 17, "dataset_name": "ap10k"}, "instance_info": []}, None, "17 joints of 'ap10k'"),
    ({"meta_info": {}, "instance_info": [{"frame_id": 0, "instances": []}]}, None, "frame_id 0, expected numbers from 1"),
    ({"version": 1.3, "people": [{"pose_keypoints_2d": [1.0] * 45}]}, None, "has 15 joints"),
    ({"version": 1.3, "people": [[1]]}, None, "is a list, expected an object with 'pose_keypoints_2d'"),
    ({"version": 1.3, "people": 3}, None, "is a int, expected a list"),
    ([[{"x": 0.5}] * 33], None, "has no 'y'"),
    ([[{"x": 0.5, "y": 0.5}] * 32], None, "has 32 joints, expected the 33"),
    ([{"image_id": "0.jpg", "keypoints": [300.0] * 51}], "openpose", "is a list, expected an object with 'people'"),
])
def test_wrong_shapes_in_json_are_one_line(document, form, message, tmp_path):
  path = tmp_path / "results.json"
  path.write_text(json.dumps(document))
  with pytest.raises(ValueError, match=message) as error:
    read(path, format=form)
  assert "results.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("arrays, options, message", [
    ({"kpts": np.ones((5, 16, 2))}, {}, "has 16 joints, layout coco17 has 17"),
    ({"kpts": np.ones((5, 17))}, {}, r"shape \(5, 17\)"),
    ({"kpts": np.array([["a"]])}, {}, "expected numbers"),
    ({"reconstruction": np.ones((5, 17, 3))}, {}, "3D output; give its 2D input"),
    ({"reconstruction": np.ones((0, 5, 17, 2))}, {}, "no person"),
    ({"a": np.ones((5, 17, 2)), "b": np.ones((5, 17, 2))}, {}, "has 2 arrays of keypoints"),
    ({"a": np.ones((5, 17, 2))}, {"layout": None}, r"name its joint order with --layout=coco17\|"),
    ({"a": np.ones((5, 17, 3)) - 2}, {"layout": "coco17"}, "negative numbers where scores are expected: 3D poses"),
    ({"a": np.ones((5, 33, 3))}, {"format": "mediapipe"}, r"expected MediaPipe's \(T, 33, 4\)"),
    ({"positions_2d": 3, "metadata": {}}, {}, "not VideoPose3D's 2D format"),
    ({"positions_2d": {"v": {"custom": []}}, "metadata": {"keypoints_symmetry": [[1], [2]]}}, {}, "do not tell the joint order"),
    ({"positions_2d": {}, "metadata": {"keypoints_symmetry": [LEFT, []]}}, {}, "holds no video"),
    ({"boxes": np.zeros(3), "keypoints": np.zeros(2), "metadata": {}}, {}, "not a whole Detectron dump"),
    ({"boxes": np.zeros((2, 1)), "keypoints": np.zeros((2, 1)), "metadata": {}}, {}, "not a Detectron dump of persons"),
    ({"boxes": np.ones((1, 2, 5)), "keypoints": np.ones((1, 2, 17, 4)), "metadata": {}}, {}, r"expected \(people, 4, 17\)"),
    ({"boxes": np.ones(3), "keypoints": np.ones(3)}, {}, "has no array 'metadata'"),
    ({"boxes": np.ones((3, 2)), "keypoints": np.ones((3, 2)), "metadata": {}}, {}, "is not nested as detectron writes it"),
    ({"positions_2d": {"v": {"custom": 3}}, "metadata": {"keypoints_symmetry": [LEFT]}}, {}, "is not nested as videopose3d writes it"),
    ({"positions_2d": {"v": {"custom": [[[1], [2, 3]]]}}, "metadata": {"keypoints_symmetry": [LEFT]}}, {}, "v is not one array"),
])
def test_wrong_shapes_in_npz_are_one_line(arrays, options, message, tmp_path):
  np.savez(tmp_path / "a.npz", **arrays)
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path / "a.npz", **options)
  assert "\n" not in str(error.value)


def test_yolo_folders_of_mixed_or_foreign_files_are_refused(tmp_path):
  seen = detect(2)
  path = files.write_yolo(tmp_path / "yolo", [[seen[0]], []])
  (path / "walk_2.txt").write_text("0 " + "0.5 " * 56 + "\n")
  with pytest.raises(ValueError, match="has 57 columns, others 56"):
    read(path)
  (path / "walk_1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
  (path / "walk_2.txt").write_text("")
  with pytest.raises(ValueError, match="lines of 5 numbers"):
    read(path)
  (path / "walk_1.txt").write_text("person 0.5\n")
  with pytest.raises(ValueError, match="not lines of numbers"):
    read(path)
  recording = read_one(files.write_yolo(tmp_path / "yolo_2d", [[person] for person in seen], visible=False))
  np.testing.assert_array_equal(recording.record["confidence"], 1)
  assert read_one(files.write_yolo(tmp_path / "yolo_conf", [[seen[0]], [seen[1]]], conf=True)).report["person_id"] is None


@pytest.mark.parametrize("name", ["alphapose", "plain", "detectron", "mediapipe_npz", "mmpose"])
def test_lost_joints_are_nan_zero_or_without_score_and_keep_their_neighbours(name, tmp_path):
  seen = detect(5)
  hurt = copy.deepcopy(seen)
  wrist, knee, ankle = (ALL.index(n) for n in ("l_wri", "r_kne", "l_ank"))
  hurt[2, wrist, :2] = np.nan
  hurt[2, knee] = 0
  hurt[4, ankle, 2] = 0
  recording = read_one(FORMATS[name][0](tmp_path / name, [[person] for person in hurt]))
  points, scores = expected(seen, "simple")
  points[2, [13, 2]] = (points[1, [13, 2]] + points[3, [13, 2]]) / 2
  points[4, 6] = points[3, 6]  # held after the last sighting
  scores[2, [13, 2]] = scores[4, 6] = 0
  np.testing.assert_allclose(recording.record["keypoints_px"], points, atol=1e-3)
  np.testing.assert_allclose(recording.record["confidence"], scores, atol=1e-6)
  assert recording.record["valid"].all() and recording.report["interpolated_frames"] == 0
  assert 0 < recording.report["lost_joints_percent"] < 5
  hurt[..., :2] = np.nan
  with pytest.raises(ValueError, match="shows no person"):
    read(FORMATS[name][0](tmp_path / f"{name}_none", [[person] for person in hurt]))


def test_joints_that_no_frame_shows_are_named_and_put_on_the_body(tmp_path):
  seen = detect(3)
  seen[:, [ALL.index(n) for n in ("r_kne", "r_ank", "l_eye", "mid_hip")]] = 0
  recording = read_one(files.write_openpose(tmp_path / "openpose", [[person] for person in seen]))
  keypoints, confidence = recording.record["keypoints_px"], recording.record["confidence"]
  names = ["hip", "right_knee", "right_ankle", "spine", "head"]
  assert recording.report["never_seen"] == names
  np.testing.assert_array_equal(keypoints[:, [2, 3]], keypoints[:, [1, 1]])
  np.testing.assert_array_equal(keypoints[:, 10], keypoints[:, 9])
  unseen = [skeleton.JOINTS.index(n) for n in names]
  assert (confidence[:, unseen] == 0).all() and (np.delete(confidence, unseen, 1) > 0).all()
  others = np.delete(keypoints, unseen, 1)
  np.testing.assert_allclose(keypoints[:, 0], others.mean(1), rtol=1e-6)
  assert any("never seen" in warning and "right_knee" in warning for warning in recording.report["warnings"])


def test_scores_above_one_are_limited_and_a_made_joint_has_the_least_of_its_inputs(tmp_path):
  seen = detect(2)
  seen[..., 2] = 1.7
  seen[:, ALL.index("l_hip"), 2] = 0.4
  recording = read_one(files.write_alphapose(tmp_path / "a.json", [[person] for person in seen]))
  confidence = np.ones((2, 17), np.float32)
  confidence[:, [0, 4, 7]] = 0.4
  np.testing.assert_allclose(recording.record["confidence"], confidence)


def reference_gast(keypoints):
  """GAST-Net's `coco_h36m`, restated joint by joint with its names."""
  nose, l_eye, r_eye, l_ear, r_ear, l_sho, r_sho = keypoints[:, :7].swapaxes(0, 1)
  shoulders, hips = (l_sho + r_sho) / 2, (keypoints[:, 11] + keypoints[:, 12]) / 2
  head = np.stack([(l_eye + r_eye + l_ear + r_ear)[:, 0] / 4, l_eye[:, 1] + r_eye[:, 1] - nose[:, 1]], 1)
  thorax = shoulders + (nose - shoulders) / 3
  spine = (shoulders + hips) / 2
  spine[:, 0] += 2 * (spine[:, 0] - (hips[:, 0] + thorax[:, 0]) / 2)
  thorax[:, 1] -= ((l_eye + r_eye)[:, 1] / 2 - nose[:, 1]) * 2 / 3
  return {0: hips, 7: spine, 8: thorax, 9: nose - (nose - shoulders) / 4, 10: head}


@pytest.mark.parametrize("name", ["alphapose", "openpose", "openpose_coco", "halpe26", "mediapipe", "yolo"])
def test_the_gast_rule_is_its_authors_whatever_the_layout(name, tmp_path):
  seen = detect(4)
  recording = read_one(FORMATS[name][0](tmp_path / name, [[person] for person in seen]), rule="gast")
  reference = reference_gast(pick(seen, COCO17)[..., :2])
  simple, _ = expected(seen, "simple")
  want = np.stack([reference.get(i, simple[:, i]) for i in range(17)], 1)
  np.testing.assert_allclose(recording.record["keypoints_px"], want, atol=5e-3)
  assert recording.report["joint_rule"] == "gast"
  face = pick(seen, COCO17[:5])[..., 2].min(1)
  np.testing.assert_allclose(recording.record["confidence"][:, 10], face, atol=2e-3)


@pytest.mark.parametrize("layout", skeleton.ORDERS)
def test_plain_arrays_of_dataset_orders_are_only_reordered(layout, tmp_path):
  h36m, _ = expected(detect(3), "simple")
  order = skeleton.ORDERS[layout]
  points = np.full((3, layouts.LAYOUTS[layout].num_joints, 2), 7.0)
  points[:, list(order)] = h36m
  np.savez(tmp_path / "plain.npz", points)
  recording = read_one(tmp_path / "plain.npz", layout=layout)
  np.testing.assert_allclose(recording.record["keypoints_px"], h36m, rtol=1e-6)
  assert recording.report["joint_rule"] == f"{layout} order"
  with pytest.raises(ValueError, match="gast needs COCO joints"):
    read(tmp_path / "plain.npz", layout=layout, rule="gast")


def test_a_videopose3d_file_of_human36m_and_one_of_many_videos(tmp_path):
  seen = detect(4)
  h36m = expected(seen, "simple")[0].astype(np.float32)
  metadata = {"num_joints": 17, "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]}
  np.savez_compressed(tmp_path / "h36m.npz", positions_2d={"S9": {"Walking 1": [h36m + i for i in range(4)]}}, metadata=metadata)
  views = read(tmp_path / "h36m.npz")
  assert [view.report["sequence"] for view in views] == [f"S9/Walking 1/{i}" for i in range(4)]
  np.testing.assert_array_equal(views[2].record["keypoints_px"], h36m + 2)
  path = files.write_videopose3d(tmp_path / "many.npz", [[person] for person in seen], ("a", "b"))
  assert [one.record["sequence"] for one in read(path, resolution=None)] == ["many.npz/a.mp4", "many.npz/b.mp4"]
  assert read_one(path, sequence="b.mp4").record["sequence"] == "many.npz/b.mp4"
  with pytest.raises(ValueError, match="no sequence 'c'; it has a.mp4, b.mp4"):
    read(path, sequence="c")


def test_the_size_of_the_video_is_needed_and_must_fit(tmp_path):
  frames = [[person] for person in detect(2)]
  own = files.write_videopose3d(tmp_path / "own.npz", frames)
  np.testing.assert_array_equal(read_one(own, resolution=None).record["resolution"], [W, H])
  with pytest.raises(ValueError, match="1920x1080 by its own metadata, --resolution says 1280x720"):
    read(own, resolution=(1280, 720))
  other = files.write_alphapose(tmp_path / "other.json", frames)
  with pytest.raises(ValueError, match="give --resolution"):
    read(other, resolution=None)
  with pytest.raises(ValueError, match="% of its joints outside 640x360 px"):
    read(other, resolution=(640, 360))
  points = pick(detect(2), COCO17) / [W, H, 1]
  np.save(tmp_path / "plain.npy", points)
  with pytest.raises(ValueError, match="shares of the image, expected px"):
    read(tmp_path / "plain.npy")


def test_guesses_are_stated_and_upside_down_people_noticed(tmp_path):
  seen = detect(3)
  recording = read_one(files.write_alphapose(tmp_path / "a.json", [[person] for person in seen]), intrinsics=None, fps=None)
  np.testing.assert_array_equal(recording.record["intrinsics"], [W, W, W / 2, H / 2, 0, 0, 0, 0, 0])
  assert recording.record["fps"] == 30 and recording.report["intrinsics"].startswith("guessed: focal length")
  assert len(recording.report["warnings"]) == 2 and "focal length guessed as 1920 px" in recording.report["warnings"][0]
  seen[..., 1] = H - seen[..., 1]
  report = read_one(files.write_alphapose(tmp_path / "b.json", [[person] for person in seen])).report
  assert report["warnings"] == ["the head is below the hip in 100% of the frames: check --layout"]
  given = read_one(tmp_path / "a.json", intrinsics=(1000.0, 1100.0, 900.0, 500.0)).record["intrinsics"]
  np.testing.assert_array_equal(given, [1000, 1100, 900, 500, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("options, message", [
    ({"resolution": (0, 1)}, "not a width and a height"), ({"resolution": (640,)}, "not a width and a height"),
    ({"intrinsics": (1, 2, 3)}, "not fx,fy,cx,cy"), ({"intrinsics": (0, 1, 2, 3)}, "positive fx, fy"),
    ({"intrinsics": (1, 1, float("nan"), 3)}, "not fx,fy,cx,cy"), ({"fps": -1.0}, "not a positive number"),
    ({"person": "tall"}, "neither auto nor a number"), ({"layout": "coco19"}, "layout 'coco19' is unknown; choose one of coco17"),
    ({"rule": "mean"}, "joint rule 'mean' is unknown"), ({"format": "kinect"}, "format 'kinect' is unknown"),
])
def test_options_that_make_no_sense_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    recordings.Options(**options)


def test_records_become_unlabelled_tracks_and_never_labelled_ones(tmp_path):
  seen = detect(9)
  recording = read_one(files.write_alphapose(tmp_path / "a.json", [[p] if t != 4 else [] for t, p in enumerate(seen)]))
  tracks = pipeline.make_tracks([recording.record], pipeline.UNLABELLED, clip_fps=12.5)
  assert [len(track) for track in tracks] == [5, 4]
  assert tracks[0].arrays["valid"].tolist() == [1, 1, 0, 1, 1] and tracks[0].info["sequence"] == "a.json"
  screen = camera.normalise_screen(expected(seen, "simple")[0][2:3], np.array([W, H], np.float32))
  np.testing.assert_allclose(tracks[0].arrays["keypoints"][1], np.asarray(screen)[0], atol=1e-6)
  with pytest.raises(ValueError, match="a.json has no 3D poses: it can only be an unlabelled target"):
    pipeline.make_tracks([recording.record], pipeline.LABELLED, 12.5)


@pytest.mark.parametrize("name", ["openpose", "mmpose_inferencer", "alphapose"])
def test_frames_are_where_their_numbers_say(name, tmp_path):
  seen = detect(3)
  if name == "alphapose":
    entries = list(files.alphapose_entries([[p] for p in seen]))
    (tmp_path / "a").write_text(json.dumps([e | {"image_id": f"cam2_frame_{n:05d}.png"} for e, n in zip(entries, (12, 8, 10))]))
  elif name == "openpose":
    folder = files.write_openpose(tmp_path / "a", [[p] for p in seen])
    for t, n in ((0, 12), (1, 8), (2, 10)):
      (folder / f"walk_{t:012d}_keypoints.json").rename(folder / f"new_{n}_keypoints.json")
  else:
    entries = [{"frame_id": n, "instances": list(files.instances([p], COCO17, False))} for n, p in zip((12, 8, 10), seen)]
    (tmp_path / "a").write_text(json.dumps(entries))
  recording = read_one(tmp_path / "a")
  assert recording.frames.tolist() == [8, 9, 10, 11, 12] and recording.report["interpolated_frames"] == 2
  points, _ = expected(seen, "body25" if name == "openpose" else "simple")
  np.testing.assert_allclose(recording.record["keypoints_px"][[4, 0, 2]], points, atol=2e-3)


def test_names_without_a_number_of_their_own_follow_their_order():
  assert detections.frame_numbers(["b.jpg", "a.jpg", "c.jpg"]) == [1, 0, 2]
  assert detections.frame_numbers(["cam1_7.jpg", "cam2_7.jpg"]) == [0, 1]
  assert detections.frame_numbers(["x_000000000010_keypoints.json", "x_000000000002_keypoints.json"]) == [10, 2]
  assert detections.frame_numbers(["v1.2.3_5.jpg", f"{10**30}.jpg"]) == [1, 0]


def boxes_at(centres, size=50.0):
  centres = np.asarray(centres, float)
  return np.concatenate([centres - size, centres + size], -1)


def test_people_are_followed_through_crossings_and_gaps_and_not_for_ever():
  frames = np.repeat(np.arange(40), 2)
  x = np.arange(40) * 20.0
  centres = np.stack([np.stack([x, np.full(40, 100.0)], 1), np.stack([780 - x, np.full(40, 200.0)], 1)], 1)  # pass 100 px apart
  swapped = centres.copy()
  swapped[1::2] = centres[1::2, ::-1]
  numbers = people.track(frames, boxes_at(swapped.reshape(-1, 2))).reshape(40, 2)
  numbers[1::2] = numbers[1::2, ::-1]
  assert (numbers == numbers[0]).all() and numbers[0, 0] != numbers[0, 1]
  for gap, same in ((people.MAX_LOST, True), (people.MAX_LOST + 1, False)):
    frames = np.array([0, 0, gap, gap])
    numbers = people.track(frames, boxes_at([[0, 0], [1000, 0], [0, 0], [1000, 0]]))
    assert (numbers[:2] == numbers[2:]).all() == same
  jump = people.track(np.array([0, 0, 1, 1]), boxes_at([[0, 0], [1000, 0], [0, 600], [1000, 0]]))
  assert jump[3] == jump[1] and jump[2] not in jump[:2]
  assert people.track(np.array([0, 5, 900]), boxes_at([[0, 0], [500, 0], [0, 500]])).tolist() == [0, 0, 0]  # never two at once


def test_a_detectors_own_ids_are_used_unless_they_repeat_in_a_frame(tmp_path):
  """Two people who jump to each other's place: ids follow them, boxes cannot."""
  a, b = detect(6, 1, (-1.1, 0, 4.5)), detect(6, 2, (1.1, 0, 4.5))
  a[3:], b[3:] = b[3:].copy(), a[3:].copy()
  a[..., 2] = np.maximum(a[..., 2], 0.9)
  frames = [[one, other] for one, other in zip(a, b)]
  files.write_alphapose(tmp_path / "a.json", frames, idx=True)
  files.write_mmpose(tmp_path / "m.json", frames, track=True)
  for path in (tmp_path / "a.json", tmp_path / "m.json"):
    recording = read_one(path)
    check(recording, a, "alphapose")
    assert recording.report["person_id"] in (0, 1)
  untracked = read_one(files.write_alphapose(tmp_path / "b.json", frames))
  assert untracked.report["person_id"] is None and untracked.report["num_people"] == 2
  with pytest.raises(AssertionError):
    check(untracked, a, "alphapose")


def test_crowds_are_refused_and_long_videos_of_many_take_linear_time():
  with pytest.raises(ValueError, match="101 people, more than 100"):
    people.track(np.zeros(101, int), boxes_at(np.zeros((101, 2))))
  seconds = []
  for length in (1_000, 4_000):
    rng = np.random.default_rng(0)
    boxes = boxes_at(rng.uniform(0, 2000, (2 * length, 2)), 20)  # strangers in every frame: many are looked for
    started = time.perf_counter()
    people.track(np.repeat(np.arange(length), 2), boxes)
    seconds.append(time.perf_counter() - started)
  assert seconds[1] < 12 * seconds[0]


def test_100_000_frames_of_json_are_read_in_bounded_memory(tmp_path):
  """Its parsed form would be some 250 MB. What is kept are arrays: 20 MB, and some copies of them on the way."""
  person = json.dumps([float(round(v, 1)) for v in pick(detect(1)[0], COCO17).ravel()])
  with open(tmp_path / "long.json", "w") as file:
    file.write("[")
    for t in range(100_000):
      file.write(f'{"," if t else ""}{{"image_id": "{t}.jpg", "category_id": 1, "keypoints": {person}, "score": 2.9}}')
    file.write("]")
  assert (tmp_path / "long.json").stat().st_size > 3e7
  tracemalloc.start()
  recording = read_one(tmp_path / "long.json")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert recording.record["keypoints_px"].shape == (100_000, 17, 2) and recording.record["valid"].all()
  assert peak < 150e6


def test_100_000_frames_in_an_array_are_read_in_bounded_memory(tmp_path):
  np.save(tmp_path / "plain.npy", np.broadcast_to(pick(detect(1)[0], COCO17).astype(np.float32), (100_000, 17, 3)))
  tracemalloc.start()
  recording = read_one(tmp_path / "plain.npy")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert recording.record["keypoints_px"].shape == (100_000, 17, 2)
  assert peak < 16 * 100_000 * 17 * 3 * 4


def test_long_folders_hold_one_file_at_a_time(tmp_path):
  frames = [[person] for person in detect(400)]
  path = files.write_openpose(tmp_path / "openpose", frames)
  tracemalloc.start()
  found = formats.read(path, "openpose")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert len(found[0].frame) == 400 and peak < 3e6


def test_sizes_are_bounded(tmp_path, monkeypatch):
  frames = [[person] for person in detect(3)]
  path = files.write_alphapose(tmp_path / "a.json", frames)
  for target, value, message in (
      (json_stream, ("MAX_BYTES", 1000), "bytes, more than 1,000: it is refused"),
      (detections, ("MAX_DETECTIONS", 2), "more than 2 detections"),
      (recordings, ("MAX_FRAMES", 2), "frames 0 to 2, more than 2"),
  ):
    with monkeypatch.context() as patch:
      patch.setattr(target, *value)
      with pytest.raises(ValueError, match=message):
        read(path)
  monkeypatch.setattr(folders, "MAX_FILES", 2)
  with pytest.raises(ValueError, match="more than 2 .json files"):
    read(files.write_openpose(tmp_path / "openpose", frames))
  monkeypatch.setattr(json_stream, "MAX_ELEMENT", 2**20)
  (tmp_path / "wide.json").write_text('[{"image_id": "0.jpg", "keypoints": [' + "1.0, " * 2**19 + "1.0]}]")
  with pytest.raises(ValueError, match="one element of more than 1,048,576 bytes"):
    read(tmp_path / "wide.json")


@pytest.mark.parametrize("name", NPZ)
def test_a_program_in_an_npz_does_not_run(name, tmp_path):
  path = FORMATS[name][0](tmp_path / f"{name}.npz", [[person] for person in detect(2)])
  arrays = dict(np.load(path, allow_pickle=True))
  planted = tmp_path / "planted"
  first = next(iter(arrays))
  for victim in {first, list(arrays)[-1]}:
    evil = arrays | {victim: object_array({"a": [Payload(planted)]})}
    np.savez(path, **evil)
    with pytest.raises(safe_pickle.Refused, match=r"names (posix|nt)\.mkdir, which is not plain data") as error:
      read(path)
    assert f"{name}.npz" in str(error.value) and not planted.exists()


def test_a_program_in_an_npy_does_not_run(tmp_path):
  np.save(tmp_path / "plain.npy", object_array({"a": Payload(tmp_path / "planted")}))
  with pytest.raises(safe_pickle.Refused, match="mkdir"):
    read(tmp_path / "plain.npy")
  assert not os.path.exists(tmp_path / "planted")


def test_json_streams_are_json_whatever_the_chunks(tmp_path, monkeypatch):
  value = [{"a": [1, -2.5e-3, "x,]}\\\"é"], "b": None}, [], 123456789012, True, {"n": {"deep": [[{}]]}}, -0.0, "\U0001f600"]
  for indent in (None, 1):
    (tmp_path / "a.json").write_text(json.dumps(value, indent=indent), encoding="utf-8-sig")
    for chunk in (1, 2, 7, 1000):
      monkeypatch.setattr(json_stream, "CHUNK", chunk)
      if reader := json_stream.Reader(tmp_path / "a.json"):
        assert list(reader.elements()) == value
      assert json_stream.load(tmp_path / "a.json") == value
  (tmp_path / "o.json").write_text(json.dumps({"x": value, "y": 1, "z": {}}))
  if reader := json_stream.Reader(tmp_path / "o.json"):
    got = {key: list(reader.elements()) if key == "x" else reader.value() for key in reader.members()}
  assert got == {"x": value, "y": 1, "z": {}}
