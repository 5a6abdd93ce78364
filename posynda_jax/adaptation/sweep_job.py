"""Several adaptations of one base in one compiled step, each an ordinary run folder below the sweep's."""

import dataclasses
import functools
import itertools
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.adaptation import bases, recipes, sources, sweep
from posynda_jax.adaptation.adapters import num_trainable
from posynda_jax.adaptation.job import score_all, write_results
from posynda_jax.adaptation.task import Job, Task, identify, open_task, open_test
from posynda_jax.adaptation.training import make_setting, open_streams, save_adapter
from posynda_jax.data import feed
from posynda_jax.runtime import checkpoint, files, loop, parallel, runs
from posynda_jax.runtime.text import markdown_table

SETTINGS = {"rank": int, "adapt_rate": float, "lora_scale": float}  # of the recipe, by their flags
PLACES = {"target": str, "target_split": str, "test_split": str, "seed": int}  # fields of Job
RESERVED = ("", "base", "checkpoints", "figures", "events")  # other names in the sweep's folder


def read_members(text: str) -> dict[str, dict[str, Any]]:
  """Members by name, each with its changes: of `flag=value,value;flag=value` all combinations, or of a JSON file's
  list.

  Raises ValueError for an unknown flag or value, or a name given twice.
  """
  if text.endswith(".json"):
    path = pathlib.Path(text).expanduser()
    try:
      rows = json.loads(path.read_text())
    except json.JSONDecodeError as error:
      raise ValueError(f"{path} is no JSON ({error}): write a list of members, each an object of flags") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
      raise ValueError(f'{path} is not a list of members: write [{{"name": ..., "seed": 1}}, ...]')
  else:
    axes = [axis.partition("=")[::2] for axis in text.split(";") if axis.strip()]
    if len({name.strip() for name, _ in axes}) < len(axes):
      raise ValueError(f"--sweep={text} names a flag twice: give all its values at once, as seed=0,1,2")
    values = itertools.product(*(value.split(",") for _, value in axes))
    rows = [dict(zip((name.strip() for name, _ in axes), row, strict=True)) for row in values] if axes else []
  members = {}
  for row in rows:
    name = row.pop("name", None) or "-".join(f"{key}_{value}" for key, value in row.items())
    name = re.sub(r"[^\w.+-]+", "_", str(name)).strip("._")
    if name in members:
      raise ValueError(f"two members are called {name!r}: give each its own name")
    if name in RESERVED:
      raise ValueError(f"{name!r} cannot be a member's name: give it another")
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


@dataclasses.dataclass(frozen=True)
class Member:
  """One adaptation of a sweep: its name, its changes, and the task that it would be alone."""

  name: str
  changes: dict[str, Any]
  task: Task
  run: runs.Run

  @property
  def recipe(self) -> recipes.Recipe:
    return self.task.job.recipe


def change(job: Job, changes: dict[str, Any]) -> Job:
  """The job with a member's changes."""
  names = {"rank": "rank", "lora_scale": "scale"}
  adapter = dataclasses.replace(
      job.recipe.adapter, **{names[key]: value for key, value in changes.items() if key in names}
  )
  rate = changes.get("adapt_rate", job.recipe.rate)
  places = {key: value for key, value in changes.items() if key in PLACES}
  return dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, adapter=adapter, rate=rate), **places)


def run(job: Job, members: dict[str, dict[str, Any]], at_once: int | None = None) -> dict[str, dict[str, Any]]:
  """Trains and scores all members. Returns their results by name: `changes`, `source_only`, `adapted`, `protocol`.

  A member that diverged has `diverged` in place of scores. WORKDIR/sweep.json and sweep.md compare them. Raises
  ValueError as `job.run` does, and for members that one step cannot hold.
  """
  if job.ceiling:
    raise ValueError("--ceiling is no part of a sweep: run it alone")
  changed = set().union(*members.values())
  if not job.is_labelled and changed & {"target", "target_split", "test_split"}:
    raise ValueError("members that change the target need datasets as targets: give --target=DATASET/CONFIG")
  base = bases.load(job.base) if isinstance(job.base, str) else job.base
  source = sources.load_source(job.source, job.source_split, base.clip_fps, job.folders) if job.source else None
  first = open_task(job, base, source, None)
  whole = runs.Run(job.workdir, identify(first) | {"base_folder": None, "sweep": members})
  opened = _open_members(first, members)
  print(f"{len(opened)} adaptations at once: {', '.join(members)}", flush=True)
  adapters, seconds = _train(whole, opened, at_once)
  found = {}
  rank = max(member.recipe.adapter.rank for member in opened)
  for member, adapter in zip(opened, adapters, strict=True):
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(adapter)):
      found[member.name] = {"changes": member.changes, "diverged": True}
      member.run.close()
      print(f"{member.name} diverged and has no adapter; the others are not affected. Lower its rate", flush=True)
      continue
    task = member.task
    weights = bases.Weights(base, adapter, member.recipe.adapter, task.body, task.view, "adapted")
    save_adapter(member.run, weights, task.body)
    trainable = num_trainable(base.params, member.recipe.adapter)
    scored = dataclasses.replace(weights, adapter=_as_scored(adapter, member.recipe, job.recipe, rank))
    scores = score_all(task, scored, {"trainable": trainable, "seconds": seconds / len(opened)})
    protocol = task.describe_protocol()
    write_results(member.run, task, scored, scores, protocol)
    found[member.name] = {"changes": member.changes, **scores, "protocol": protocol}
  files.write_json(whole.folder / "sweep.json", {"members": found, "seconds": seconds})
  files.write_text(whole.folder / "sweep.md", markdown(found) + "\n")
  return found


