"""Records of own keypoints: joint rules, tracked people, guesses, and the targets that are made of them."""

import time

import numpy as np
import pytest

from posynda_jax.data import tracks
from posynda_jax.geometry import camera, layouts, skeleton
from posynda_jax.interop.keypoints import people, recordings, targets
from tests.interop import detector_files as files
from tests.interop.detector_files import COCO17, H, W, detect, expected, pick
from tests.interop.keypoint_formats import check, read, read_one, write


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
  points = pick(detect(2), COCO17) / [W / 2, H / 2, 1] - [1, 1, 0]
  np.save(tmp_path / "plain.npy", points)
  with pytest.raises(ValueError, match="shares of the image, expected px"):
    read(tmp_path / "plain.npy")


def test_guesses_are_stated(tmp_path):
  seen = detect(3)
  recording = read_one(write("alphapose", tmp_path / "a.json", seen), intrinsics=None, fps=None)
  np.testing.assert_array_equal(recording.record["intrinsics"], [W, W, W / 2, H / 2, 0, 0, 0, 0, 0])
  assert recording.record["fps"] == 30 and recording.report["intrinsics"].startswith("guessed: focal length")
  assert len(recording.report["warnings"]) == 2 and "focal length guessed as 1920 px" in recording.report["warnings"][0]
  given = read_one(tmp_path / "a.json", intrinsics=(1000.0, 1100.0, 900.0, 500.0)).record["intrinsics"]
  np.testing.assert_array_equal(given, [1000, 1100, 900, 500, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("options, message", [
    ({"resolution": (0, 1)}, "not a width and a height"), ({"resolution": (640,)}, "not a width and a height"),
    ({"intrinsics": (1, 2, 3)}, "not fx,fy,cx,cy"), ({"intrinsics": (0, 1, 2, 3)}, "positive fx, fy"),
    ({"intrinsics": (1, 1, float("nan"), 3)}, "not fx,fy,cx,cy"), ({"fps": -1.0}, "not a positive number"),
    ({"person": "tall"}, "neither auto, all nor a number"),
    ({"layout": "coco19"}, "layout 'coco19' is unknown; choose one of coco17"),
    ({"format": "kinect"}, "format 'kinect' is unknown"),
])
def test_options_that_make_no_sense_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    recordings.Options(**options)


def test_records_become_unlabelled_tracks_and_never_labelled_ones(tmp_path):
  seen = detect(9)
  recording = read_one(files.write_alphapose(tmp_path / "a.json", [[p] if t != 4 else [] for t, p in enumerate(seen)]))
  found = tracks.make_tracks([recording.record], tracks.UNLABELLED, clip_fps=12.5)
  assert [len(track) for track in found] == [5, 4]
  assert found[0].arrays["valid"].tolist() == [1, 1, 0, 1, 1] and found[0].info["sequence"] == "a.json"
  screen = camera.normalise_screen(expected(seen, "simple")[0][2:3], np.array([W, H], np.float32))
  np.testing.assert_allclose(found[0].arrays["keypoints"][1], np.asarray(screen)[0], atol=1e-6)
  with pytest.raises(ValueError, match="a.json has no 3D poses: it can only be an unlabelled target"):
    tracks.make_tracks([recording.record], tracks.LABELLED, 12.5)


def boxes_at(centres, size=50.0):
  centres = np.asarray(centres, float)
  return np.concatenate([centres - size, centres + size], -1)


def test_people_are_tracked_through_crossings_and_gaps_and_not_for_ever():
  frames = np.repeat(np.arange(40), 2)
  x = np.arange(40) * 20.0
  y = np.full(40, 100.0)
  centres = np.stack([np.stack([x, y], 1), np.stack([780 - x, y + 100], 1)], 1)  # they pass 100 px apart
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
  never_two = people.track(np.array([0, 5, 900]), boxes_at([[0, 0], [500, 0], [0, 500]]))
  assert never_two.tolist() == [0, 0, 0]


def test_a_detectors_own_ids_are_used_unless_they_repeat_in_a_frame(tmp_path):
  """Two people who are at each other's place after they were hidden: ids track them, boxes cannot."""
  a, b = detect(20, 1, (-1.1, 0, 4.5)), detect(20, 2, (1.1, 0, 4.5))
  a[10:], b[10:] = b[10:].copy(), a[10:].copy()
  a[..., 2] = np.maximum(a[..., 2], 0.9)
  frames = [[one, other] for one, other in zip(a, b)]
  frames[4:10] = [[]] * 6
  shown = np.r_[:4, 10:20]
  files.write_alphapose(tmp_path / "a.json", frames, idx=True)
  files.write_mmpose(tmp_path / "m.json", frames, track=True)
  for path in (tmp_path / "a.json", tmp_path / "m.json"):
    recording = read_one(path)
    check(recording, a[shown], "alphapose", shown)
    assert recording.report["person_id"] in (0, 1)
  untracked = read_one(files.write_alphapose(tmp_path / "b.json", frames))
  assert untracked.report["person_id"] is None and untracked.report["num_people"] == 2
  with pytest.raises(AssertionError):
    check(untracked, a[shown], "alphapose", shown)


def test_a_number_that_ends_where_another_begins_is_one_person_and_one_that_returns_is_not():
  frames, boxes = np.repeat(np.arange(20), 2), boxes_at([[0, 0], [400, 0]] * 20)
  own = np.stack([np.where(np.arange(20) < 8, 3, 5), np.full(20, 4)], 1).ravel()  # 3 becomes 5
  assert (people.track(frames, boxes, own=own).reshape(20, 2) == [0, 1]).all()
  own[::2] = 3
  own[[10, 12, 14]] = 9  # somebody else stands there for three frames, and 3 comes again
  found = people.track(frames, boxes, own=own).reshape(20, 2)[:, 0]
  assert (found[:5] == found[8:13]).all() and not set(found[5:8]) & set(found[:5])


def test_a_bystander_in_one_frame_does_not_cut_a_track(tmp_path):
  seen, other = detect(120), detect(120, 3, (1.3, 0, 5.0))
  frames = [[person] for person in seen]
  frames[40:90] = [[] for _ in range(50)]  # the person is hidden for longer than MAX_LOST
  frames[20] = [seen[20], other[20]]
  recording = read_one(files.write_alphapose(tmp_path / "a.json", frames))
  assert len(recording.frames) == 120 and recording.report["num_people"] == 2
  assert recording.report["interpolated_frames"] == 50 and not recording.record["valid"][40:90].any()


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


def test_the_report_of_a_target_is_printed_with_its_warnings(tmp_path):
  path = write("alphapose", tmp_path / "a.json", detect(3))
  assert targets.is_own(f"keypoints:{path}") and not targets.is_own("human36m/gt")
  lines = targets.describe(read(path, intrinsics=None)).splitlines()
  assert lines[:3] == [
      "a.json: alphapose (recognised), layout coco17, joint rule simple",
      "  person 0 of: 0 (id 0, 3 frames, confidence 0.68)",
      "  frames 0 to 2, 0 of 3 interpolated (longest gap 0), 0% of the joints lost in the others",
  ]
  assert lines[3].startswith("  warning: intrinsics not given: focal length guessed as 1920 px") and len(lines) == 4
