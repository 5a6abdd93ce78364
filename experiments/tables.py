"""The paper's tables on any source and target, with several seeds, and the same for what goes beyond the paper.

    python -m experiments.tables --table=3,6,7 --seeds=3 --base=runs/base_cmu --manual_dir=DIR --workdir=runs/tables_hdm05_wild \\
        --flagfile=experiments/presets/cmu_to_hdm05_wild.flags

A table is data: each row changes the configuration of the flags. One row and one seed is one adaptation, an ordinary run in
WORKDIR/rows/DIGEST (for `evaluate --run`, `lift --run`, `report`), named by the digest of all that defines it: tables share rows, and a
second start goes on where the first ended (with --notrain it makes the tables of what is there); the same command started twice at once shares the rows out (on a CPU one core each does
nearly twice the work of one process on two: `taskset -c 0`, `taskset -c 1`). WORKDIR/table_NAME.{md,csv,json,png} hold mean and standard deviation over the
adaptations' seeds (the base is one), on the test split, with the protocol of the paper's table where the target has one.

Rows that need another base train it in WORKDIR/bases by the flags of `pretrain` (table 8; what --base is already is not trained
again; WORKDIR/bases.json has their own scores), or take --videopose_base (1, 2, 4).
"""

import dataclasses
import functools
import json
import pathlib
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from absl.testing import flagsaver

from experiments import adapt as script
from experiments import common
from experiments import pretrain as pretrain_script
from posynda_jax.adaptation import adapt, bases, tables
from posynda_jax.data import pipeline
from posynda_jax.evaluation import evaluate, protocols
from posynda_jax.peft import lora, tuning
from posynda_jax.runtime import locks, parallel, runs

CHOSEN = flags.DEFINE_list("table", ["3"], f"Tables to make, of {', '.join(tables.TABLES)}; all: the paper's eight.")
SEEDS = flags.DEFINE_integer("seeds", 1, "Adaptations of each row, with seeds from --seed on.", lower_bound=1)
ONLY = flags.DEFINE_string("only", "", "Regular expression: only the rows whose names it finds. Tables hold what has been run.")
TRAIN = flags.DEFINE_bool("train", True, "Train what has not been run; --notrain makes tables of what has been.")
VIDEOPOSE = flags.DEFINE_string("videopose_base", None, "Base of the VideoPose rows; they are left out without it.")


