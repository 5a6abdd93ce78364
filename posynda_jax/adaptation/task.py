"""A job as data, and the task that it becomes once its base, source and test data are loaded."""

import dataclasses
from collections.abc import Callable
from typing import Any

from posynda_jax.adaptation import bases, recipes, sources
from posynda_jax.data import clips, tracks
from posynda_jax.evaluation import lifting, scoring
from posynda_jax.geometry import body as pose_body
from posynda_jax.geometry import measured
from posynda_jax.runtime import loop


@dataclasses.dataclass(frozen=True)
class Job:
  """All that defines an adaptation and its scores.

  `source`: a name for `sources.load_source`; None is source-free. `target`: `dataset/config`, or `sources.Unlabelled`
  records, which are then scored by reprojection. `ceiling`: also train the same adapter with target labels.
  `guard`: keep only the share of the adapter that `account.decide` finds harmless.
  `sampling`: how scores are made; its `hypothesis_chunk` holds for the teacher too. `remat`: MixSTE computes
  activations again in the backward pass, which takes less memory. `clips_at_once`: student's clips in one gradient
  computation on each device, 0 is all; fewer take less memory. `workdir` None keeps everything in memory: nothing
  is written and nothing can be resumed.
  """

  recipe: recipes.Recipe
  target: str | sources.Unlabelled
  base: str | bases.Base = bases.DEFAULT
  source: str | None = None
  source_split: str = "train"
  target_split: str = "train"
  test_split: str = "test"
  ceiling: bool = False
  guard: bool = True
  seed: int = 0
  sampling: scoring.SamplingConfig = scoring.SamplingConfig()
  remat: bool = True
  clips_at_once: int = 0
  workdir: str | None = None
  folders: sources.Folders = sources.Folders()
  saving: loop.Saving = loop.Saving()

  @property
  def is_labelled(self) -> bool:
    """Whether the target is a dataset, whose test split has poses."""
    return isinstance(self.target, str)

  @property
  def target_name(self) -> str:
    """The target's name for printing and protocols."""
    return self.target if self.is_labelled else self.target.name


@dataclasses.dataclass(frozen=True)
class Task:
  """A job whose base, source and test data are loaded, and the compiled program that scores it."""

  job: Job
  base: bases.Base
  source: sources.Source | None
  view: tuple[float, ...]
  test: clips.ClipSource | None  # None for unlabelled records
  score: Callable  # of `scoring.make_scorer`, or `lifting.make_lifter` for unlabelled records

  @property
  def bare(self) -> bases.Weights:
    """The base without adapter, through its own cameras."""
    return bases.Weights(self.base, body=self.body)

  @property
  def body(self) -> tuple[float, ...]:
    """Mean bone lengths (m) of the source's people; source-free, of those the base was trained on."""
    return self.source.body if self.source else self.base.body

  @property
  def measured(self) -> measured.Measured:
    """What an adapter is trained with: the source's body and the virtual camera's view."""
    return measured.make(self.body, self.view, self.base.model.inputs)

  def target_records(self):
    """Records of the target split, which is adapted on."""
    job = self.job
    return sources.load_records(job.target, job.target_split, job.folders) if job.is_labelled else job.target.records

  def rate(self, weights: bases.Weights) -> dict[str, float]:
    """Scores on the test split, or the reprojection error on unlabelled records."""
    if self.test is None:
      return lifting.mean_reprojection(self.lift(weights))
    return scoring.evaluate(self.score, weights.params, weights.measured, self.test, self.job.sampling.batch_size)

  def lift(self, weights: bases.Weights) -> list[lifting.Lifted]:
    """The unlabelled records lifted."""
    inputs = (self.score, weights.params, weights.measured)
    settings = (self.base.clip_fps, self.base.model.num_frames, self.job.sampling.batch_size)
    return [lifting.lift_record(*inputs, record, *settings) for record in self.job.target.records]

  def describe_protocol(self) -> dict[str, Any]:
    """What must be printed beside the scores."""
    job, clip_fps = self.job, self.base.clip_fps
    if job.is_labelled:
      protocol = scoring.describe_protocol(job.target, job.test_split, clip_fps, job.sampling, self.view)
    else:
      protocol = job.target.protocol | {"clip_fps": clip_fps, **scoring.describe_sampling(job.sampling)}
    split = job.target_split if job.is_labelled else "all frames"
    read = "with labels: a ceiling" if job.recipe.is_ceiling else "2D and intrinsics only"
    return protocol | {"adapted_on": f"{job.target_name}:{split} ({read})", "run_seed": job.seed}


def open_task(job: Job, base: bases.Base, source: sources.Source | None, test: clips.ClipSource | None) -> Task:
  """A task on loaded data. Raises ValueError where the recipe needs a source, a body or labels that are not there."""
  if job.recipe.needs_source and source is None:
    raise ValueError("this recipe learns from source poses: give a source, or use the recipe free")
  if job.recipe.virtual_camera and not base.view and source is None:
    raise ValueError("a virtual camera needs the cameras of a source: give a source, or use the recipe free")
  if not (source or base.body) and any(lesson.needs_body for lesson in job.recipe.lessons):
    raise ValueError("this base does not hold its source's bone lengths: give a source, or another recipe")
  if (job.ceiling or job.recipe.is_ceiling) and not job.is_labelled:
    raise ValueError(f"a ceiling is trained on labels, which {job.target_name} does not have: leave it out")
  pose_body.check_refinement(job.sampling.refine, source.body if source else base.body)
  config = dataclasses.replace(job.sampling, diffusion=base.diffusion)
  make_score = scoring.make_scorer if job.is_labelled else lifting.make_lifter
  score = make_score(bases.Weights(base).make_denoiser, config)
  view = base.view or (source.measure_view() if job.recipe.virtual_camera else ())
  return Task(dataclasses.replace(job, sampling=config), base, source, view, test, score)


def load_task(job: Job, with_test: bool = True) -> Task:
  """The job's task with everything loaded by name, with its test split or without."""
  base = job.base if isinstance(job.base, bases.Base) else bases.load(job.base)
  source = sources.load_source(job.source, job.source_split, base.clip_fps, job.folders) if job.source else None
  return open_task(job, base, source, open_test(job, base) if with_test else None)


def open_test(job: Job, base: bases.Base, fields: tuple[str, ...] = ()) -> clips.ClipSource | None:
  """The labelled test split as clips of the base, with a protocol's further fields; None for unlabelled records."""
  if not job.is_labelled:
    return None
  where = job.target, job.test_split
  return sources.open_clips(*where, tracks.LABELLED + fields, base.clip_fps, base.model.num_frames, job.folders)


def identify(task: Task) -> dict[str, Any]:
  """All that defines a run: the config of its folder."""
  job = task.job
  where = job.base if isinstance(job.base, str) else task.base.digest
  return {
      "base": task.base.digest, "base_folder": str(where), "recipe": recipes.describe(job.recipe), "source": job.source,
      "source_split": job.source_split, "target": job.target_name, "target_split": job.target_split,
      "test_split": job.test_split, "seed": job.seed, "flip": job.sampling.flip, "test_refine": job.sampling.refine,
      **({} if job.is_labelled else {"own_keypoints": job.target.identity}),
  }
