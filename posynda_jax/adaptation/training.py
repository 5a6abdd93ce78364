"""One adapter trained, or resumed, in a run's folder: streams, the compiled step, the loop, and what is saved."""

import dataclasses
import functools
import json
import time

import jax
import numpy as np

from posynda_jax.adaptation import bases, placement, recipes
from posynda_jax.adaptation.step import Setting, adapt_step, init_state
from posynda_jax.adaptation.task import Task
from posynda_jax.data import clips, feed, tracks
from posynda_jax.evaluation import people, scoring
from posynda_jax.geometry import body
from posynda_jax.runtime import checkpoint, files, loop, parallel, processes, runs

CURVES = ("loss", "teacher_spread_mm", "grad_norm", "adapter_norm")
BODY_BATCHES = 8  # batches of target clips that a body is measured on


def open_streams(task: Task, recipe: recipes.Recipe) -> dict[str, clips.ClipSource]:
  """Clip sources by name. Target poses are read for a ceiling alone."""
  base = task.base
  fields = tracks.LABELLED if recipe.is_ceiling else tracks.UNLABELLED
  found = tracks.make_tracks(task.target_records(), fields, base.clip_fps)
  source = {"source": task.source.tracks} if recipe.needs_source else {}
  streams = {name: clips.ClipSource(its, base.model.num_frames) for name, its in (source | {"target": found}).items()}
  if any(lesson.needs_people for lesson in recipe.lessons):
    observe, size = people.make_observer(task.bare.make_denoiser, task.job.sampling), task.job.sampling.batch_size
    streams["target"] = people.measure(observe, task.bare.params, task.measured, streams["target"], size)
  return streams


def train_adapter(
    task: Task, recipe: recipes.Recipe, run: runs.Run | None, name: str
) -> tuple[bases.Weights, float]:
  """(weights, seconds of training) of the recipe's adapter, which is saved as `name` in the run's folder, if any."""
  job, base = task.job, task.base
  streams = open_streams(task, recipe)
  batches = feed.Feed(streams, dict.fromkeys(streams, recipe.clips), job.seed)
  state = init_state(jax.random.key(job.seed), base.params, recipe, base.model.num_frames)
  step = parallel.make_parallel_step(functools.partial(adapt_step, recipe=recipe, setting=make_setting(task)))
  checkpoints = None
  if run:
    identity = run.config | {"recipe": recipes.describe(recipe), "data": checkpoint.describe_data(streams)}
    checkpoints = checkpoint.Checkpoints(run.folder / "checkpoints" / name, job.saving.keep, identity)
    state = loop.resume(checkpoints, state, batches, name)
  settings = loop.LoopSettings(recipe.updates, job.saving.save_every, job.saving.log_every, name=name)
  if run:
    settings = dataclasses.replace(settings, write=run.write_scalars(name))
  frozen = (base.params, task.measured)
  started = time.perf_counter()
  state, _ = loop.train(step, state, frozen, batches, jax.random.key(job.seed + 1), settings, checkpoints)
  weights = bases.Weights(base, state.adapter, recipe.adapter, task.body, task.view, name)
  weights = dataclasses.replace(weights, body=find_body(task, weights, recipe, streams["target"]))
  if not run:
    return weights, time.perf_counter() - started
  seconds = checkpoints.seconds
  checkpoints.close()
  save_adapter(run, weights, task.body)
  return weights, seconds


def make_setting(task: Task) -> Setting:
  """What is compiled into the task's step."""
  model = task.base.model
  if hasattr(model, "remat"):
    model = model.clone(remat=task.job.remat)
  rig = task.source and task.source.rig
  return Setting(model, task.base.diffusion, rig, task.job.sampling.hypothesis_chunk, task.job.clips_at_once)


def save_adapter(run: runs.Run, weights: bases.Weights, source_body: tuple[float, ...]) -> None:
  """Saves the adapter, what was measured for it and the bare base (measured.json), and the curves of its training."""
  checkpoint.save_tree(run.folder / weights.name, weights.adapter)
  run.close()
  path = run.folder / "measured.json"
  with processes.main_first():  # the others read it
    found = json.loads(path.read_text()) if path.exists() else {}
    found["source_only"] = {"body": source_body, "view": []}
    files.write_json(path, found | {weights.name: {"body": weights.body, "view": weights.view}})
  save_curves(run, weights.name, CURVES)


def save_curves(run: runs.Run, training: str, names: tuple[str, ...]) -> None:
  """The curves of what one training logged, as FIGURES/TRAINING.png."""
  from posynda_jax.visuals import figures  # loads Matplotlib, while the first step need not wait for it

  logged = {tag: values for tag, values in runs.read_scalars(run.folder).items() if tag.startswith(f"{training}/")}
  if processes.is_main() and logged:
    figures.save(run.folder / "figures" / f"{training}.png", figures.curves_figure(logged, names))


def find_body(
    task: Task, weights: bases.Weights, recipe: recipes.Recipe, target: clips.ClipSource
) -> tuple[float, ...]:
  """Mean bone lengths [16] (m) of the people that the adapter was trained on, to which poses are fitted at test time.

  Ceiling: the target's true lengths. If a lesson resizes: the source's lengths, with proportions measured from target
  2D with the adapter's poses. Otherwise: the source's lengths.
  """
  if recipe.is_ceiling:
    return tracks.mean_bones(target.tracks)
  if not task.body or not any(lesson.resizes for lesson in recipe.lessons):
    return task.body
  config = scoring.SamplingConfig(diffusion=task.base.diffusion)
  observe = people.make_observer(weights.make_denoiser, config)
  spread = np.linspace(0, len(target) - 1, BODY_BATCHES * config.batch_size).astype(int).reshape(BODY_BATCHES, -1)
  observed = [observe(weights.params, weights.measured, target.take(indices)) for indices in spread]
  lengths, weight = (np.concatenate(parts).reshape(-1, len(task.body)) for parts in zip(*observed, strict=True))
  own = np.asarray(task.body)
  factor = placement.proportions(own.astype(np.float32), body.weighted_median(lengths, weight))
  return tuple((own * np.asarray(factor, np.float64)[1:]).round(4).tolist())
