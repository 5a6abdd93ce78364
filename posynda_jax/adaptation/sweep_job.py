"""Several adaptations of one base in one compiled step, each an ordinary run folder inside it, without guard."""

import dataclasses
import functools
import itertools
import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.adaptation import bases, sweep
from posynda_jax.adaptation.adapters import num_trainable
from posynda_jax.adaptation.job import score_all, write_results
from posynda_jax.adaptation.task import Job, Task, identify, load_task, open_test
from posynda_jax.adaptation.training import find_body, make_setting, open_streams, save_adapter
from posynda_jax.data import feed
from posynda_jax.evaluation import results
from posynda_jax.runtime import checkpoint, files, loop, parallel, runs
from posynda_jax.runtime.text import markdown_table

SETTINGS = {"rank": int, "adapt_rate": float, "lora_scale": float}  # of the recipe, by their flags
PLACES = {"target": str, "target_split": str, "test_split": str, "seed": int}  # fields of Job
RESERVED = ("", "base", "checkpoints", "figures", "events")  # other names in the sweep's folder


def read_members(text: str) -> dict[str, dict[str, Any]]:
  """Members by name, each with its changes: all combinations of `flag=value,value;flag=value`, or a JSON file's list.

  Raises ValueError for an unknown flag or value, or a name given twice.
  """
  if text.endswith(".json"):
    try:
      rows = [dict(row) for row in json.loads(pathlib.Path(text).expanduser().read_text())]
    except (ValueError, TypeError) as error:
      raise ValueError(f'{text} is not a list of members ({error}): write [{{"name": ..., "seed": 1}}, ...]') from error
  else:
    axes = [[part.strip() for part in axis.partition("=")[::2]] for axis in text.split(";") if axis.strip()]
    names = [name for name, _ in axes]
    if len(set(names)) < len(names):
      raise ValueError(f"--sweep={text} names a flag twice: give all its values at once, as seed=0,1,2")
    rows = [dict(zip(names, row)) for row in itertools.product(*(values.split(",") for _, values in axes)) if row]
  members = {}
  for row in rows:
    name = row.pop("name", None) or "-".join(f"{key}_{value}" for key, value in row.items())
    name = re.sub(r"[^\w.+-]+", "_", str(name)).strip("._")
    if name in members or name in RESERVED:
      raise ValueError(f"{name!r} is the name of another member or of the sweep itself: give the member its own")
    members[name] = {key: _parse(name, key, value) for key, value in row.items()}
  if not members:
    raise ValueError(f"--sweep={text} has no members: write it as seed=0,1,2;rank=2,4")
  return members


def _parse(name: str, key: str, value: Any) -> Any:
  kinds = SETTINGS | PLACES
  if key not in kinds:
    raise ValueError(f"member {name} changes {key!r}, which members of one step share: sweep {', '.join(kinds)}")
  try:
    return kinds[key](str(value).strip())
  except ValueError as error:
    raise ValueError(f"member {name} has {key}={value}: {error}") from error


def change(job: Job, changes: dict[str, Any]) -> Job:
  """The job with a member's changes."""
  recipe, adapter = job.recipe, job.recipe.adapter
  adapter = dataclasses.replace(
      adapter, rank=changes.get("rank", adapter.rank), scale=changes.get("lora_scale", adapter.scale))
  recipe = dataclasses.replace(recipe, adapter=adapter, rate=changes.get("adapt_rate", recipe.rate))
  return dataclasses.replace(job, recipe=recipe, **{key: changes[key] for key in PLACES if key in changes})


def run(job: Job, members: dict[str, dict[str, Any]], at_once: int | None = None) -> dict[str, dict[str, Any]]:
  """Trains and scores all members. Returns their results by name: `changes`, `source_only`, `adapted`, `protocol`.

  A member that diverged has `diverged` in place of scores. WORKDIR/sweep.json and sweep.md compare them. Raises
  ValueError as `job.run` does, and for members that one step cannot hold.
  """
  if job.ceiling:
    raise ValueError("--ceiling is no part of a sweep: run it alone")
  if not job.is_labelled and set().union(*members.values()) & {"target", "target_split", "test_split"}:
    raise ValueError("members that change the target need datasets as targets: give --target=DATASET/CONFIG")
  jobs = {name: change(job, changes) for name, changes in members.items()}
  sweep.find_numbers([its.recipe for its in jobs.values()])  # refuses before data are loaded
  first = load_task(job, with_test=False)
  whole = runs.Run(job.workdir, identify(first) | {"base_folder": None, "sweep": members})
  tasks, streams = _open(first, jobs)
  folders = {name: runs.Run(f"{job.workdir}/{name}", identify(task)) for name, task in tasks.items()}
  print(f"{len(members)} adaptations at once: {', '.join(members)}", flush=True)
  adapters, seconds = _train(whole, tasks, streams, folders, at_once)
  found = {}
  for (name, task), adapter in zip(tasks.items(), adapters, strict=True):
    folder, config = folders[name], task.job.recipe.adapter
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(adapter)):
      found[name] = {"changes": members[name], "diverged": True}
      folder.close()
      print(f"{name} diverged and has no adapter; the others are not affected. Lower its rate", flush=True)
      continue
    weights = bases.Weights(task.base, adapter, config, task.body, task.view, "adapted")
    body = find_body(task, weights, task.job.recipe, streams[name]["target"])
    weights = dataclasses.replace(weights, body=body)
    save_adapter(folder, weights, task.body)
    cost = {"trainable": num_trainable(task.base.params, config), "seconds": seconds / len(members)}
    scores, protocol = score_all(task, weights, cost), task.describe_protocol()
    write_results(folder, task, weights, scores, protocol)
    found[name] = {"changes": members[name], **scores, "protocol": protocol}
  files.write_json(whole.folder / "sweep.json", {"members": found, "seconds": seconds})
  files.write_text(whole.folder / "sweep.md", markdown(found) + "\n")
  return found


