"""Keypoint files as people have them: each ends right, is refused in one line, or says that it cannot be trusted.

All are of one walker whose 3D is known, at 1920x1080 px and 30 frames a second (`cases/`).
"""

import dataclasses
import pathlib

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posynda_jax import lifter
from posynda_jax.geometry import camera, gravity, skeleton
from posynda_jax.interop.keypoints import recordings

CASES = pathlib.Path(__file__).parent / "cases"
TRUTH = np.load(CASES / "truth_m.npy")  # T 17 3 m, camera frame
OPTIONS = {"resolution": (1920, 1080), "fps": 30, "intrinsics": (1450.0, 1450.0, 960.0, 540.0)}
WALKERS_UP = gravity.find_up(TRUTH - TRUTH[:, :1]).vector
RIGHT_MM = 76  # right readings have 43 to 72 mm; wrong ones have more than 100


@pytest.fixture(scope="module")
def lift_base():
  return lifter.load()


def lift(lift_base, name, **options):
  """(recording, Lifted, MPJPE mm over its frames) of a case."""
  (found,) = recordings.read(CASES / name, recordings.Options(**OPTIONS | options))
  lifted = lift_base.lift_recording(found)
  at = found.frames - (found.frames[0] if len(found.frames) == len(TRUTH) else 0)
  truth = (TRUTH - TRUTH[:, :1])[at]
  return found, lifted, 1000 * np.linalg.norm(lifted.pose - truth, axis=-1).mean()


@pytest.mark.parametrize("name, frames, options", [
    ("01_names_with_dots", 24, {}), ("02_names_with_dots_gap", 24, {}), ("04_low_scores.json", 24, {}),
    ("06_ids_change.json", 24, {}), ("07_body25b", 6, {}), ("09_plain_for_intrinsics.json", 24, {}),
    ("10_minus_one.npy", 24, {"layout": "coco17"}), ("12_controlnet_0to1.json", 1, {}),
    ("12_controlnet_list.json", 4, {}), ("13_ultralytics_to_json.json", 4, {}), ("14_coco_annotations.json", 4, {}),
    ("15_mediapipe_frame_objects.json", 4, {}), ("16_keypoints_and_scores.npz", 24, {}),
    ("17_mmpose_results_folder", 4, {}), ("18_macos_folder", 4, {}), ("19_other_json_in_folder", 4, {}),
    ("20_no_scores_36_numbers", 4, {}), ("21_parent_folder", 4, {}), ("24_image_to_people.json", 4, {}),
    ("25_wide_csv.csv", 4, {}),
])
def test_a_readable_case_is_read_right(name, frames, options, lift_base):
  found, lifted, error = lift(lift_base, name, **options)
  assert len(found.frames) == frames and error < RIGHT_MM
  if frames > 1:
    assert lifted.trust.frames[found.record["valid"]].all(), lifted.trust.summary


def test_a_skeleton_dataset_counts_frames_from_its_own_first(lift_base):
  found, lifted, _ = lift(lift_base, "23_skeleton_json.json")
  assert found.frames.tolist() == [1, 2, 3, 4] == lifted.frame.tolist() and lifted.trust.frames.all()


def test_a_gap_keeps_its_frame_numbers_and_is_not_trusted(lift_base):
  found, lifted, _ = lift(lift_base, "02_names_with_dots_gap")
  assert found.frames[0] == 440 and found.report["interpolated_frames"] == 8
  assert lifted.trust.reasons == ((448, 455, "nobody was detected"),)


def test_a_file_that_is_no_frame_is_named():
  (found,) = recordings.read(CASES / "19_other_json_in_folder", recordings.Options(**OPTIONS))
  assert "calibration.json" in found.report["warnings"][0]


def test_two_videos_in_a_folder_are_told_apart():
  found = recordings.read(CASES / "03_two_videos_one_folder", recordings.Options(**OPTIONS))
  assert [one.report["sequence"] for one in found] == ["a", "b"]


@pytest.mark.parametrize("name, options, why", [
    ("05_upper_body_only.json", {}, "too few joints are seen: without hip, right_hip, right_knee"),
    ("08_rotated_270.json", {}, "the person lies on the side in 100% of the frames: a rotated video"),
    ("09_plain_for_intrinsics.json", {"intrinsics": (26.0, 26.0, 960.0, 540.0)}, "intrinsics 26,26,960,540 do not fit"),
    ("12_controlnet_0to1.json", {}, "one frame only"),
])
def test_a_case_that_cannot_be_right_says_why(name, options, why, lift_base):
  _, lifted, _ = lift(lift_base, name, **options)
  assert not lifted.trust.frames.any() and not lifted.trust.joints.any()
  assert why in lifted.trust.summary


