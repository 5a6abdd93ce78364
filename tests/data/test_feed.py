"""Batches are a pure function of seed and step, for any number of processes."""

import json

import jax
import numpy as np
import pytest

from posynda_jax.data import clips, feed, tracks
from tests.data.test_tracks import record


@pytest.fixture(scope="module")
def sources() -> dict[str, clips.ClipSource]:
  made = {"source": (100, tracks.LABELLED, "walk"), "target": (170, tracks.UNLABELLED, "run")}
  return {
      kind: clips.ClipSource(tracks.make_tracks([record(frames, name=name)], fields, 50.0), 9)
      for kind, (frames, fields, name) in made.items()
  }


def test_batches_are_a_pure_function_of_seed_and_step(sources):
  def draw(seed: int, start: int, count: int) -> list[list[int]]:
    batches = feed.batches({"source": sources["source"]}, {"source": 4}, seed)
    batches.set_state({"step": start})
    return [next(batches)["source"]["index"].tolist() for _ in range(count)]

  assert draw(0, 0, 6) == draw(0, 0, 6) and draw(0, 0, 6)[4:] == draw(0, 4, 2)
  assert draw(0, 0, 6) != draw(1, 0, 6)
  assert set(sum(draw(0, 0, 12), [])) == set(range(len(sources["source"]))), "every clip is drawn"


def test_a_feed_goes_on_from_the_state_of_another(sources):
  one, other = (feed.batches(sources, {"source": 4, "target": 4}, 0) for _ in range(2))
  for _ in range(3):
    next(one)
  other.set_state(json.loads(json.dumps(one.get_state())))
  jax.tree.map(np.testing.assert_array_equal, next(other), next(one))


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(sources, count):
  shares = [(0, 1)] + [(i, count) for i in range(count)]
  whole, *parts = (feed.Feed(sources, {"source": 4, "target": 8}, 3, share) for share in shares)
  for _ in range(5):  # past the end of an epoch
    together = jax.tree.map(lambda *rows: np.concatenate(rows), *map(next, parts))
    jax.tree.map(np.testing.assert_array_equal, together, next(whole))
  assert all(part.get_state() == whole.get_state() for part in parts)


def test_a_batch_that_the_processes_cannot_share_is_refused(sources):
  with pytest.raises(ValueError, match="target batch size 6 is not divisible by 4 processes"):
    feed.Feed(sources, {"source": 4, "target": 6}, 0, (0, 4))
