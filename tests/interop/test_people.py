"""People who pass each other keep their own frames, whatever the detector's numbers say."""

import numpy as np
import pytest

from posynda_jax.interop.keypoints import people
from posynda_jax.interop.keypoints.detections import Detections

FRAMES = 120
RIGHT = np.tile([5, 9], (FRAMES, 1))


def from_frame(first, numbers):
  """The right numbers, and others from a frame on."""
  return np.where(np.arange(FRAMES)[:, None] < first, RIGHT, numbers)


def passing() -> np.ndarray:
  """Keypoints [T 2 17 2] (px) of two people, one walking to the right and one to the left, who meet in frame 60."""
  rng = np.random.default_rng(0)
  body = rng.uniform(-1, 1, (2, 17, 2)) * np.array([[60, 200], [50, 170]])[:, None]
  along = 6.0 * (np.arange(FRAMES) - 60)
  place = np.stack([np.stack([960 + way * along, np.full(FRAMES, 540.0)], -1) for way in (1, -1)], 1)
  return place[:, :, None] + body + rng.normal(0, 3, (FRAMES, 2, 17, 2))


@pytest.mark.parametrize("numbers", [
    None, RIGHT, from_frame(62, [9, 5]), from_frame(20, [9, 5]), from_frame(61, [11, 5]),
    np.where((np.arange(FRAMES) // 10 % 2 == 0)[:, None], RIGHT, [9, 5]),
], ids=["none", "right", "exchanged", "exchanged far apart", "taken over", "exchanged again and again"])
@pytest.mark.parametrize("hidden", [(), range(58, 61)], ids=["seen", "hidden"])
def test_people_who_pass_each_other_are_not_mixed(numbers, hidden):
  points, seen = passing(), np.ones((FRAMES, 2), bool)
  seen[hidden, 1] = False
  frame, who = np.nonzero(seen)
  found = Detections(
      frame, points[seen], np.ones((len(frame), 17)), "h36m17", person=None if numbers is None else numbers[seen])
  first, second = people.find(found, "a.json")
  assert set(who[first.rows]) == {0} and set(who[second.rows]) == {1}
  assert len(first.rows) + len(second.rows) == len(frame)


@pytest.mark.parametrize("hidden", [0, 2, 4, 8, 15, 35])
def test_numbers_that_are_exchanged_when_somebody_comes_back_move_nobody(hidden):
  frame, who = np.divmod(np.arange(2 * FRAMES), 2)
  seen = (who == 0) | (frame < 60 - hidden) | (frame >= 60)
  frame, who = frame[seen], who[seen]
  sway = 20 * np.sin(frame / 5)[:, None, None] + np.random.default_rng(0).uniform(-1, 1, (17, 2)) * [60, 200]
  found = Detections(
      frame, sway + [400, 540] + who[:, None, None] * [700, 0], np.ones((len(frame), 17)), "h36m17",
      person=np.where(frame < 60, who, 1 - who))
  first, second = people.find(found, "a.json")
  assert (who[first.rows] == who[first.rows[0]]).all() and (who[second.rows] == who[second.rows[0]]).all()
  assert len(first.rows) + len(second.rows) == len(frame)


def test_a_crowd_with_numbers_is_refused():
  points = np.random.default_rng(0).uniform(0, 10, (202, 17, 2)) + 20 * np.arange(202)[:, None, None]
  found = Detections(
      np.repeat([0, 1], 101), points, np.ones((202, 17)), "h36m17", person=np.tile(np.arange(101), 2))
  with pytest.raises(ValueError, match="a.json, frame 0: 101 people, more than 100"):
    people.find(found, "a.json")