class Bench:
  """Rows of one source and target: trains what is not there yet, and scores it."""

  def __init__(self, folder):
    self.folder = pathlib.Path(folder).expanduser()
    self.protocol = protocols.of_target(script.TARGET.value)
    self._base = functools.cache(self._load_base)
    self._source = functools.cache(lambda name, clip_fps: common.load_source(name, pretrain_script.SPLIT.value, clip_fps))
    self._test = functools.cache(self._open_test)
    self._scorers: dict[tuple, Any] = {}

  def run(self, row: tables.Row, seed: int) -> dict[str, Any] | None:
    """Scores of a row's adaptation with `seed`: {"scores", "frames", "trainable", "flops", "seconds", "protocol", "run"}.

    With --notrain None where it has not been run. Raises locks.InUse where another process trains it."""
    if (loaded := self._base(tuple(sorted(row.base.items())))) is None:
      return None
    base, base_folder = loaded
    source_name = filmed_by_targets_rig() if row.target_rig else script.source_name()
    config = script.adapt_config(base, self._source(source_name, base.clip_fps), row.view)
    factors = dict(learning_rate=config.learning_rate * row.rate, num_steps=config.num_steps * row.updates)
    config = dataclasses.replace(config, **factors, **(row.adapt or {}))
    seed = seed if row.adapt is not None else 0
    with flagsaver.flagsaver(seed=seed, source=source_name, clips=script.CLIPS.value * row.clips):
      identity = script.identify(base, base_folder, config) | ({} if row.adapt is not None else {"adapt": config.view or None, "clips": None})
      folder = self.folder / "rows" / tables.digest({key: value for key, value in identity.items() if key != "base_folder"})
      fits = row.adapt is not None and row.test.get("refine", script.TEST_REFINE.value) == "body"
      path, name_of = folder / "scores.json", lambda test: json.dumps([self.protocol.name, test] + fits * ["the adapter's body"], sort_keys=True)
      read, key = lambda: json.loads(path.read_text()) if path.exists() else {}, name_of(row.test)
      if key not in (found := read()):
        if not TRAIN.value:
          return None
        run = runs.Run(folder, identity)
        if key not in (found := read()):  # nor has another process written it since
          by_rule = self._train_and_score(row, base, source_name, config, run, fits, next(iter(found.values()), None))
          found |= {name_of(row.test | ({"select": rule} if len(by_rule) > 1 else {})): result for rule, result in by_rule.items()}
          runs.write_json(path, found)
        run.close()
        locks.give_back(folder)
    scores = {score.name: found[key]["scores"][score.name] for score in self.protocol.scores}  # the headline first, as JSON does not
    return {**found[key], "scores": scores, "run": str(folder.relative_to(self.folder)), "base": base.digest}

  def _train_and_score(
      self, row: tables.Row, base: bases.Base, source_name: str, config: adapt.AdaptConfig, run: runs.Run, fits: bool, scored: dict | None
  ) -> dict[str, dict[str, Any]]:
    """A row's results by rule (`_score`), its adapter trained or resumed in the run, or read where it has been `scored` by another test;
    with `fits`, of poses fitted to the adapter's body."""
    source = self._source(source_name, base.clip_fps) if config.source else None
    task = script.make_task(base, source, config, self._test(base.clip_fps, base.model.num_frames))
    adapter, about = None, {"seconds": 0.0, "device": jax.devices()[0].device_kind, "trainable": 0}
    if row.adapt is not None and scored and (run.folder / "adapted").exists():
      adapter, _ = common.load_adapter(run.folder, "adapted", base, run.config)
      about = {"device": "cpu", **{key: scored[key] for key in about if key in scored}}  # before results told, all were of CPUs
    elif row.adapt is not None:
      adapter, about["seconds"] = script.train_adapter(task, config, run, "adapted")
      about["trainable"] = script.count_trainable(task, config)
    test = dataclasses.replace(task.score_config, **row.test)
    if fits:
      test = dataclasses.replace(test, body=tuple(runs.adapter_settings(run.folder, "adapted")["body"]))
    about["flops"] = count_flops(base, config, row)
    return {rule: result | about for rule, result in self._score(task, config, adapter, test).items()}

  def _load_base(self, changes: tuple) -> tuple[bases.Base, str] | None:
    changes = dict(changes)
    if changes.pop("denoiser", None):
      return bases.load(VIDEOPOSE.value), VIDEOPOSE.value
    if not changes:
      return script.load_base()
    changes["width"] = round(common.WIDTH.value * changes.get("width", 1.0))
    folder = self.folder / "bases" / "-".join(f"{name}_{value}" for name, value in sorted(changes.items()))
    given = self._base(())
    with flagsaver.flagsaver(**changes):
      if pretrain_script.is_described(given[0]):
        return given
      if not TRAIN.value and not (folder / "metrics.json").exists():
        return None
      return pretrain_script.from_flags(folder), str(folder)

  def trained_bases(self) -> dict[str, dict[str, Any]]:
    """Scores at home, protocol and seconds of training of the bases that rows needed, by folder."""
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(self.folder.glob("bases/*/metrics.json"))}
    return {name: {key: base[key] for key in ("base", "protocol", "seconds", "digest")} for name, base in found.items()}

  def _open_test(self, clip_fps: float, num_frames: int) -> pipeline.ClipSource:
    records = common.load_records(script.TARGET.value, script.TEST_SPLIT.value)
    return pipeline.ClipSource(pipeline.make_tracks(records, pipeline.LABELLED + self.protocol.fields, clip_fps), num_frames)

  def _score(self, task: script.Task, config: adapt.AdaptConfig, adapter, test: evaluate.EvaluateConfig) -> dict[str, dict[str, Any]]:
    """The protocol's result for the base with the adapter; of several hypotheses, drawn once, by every rule that makes one pose of them.
    One compiled program for all rows with the same base and test."""
    base, key = task.base, (task.base.digest, test)
    if key not in self._scorers:
      make_denoiser = lambda weights: adapt.make_denoiser(base.model, weights[0], {"bias": weights[1]}, 1.0)
      rules = evaluate.RULES if test.num_hypotheses > 1 else (test.select,)
      measure = functools.partial(protocols.frame_scores, self.protocol)
      self._scorers[key] = evaluate.make_rule_scorer(make_denoiser, test, rules, measure)
    merged = (base.params, jnp.zeros((17, 3))) if adapter is None else (adapt.merge(base.params, adapter, config.scale), adapter["bias"])
    rows = evaluate.evaluate_rules(self._scorers[key], merged, task.test, test.batch_size, self.protocol)
    protocol = lambda rule: evaluate.protocol(
        task.target, task.test_split, task.clip_fps, dataclasses.replace(test, select=rule), self.protocol
    )
    return {
        rule: {"scores": row["result"], "groups": row["groups"], "frames": row["counts"]["frames"], "protocol": protocol(rule)}
        for rule, row in rows.items()
    }


