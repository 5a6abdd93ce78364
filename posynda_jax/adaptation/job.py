"""The main job as one call: adapt a base to an unlabelled target, score it before and after, write a run folder.

    result = run(Job(recipes.get("novel"), "hdm05_mocap/wild_rig_gt", source="cmu_mocap/h36m_rig", workdir="runs/wild"))
    result.scores["adapted"]["mpjpe_mm"]

    loading (`load_task`) -> training (`train_adapter`) -> guard (`keep_guarded`) -> scoring (`Task.rate`)
        -> metrics.json, figures, adapter

Target poses are read for the test split, and for the target split only by a ceiling, which stands beside the result
as a bound.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from posynda_jax.adaptation import account, adapters, bases, recipes
from posynda_jax.adaptation.task import Job, Task, identify, load_task
from posynda_jax.adaptation.training import open_streams, save_adapter, train_adapter
from posynda_jax.evaluation import results
from posynda_jax.geometry import skeleton
from posynda_jax.peft import counting
from posynda_jax.runtime import files, processes, runs
from posynda_jax.visuals import pose_sequence


@dataclasses.dataclass(frozen=True)
class Result:
  """What a job found. `scores`: rows `source_only`, `adapted` and, where there are any, `view_alone`, `unguarded` (the
  whole adapter, where the guard kept less) and `ceiling`.
  """

  scores: dict[str, dict[str, Any]]
  protocol: dict[str, Any]
  adapted: bases.Weights
  folder: pathlib.Path | None = None
  guard: account.Decision | None = None


def run(job: Job, report: Callable[[str], None] = functools.partial(print, flush=True)) -> Result:
  """Trains, or resumes, the job's adapter, scores it, and writes the run folder where `workdir` names one.

  Raises ValueError for a job that contradicts itself and for a folder of another job, FloatingPointError for a loss
  that is no number, `signals.Stopped` after SIGTERM.
  """
  task = load_task(job)
  folder = runs.Run(job.workdir, identify(task)) if job.workdir else None
  trainable = adapters.num_trainable(task.base.params, job.recipe.adapter)
  frozen = counting.count(task.base.params["params"])
  report(f"Adapter: {trainable:,} parameters train; the base's {frozen:,} are frozen")
  if task.source is None:
    report("Source-free: the adapter learns from the target alone")
  whole, seconds = train_adapter(task, job.recipe, folder, "adapted")
  adapted, decision = keep_guarded(task, whole, folder, report) if job.guard else (whole, None)
  cost = {"trainable": trainable, "seconds": seconds}
  scores = score_all(task, adapted, cost)
  if decision and decision.share < 1:
    scores["unguarded"] = task.rate(whole) | cost
  if job.ceiling:
    bound, seconds = train_adapter(task, recipes.ceiling_of(job.recipe), folder, "ceiling")
    scores["ceiling"] = task.rate(bound) | {"trainable": trainable, "seconds": seconds}
  protocol = task.describe_protocol() | ({"guard": f"{decision.share:g} of the adapter"} if decision else {})
  if folder:
    write_results(folder, task, adapted, scores, protocol)
  return Result(scores, protocol, adapted, folder and folder.folder, decision)


def keep_guarded(
    task: Task, whole: bases.Weights, folder: runs.Run | None, report: Callable[[str], None]
) -> tuple[bases.Weights, account.Decision]:
  """(the share of the adapter that the guard keeps, its decision). A run folder gets account.json; where less than all
  is kept, `adapted` holds it and `unguarded` the whole.
  """
  target = open_streams(task, task.job.recipe)["target"]
  shares = (*account.STEPS, 0.0) if len(target) >= account.LEAST_CLIPS else (1.0, 0.0)  # few clips are refused
  decision = account.decide(*account.accounts_by_share(whole, target, task.job.sampling, shares), len(target))
  report(f"Guard: {'the adapter is kept' if decision.share else 'not adapted'}, {decision.reason}")
  for share, name in ((0.0, "source only"), (1.0, "whole adapter")):
    report(f"  {name:14}" + ", ".join(f"{key} {value:.2f}" for key, value in decision.accounts[share].items()))
  if folder:
    files.write_json(folder.folder / "account.json", dataclasses.asdict(decision))
  if decision.share == 1:
    return whole, decision
  body = whole.body if decision.share else task.body
  kept = dataclasses.replace(whole, adapter=account.shrink(whole.adapter, decision.share), body=body)
  if folder:
    for weights in (dataclasses.replace(whole, name="unguarded"), kept):
      save_adapter(folder, weights, task.body)
  return kept, decision


def score_all(task: Task, adapted: bases.Weights, cost: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Scores before and after: the bare base, it through the virtual camera where there is one, and the adapter."""
  free = {"trainable": 0, "seconds": 0.0}
  scores = {"source_only": task.rate(task.bare) | free}
  if task.view and not task.base.view:
    scores["view_alone"] = task.rate(dataclasses.replace(task.bare, view=task.view)) | free
  return scores | {"adapted": task.rate(adapted) | cost}


def write_results(folder: runs.Run, task: Task, adapted: bases.Weights, scores: dict, protocol: dict) -> None:
  """metrics.json, the picture of before and after, and both as TensorBoard shows them."""
  if processes.is_main():
    save_comparison(folder.folder / "figures" / "comparison.png", task, adapted)
  files.write_json(folder.folder / "metrics.json", {**scores, "protocol": protocol})
  folder.write_results(results.result_table(scores), task.job.recipe.updates)


def save_comparison(path, task: Task, adapted: bases.Weights, rows: int = 4) -> None:
  """Before, after and, where there is one, ground truth for the middle frames of clips spread over the test data."""
  from posynda_jax.visuals import figures  # loads Matplotlib, while the first step need not wait for it

  shown = {"source only": task.bare, "adapted": adapted}
  if task.test is None:
    before, lifted = (task.lift(weights)[0] for weights in shown.values())
    picked = pose_sequence.spread_frames(np.isfinite(lifted.reprojection_px), rows)
    keypoints = task.job.target.records[0]["keypoints_px"][picked]
    columns = {"source only": before.pose[picked], "adapted": lifted.pose[picked]}
    figures.save(path, figures.methods_figure(keypoints, columns))
    return
  size, middle = task.job.sampling.batch_size, task.base.model.num_frames // 2
  picked = np.linspace(0, len(task.test) - 1, rows + 2).astype(int)[1:-1]
  batch = task.test.take(np.resize(picked, size))  # a full batch, so that the compiled program is used
  columns = {name: task.score(weights.params, weights.measured, batch)[0] for name, weights in shown.items()}
  columns["ground truth"] = skeleton.root_centre(batch["poses"])
  columns = {name: np.asarray(poses)[:rows, middle] for name, poses in columns.items()}
  figures.save(path, figures.methods_figure(batch["keypoints"][:rows, middle], columns))
