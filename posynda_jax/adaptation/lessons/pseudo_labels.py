"""Pseudo-labels (Eq. 4-5): what the teacher's hypotheses agree on, or the best of them, labels the target's own 2D."""

import dataclasses

from posynda_jax.adaptation.lessons.labelled import Labelled, Lesson
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.diffusion import hypotheses

SELECTS = (*hypotheses.GRANULARITIES, "bones")


@dataclasses.dataclass(frozen=True)
class PseudoLabels(Lesson):
  """Target clips with the hypothesis that reprojects best, chosen for each `select` (sequence, frame or joint), or with
  the pose that the rule `bones` makes of all. Raises ValueError for another `select`.
  """

  select: str = "frame"

  def __post_init__(self):
    if self.select not in SELECTS:
      raise ValueError(f"select {self.select!r} is unknown; choose one of {', '.join(SELECTS)}")

  @property
  def needs_people(self) -> bool:
    """Whether hypotheses are chosen by the bones of each person."""
    return self.select == "bones"

  def __call__(self, keys, clips: dict, teacher: Teacher) -> Labelled:
    target = clips["target"]
    return Labelled(target["keypoints"], teacher.chosen(self.select), target["valid"], target)
