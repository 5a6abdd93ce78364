"""Records to clips to batches: nothing lost, nothing invented, the same batch for the same step."""

import itertools

import numpy as np
import pytest

from posynda_jax.data import clips, feed, tracks
from posynda_jax.geometry import camera
from tests import scene

RESOLUTION = np.array([1000, 1002], np.float32)


def record(num_frames: int = 40, fps: float = 50.0, name: str = "walk") -> dict:
  poses = scene.poses((num_frames,), len(name))
  intrinsics = np.array([1145, 1143, 512, 515, -0.2, 0.24, -0.003, -0.001, -0.0014], np.float32)
  return {
      "keypoints_px": np.array(camera.project(poses, intrinsics)), "confidence": np.ones((num_frames, 17), np.float32),
      "poses_camera_m": poses, "valid": np.ones(num_frames, bool), "intrinsics": intrinsics, "resolution": RESOLUTION,
      "fps": np.float32(fps), "subject": "s", "action": "a", "camera": "c", "sequence": name,
  }


def test_every_frame_of_a_record_is_in_exactly_one_clip():
  records = [record(43, 60.0), record(5, 60.0, "short")]
  source = clips.ClipSource(tracks.make_tracks(records, tracks.LABELLED, 15.0), 9)
  seen = [clip["poses"][clip["valid"] > 0] for clip in (source[i] for i in range(len(source)))]
  seen = np.concatenate(seen)[:, 0]
  expected = np.concatenate([r["poses_camera_m"][:, 0] for r in records])
  np.testing.assert_array_equal(np.sort(seen[:, 0]), np.sort(expected[:, 0]))


def test_clips_run_at_the_asked_rate():
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
  assert "poses" not in track.arrays
  source = clips.ClipSource([track], 9)
  batch = next(feed.batches({"target": source}, {"target": 4}, seed=0))
  assert set(batch["target"]) == set(tracks.UNLABELLED) | {"index"}


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
  assert all(np.isfinite(v).all() for v in track.arrays.values()) and track.arrays["valid"][7] == 0


def test_a_sequence_without_a_visible_person_is_refused_by_name():
  empty = record()
  empty["confidence"][:] = 0
  with pytest.raises(ValueError, match="walk shows no person"):
    tracks.make_tracks([empty], tracks.UNLABELLED, 50.0)
  partly = record()
  partly["confidence"][10:20] = 0
  (track,) = tracks.make_tracks([partly], tracks.UNLABELLED, 50.0)
  assert track.arrays["valid"].sum() == 30


def test_batches_are_a_pure_function_of_seed_and_step():
  source = clips.ClipSource(tracks.make_tracks([record(90)], tracks.LABELLED, 50.0), 9)
  draw = lambda seed, start, num: [
      b["source"]["index"].tolist() for b in itertools.islice(feed.batches({"source": source}, {"source": 4}, seed, start), num)
  ]
  assert draw(0, 0, 6) == draw(0, 0, 6) and draw(0, 0, 6)[4:] == draw(0, 4, 2)
  assert draw(0, 0, 6) != draw(1, 0, 6)
  assert set(sum(draw(0, 0, 10), [])) == set(range(10)), "every clip is drawn"


def test_padding_of_the_last_batch_does_not_count():
  source = clips.ClipSource(tracks.make_tracks([record(45)], tracks.LABELLED, 50.0), 9)
  batches = list(clips.in_order(source, 4))
  assert [len(b["valid"]) for b in batches] == [4, 4]
  assert sum(b["valid"].sum() for b in batches) == 45


def test_no_sequences_is_refused():
  with pytest.raises(ValueError, match="no sequences"):
    clips.ClipSource([], 9)