def _open(first: Task, jobs: dict[str, Job]) -> tuple[dict[str, Task], dict[str, dict]]:
  """Tasks and streams (`training.open_streams`) of the members. Equal splits are opened once."""
  tests, opened, tasks, streams = {}, {}, {}, {}
  for name, job in jobs.items():
    test, target = (job.target_name, job.test_split), (job.target_name, job.target_split)
    if test not in tests:
      tests[test] = open_test(job, first.base)
    tasks[name] = dataclasses.replace(first, job=job, test=tests[test])
    if target not in opened:
      opened[target] = open_streams(tasks[name], job.recipe)
    streams[name] = opened[target]
  return tasks, streams


def _train(
    whole: runs.Run, tasks: dict[str, Task], streams: dict[str, dict], folders: dict[str, runs.Run],
    at_once: int | None,
) -> tuple[list, float]:
  """The adapters of all members, each at its own rank, trained or resumed; and the seconds of the whole training."""
  jobs = [task.job for task in tasks.values()]
  first, all_recipes = next(iter(tasks.values())), [job.recipe for job in jobs]
  sizes = dict.fromkeys(("source", "target"), all_recipes[0].clips)
  batches = sweep.SweepFeed([feed.Feed(streams[name], sizes, task.job.seed) for name, task in tasks.items()])
  init_keys, seed_keys = ([jax.random.key(job.seed + offset) for job in jobs] for offset in range(2))
  state = sweep.init_members(init_keys, first.base.params, all_recipes, first.base.model.num_frames)
  step = parallel.make_parallel_step(functools.partial(
      sweep.sweep_step, recipe=all_recipes[0], setting=make_setting(first), at_once=at_once))
  data = {name: checkpoint.describe_data(found) for name, found in streams.items()}
  saving = first.job.saving
  checkpoints = checkpoint.Checkpoints(whole.folder / "checkpoints", saving.keep, whole.config | {"data": data})
  writers = [folder.write_scalars("adapted") for folder in folders.values()]

  def write(done, row):
    shared = {key: row[key] for key in ("steps_per_second", "data_wait")}
    for number, write_one in enumerate(writers):
      own = {key.removeprefix(f"{number}/"): value for key, value in row.items() if key.startswith(f"{number}/")}
      if np.isfinite(own["loss"]):
        write_one(done, own | shared)

  settings = loop.LoopSettings(all_recipes[0].updates, saving.save_every, saving.log_every, write, "sweep")
  frozen = (first.base.params, first.measured, sweep.find_numbers(all_recipes))
  state = loop.resume(checkpoints, state, batches, "sweep")
  state, _ = loop.train(step, state, frozen, batches, jnp.stack(seed_keys), settings, checkpoints)
  checkpoints.close()
  return sweep.unstack(state.adapter, [recipe.adapter.rank for recipe in all_recipes]), checkpoints.seconds


def markdown(found: dict[str, dict]) -> str:
  """A row for each member: its changes, and MPJPE (P-MPJPE) in mm, or reprojection in px, before and after."""
  changed = list(dict.fromkeys(key for row in found.values() for key in row["changes"]))

  def score(row):
    if row is None:
      return "diverged"
    if "mpjpe_mm" in row:
      return results.both(row)
    return f"{row['reprojection_px']:.2f} px"

  rows = []
  for name, row in found.items():
    changes = (str(row["changes"].get(key, "")) for key in changed)
    rows.append([name, *changes, score(row.get("source_only")), score(row.get("adapted"))])
  return markdown_table(["member", *changed, "source-only", "adapted"], rows)