def _open_members(first: Task, members: dict[str, dict[str, Any]]) -> list[Member]:
  """Claims every member's folder and opens its test split; refuses before anything is trained."""
  tests: dict[tuple, Any] = {}
  opened = []
  for name, changes in members.items():
    job = change(first.job, changes)
    place = (job.target, job.test_split) if job.is_labelled else ()
    if place not in tests:
      tests[place] = open_test(job, first.base)
    task = dataclasses.replace(first, job=job, test=tests[place])
    opened.append(Member(name, changes, task, runs.Run(f"{first.job.workdir}/{name}", identify(task))))
  sweep.find_numbers([member.recipe for member in opened])
  return opened


def _train(whole: runs.Run, members: Sequence[Member], at_once: int | None) -> tuple[list, float]:
  """The adapters of all members, each at its own rank, trained or resumed; and the seconds of the whole training."""
  first, member_recipes = members[0].task, [member.recipe for member in members]
  streams, feeds, which = {}, {}, []
  for member in members:
    job = member.task.job
    place = (job.target_name, job.target_split)
    if place not in streams:
      streams[place] = open_streams(member.task, member.recipe)
    key = (*place, job.seed)
    if key not in feeds:
      feeds[key] = feed.batches(*streams[place], job.seed)
    which.append(list(feeds).index(key))
  batches = sweep.SweepFeed(list(feeds.values()), which)
  init_keys, seed_keys = ([jax.random.key(it.task.job.seed + offset) for it in members] for offset in range(2))
  state = sweep.init_members(init_keys, first.base.params, member_recipes, first.base.model.num_frames)
  named = sweep.Members(tuple(member.name for member in members), at_once)
  step = parallel.make_parallel_step(
      functools.partial(sweep.sweep_step, recipe=member_recipes[0], setting=make_setting(first), members=named)
  )
  data = {"/".join(place): checkpoint.describe_data(found) for place, (found, _) in streams.items()}
  saving = first.job.saving
  checkpoints = checkpoint.Checkpoints(whole.folder / "checkpoints", saving.keep, whole.config | {"data": data})
  writers = {member.name: member.run.write_scalars("adapted") for member in members}

  def write(done, row):
    shared = {key: row[key] for key in ("steps_per_second", "data_wait")}
    for name, write_one in writers.items():
      own = {key.removeprefix(f"{name}/"): value for key, value in row.items() if key.startswith(f"{name}/")}
      if np.isfinite(own["loss"]):
        write_one(done, own | shared)

  settings = loop.LoopSettings(member_recipes[0].updates, saving.save_every, saving.log_every, write, "sweep")
  frozen = (first.base.params, first.measured, sweep.find_numbers(member_recipes))
  state = loop.resume(checkpoints, state, batches, "sweep")
  state, _ = loop.train(step, state, frozen, batches, jnp.stack(seed_keys), settings, checkpoints)
  seconds = checkpoints.seconds
  checkpoints.close()
  return sweep.unstack(state.adapter, [it.adapter.rank for it in member_recipes]), seconds


def _as_scored(adapter, its: recipes.Recipe, shared: recipes.Recipe, rank: int):
  """The adapter at the rank and scale of all others, so that one compiled program scores every member."""
  factor = its.adapter.scale / shared.adapter.scale
  factors = {path: {"a": ab["a"], "b": ab["b"] * factor} for path, ab in adapter["lora"].items()}
  return {**adapter, "lora": sweep.pad_rank(factors, rank)}


def markdown(found: dict[str, dict]) -> str:
  """A row for each member: its changes, and MPJPE (P-MPJPE) in mm, or reprojection in px, before and after."""
  changed = list(dict.fromkeys(key for row in found.values() for key in row["changes"]))

  def score(row):
    if row is None:
      return "diverged"
    if "mpjpe_mm" in row:
      return f"{row['mpjpe_mm']:.1f} ({row['p_mpjpe_mm']:.1f})"
    return f"{row['reprojection_px']:.2f} px"

  rows = []
  for name, row in found.items():
    changes = [str(row["changes"].get(key, "")) for key in changed]
    rows.append([name, *changes, *(score(row.get(when)) for when in ("source_only", "adapted"))])
  return markdown_table(["member", *changed, "source-only", "adapted"], rows)
