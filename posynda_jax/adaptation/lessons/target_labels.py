"""Target labels: the ceiling of an adapter. No other lesson reads target poses."""

import dataclasses

from posynda_jax.adaptation.lessons.labelled import Labelled, Lesson
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.geometry import skeleton


@dataclasses.dataclass(frozen=True)
class TargetLabels(Lesson):
  """Target clips with their true poses: a bound that is printed beside an adaptation's result and is never one."""

  needs_labels = True

  def __call__(self, keys, clips: dict, teacher: Teacher) -> Labelled:
    target = clips["target"]
    return Labelled(target["keypoints"], skeleton.root_centre(target["poses"]), target["valid"], target)