def test_legs_that_nobody_saw_do_not_move_the_person_away(lift_base):
  _, lifted, _ = lift(lift_base, "05_upper_body_only.json")
  np.testing.assert_allclose(lifted.root[:, 2].mean(), TRUTH[:, 0, 2].mean(), rtol=0.1)


def test_a_shuffled_walk_is_not_mended_until_it_looks_right(lift_base):
  """A fifth of the frames have joints that jump. Once these were interpolated and such walks trusted."""
  points = np.asarray(camera.project(np.float32(TRUTH), np.array([*OPTIONS["intrinsics"], 0, 0, 0, 0, 0], np.float32)))
  points = np.concatenate([points, points[::-1]] * 3)[:100]
  for seed in (0, 4):
    found = recordings.from_array(
        np.random.default_rng(seed).permutation(points), recordings.Options(**OPTIONS, layout="h36m17"))
    assert found.report["jumps"] == 0
    assert "frames out of order" in lift_base.lift_recording(found).trust.summary


@pytest.mark.parametrize("name, message", [
    ("11_sparse_image_ids.json", "4 frames numbered from 139 to 581,781, at irregular steps: ids of images"),
    ("22_scores_all_zero.json", "every joint has score 0"),
])
def test_a_case_without_a_right_answer_is_refused(name, message):
  with pytest.raises(ValueError, match=message):
    recordings.read(CASES / name, recordings.Options(**OPTIONS))


@pytest.mark.parametrize("wrong", [range(0), range(11), range(11, 24)])
def test_sides_that_are_exchanged_half_of_the_time_are_settled_by_the_base(wrong, lift_base):
  """Whichever half the detector exchanged, the same sides come out."""
  (whole,) = recordings.read(CASES / "09_plain_for_intrinsics.json", recordings.Options(**OPTIONS))
  points = np.concatenate([whole.record["keypoints_px"], whole.record["confidence"][..., None]], -1)
  points[wrong] = skeleton.flip(points[wrong]) * [-1, 1, 1]
  found = recordings.from_array(points, recordings.Options(**OPTIONS, layout="h36m17"))
  assert (found.other is not None) == bool(wrong) == bool(found.report["exchanged_frames"])
  np.testing.assert_array_equal(lift_base.settle(found)[0].record["keypoints_px"], whole.record["keypoints_px"])


def test_either_labelling_of_sides_is_lifted_by_the_up_that_is_told(lift_base):
  (whole,) = recordings.read(CASES / "09_plain_for_intrinsics.json", recordings.Options(**OPTIONS))
  points = np.concatenate([whole.record["keypoints_px"], whole.record["confidence"][..., None]], -1)
  points[11:] = skeleton.flip(points[11:]) * [-1, 1, 1]
  up = gravity.pitched(20)
  found = recordings.from_array(points, recordings.Options(**OPTIONS, layout="h36m17", up=tuple(up)))
  assert found.other is not None
  np.testing.assert_allclose(lift_base.settle(found)[1].up, up)


@pytest.mark.parametrize("angles", [(0, 25), (15, 20)])
def test_a_tilted_camera_of_known_up_gives_what_a_level_one_gives(angles, lift_base):
  turn = Rotation.from_euler("xz", angles, degrees=True).as_matrix()
  intrinsics = np.array([*OPTIONS["intrinsics"], 0, 0, 0, 0, 0], np.float32)
  found = []
  for rotation in (np.eye(3), turn):
    points = np.asarray(camera.project(np.float32(TRUTH @ rotation.T), intrinsics))
    lifted = lift_base(points, **OPTIONS, up=tuple(rotation @ WALKERS_UP))
    found.append(lifted.pose @ rotation)
  np.testing.assert_allclose(found[1], found[0], atol=0.01)


def test_the_up_of_a_tilted_camera_is_found_and_people_are_lifted_by_it(lift_base):
  turn = Rotation.from_euler("z", 25, degrees=True).as_matrix()
  intrinsics = np.array([*OPTIONS["intrinsics"], 0, 0, 0, 0, 0], np.float32)
  points = np.asarray(camera.project(np.float32(TRUTH @ turn.T), intrinsics))
  found = lift_base(points, **OPTIONS)
  assert np.degrees(np.arccos(found.up @ turn @ WALKERS_UP)) < 5
  plain = dataclasses.replace(lift_base, find_up=False)(points, **OPTIONS)
  truth = (TRUTH - TRUTH[:, :1]) @ turn.T
  errors = [np.linalg.norm(one.pose - truth, axis=-1).mean() for one in (found, plain)]
  assert plain.up is None and errors[0] < errors[1]