def count_flops(base: bases.Base, config: adapt.AdaptConfig, row: tables.Row) -> int:
  """FLOPs of the linear layers for one clip and all hypotheses: the teacher's where pseudo-labels are used, as in Table 3."""
  frames = base.model.num_frames
  shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)
  inputs = (shape(1, frames, 17, 2), shape(1, frames, 17, 3), jax.ShapeDtypeStruct((1,), jnp.int32))
  adapter = {}
  if row.adapt is not None and config.tune in adapt.LOW_RANK:
    adapter = jax.eval_shape(lambda: lora.init(jax.random.key(0), base.params, config.rank, config.target_rule))
  calls = row.test.get("num_hypotheses", 1) * row.test.get("sampling_steps", 1)
  if row.adapt is not None and config.pseudo and config.supervision == "adapt":
    calls = config.num_hypotheses * config.sampling_steps
  return calls * tuning.linear_flops(base.model, base.params, adapter, *inputs)


def is_papers_pair() -> bool:
  """Whether the flags are Human3.6M to 3DHP, which the paper's ablations are about."""
  return script.source_name().startswith("human36m") and script.TARGET.value.startswith("mpi_inf_3dhp")


def filmed_by_targets_rig() -> str | None:
  """The flags' source as the target's rig sees it; None where that rig cannot."""
  return tables.filmed_by(script.source_name(), script.TARGET.value)


def choose_rows(names: list[str], only: str) -> dict[str, list[tables.Row]]:
  """Rows of the tables whose names the regular expression finds. Raises ValueError where it is none, or a table has no such row."""
  try:
    chosen = {name: [row for row in tables.TABLES[name].rows if re.search(only, row.name)] for name in names}
  except re.error as error:
    raise ValueError(f"--only={only} is no regular expression: {error}") from error
  for name, rows in chosen.items():
    if not rows:
      raise ValueError(f"--only={only} finds no row of table {name}, which has {', '.join(row.name for row in tables.TABLES[name].rows)}")
  return chosen


def run_all(bench: Bench, table: str, due: list[tuple[tables.Row, int]]) -> dict[tuple[str, int], dict]:
  """Results by row name and seed, with --notrain of what has been run. Rows that another process of the same command trains are put off until it has them."""
  found, waiting, put_off = {}, list(due), 0
  while waiting:
    row, seed = waiting.pop(0)
    try:
      result = bench.run(row, seed)
    except locks.InUse:
      if jax.process_count() > 1:  # the processes of one job go through the rows together
        raise
      waiting.append((row, seed))
      put_off += 1
      if put_off >= len(waiting):  # all that is left
        time.sleep(2)
        put_off = 0
      continue
    put_off = 0
    if result is None:
      continue
    found[row.name, seed] = result
    scores = "  ".join(f"{key} {value:.1f}" for key, value in result["scores"].items())
    print(f"table {table}, {row.name}, seed {seed}: {scores}", flush=True)
  return found


def main() -> None:
  names = [name for chosen in CHOSEN.value for name in (tables.PAPERS if chosen == "all" else [chosen])]
  if unknown := [name for name in names if name not in tables.TABLES]:
    raise ValueError(f"tables {', '.join(unknown)} are unknown; choose of {', '.join(tables.TABLES)}, or all")
  chosen = choose_rows(names, ONLY.value)
  if common.WORKDIR.value is None:
    raise ValueError("--workdir is not given: name a folder for the rows and tables")
  if script.source_name() == script.SOURCE_FREE:
    raise ValueError("--source is not given: name the labelled source; the row without one leaves it out by itself")
  common.check_batch(script.CLIPS.value, "clips")
  common.print_devices()
  bench = Bench(common.WORKDIR.value)
  bench.folder.mkdir(parents=True, exist_ok=True)
  for name, rows in chosen.items():
    due = []
    for row in rows:
      if row.base.get("denoiser") and VIDEOPOSE.value is None:
        print(f"{row.name}: left out, as --videopose_base is not given", flush=True)
        continue
      if row.target_rig and filmed_by_targets_rig() is None:
        print(f"{row.name}: left out, as that rig cannot see the source's motion", flush=True)
        continue
      due += [(row, common.SEED.value + number) for number in range(SEEDS.value if row.adapt is not None else 1)]
    found = run_all(bench, name, due)
    results: dict[str, list[dict]] = {}
    for row, seed in due:
      if (row.name, seed) in found:
        results.setdefault(row.name, []).append(found[row.name, seed])
    if not results:
      raise ValueError(f"--notrain finds no row of table {name} that has been run in {bench.folder}: is it the --workdir that it was run in?")
    table = tables.summarise(name, results, is_papers_pair())
    if parallel.is_main():
      tables.save(bench.folder / f"table_{name}", table)
    print(f"\n{tables.markdown(table)}", flush=True)
  if parallel.is_main() and (trained := bench.trained_bases()):
    runs.write_json(bench.folder / "bases.json", trained)


if __name__ == "__main__":
  common.run(main)
