"""People who pass each other keep their own frames, whatever the detector's numbers say, and nobody is two."""

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


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_person_who_is_found_twice_is_one_and_people_who_pass_stay_two(share, numbered):
  """A second, less sure skeleton 5 to 20 px away in a share of the frames, before or after the first."""
  rng = np.random.default_rng(1)
  points, twice = passing(), rng.random((FRAMES, 2)) < share
  away = rng.uniform(4, 14, (FRAMES, 2, 1, 2)) * rng.choice([-1, 1], (FRAMES, 2, 1, 2))
  frame, who, double = np.nonzero(np.stack([np.ones_like(twice), twice], -1))
  order = np.lexsort((rng.random(len(frame)), frame))
  frame, who, double = frame[order], who[order], double[order].astype(bool)
  found = Detections(
      frame, points[frame, who] + double[:, None, None] * away[frame, who], np.where(double, 0.4, 0.9)[:, None].repeat(
          17, 1), "h36m17", person=np.where(double, 20 + frame, who) if numbered else None)
  first, second = sorted(people.find(found, "a.json"), key=lambda person: who[person.rows[0]])
  for number, person in enumerate((first, second)):
    np.testing.assert_array_equal(person.rows, np.flatnonzero((who == number) & ~double))
    assert abs(person.doubles - twice[:, number].sum()) < 5  # where they pass, a double is of either


def test_of_two_skeletons_that_are_as_sure_the_one_nearer_to_the_frame_before_counts():
  frame, double = np.divmod(np.arange(1, 60), 2)
  double = double != frame % 2  # its place in a frame changes
  points = passing()[0, 0] + double[:, None, None] * [12, 9]
  (person,) = people.find(Detections(frame, points, np.ones((59, 17)), "h36m17"), "a.json")
  np.testing.assert_array_equal(person.rows, np.flatnonzero(double == double[0]))


@pytest.mark.parametrize("times", [2, 3])
def test_a_group_in_which_everybody_is_found_more_than_once_is_no_crowd_at_one_place(times):
  frame, who = np.divmod(np.arange(30 * 6 * times), 6 * times)
  who, found_again = np.divmod(who, times)
  points = passing()[frame, 0] * [0, 1] + passing()[60, 0, :, :1] * [1, 0]
  points = points + who[:, None, None] * [400, 0] + found_again[:, None, None] * [8, 6]
  scores = np.where(found_again, 0.4, 0.9)[:, None].repeat(17, 1)
  group = people.find(Detections(frame, points, scores, "h36m17"), "a.json")
  assert sorted(who[one.rows[0]] for one in group) == list(range(6))
  for one in group:
    np.testing.assert_array_equal(one.rows, np.flatnonzero((who == who[one.rows[0]]) & (found_again == 0)))


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


def test_somebody_who_comes_when_somebody_else_has_left_is_another_person():
  places = np.array([[300, 500], [1500, 500], [900, 500]])  # left in frame 60, came in 62, is there all the time
  seen = np.arange(FRAMES)[:, None] < [60, 0, FRAMES]
  seen[62:, 1] = True
  frame, who = np.nonzero(seen)
  body = passing()[0, 0] - passing()[0, 0, 0]  # numbers are places in the list of a frame
  points = body + places[who, None] + np.random.default_rng(2).normal(0, 3, (len(frame), 17, 2))
  numbers = np.concatenate([[0, 1]] * 60 + [[0]] * 2 + [[0, 1]] * 58)
  found = Detections(frame, points, np.ones((len(frame), 17)), "h36m17", person=numbers)
  assert sorted(tuple({*who[person.rows]}) for person in people.find(found, "a.json")) == [(0,), (1,), (2,)]


def test_a_crowd_with_numbers_is_refused():
  points = np.random.default_rng(0).uniform(0, 10, (202, 17, 2)) + 20 * np.arange(202)[:, None, None]
  found = Detections(
      np.repeat([0, 1], 101), points, np.ones((202, 17)), "h36m17", person=np.tile(np.arange(101), 2))
  with pytest.raises(ValueError, match="a.json, frame 0: 101 people, more than 100"):
    people.find(found, "a.json")
