"""Records as tracks, clips and batches: nothing lost, nothing invented, and batches depend on seed and step alone."""

import functools
import json

import jax
import numpy as np
import pytest

from posynda_jax.data import clips, feed, tracks
from posynda_jax.geometry import camera
from tests import scene

RESOLUTION = np.array([1000, 1002], np.float32)


INTRINSICS = np.array([1145, 1143, 512, 515, -0.2, 0.24, -0.003, -0.001, -0.0014], np.float32)


@functools.cache
def projected(seed: int) -> tuple[np.ndarray, np.ndarray]:
  poses = scene.poses((200,), seed)
  return poses, np.asarray(jax.jit(camera.project)(poses, INTRINSICS))


def record(num_frames: int = 40, fps: float = 50.0, name: str = "walk") -> dict:
  """A record of at most 200 frames."""
  poses, keypoints = (array[:num_frames].copy() for array in projected(len(name)))
  return {
      "keypoints_px": keypoints, "poses_camera_m": poses,
      "confidence": np.ones((num_frames, 17), np.float32), "valid": np.ones(num_frames, bool),
      "intrinsics": INTRINSICS, "resolution": RESOLUTION, "fps": np.float32(fps),
      "subject": "s", "action": "a", "camera": "c", "sequence": name,
  }


def test_every_frame_of_a_record_is_in_exactly_one_clip_of_tracks_at_the_asked_rate():
  records = [record(40, 60.0), record(5, 60.0, "short")]
  found = tracks.make_tracks(records, tracks.LABELLED, 15.0)
  np.testing.assert_array_equal(found[1].arrays["poses"], records[0]["poses_camera_m"][1::4])
  source = clips.ClipSource(found, 9)
  every = source.take(range(len(source)))
  roots = every["poses"][every["valid"] > 0, 0, 0]
  expected = np.concatenate([one["poses_camera_m"][:, 0, 0] for one in records])
  np.testing.assert_array_equal(np.sort(roots), np.sort(expected))


def test_normalised_keypoints_meet_the_normalised_camera():
  (track,) = tracks.make_tracks([record(200)], tracks.LABELLED, 50.0)
  expected = jax.jit(camera.project)(track.arrays["poses"], track.arrays["intrinsics"])
  np.testing.assert_allclose(track.arrays["keypoints"], expected, atol=1e-5)
  expected = camera.normalise_screen(record(200)["keypoints_px"], RESOLUTION)
  np.testing.assert_allclose(track.arrays["keypoints"], expected, atol=1e-5)


def test_an_unlabelled_target_never_reads_3d():
  class Guarded(dict):
    def __getitem__(self, key):
      assert key != "poses_camera_m", "target poses were read"
      return super().__getitem__(key)

  (track,) = tracks.make_tracks([Guarded(record())], tracks.UNLABELLED, 50.0)
  assert set(clips.ClipSource([track], 9).take([0])) == {*tracks.UNLABELLED, "index"}
  bare = {name: value for name, value in record().items() if name != "poses_camera_m"}
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


@pytest.mark.parametrize("length", [1, 2, 8, 9, 10, 17, 18, 19, 100])
@pytest.mark.parametrize("num_frames", [1, 9, 27])
def test_stitching_a_cut_returns_the_sequence(length, num_frames):
  sequence = np.random.default_rng(length).normal(size=(length, 17, 3))
  np.testing.assert_array_equal(clips.stitch(clips.cut(sequence, num_frames), length), sequence)
  plan = clips.make_cut(length, num_frames)
  assert sorted(plan.frames[plan.mask]) == list(range(length)), "every frame is counted once"


def test_the_last_clip_is_aligned_to_the_end_and_padding_of_the_last_batch_does_not_count():
  assert clips.make_cut(10, 4).frames[-1].tolist() == [6, 7, 8, 9]
  source = clips.ClipSource(tracks.make_tracks([record(45)], tracks.LABELLED, 50.0), 9)
  batches = list(clips.in_order(source, 4))
  assert [len(batch["valid"]) for batch in batches] == [4, 4]
  assert sum(batch["valid"].sum() for batch in batches) == 45


@pytest.mark.parametrize("make, message", [
    (lambda: clips.cut(np.zeros((0, 17, 3)), 9), "0 frames"), (lambda: clips.ClipSource([], 9), "no sequences"),
])
def test_data_without_a_frame_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.fixture(scope="module")
def sources() -> dict[str, clips.ClipSource]:
  made = {"source": (100, tracks.LABELLED, "walk"), "target": (170, tracks.UNLABELLED, "run")}
  return {
      kind: clips.ClipSource(tracks.make_tracks([record(frames, name=name)], fields, 50.0), 9)
      for kind, (frames, fields, name) in made.items()
  }


def test_batches_are_a_pure_function_of_seed_and_step(sources):
  def draw(seed: int, start: int, count: int) -> list[list[int]]:
    batches = feed.Feed({"source": sources["source"]}, {"source": 4}, seed)
    batches.set_state(json.loads(json.dumps({"step": start})))
    return [next(batches)["source"]["index"].tolist() for _ in range(count)]

  assert draw(0, 0, 6) == draw(0, 0, 6) and draw(0, 0, 6)[4:] == draw(0, 4, 2)
  assert draw(0, 0, 6) != draw(1, 0, 6)
  assert set(sum(draw(0, 0, 12), [])) == set(range(len(sources["source"]))), "every clip is drawn"


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(sources, count):
  shares = [(0, 1)] + [(i, count) for i in range(count)]
  whole, *parts = (feed.Feed(sources, {"source": 4, "target": 8}, 3, share) for share in shares)
  for _ in range(5):  # past the end of an epoch
    together = jax.tree.map(lambda *rows: np.concatenate(rows), *map(next, parts))
    jax.tree.map(np.testing.assert_array_equal, together, next(whole))
  assert all(part.get_state() == whole.get_state() for part in parts)
  parts[0].set_state(json.loads(json.dumps({"step": 2})))
  assert parts[0].get_state() == {"step": 2}
  with pytest.raises(ValueError, match="target batch size 6 is not divisible by 4 processes"):
    feed.Feed(sources, {"source": 4, "target": 6}, 0, (0, 4))
