"""Who is who: detections of a video become people, each seen at most once in a frame, the most seen first.

A detector's own ids are used where every detection has one and no frame has one twice. Else, where no frame shows two people, all
is one person; where one does, people are followed from frame to frame, the nearest boxes first.
"""

import dataclasses
import math

import numpy as np

from posynda_jax.interop.keypoints.detections import Detections

MAX_LOST = 30  # frames after which somebody who comes back counts as somebody else
MAX_PEOPLE = 100  # in a frame, and looked for at once
_NEAR = 0.5  # of the boxes' diagonal: how far a person may move between two sightings without overlap


@dataclasses.dataclass(frozen=True)
class Person:
  """`rows` [n] of the detections in the order of frames; the detector's own `number`, None where people were followed here."""

  rows: np.ndarray
  number: int | None
  confidence: float  # mean over the frames in which the person is seen


def find(found: Detections, label) -> list[Person]:
  """The people, greatest sum of confidence (mean confidence times frames) first. Raises ValueError where nobody is seen."""
  seen = np.flatnonzero((found.scores > 0).any(-1))
  if not len(seen):
    of = f" in any of {found.num_frames:,} frames" if found.num_frames else ""
    raise ValueError(f"{label} shows no person{of}: check what the detector wrote")
  seen = seen[np.argsort(found.frame[seen], kind="stable")]
  frames = found.frame[seen]
  people = None if found.person is None else found.person[seen]
  own_ids = people is not None and _once_a_frame(frames, people)
  if not own_ids:
    people = follow(frames, *_boxes(found.points[seen]), label)
  order = np.argsort(people, kind="stable")
  starts = np.flatnonzero(np.diff(people[order], prepend=people[order[0]] - 1))
  confidence = found.scores.mean(-1)
  groups = [seen[rows] for rows in np.split(order, starts[1:])]
  numbers = [int(n) if own_ids else None for n in people[order[starts]]]
  made = [Person(rows, number, float(confidence[rows].mean())) for rows, number in zip(groups, numbers, strict=True)]
  return sorted(made, key=lambda person: -person.confidence * len(person.rows))


def _once_a_frame(frames: np.ndarray, people: np.ndarray) -> bool:
  return len(np.unique(np.stack([frames, people]), axis=1).T) == len(frames)


def _boxes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Corners [n 2] and [n 2] of what is seen of each person."""
  lost = np.isnan(points)
  return np.where(lost, np.inf, points).min(1), np.where(lost, -np.inf, points).max(1)


def follow(frames: np.ndarray, low: np.ndarray, high: np.ndarray, label="detections") -> np.ndarray:
  """A number of the person [n] for boxes in the order of frames. The pairs of least distance less overlap are joined first."""
  starts = np.flatnonzero(np.diff(frames, prepend=frames[0] - 1))
  if len(starts) == len(frames):
    return np.zeros(len(frames), np.int64)
  boxes = np.concatenate([low, high], 1).astype(float).tolist()
  people = np.empty(len(frames), np.int64)
  active: dict[int, tuple[int, list[float]]] = {}  # number -> last frame, last box
  count = 0
  for start, end in zip(starts, [*starts[1:], len(frames)], strict=True):
    frame = int(frames[start])
    if end - start > MAX_PEOPLE:
      raise ValueError(f"{label}, frame {frame}: {end - start} people, more than {MAX_PEOPLE}: keep those of interest")
    recent = sorted((last[0], number) for number, last in active.items() if frame - last[0] <= MAX_LOST)[-MAX_PEOPLE:]
    active = {number: active[number] for _, number in recent}
    pairs = sorted(
        (cost, row, number)
        for row in range(start, end)
        for number, (_, box) in active.items()
        if (cost := _cost(boxes[row], box)) is not None
    )
    taken, given = set(), {}
    for _, row, number in pairs:
      if row not in given and number not in taken:
        given[row] = number
        taken.add(number)
    for row in range(start, end):
      if row not in given:
        given[row], count = count, count + 1
      people[row] = given[row]
      active[given[row]] = frame, boxes[row]
  return people


def _cost(a: list[float], b: list[float]) -> float | None:
  """Distance of two boxes' centres as a share of the larger diagonal, less their intersection over union; None for strangers."""
  diagonal = max(math.dist(a[:2], a[2:]), math.dist(b[:2], b[2:]), 1.0)
  distance = math.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]) / 2 / diagonal
  common = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
  both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
  return distance - common / both if common > 0 else distance if distance < _NEAR else None


def choose(people: list[Person], which: str, label) -> int:
  """The index of the person that `--person` asks for: "auto" is 0. Raises ValueError that lists them."""
  index = 0 if which == "auto" else int(which)
  if index >= len(people):
    raise ValueError(f"{label} has no person {which}; there are {describe(people)}")
  return index


def describe(people: list[Person]) -> str:
  """One line: "0 (id 7, 120 frames, confidence 0.91), 1 (...)"."""
  one = lambda p: (f"id {p.number}, " if p.number is not None else "") + f"{len(p.rows):,} frames, confidence {p.confidence:.2f}"
  shown = [f"{i} ({one(person)})" for i, person in enumerate(people[:8])]
  return ", ".join(shown) + (f" and {len(people) - 8} more" if len(people) > 8 else "")
