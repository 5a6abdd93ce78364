"""Records as tracks: nothing lost, nothing invented."""

import numpy as np
import pytest

from posynda_jax.data import clips, tracks
from posynda_jax.geometry import camera
from tests import scene

RESOLUTION = np.array([1000, 1002], np.float32)


def record(num_frames: int = 40, fps: float = 50.0, name: str = "walk") -> dict:
  poses = scene.poses((num_frames,), len(name))
  intrinsics = np.array([1145, 1143, 512, 515, -0.2, 0.24, -0.003, -0.001, -0.0014], np.float32)
  return {
      "keypoints_px": np.array(camera.project(poses, intrinsics)), "poses_camera_m": poses,
      "confidence": np.ones((num_frames, 17), np.float32), "valid": np.ones(num_frames, bool),
      "intrinsics": intrinsics, "resolution": RESOLUTION, "fps": np.float32(fps),
      "subject": "s", "action": "a", "camera": "c", "sequence": name,
  }


def test_every_frame_of_a_record_is_in_exactly_one_clip():
  records = [record(43, 60.0), record(5, 60.0, "short")]
  source = clips.ClipSource(tracks.make_tracks(records, tracks.LABELLED, 15.0), 9)
  roots = np.concatenate([source[i]["poses"][source[i]["valid"] > 0, 0, 0] for i in range(len(source))])
  expected = np.concatenate([one["poses_camera_m"][:, 0, 0] for one in records])
  np.testing.assert_array_equal(np.sort(roots), np.sort(expected))


def test_tracks_run_at_the_asked_rate():
  found = tracks.make_tracks([record(40, 60.0)], tracks.LABELLED, 15.0)
  assert len(found) == 4
  np.testing.assert_array_equal(found[1].arrays["poses"], record(40, 60.0)["poses_camera_m"][1::4])


def test_normalised_keypoints_meet_the_normalised_camera():
  (track,) = tracks.make_tracks([record()], tracks.LABELLED, 50.0)
  projected = camera.project(track.arrays["poses"], track.arrays["intrinsics"])
  np.testing.assert_allclose(projected, track.arrays["keypoints"], atol=1e-5)
  expected = camera.normalise_screen(record()["keypoints_px"], RESOLUTION)
  np.testing.assert_allclose(track.arrays["keypoints"], expected, atol=1e-5)


def test_an_unlabelled_target_never_reads_3d():
  class Guarded(dict):
    def __getitem__(self, key):
      assert key != "poses_camera_m", "target poses were read"
      return super().__getitem__(key)

  (track,) = tracks.make_tracks([Guarded(record())], tracks.UNLABELLED, 50.0)
  assert set(clips.ClipSource([track], 9)[0]) == {*tracks.UNLABELLED, "index"}


def test_2d_only_records_cannot_be_labelled():
  bare = record()
  del bare["poses_camera_m"]
  assert tracks.make_tracks([bare], tracks.UNLABELLED, 50.0)
  with pytest.raises(ValueError, match="walk has no 3D poses"):
    tracks.make_tracks([bare], tracks.LABELLED, 50.0)


@pytest.mark.parametrize("field", ["keypoints_px", "poses_camera_m"])
def test_non_finite_values_are_refused_by_name(field):
  spoiled = record()
  spoiled[field][7, 3] = np.nan
  with pytest.raises(ValueError, match="sequence walk has non-finite"):
    tracks.make_tracks([spoiled], tracks.LABELLED, 50.0)
  spoiled["valid"][7] = False
  (track,) = tracks.make_tracks([spoiled], tracks.LABELLED, 50.0)
  assert all(np.isfinite(value).all() for value in track.arrays.values()) and track.arrays["valid"][7] == 0


def test_a_sequence_without_a_visible_person_is_refused_by_name():
  empty, partly = record(), record()
  empty["confidence"][:] = 0
  with pytest.raises(ValueError, match="walk shows no person"):
    tracks.make_tracks([empty], tracks.UNLABELLED, 50.0)
  partly["confidence"][10:20] = 0
  (track,) = tracks.make_tracks([partly], tracks.UNLABELLED, 50.0)
  assert track.arrays["valid"].sum() == 30


def test_each_subject_counts_once_in_mean_bones():
  small, large = record(20), record(60, name="tall") | {"subject": "t"}
  large["poses_camera_m"] = 1.5 * large["poses_camera_m"]
  groups = [small], [large], [small, large]
  found = [tracks.mean_bones(tracks.make_tracks(group, tracks.LABELLED, 50.0)) for group in groups]
  np.testing.assert_allclose(found[2], np.mean(found[:2], 0), atol=1e-4)  # lengths are rounded to 0.1 mm
