"""Parameter-efficient tuning as functions: what rank, rule and rate do, and what can be done with trained adapters.

    python -m experiments.peft --flagfile=experiments/presets/embedded.flags --base=runs/embedded/base \\
        --workdir=runs/peft

One sweep of --ranks x --rates for each of --rules, and two seeds at the recipe's own rank and rate for arithmetic.
WORKDIR/peft.json and peft.png hold the scores on the target's test split, adapter arithmetic (`lora.combine`), the
merge error, and norms by layer. docs/peft.md reads them.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
from absl import flags

from posynda_jax.adaptation import adapters, bases, recipes, sweep_job, task
from posynda_jax.adaptation.job import Job
from posynda_jax.data import clips
from posynda_jax.geometry.measured import see
from posynda_jax.peft import lora
from posynda_jax.runtime import files

from . import adapt, common

RANKS = flags.DEFINE_list("ranks", ["1", "4", "16"], "Ranks to sweep.")
RATES = flags.DEFINE_list("rates", ["3e-4", "1e-3", "3e-3"], "Adam rates to sweep.")
PATTERNS = {
    "attention": lora.ATTENTION, "attention+mlp": recipes.EVERYWHERE,
    "spatial": r"spatial_\d+/attention/(qkv|proj)", "temporal": r"temporal_\d+/attention/(qkv|proj)",
}
RULES = flags.DEFINE_list("rules", list(PATTERNS), f"Rules of adapted modules, of {', '.join(PATTERNS)}.")
flags.adopt_module_key_flags(adapt)
SHARES = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of one adapter's update


def sweep_rule(job: Job, rule: str, folder: pathlib.Path, what: str) -> dict[str, dict]:
  """Members of one sweep with their scores, trained in `folder` or found there."""
  adapter = dataclasses.replace(job.recipe.adapter, rule=PATTERNS[rule])
  changed = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, adapter=adapter), workdir=str(folder))
  if not (folder / "sweep.json").exists():
    sweep_job.run(changed, sweep_job.read_members(what))
  return json.loads((folder / "sweep.json").read_text())["members"]


def study_arithmetic(opened: task.Task, one: bases.Weights, two: bases.Weights) -> dict:
  """Scores of combinations of two adapters that differ in their seed alone, without training."""

  def rate(factors, bias):
    return opened.rate(dataclasses.replace(one, adapter={"lora": factors, "bias": bias}))["mpjpe_mm"]

  first, second = one.adapter, two.adapter
  both = [first["lora"], second["lora"]]
  return {
      "share_of_one": {
          str(share): rate(lora.combine([first["lora"]], [share]), share * first["bias"]) for share in SHARES},
      "between_seeds": {
          str(w): rate(lora.combine(both, [1 - w, w]), (1 - w) * first["bias"] + w * second["bias"])
          for w in (0.0, 0.25, 0.5, 0.75, 1.0)},
      "mean_of_factors": rate(
          jax.tree.map(lambda a, b: (a + b) / 2, *both), (first["bias"] + second["bias"]) / 2),
  }


def study_merge(opened: task.Task, weights: bases.Weights) -> dict[str, float]:
  """Largest differences on test clips: merged from factorised answers, and unmerged weights from the base."""
  base, scale = weights.base, weights.config.scale
  clip = see(next(clips.in_order(opened.test, 16)), weights.measured)
  noise = jax.random.normal(jax.random.key(0), (*clip["keypoints"].shape[:-1], 3))
  t = jnp.full(16, base.diffusion.num_steps - 1)
  answers = [
      jax.jit(adapters.make_denoiser(base.model, base.params, weights.adapter, scale, form))(clip["inputs"], noise, t)
      for form in ("merged", "factorised")
  ]
  factors = weights.adapter["lora"]
  back = lora.unmerge(lora.merge(base.params, factors, scale), factors, scale)
  apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), back, base.params)
  return {
      "merged_against_factorised_mm": 1000 * float(jnp.abs(answers[0] - answers[1]).max()),
      "unmerged_against_base": max(jax.tree.leaves(apart)),
  }


def save_picture(path, results: dict) -> None:
  """Scores over rate by rank and rule; over the share of one update, and between two seeds; norms by layer."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
  colours = dict(zip(results["rules"], ("#33658a", "#d1495b", "#758e4f", "#86608e"), strict=False))
  ranks = sorted({row["rank"] for rows in results["rules"].values() for row in rows})
  for rule, rows in results["rules"].items():
    for rank, style in zip(ranks, ("-", "--", ":", "-.")):
      found = [row for row in rows if row["rank"] == rank and row["mpjpe_mm"] is not None]
      line = sorted((row["rate"], row["mpjpe_mm"]) for row in found)
      left.plot(*zip(*line), style, color=colours[rule], marker="o", markersize=3, label=f"{rule}, r = {rank}")
  left.set(xscale="log", xlabel="Adam rate", ylabel="MPJPE, mm", title="rank, rule and rate")
  left.legend(fontsize=7)
  for name, label in (("share_of_one", "share of one update"), ("between_seeds", "from one seed's to another's")):
    points = results["arithmetic"][name]
    middle.plot([float(x) for x in points], list(points.values()), marker="o", markersize=3, label=label)
  middle.axhline(results["source_only"], color="#222222", linewidth=1, label="source-only")
  middle.set(xlabel="weight", title="adapter arithmetic")
  middle.legend(fontsize=7)
  norms = results["relative_norms"]
  right.barh(list(norms)[::-1], list(norms.values())[::-1], color="#33658a")
  right.tick_params(axis="y", labelsize=7)
  right.set(title="|s a b| / |W|, by layer")
  figure.savefig(path, dpi=110)
  pyplot.close(figure)


def main() -> None:
  folder = pathlib.Path(common.need_workdir()).expanduser()
  if unknown := [rule for rule in RULES.value if rule not in PATTERNS]:
    raise ValueError(f"rules {', '.join(unknown)} are unknown; choose of {', '.join(PATTERNS)}")
  job = adapt.job_from_flags()
  grid = f"rank={','.join(RANKS.value)};adapt_rate={','.join(RATES.value)}"
  swept, source_only = {}, None
  for rule in RULES.value:
    swept[rule] = []
    for row in sweep_rule(job, rule, folder / rule, grid).values():
      scores = row.get("adapted", {"mpjpe_mm": None, "trainable": None})
      source_only = source_only or row.get("source_only", {}).get("mpjpe_mm")
      changes = {"rank": row["changes"]["rank"], "rate": row["changes"]["adapt_rate"]}
      swept[rule].append(changes | {name: scores[name] for name in ("mpjpe_mm", "trainable")})
  sweep_rule(job, "attention", folder / "seeds", "seed=0,1")
  opened = task.load_task(job)
  one, two = (bases.load_adapter(folder / "seeds" / f"seed_{seed}", "adapted", opened.base) for seed in (0, 1))
  results = {
      "source_only": source_only, "rules": swept, "arithmetic": study_arithmetic(opened, one, two),
      "merge": study_merge(opened, one),
      "relative_norms": lora.relative_norms(opened.base.params, one.adapter["lora"], one.config.scale),
      "target": f"{job.target_name}:{job.test_split}", "base": opened.base.digest, "updates": job.recipe.updates,
      "clips": job.recipe.clips,
  }
  files.write_json(folder / "peft.json", results)
  save_picture(folder / "peft.png", results)
  shown = {name: results[name] for name in ("source_only", "rules", "arithmetic", "merge")}
  print(json.dumps(shown, indent=1), flush=True)


if __name__ == "__main__":
  common.run(main)
