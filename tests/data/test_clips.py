"""Laws of cutting sequences into clips."""

import numpy as np
import pytest

from posynda_jax.data import clips, tracks
from tests.data.test_tracks import record


@pytest.mark.parametrize("length", [1, 2, 8, 9, 10, 17, 18, 19, 100])
@pytest.mark.parametrize("num_frames", [1, 9, 27])
def test_stitching_a_cut_returns_the_sequence(length, num_frames):
  sequence = np.random.default_rng(length).normal(size=(length, 17, 3))
  np.testing.assert_array_equal(clips.stitch(clips.cut(sequence, num_frames), length), sequence)
  plan = clips.make_cut(length, num_frames)
  assert sorted(plan.frames[plan.mask]) == list(range(length)), "every frame is counted once"


def test_last_clip_is_aligned_to_the_end():
  assert clips.make_cut(10, 4).frames[-1].tolist() == [6, 7, 8, 9]


def test_empty_sequence_is_refused():
  with pytest.raises(ValueError, match="0 frames"):
    clips.cut(np.zeros((0, 17, 3)), 9)


def test_padding_of_the_last_batch_does_not_count():
  source = clips.ClipSource(tracks.make_tracks([record(45)], tracks.LABELLED, 50.0), 9)
  batches = list(clips.in_order(source, 4))
  assert [len(batch["valid"]) for batch in batches] == [4, 4]
  assert sum(batch["valid"].sum() for batch in batches) == 45


def test_no_sequences_are_refused():
  with pytest.raises(ValueError, match="no sequences"):
    clips.ClipSource([], 9)
