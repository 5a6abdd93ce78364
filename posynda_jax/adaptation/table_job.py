"""Rows of tables trained and scored: one run a row and seed, named by the digest of all that defines it."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from posynda_jax.adaptation import adapters, base_job, bases, sources, task, training
from posynda_jax.adaptation.job import keep_guarded
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.rows import Row
from posynda_jax.adaptation.task import Job
from posynda_jax.diffusion import hypotheses
from posynda_jax.evaluation import protocols, scoring
from posynda_jax.peft import counting
from posynda_jax.runtime import files, locks, runs

RULES = ("mean", *hypotheses.GRANULARITIES)  # by which rows of several hypotheses are scored


class Bench:
  """Rows of one source and target: trains what has not been trained, and scores it.

  `job`: what the rows share. `videopose`: base of the VideoPose rows. `train=False` reads what has been run.
  """

  def __init__(self, job: Job, videopose: str | None = None, train: bool = True):
    self.job, self.train, self.folder = job, train, pathlib.Path(job.workdir).expanduser()
    self.protocol = protocols.of_target(job.target)
    self._videopose, self._scorers, self._tests = videopose, {}, {}
    self._base = functools.cache(self._load_base)
    self._source = functools.cache(
        lambda clip_fps: sources.load_source(job.source, job.source_split, clip_fps, job.folders))

  def run(self, row: Row, seed: int) -> dict[str, Any] | None:
    """Scores of a row's adaptation: {"scores", "groups", "frames", "protocol", "trainable", "flops", "seconds",
    "device", "run", "base"}.

    None for train=False where it has not been run. Raises `locks.InUse` where another process trains it.
    """
    if (loaded := self._base(tuple(sorted(row.base.items())))) is None:
      return None
    base, base_name = loaded
    recipe = row.recipe or self.job.recipe
    job = dataclasses.replace(
        self.job, recipe=recipe, base=base_name, source=self.job.source if recipe.needs_source else None,
        seed=seed if row.recipe else 0, sampling=dataclasses.replace(self.job.sampling, **row.test))
    length = base.clip_fps, base.model.num_frames
    if length not in self._tests:
      self._tests[length] = task.open_test(self.job, base, self.protocol.fields)
    source = self._source(base.clip_fps) if recipe.needs_source else None
    opened = task.open_task(job, base, source, self._tests[length])
    identity = task.identify(opened) | ({} if row.recipe else {"recipe": None, "seed": 0, "view": list(opened.view)})
    identity = {name: value for name, value in identity.items() if name not in ("flip", "test_refine")}
    named = json.dumps({name: it for name, it in identity.items() if name != "base_folder"}, sort_keys=True)
    folder = self.folder / "rows" / hashlib.sha256(named.encode()).hexdigest()[:16]
    path, key = folder / "scores.json", self._test_name(row)
    found = json.loads(path.read_text()) if path.exists() else {}
    if key not in found:
      if not self.train:
        return None
      run = runs.Run(folder, identity)
      found = json.loads(path.read_text()) if path.exists() else {}  # another process may have written it since
      if key not in found:
        found |= self._train_and_score(row, opened, run, next(iter(found.values()), None))
        files.write_json(path, found)
      run.close()
      locks.give_back(folder)
    scores = {score.name: found[key]["scores"][score.name] for score in self.protocol.scores}  # the headline first
    return {**found[key], "scores": scores, "run": str(folder.relative_to(self.folder)), "base": base.digest}

  def trained_bases(self) -> dict[str, dict[str, Any]]:
    """Scores at home, protocol and seconds of training of the bases that rows needed, by folder."""
    found = {it.parent.name: json.loads(it.read_text()) for it in sorted(self.folder.glob("bases/*/metrics.json"))}
    return {name: {key: base[key] for key in ("base", "protocol", "seconds", "digest")} for name, base in found.items()}

  def _train_and_score(self, row: Row, opened: task.Task, run: runs.Run, scored: dict | None) -> dict[str, dict]:
    """Results by test name. The adapter is trained, resumed, or read where another test has `scored` it.

    H hypotheses are drawn once for all rules. One program serves all rows of a base and test.
    """
    base, config, recipe = opened.base, opened.job.sampling, row.recipe
    about = {"seconds": 0.0, "device": jax.devices()[0].device_kind, "trainable": 0}
    weights = dataclasses.replace(opened.bare, view=opened.view)
    if recipe and scored and (run.folder / "adapted").exists():
      weights = bases.load_adapter(run.folder, "adapted", base)
      about = {key: scored[key] for key in about}
    elif recipe:
      weights, about["seconds"] = training.train_adapter(opened, recipe, run, "adapted")
      about["trainable"] = adapters.num_trainable(base.params, recipe.adapter)
    about["flops"] = count_flops(base, row)
    if row.guarded:
      weights, decision = keep_guarded(opened, weights, None, report=lambda line: None)
      about["share"] = decision.share
    rules = RULES if config.num_hypotheses > 1 else (config.select,)
    if (key := (base.digest, config)) not in self._scorers:
      measure = functools.partial(protocols.frame_scores, self.protocol)
      self._scorers[key] = scoring.make_rule_scorer(opened.bare.make_denoiser, config, rules, measure)
    inputs = self._scorers[key], weights.params, weights.measured, opened.test, config.batch_size
    where, results = (opened.job.target, opened.job.test_split, base.clip_fps), {}
    for rule, its in scoring.evaluate_rules(*inputs, self.protocol).items():
      ruled = dataclasses.replace(config, select=rule)
      protocol = scoring.describe_protocol(*where, ruled, weights.view, self.protocol)
      results[self._test_name(row, **({"select": rule} if len(rules) > 1 else {}))] = about | {
          "scores": its["result"], "groups": its["groups"], "frames": its["counts"]["frames"], "protocol": protocol}
    return results

  def _test_name(self, row: Row, **changes) -> str:
    how = row.test | ({"guarded": True} if row.guarded else {}) | changes
    return json.dumps([self.protocol.name, how], sort_keys=True)

  def _load_base(self, changes: tuple) -> tuple[bases.Base, str] | None:
    """(base, its name): the job's, the VideoPose one, or one trained by the job's base's plan with the changes."""
    changes = dict(changes)
    if changes.pop("denoiser", None):
      return bases.load(self._videopose), self._videopose
    if not changes:
      return bases.load(self.job.base), self.job.base
    given, name = self._base(())
    own = base_job.plan_of(given)
    plan = base_job.changed(own, **changes)
    if plan == own:
      return given, name
    folder = self.folder / "bases" / "-".join(f"{key}_{value}" for key, value in sorted(changes.items()))
    if not self.train and not (folder / "metrics.json").exists():
      return None
    return base_job.train_base(plan, folder, self.job.folders, self.job.saving), str(folder)


