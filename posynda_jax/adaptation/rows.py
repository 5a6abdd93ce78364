"""Rows of the paper's tables, of the open benchmark, and of what goes beyond the paper, as data.

A row is a whole recipe and how it is scored, never a difference against flags. Rows share one `Budget` of training,
so that they can be compared; some multiply it, and their names say so.
"""

import dataclasses
from typing import Any

from posynda_jax.adaptation import recipes
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.adversarial import Adversarial
from posynda_jax.adaptation.lessons.novel_views import NovelViews
from posynda_jax.adaptation.lessons.placed import AsSeen, Synthesis
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.recipes import Recipe

SOURCE_ONLY, CEILING = "source-only", "ceiling: the same adapter with target labels"
VIDEOPOSE = {"denoiser": "videopose"}
WIDTHS = {0.5: "half", 1.0: "whole", 2.0: "twice"}


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table.

  `recipe`: what is trained; None scores the bare base. `test`: fields of `scoring.SamplingConfig`. `base`: another
  base, as fields of its training (`width` is a share of the given base's), or VIDEOPOSE. `target_rig`: the source's
  motion is rendered by the target's own rig. `virtual_camera`: of rows without a recipe. `paper`: its MPJPE (mm).
  """

  name: str
  recipe: Recipe | None = None
  test: dict[str, Any] = dataclasses.field(default_factory=dict)
  base: dict[str, Any] = dataclasses.field(default_factory=dict)
  target_rig: bool = False
  virtual_camera: bool = False
  paper: float | None = None

  @property
  def is_ceiling(self) -> bool:
    """Whether the row is trained with target labels."""
    return self.recipe is not None and self.recipe.is_ceiling

  @property
  def aids(self) -> tuple:
    """Everything except the lessons (camera, fit, adapter, updates). Rows with equal values can share one ceiling."""
    recipe = self.recipe or Recipe((None,), virtual_camera=self.virtual_camera, updates=0)
    return recipe.virtual_camera, tuple(sorted(self.test.items())), recipe.updates, recipe.adapter


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows with a title and what a reader must know of them."""

  title: str
  rows: tuple[Row, ...]
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Budget:
  """Training that the rows share; the defaults are those of the compact bases, chosen on CMU."""

  clips: int = recipes.COMPACT["clips"]
  updates: int = recipes.COMPACT["updates"]
  rate: float = recipes.COMPACT["rate"]
  decay: str = recipes.COMPACT["decay"]


def make_tables(budget: Budget = Budget()) -> dict[str, Table]:
  """All tables by name: "1" to "8" as the paper numbers them, "open" and "beyond"."""
  train = dataclasses.asdict(budget)
  twice = train | {"clips": 2 * budget.clips}
  slow = train | {"rate": 0.1 * budget.rate}  # of rows that train base parameters
  posynda = Recipe((Synthesis(), PseudoLabels()), **train)
  f = Recipe((Synthesis(),), **train)
  source_only, ours = Row(SOURCE_ONLY, paper=111.7), Row("PoSynDA", posynda, paper=58.2)
  ceiling = Row(CEILING, recipes.ceiling_of(posynda))
  gan = Row("GAN: generator of target poses in place of F", Recipe((Adversarial(),), **train), paper=87.5)
  turned = Recipe((AsSeen(resize=False, pair=False),), num_hypotheses=1, **train)
  rotation = Row("F with rotation", turned)
  seen = Row("F as seen", Recipe((AsSeen(),), num_hypotheses=1, **twice))

  view_alone = _through_camera(source_only)
  gan_turned, ours_turned, seen_turned, ceiling_turned = map(_through_camera, (gan, ours, seen, ceiling))
  novel = _through_camera(Row(
      "F as seen and novel views, tumbled",
      Recipe((AsSeen(tumble=1.0), NovelViews()), num_hypotheses=1, **train)))
  large = tuple(
      _changed(row, "r = 16 on attention and MLPs", adapter=recipes.LARGE) for row in (novel, ceiling_turned))
  long = tuple(_longer(row, "three times", 3) for row in large)
  rslora = tuple(
      _changed(row, "rsLoRA: s = 8 / sqrt(16)", adapter=dataclasses.replace(recipes.LARGE, scale=2.0)) for row in large)
  longest = tuple(_longer(row, "nine times", 9) for row in rslora)
  large_novel, large_ceilings = zip(large, long, longest, strict=True)
  fitted = tuple(map(_fitted, (source_only, seen, ceiling, seen_turned, ceiling_turned, novel)))
  fitted_large = tuple(map(_fitted, (*large_novel, *large_ceilings)))
  every = AdapterConfig(tune="full", bias=False)
  novel_every = _changed(novel, "every parameter", adapter=every, rate=slow["rate"])

  d3dp = tuple(
      Row(f"D3DP, source-only, H = 20, K = 5, {how}",
          test={"num_hypotheses": 20, "sampling_steps": 5, "select": select}, paper=paper)
      for how, select, paper in (
          ("mean of all (P-Agg)", "mean", None), ("best frame by reprojection", "frame", None),
          ("best joints by reprojection (J-Agg)", "joint", 96.5))
  )
  denoisers = (
      Row("MixSTE, source-only"), Row("MixSTE, PoSynDA", posynda), Row("VideoPose, source-only", base=VIDEOPOSE),
      Row("VideoPose, PoSynDA", posynda, base=VIDEOPOSE),
  )
  components = (
      source_only, Row("+ F", dataclasses.replace(f, adapter=every, rate=slow["rate"]), paper=62.5),
      Row("+ LoRA", dataclasses.replace(f, adapter=AdapterConfig(bias=False)), paper=61.9),
      Row("+ cross-dataset embedding", f, paper=60.7), dataclasses.replace(ours, name="+ multi-hypothesis: PoSynDA"),
      ceiling,
  )
  numbers = {1: 60.7, 2: 59.9, 3: 58.2, 4: 58.1, 5: 58.3, 6: 58.5, 10: None, 20: None}
  ranks = {1: 62.1, 2: 60.4, 3: 59.8, 4: 58.2, 5: 58.3, 6: 58.1, 8: None, 16: None}
  sizes = {
      (100, 1.0): 59.8, (500, 0.5): 59.3, (500, 1.0): 59.0, (1000, 0.5): 58.9, (1000, 1.0): 58.2, (1000, 2.0): 58.3,
  }
  by_number = (Row(f"H = {h}", dataclasses.replace(posynda, num_hypotheses=h), paper=numbers[h]) for h in numbers)
  by_rank = (
      Row(f"r = {r}", dataclasses.replace(posynda, adapter=AdapterConfig(rank=r)), paper=ranks[r]) for r in ranks
  )
  by_size = (
      Row(f"T = {steps}, {WIDTHS[width]} width", posynda, base={"diffusion_steps": steps, "width": width}, paper=paper)
      for (steps, width), paper in sizes.items()
  )
  tunes = (
      Row("every parameter", dataclasses.replace(posynda, adapter=every, rate=slow["rate"])),
      *(Row(name, dataclasses.replace(posynda, adapter=AdapterConfig(tune=tune, bias=False)))
        for name, tune in (("biases alone (BitFit)", "biases"), ("norms alone", "norms"))),
  )
  beyond = (
      source_only, gan, ours,
      Row("choice by sequence", dataclasses.replace(posynda, lessons=(Synthesis(), PseudoLabels(select="sequence")))),
      Row("teacher with K = 5", dataclasses.replace(posynda, sampling_steps=5)), rotation,
      Row("F with rotation and the target's proportions", dataclasses.replace(turned, lessons=(AsSeen(pair=False),))),
      Row("the same, paired by uprightness", dataclasses.replace(turned, lessons=(AsSeen(),))),
      dataclasses.replace(seen, name="the same with twice the clips: F as seen"), view_alone,
      _through_camera(rotation), seen_turned,
      Row("the same, tumbled", dataclasses.replace(seen_turned.recipe, lessons=(AsSeen(tumble=1.0),))),
      Row("F as seen and novel views, through a virtual camera",
          dataclasses.replace(novel.recipe, lessons=(AsSeen(), NovelViews(tumble=0.0)))),
      novel, _changed(novel, "on attention and MLPs", adapter=AdapterConfig(rule=recipes.EVERYWHERE)),
      large[0], long[0], rslora[0], longest[0], novel_every, _longer(novel_every, "three times", 3),
      Row("source-free: novel views, tumbled", dataclasses.replace(recipes.RECIPES["free"], **train)), ceiling,
      ceiling_turned, *large_ceilings, *fitted[4:], *fitted_large,
  )
  target_rig = Row(
      "bound of F: the source rendered by the target's own rig",
      dataclasses.replace(f, lessons=(Synthesis(place=False),)), target_rig=True)
  return {
      "1": Table("Table 1: denoisers, Human3.6M", denoisers),
      "2": Table("Table 2: denoisers, 3DHP", denoisers),
      "3": Table(
          "Table 3: components", components,
          "'+ F' tunes every parameter, at a tenth of the rate. The paper's parameters are 49,152 r + 42, a bias of "
          "3 x 14; ours has 3 x 17."),
      "4": Table("Table 4: denoisers, 3DPW", denoisers),
      "5": Table(
          "Table 5: multi-hypothesis inference, and a generator of poses", (source_only, *d3dp, gan, ours, ceiling)),
      "6": Table("Table 6: number of hypotheses", (source_only, *by_number)),
      "7": Table(
          "Table 7: rank, and what else could be tuned",
          (source_only, *by_rank, *tunes),
          "The paper's parameters are 49,152 r + 42 truncated, and its row r = 6 is misprinted; its FLOPs grow with r "
          "as if H were 1."),
      "8": Table("Table 8: timesteps and width, a base each", tuple(by_size)),
      "open": Table(
          "Open benchmark, version 2",
          (source_only, gan, Row("F", f), ours, rotation, seen, view_alone, gan_turned, ours_turned, seen_turned, novel,
           *large_novel, target_rig, ceiling, ceiling_turned, *large_ceilings, *fitted, *fitted_large),
          "'F as seen' learns from as many labelled clips as the ceiling, twice those of F; with novel views half of "
          "these clips have no label. Closure is towards the ceiling without a fit or a virtual camera, in brackets "
          "towards the one with the same fit, camera and adapter. The fit (`--test_refine=body`) and the virtual "
          "camera read the test clip's own 2D and intrinsics, no label."),
      "beyond": Table("Beyond the paper", beyond),
  }


def _through_camera(row: Row) -> Row:
  name = f"{row.name.partition(':')[0]}, through a virtual camera"
  recipe = row.recipe and dataclasses.replace(row.recipe, virtual_camera=True)
  return dataclasses.replace(row, name=name, recipe=recipe, virtual_camera=recipe is None, paper=None)


def _changed(row: Row, what: str, **settings) -> Row:
  return dataclasses.replace(row, name=f"{row.name}, {what}", recipe=dataclasses.replace(row.recipe, **settings))


def _longer(row: Row, how_often: str, factor: int) -> Row:
  return _changed(row, f"{how_often} the updates", updates=factor * row.recipe.updates)


def _fitted(row: Row) -> Row:
  """The same weights; poses are fitted with the test clip's own 2D and intrinsics."""
  name = f"{row.name.partition(':')[0]}, poses fitted to a body at test time"
  return dataclasses.replace(row, name=name, test={"refine": "body"}, paper=None)


PAPER_TABLES = tuple("12345678")  # the meaning of --table=all
