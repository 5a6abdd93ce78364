"""Recipes: names for lessons and their training settings. Flags, tables and documents read this one table.

    recipe = recipes.get("novel", updates=600)
    recipe = dataclasses.replace(recipe, adapter=AdapterConfig(rank=8))

The paper's settings stand here and nowhere else: they are the defaults of `Recipe` and of `adapters.AdapterConfig`.
"""

import dataclasses
from typing import Any

from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.adversarial import Adversarial
from posynda_jax.adaptation.lessons.novel_views import NovelViews
from posynda_jax.adaptation.lessons.placed import AsSeen, Synthesis
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.lessons.target_labels import TargetLabels

DECAYS = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Lessons and how the adapter is trained on them; the defaults are the paper's.

  `num_hypotheses` (H) and `sampling_steps` (K): of the teacher. `frozen_teacher`: it is the bare base in every update,
  and not the student before it; K > 1 needs this, because the student is trained at t = T-1 alone. `virtual_camera`:
  target clips are rendered with the mean direction, place and size at which the source's cameras see people; a base
  with a canonical camera renders all clips by that and ignores this field. `clips`: clips an update for each of source
  and target. `rate` and `decay`: of Adam over `updates`. Raises ValueError for a recipe without lessons, or an unknown
  decay.
  """

  lessons: tuple
  num_hypotheses: int = 3
  sampling_steps: int = 1
  frozen_teacher: bool = False
  virtual_camera: bool = False
  clips: int = 4
  updates: int = 1000
  rate: float = 6e-5
  decay: str = "constant"
  adapter: AdapterConfig = AdapterConfig()

  def __post_init__(self):
    if not self.lessons:
      raise ValueError("a recipe without lessons has nothing to learn from: give one lesson or more")
    if self.decay not in DECAYS:
      raise ValueError(f"decay {self.decay!r} is unknown; choose one of {', '.join(DECAYS)}")

  @property
  def needs_source(self) -> bool:
    """Whether a lesson uses source clips; without one the adaptation is source-free."""
    return any(lesson.needs_source for lesson in self.lessons)

  @property
  def is_ceiling(self) -> bool:
    """Whether target labels are learnt from."""
    return any(lesson.needs_labels for lesson in self.lessons)


EVERYWHERE = r".*(attention/(qkv|proj)|mlp_\w+)"  # LoRA on attention and MLPs of MixSTE
LARGE = AdapterConfig(rank=16, rule=EVERYWHERE)
COMPACT = {"clips": 32, "updates": 300, "rate": 1e-3, "decay": "cosine"}  # training of compact bases, chosen on CMU

_SEEN = Recipe((AsSeen(),), num_hypotheses=1, **COMPACT | {"clips": 64})
_NOVEL = Recipe((AsSeen(tumble=1.0), NovelViews()), num_hypotheses=1, virtual_camera=True, **COMPACT)
RECIPES = {
    "posynda": Recipe((Synthesis(), PseudoLabels())),
    "f": Recipe((Synthesis(),)),
    "seen": _SEEN,
    "novel": _NOVEL,
    "novel_large": dataclasses.replace(_NOVEL, adapter=LARGE, updates=900),
    "free": Recipe((NovelViews(),), num_hypotheses=1, **COMPACT | {"rate": 3e-4}),
    "gan": Recipe((Adversarial(),), **COMPACT),
    "ceiling": Recipe((TargetLabels(),), **COMPACT | {"clips": 64}),
}


def get(name: str, **changes) -> Recipe:
  """The named recipe with the given fields replaced. Raises ValueError that lists the names."""
  if name not in RECIPES:
    raise ValueError(f"recipe {name!r} is unknown; choose one of {', '.join(RECIPES)}")
  return dataclasses.replace(RECIPES[name], **changes)


def ceiling_of(recipe: Recipe) -> Recipe:
  """The same adapter trained with target labels, on as many clips an update as the recipe's lessons have together."""
  return dataclasses.replace(recipe, lessons=(TargetLabels(),), clips=recipe.clips * len(recipe.lessons))


def describe(recipe: Recipe) -> dict[str, Any]:
  """The recipe as JSON, for a run's config: lessons as {"name", setting: value}."""
  lessons = [{"name": type(lesson).__name__, **dataclasses.asdict(lesson)} for lesson in recipe.lessons]
  return dataclasses.asdict(dataclasses.replace(recipe, lessons=(None,))) | {"lessons": lessons}
