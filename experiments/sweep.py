"""`adapt --sweep`: several adaptations of one base at once, in one compiled step, each in its own run folder.

    python -m experiments.adapt --sweep="seed=0,1,2;rank=2,4" --workdir=runs/sweep ...          # all combinations
    python -m experiments.adapt --sweep=members.json --workdir=runs/sweep ...
        # [{"name": "phone", "target": "hdm05_mocap/wild_rig_gt"}, {"name": "lab", "target": "hdm05_mocap/dhp_rig_gt", "seed": 1}]

A member is what `adapt` with its flags alone would be, with the same batches and noise. WORKDIR/NAME is an ordinary run of it;
`sweep.json` and `sweep.md` in WORKDIR compare them. `docs/sweep.md` tells what it costs and what cannot be swept.
"""

import dataclasses
import itertools
import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common, own_keypoints
from posynda_jax.adaptation import adapt, bases, sweep
from posynda_jax.data import pipeline
from posynda_jax.runtime import checkpoint, loop, parallel, runs

SWEEP = flags.DEFINE_string("sweep", None, "Several adaptations at once: `flag=value,value;flag=value,...` for all combinations, "
                            "or a JSON file with a list of members, each an object of flags.")
AT_ONCE = flags.DEFINE_integer("sweep_at_once", None, "Members that a device computes together, the others after them; "
                               "by default all on an accelerator, 1 on a CPU.", lower_bound=1)
# Flags that members may differ in -> the field of AdaptConfig, or of the script's Task.
FIELDS = {
    "rank": "rank", "adapt_rate": "learning_rate", "lora_scale": "scale", "pseudo_weight": "pseudo_weight",
    "teacher_ema": "teacher_ema", "tilt_deg": "tilt_deg",
}
TASK = ("target", "target_split", "test_split", "seed")
RESERVED = ("", "base", "checkpoints", "figures", "events")  # what WORKDIR holds besides


@dataclasses.dataclass(frozen=True)
class Member:
  """One adaptation of the sweep: the flags in which it is not the others, and what they make."""

  name: str
  changes: dict[str, Any]
  config: adapt.AdaptConfig
  task: Any  # the script's Task
  run: runs.Run


def read(text: str) -> dict[str, dict[str, Any]]:
  """Members of --sweep, name -> flags with their values. Raises ValueError for an unknown flag or value or a name given twice."""
  if text.endswith(".json"):
    path = pathlib.Path(text).expanduser()
    try:
      rows = json.loads(path.read_text())
    except json.JSONDecodeError as error:
      raise ValueError(f"{path} is no JSON ({error}): write a list of members, each an object of flags") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
      raise ValueError(f"{path} is not a list of members: write [{{\"name\": ..., \"seed\": 1}}, ...]")
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
  """The value as the flag `key` reads it."""
  if key not in (*FIELDS, *TASK):
    raise ValueError(f"member {name} changes {key!r}, which members of one step share: sweep {', '.join((*FIELDS, *TASK))}")
  try:
    return flags.FLAGS[key].parser.parse(str(value).strip())
  except (ValueError, TypeError) as error:
    raise ValueError(f"member {name} has {key}={value}: {error}") from error


def run(script, base: bases.Base, source: common.Source | None, config: adapt.AdaptConfig, identity: dict[str, Any]) -> None:
  """Trains and scores all members. `script` is `experiments.adapt`; `identity` its run's config without changes."""
  if script.CEILING.value:
    raise ValueError("--ceiling is no part of a sweep: run it alone")
  rows = read(SWEEP.value)
  targets = {row.get("target", script.TARGET.value) for row in rows.values()}
  if len({own_keypoints.is_own(target) for target in targets}) > 1:
    raise ValueError("members with own keypoints and with a dataset as target are scored differently: make a sweep of each")
  shared = {key: value for key, value in identity.items() if key != "base_folder"}  # without it WORKDIR is no one adaptation
  whole = runs.Run(common.WORKDIR.value, {**shared, "sweep": rows})
  members = _open_members(script, base, source, config, identity, rows)
  print(f"{len(members)} adaptations at once: {', '.join(rows)}", flush=True)
  adapters, seconds = _train(script, whole, members)
  results, untouched = {}, {}
  for member, adapter in zip(members, adapters, strict=True):
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(adapter)):
      results[member.name] = {"changes": member.changes, "diverged": True}
      member.run.close()
      print(f"{member.name} diverged and gets no adapter; the others are as without it. Lower its learning rate", flush=True)
      continue
    script.save_adapter(member.run, "adapted", adapter)
    task, shown = member.task, _as_scored(adapter, member.config, config, adapters)
    fresh = jax.tree.map(jnp.zeros_like, shown)
    place = (task.target, task.test_split)
    untouched[place] = untouched.get(place) or task.rate(fresh, own=True)
    trainable = script.count_trainable(task, member.config)
    scores = {
        "source_only": untouched[place] | {"trainable": 0, "seconds": 0.0},
        "adapted": task.rate(shown) | {"trainable": trainable, "seconds": seconds / len(members)},
    }
    if parallel.is_main():
      script.save_picture(member.run.folder / "figures" / "comparison.png", task, shown)
    protocol = script.write_results(member.run, task, member.config, scores)
    results[member.name] = {"changes": member.changes, **scores, "protocol": protocol}
  runs.write_json(whole.folder / "sweep.json", {"members": results, "seconds": seconds})
  table = markdown(results)
  runs.write_text(whole.folder / "sweep.md", table)
  print(f"\n{table}\nEvery member is a run of its own in {whole.folder}/NAME; sweep.md and sweep.json compare them", flush=True)