def count_flops(base: bases.Base, row: Row) -> int:
  """FLOPs of the linear layers for one clip and all hypotheses: the teacher's where it is asked, as in Table 3."""
  frames, factors = base.model.num_frames, {}
  inputs = [jax.ShapeDtypeStruct((1, frames, 17, width), jnp.float32) for width in (base.model.inputs, 3)]
  calls = row.test.get("num_hypotheses", 1) * row.test.get("sampling_steps", 1)
  if row.recipe:
    adapter = jax.eval_shape(lambda: adapters.init(jax.random.key(0), base.params, row.recipe.adapter))
    factors = adapter.get("lora", {})
    if any(isinstance(lesson, PseudoLabels) for lesson in row.recipe.lessons):
      calls = row.recipe.num_hypotheses * row.recipe.sampling_steps
  return calls * counting.linear_flops(base.model, base.params, factors, *inputs, jax.ShapeDtypeStruct((1,), jnp.int32))


def run_rows(bench: Bench, table: str, due: Sequence[tuple[Row, int]]) -> dict[str, list[dict[str, Any]]]:
  """Results of rows by name, in the order of seeds. Rows that another process trains are put off until it has them."""
  found: dict[tuple[str, int], dict] = {}
  waiting = list(due)
  while waiting:
    put_off = []
    for row, seed in waiting:
      try:
        result = bench.run(row, seed)
      except locks.InUse:
        if jax.process_count() > 1:  # the processes of one job take the rows together
          raise
        put_off.append((row, seed))
        continue
      if result is not None:
        found[row.name, seed] = result
        scores = "  ".join(f"{key} {value:.1f}" for key, value in result["scores"].items())
        print(f"table {table}, {row.name}, seed {seed}: {scores}", flush=True)
    if put_off == waiting:
      time.sleep(2)
    waiting = put_off
  results: dict[str, list[dict[str, Any]]] = {}
  for row, seed in due:
    if (row.name, seed) in found:
      results.setdefault(row.name, []).append(found[row.name, seed])
  return results
