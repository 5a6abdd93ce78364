"""The people of a video: detections grouped by person, each person at most once a frame, the most detected first.

People are tracked from frame to frame, nearest boxes first; a detector's own numbers go before distance, but where it
exchanges them between people, places win. A number that ends where another begins at the same place is the same person.
Two skeletons that nearly coincide are one person, found twice. If no frame has two detections, all are one person.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from posynda_jax.interop.keypoints.detections import Detections

MAX_LOST = 30  # frames without a detection after which a person counts as a new one
MAX_PEOPLE = 100  # in a frame, and among those who were detected before
MAX_ABSENT = 150  # frames between two sightings at one place that are one person
_ALIKE = 1.5  # largest ratio of their sizes
_RECENT = 5  # frames after a sighting for which its place tells more than a detector's number
_STILL = 0.3  # largest change of a box, 1 + `_cost`, that needs no other explanation
_ELSE = 1.5  # cost of a box to which neither place nor number leads: between those of a jump and of two
_NEAR = 0.5  # largest motion between two detections without overlap, as a share of the boxes' diagonal
_DOUBLE = 0.07  # mean distance of the joints of two detections, as a share of the larger box's diagonal, of one person
_CROWD = 5  # people in a frame who may be one person in as many frames
_OVERLAP = 0.5  # of `_cost`, negative: boxes of one person in neighbouring frames overlap more

Box = list[float]  # left, top, right, bottom


@dataclasses.dataclass(frozen=True)
class Person:
  """One person of a video."""

  rows: np.ndarray  # [n] indices of the detections, in the order of frames
  number: int | None  # the detector's own; None if people were tracked here
  confidence: float  # mean over the person's frames
  doubles: int = 0  # frames in which the person was found more than once


def find(found: Detections, label) -> list[Person]:
  """The people, by mean confidence times number of frames, largest first. Raises ValueError if there are none."""
  seen = np.flatnonzero((found.scores > 0).any(-1))
  if not len(seen):
    of = f" in any of {found.num_frames:,} frames" if found.num_frames else ""
    raise ValueError(f"{label} shows no person{of}: check what the detector wrote")
  seen = seen[np.argsort(found.frame[seen], kind="stable")]
  frames, boxes = found.frame[seen], _boxes(found.points[seen])
  _check_apart(frames, boxes, label)
  confidence = found.scores.mean(-1)
  double_of = find_doubles(frames, boxes, found.points[seen], confidence[seen])
  kept, given = double_of == np.arange(len(seen)), None if found.person is None else found.person[seen]

  def number():  # (a number of the person, the detector's own or None) of those who are kept
    own, of = None if given is None else given[kept], (frames[kept], boxes[kept])
    if own is not None and len(np.unique([of[0], own], axis=1).T) < len(own):
      own = None  # a number that repeats in a frame says nothing
    return track(*of, label, None if own is None else mend_numbers(*of, own, label)), own

  people, own = number()
  if not kept.all():
    whole = np.full(len(seen), -1)
    whole[kept] = people
    if missing := find_missing(frames, boxes, whole, np.flatnonzero(~kept)):
      kept[missing] = True
      people, own = number()
  doubled = np.isin(np.flatnonzero(kept), double_of[~kept])  # whose double is left out
  seen, frames, boxes = seen[kept], frames[kept], boxes[kept]
  people = join(frames, boxes, people)
  order = np.argsort(people, kind="stable")
  starts = np.unique(people[order], return_index=True)[1]
  made = []
  for rows in np.split(order, starts[1:]):
    number = None if own is None else int(np.bincount(own[rows] - own.min()).argmax() + own.min())
    made.append(Person(seen[rows], number, float(confidence[seen[rows]].mean()), int(doubled[rows].sum())))
  return sorted(made, key=lambda person: -person.confidence * len(person.rows))


def _boxes(points: np.ndarray) -> np.ndarray:
  """Boxes [n 4] around the detected joints of points [n j 2]."""
  lost = np.isnan(points)
  return np.concatenate([np.where(lost, np.inf, points).min(1), np.where(lost, -np.inf, points).max(1)], 1)


def _check_apart(frames: np.ndarray, boxes: np.ndarray, label) -> None:
  """Raises ValueError where most frames have _CROWD people and more who all stand at one place: they are frames."""
  numbers, counts = np.unique(frames, return_counts=True)
  if (counts >= _CROWD).mean() < 0.5:
    return
  rows = np.flatnonzero(np.diff(frames) == 0)[:1000]  # of people found twice or thrice, not three in four share a place
  if np.quantile([-(_cost(boxes[i].tolist(), boxes[i + 1].tolist()) or 0) for i in rows], 0.25) > _OVERLAP:
    raise ValueError(f"{label} has {counts.max()} people at one place in frame {numbers[counts.argmax()]}: are they "
                     "frames? give each its number as `frame`, or an array (frames, people, joints, 2 or 3)")


def track(frames: np.ndarray, boxes: np.ndarray, label="detections", own: np.ndarray | None = None) -> np.ndarray:
  """A number of the person [n] for each of the boxes [n 4], in the order of frames. Raises ValueError for a crowd.

  In each frame the pair of a box and a person of least `_cost` is joined first. With a detector's `own` numbers [n],
  equal ones are joined before all others and wherever they are, and two numbers only where one ends before the other
  begins.
  """
  if len(np.unique(frames)) == len(frames):
    return np.zeros(len(frames), np.int64)
  first, final = {}, {}
  for row, number in enumerate([] if own is None else own.tolist()):
    first.setdefault(number, int(frames[row]))
    final[number] = int(frames[row])
  boxes = boxes.astype(float).tolist()
  people = np.empty(len(frames), np.int64)
  last: dict[int, tuple[int, Box, int]] = {}  # person -> frame, box and own number of the last detection
  count = 0

  def cost(row, box, number):
    if own is None or number == own[row]:
      near = _cost(boxes[row], box)
      return near if own is None else -2.0 if near is None else near - 2
    ends = final[number] < frames[row] == first[int(own[row])]
    return _cost(boxes[row], box) if ends else None

  for frame, rows in _by_frame(frames, label):
    last = {  # those seen lately, and those whose own number comes again
        number: seen for number, seen in last.items() if frame - seen[0] <= MAX_LOST or final.get(seen[2], -1) >= frame}
    near = sorted(last, key=lambda number: last[number][0])[-MAX_PEOPLE:]
    costs = ((cost(row, *last[number][1:]), row, number) for row in rows for number in near)
    given, taken = {}, set()
    for _, row, number in sorted(pair for pair in costs if pair[0] is not None):
      if row not in given and number not in taken:
        given[row] = number
        taken.add(number)
    for row in rows:
      if row not in given:
        given[row], count = count, count + 1
      people[row] = given[row]
      last[given[row]] = frame, boxes[row], -1 if own is None else int(own[row])
  return people


def _by_frame(frames: np.ndarray, label) -> Iterator[tuple[int, range]]:
  """Each frame of the sorted `frames` [n] and its rows. Raises ValueError for a crowd."""
  starts = np.flatnonzero(np.diff(frames, prepend=frames[0] - 1)).tolist()
  for start, end in zip(starts, [*starts[1:], len(frames)], strict=True):
    frame = int(frames[start])
    if end - start > MAX_PEOPLE:
      raise ValueError(f"{label}, frame {frame}: {end - start} people, more than {MAX_PEOPLE}: keep those of interest")
    yield frame, range(start, end)


def mend_numbers(frames: np.ndarray, boxes: np.ndarray, own: np.ndarray, label="detections") -> np.ndarray:
  """A detector's numbers [n] of boxes [n 4], in the order of frames, with those exchanged back that it gave to another
  person: where somebody's number jumps and another box is at their place, the number goes to that box from then on.

  In such a frame the boxes are assigned to the people seen lately so that boxes change least; a change counts half
  where the number says the same. Somebody who was hidden may come back under another's number: that costs less than if
  both people jumped. Raises ValueError for a crowd.
  """
  if len(np.unique(frames)) == len(frames):
    return own
  from scipy import optimize  # slow to import

  means = {number: number for number in own.tolist()}  # a detector's number -> the person whom it stands for
  fresh = int(own.max()) + 1
  last: dict[int, tuple[int, Box]] = {}  # person -> frame and box
  boxes, mended = boxes.astype(float).tolist(), np.empty_like(own)

  def change(person, row):  # of the person's box, None where the person was not seen lately
    if person not in last or frame - last[person][0] > _RECENT:
      return None
    cost = _cost(boxes[row], last[person][1])
    return 2.0 if cost is None else 1 + cost

  for frame, rows in _by_frame(frames, label):
    given = {row: means[int(own[row])] for row in rows}
    changes = [change(person, row) for row, person in given.items()]
    if len(set(given.values())) < len(given) or not all(one is not None and one < _STILL for one in changes):
      lately = [person for person, (seen, _) in last.items() if frame - seen <= _RECENT][-MAX_PEOPLE:]
      known = [*lately, *sorted({person for person in given.values() if person in last} - {*lately})]
      costs = np.full((len(known), len(given)), _ELSE)
      for i, person in enumerate(known):
        for j, row in enumerate(given):
          found, same = change(person, row), given[row] == person
          if same:
            costs[i, j] = 1 if found is None else found / 2
          elif found is not None and found < 1:
            costs[i, j] = found
      taken = {}
      for i, j in zip(*optimize.linear_sum_assignment(costs), strict=True):
        if costs[i, j] < _ELSE or given[rows[j]] in last and frame - last[known[i]][0] > _RECENT:  # else a new one
          taken[rows[j]] = known[i]
      for row in given:
        if row not in taken:  # a new person, under a number of their own where that is free
          free = given[row] not in last and given[row] not in taken.values()
          taken[row] = given[row] if free else fresh
          fresh += not free
        means[int(own[row])] = taken[row]
      given = taken
    for row, person in given.items():
      mended[row] = person
      last[person] = frame, boxes[row]
  return mended


def find_doubles(frames: np.ndarray, boxes: np.ndarray, points: np.ndarray, confidence: np.ndarray) -> np.ndarray:
  """For each detection, in the order of frames, the row [n] of a surer one of its frame with which it nearly coincides,
  else its own row. They coincide by the mean distance of the joints that both have, of points [n j 2]. Of two with
  equal confidence [n], the one nearer to somebody of the frame before counts as surer.
  """
  sizes, pairs = np.linalg.norm(np.float64(boxes[:, 2:]) - boxes[:, :2], axis=-1), [np.zeros((0, 2), np.int64)]
  for step in range(1, min(np.unique(frames, return_counts=True)[1].max(), MAX_PEOPLE)):
    one = np.flatnonzero(frames[step:] == frames[:-step])
    distance = np.linalg.norm(np.float64(points[one]) - points[one + step], axis=-1)  # damaged ones overflow float32
    largest = _DOUBLE * np.maximum(sizes[one], sizes[one + step]) * np.isfinite(distance).sum(-1)
    pairs.append(np.stack([one, one + step], 1)[np.nansum(distance, -1) < largest])
  double_of = np.arange(len(frames))

  def away(row):  # from the nearest box of the frame before
    end = np.searchsorted(frames, frames[row])
    before = range(np.searchsorted(frames, frames[max(end - 1, 0)]), end)
    return min((math.dist(boxes[row], boxes[other]) for other in before if double_of[other] == other), default=0.0)

  for one, other in sorted(np.concatenate(pairs).tolist()):
    if double_of[one] == one and double_of[other] == other:
      equal = confidence[one] == confidence[other]
      first = away(one) <= away(other) if equal else confidence[one] > confidence[other]
      double_of[other if first else one] = one if first else other
  return double_of


def find_missing(frames: np.ndarray, boxes: np.ndarray, people: np.ndarray, doubles: np.ndarray) -> list[int]:
  """The rows of `doubles` at whose place one of the `people` [n] is missing for up to MAX_LOST frames: somebody who
  passes another. `people` are -1 at doubles.
  """
  order = np.lexsort((frames, people))
  gap, same = np.diff(frames[order]), np.diff(people[order]) == 0
  at = np.flatnonzero(same & (people[order[1:]] >= 0) & (gap > 1) & (gap <= MAX_LOST))
  at = at[np.argsort(frames[order[at]], kind="stable")]
  before, after, starts, found, filled = order[at], order[at + 1], frames[order[at]], [], set()
  for row in doubles.tolist():
    first, end = np.searchsorted(starts, (frames[row] - MAX_LOST, frames[row]))
    for i in (first + np.flatnonzero(frames[row] < frames[after[first:end]])).tolist():
      share = (frames[row] - frames[before[i]]) / (frames[after[i]] - frames[before[i]])
      box = boxes[before[i]] + share * (boxes[after[i]] - boxes[before[i]])
      if (i, frames[row]) not in filled and -(_cost(boxes[row].tolist(), box.tolist()) or 0) > _OVERLAP:
        filled.add((i, frames[row]))
        found.append(row)
        break
  return found


def join(frames: np.ndarray, boxes: np.ndarray, people: np.ndarray) -> np.ndarray:
  """People [n] with those joined who are seen one after the other, within MAX_ABSENT frames, near one place and at one
  size: a bystander in one frame does not cut a track.
  """
  people = people.copy()
  order = np.argsort(people, kind="stable")
  starts = np.unique(people[order], return_index=True)[1]
  pieces = sorted(np.split(order, starts[1:]), key=lambda rows: frames[rows[0]])
  if len(pieces) > MAX_PEOPLE:
    return people

  def distance(before, after):  # None if the two rows are not one person
    gap = frames[after] - frames[before]
    sizes = [max(math.dist(boxes[row][:2], boxes[row][2:]), 1.0) for row in (before, after)]
    apart = math.dist(boxes[before][:2] + boxes[before][2:], boxes[after][:2] + boxes[after][2:]) / 2
    alike = max(sizes) < _ALIKE * min(sizes) and apart < max(sizes)
    return apart if 0 < gap <= MAX_ABSENT and alike else None

  ends: dict[int, int] = {}  # person -> last row
  for rows in pieces:
    apart = ((distance(row, rows[0]), person) for person, row in ends.items())
    _, person = min((pair for pair in apart if pair[0] is not None), default=(0.0, int(people[rows[0]])))
    people[rows] = person
    ends[person] = rows[-1]
  return people


def _cost(a: Box, b: Box) -> float | None:
  """Distance of the centres as a share of the larger diagonal, less intersection over union; None if too far apart."""
  diagonal = max(math.dist(a[:2], a[2:]), math.dist(b[:2], b[2:]), 1.0)
  distance = math.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]) / 2 / diagonal
  common = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
  both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
  return distance - common / both if common > 0 else distance if distance < _NEAR else None


def choose(people: list[Person], which: str, label) -> int:
  """The index of the person "auto" (0) or "0", "1", ... Raises ValueError that lists the people."""
  index = 0 if which == "auto" else int(which)
  if index >= len(people):
    raise ValueError(f"{label} has no person {which}; there are {describe(people)}")
  return index


def describe(people: list[Person]) -> str:
  """One line: "0 (id 7, 120 frames, confidence 0.91), 1 (...)"."""
  shown = []
  for i, person in enumerate(people[:8]):
    number = f"id {person.number}, " if person.number is not None else ""
    shown.append(f"{i} ({number}{len(person.rows):,} frames, confidence {person.confidence:.2f})")
  return ", ".join(shown) + (f" and {len(people) - 8} more" if len(people) > 8 else "")