def _open_members(script, base, source, config, identity, rows) -> list[Member]:
  """Claims every member's folder and opens its test split; refuses before anything is trained."""
  own = own_keypoints.is_own(next(iter(rows.values())).get("target", script.TARGET.value))
  tests: dict[tuple, Any] = {}
  members, shared = [], None
  for name, changes in rows.items():
    its_config = dataclasses.replace(config, **{FIELDS[key]: value for key, value in changes.items() if key in FIELDS})
    on_task = {key: value for key, value in changes.items() if key in TASK}
    its_identity = {**identity, **on_task, "adapt": adapt.describe(its_config)}
    if own:
      its_identity["own_keypoints"] = own_keypoints.identity(its_identity["target"])
    place = its_identity["target"], its_identity["test_split"]
    if place not in tests:
      tests[place] = None if own else script.open_test(base, *place)
    shared = shared or script.make_task(base, source, config, tests[place])
    task = dataclasses.replace(shared, **on_task, test=tests[place])
    members.append(Member(name, changes, its_config, task, runs.Run(f"{common.WORKDIR.value}/{name}", its_identity)))
  sweep.settings([member.config for member in members])
  return members


def _train(script, whole: runs.Run, members: list[Member]) -> tuple[list, float]:
  """The adapters of all members, each at its own rank, trained or resumed; and the seconds of the whole training."""
  first, configs = members[0], [member.config for member in members]
  streams, feeds, which = {}, {}, []
  for member in members:
    place = member.task.target, member.task.target_split
    if place not in streams:
      streams[place] = script.open_streams(member.task, member.config)
    key = (*place, member.task.seed)
    if key not in feeds:
      feeds[key] = pipeline.batches(*streams[place], member.task.seed)
    which.append(list(feeds).index(key))
  feed = sweep.SweepFeed(list(feeds.values()), which)
  seeds = lambda offset: [jax.random.key(member.task.seed + offset) for member in members]
  state = sweep.init_state(seeds(0), first.task.base.params, configs)
  step = common.make_step(
      sweep.sweep_step, model=common.with_remat(first.task.base.model), config=configs[0],
      rig=first.task.source and first.task.source.rig, names=tuple(member.name for member in members), at_once=AT_ONCE.value,
  )
  data = {"/".join(place): checkpoint.describe_data(sources) for place, (sources, _) in streams.items()}
  checkpoints = checkpoint.Checkpoints(whole.folder / "checkpoints", common.KEEP.value, whole.config | {"data": data})
  writers = {member.name: member.run.write_scalars("adapted") for member in members}

  def write(done, row):
    shared = {key: row[key] for key in ("steps_per_second", "data_wait")}
    for name, write_one in writers.items():
      own = {key.removeprefix(f"{name}/"): value for key, value in row.items() if key.startswith(f"{name}/")}
      if np.isfinite(own["loss"]):
        write_one(done, own | shared)

  state, _ = loop.train(
      step, loop.resume(checkpoints, state, feed, "sweep"), (first.task.base.params, sweep.settings(configs)), feed,
      jnp.stack(seeds(1)), num_steps=configs[0].num_steps, checkpoints=checkpoints, save_every=common.SAVE_EVERY.value,
      log_every=common.LOG_EVERY.value, write=write, name="sweep",
  )
  seconds = checkpoints.seconds
  checkpoints.close()
  return sweep.unstack(state.adapter, [config.rank for config in configs]), seconds


def _as_scored(adapter, its: adapt.AdaptConfig, shared: adapt.AdaptConfig, adapters: list):
  """The adapter with the rank and scale of all others, so that one compiled program scores every member."""
  rank = max(next(iter(one["lora"].values()))["b"].shape[0] for one in adapters)
  factors = {path: {"a": ab["a"], "b": ab["b"] * (its.scale / shared.scale)} for path, ab in adapter["lora"].items()}
  return {**adapter, "lora": sweep.pad_rank(factors, rank)}


def markdown(results: dict[str, dict]) -> str:
  """A row for each member: what it changes, and its score before and after: MPJPE (P-MPJPE) in mm, or reprojection in px."""
  changed = list(dict.fromkeys(key for row in results.values() for key in row["changes"]))
  lines = [f"| {' | '.join(['member', *changed, 'source-only', 'adapted'])} |", "|---" * (len(changed) + 3) + "|"]

  def score(row, name):
    if name not in row:
      return "diverged"
    row = row[name]
    return f"{row['mpjpe_mm']:.1f} ({row['p_mpjpe_mm']:.1f})" if "mpjpe_mm" in row else f"{row['reprojection_px']:.2f} px"

  for name, row in results.items():
    values = (str(row["changes"].get(key, flags.FLAGS[key].value)) for key in changed)
    lines.append(f"| {' | '.join([name, *values, score(row, 'source_only'), score(row, 'adapted')])} |")
  return "\n".join(lines) + "\n"
