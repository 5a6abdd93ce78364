"""Pseudo-labels (Eq. 4-5): the teacher's best hypothesis labels the target's own 2D."""

import dataclasses

from posynda_jax.adaptation.lessons.labelled import Labelled, Lesson
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.diffusion import hypotheses


@dataclasses.dataclass(frozen=True)
class PseudoLabels(Lesson):
  """Target clips with the hypothesis that reprojects best, chosen for each `select` (sequence, frame or joint).

  `weight`: how much a pseudo-labelled frame counts in the loss; a frame with an exact label counts 1. Raises
  ValueError for another `select`.
  """

  select: hypotheses.Granularity = "frame"
  weight: float = 1.0

  def __post_init__(self):
    if self.select not in hypotheses.GRANULARITIES:
      raise ValueError(f"select {self.select!r} is unknown; choose one of {', '.join(hypotheses.GRANULARITIES)}")

  def __call__(self, keys, clips: dict, teacher: Teacher) -> Labelled:
    target = clips["target"]
    return Labelled(target["keypoints"], teacher.chosen(self.select), self.weight * target["valid"], target)
