"""Parameter-efficient tuning as functions: what rank, rule and rate do, and what can be done with adapters once they are trained.

    python -m experiments.peft --flagfile=experiments/presets/embedded.flags --base=runs/embedded/base --workdir=runs/peft

One vmapped sweep of --ranks x --rates for each of --rules, two more seeds at the flags' own rank and rate for arithmetic. WORKDIR/peft.json
and peft.png hold the scores on the target's test split, adapter arithmetic (`lora.combine`), merge error and norms by layer;
`docs/peft.md` reads them. Two such adapters are also what a user gets from two runs of `adapt`.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
from absl import flags
from absl.testing import flagsaver

from experiments import adapt as script
from experiments import common
from posynda_jax.adaptation import adapt
from posynda_jax.data import pipeline
from posynda_jax.peft import lora
from posynda_jax.runtime import runs

RANKS = flags.DEFINE_list("ranks", ["1", "4", "16"], "Ranks to sweep.")
RATES = flags.DEFINE_list("rates", ["3e-4", "1e-3", "3e-3"], "Adam rates to sweep.")
RULES = flags.DEFINE_list("rules", ["attention", "attention+mlp", "spatial", "temporal"], "Target rules, names of this script's table.")
PATTERNS = {
    "attention": lora.ATTENTION, "attention+mlp": r".*/(attention/(qkv|proj)|mlp_(in|out))",
    "spatial": r"spatial_\d+/attention/(qkv|proj)", "temporal": r"temporal_\d+/attention/(qkv|proj)",
}
SHARES = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of one adapter's update


def sweep_rule(rule: str, folder: pathlib.Path, what: str) -> dict[str, dict]:
  """Members of one sweep with their scores, trained in `folder` or found there."""
  with flagsaver.flagsaver(workdir=str(folder), lora_rule=PATTERNS[rule], sweep=what):
    script.main()
  return json.loads((folder / "sweep.json").read_text())["members"]


def study_arithmetic(base, task, folder: pathlib.Path) -> dict:
  """Scores of what is made of two adapters that differ in their seed alone, without training."""
  one, two = (_load(base, folder / f"seed_{seed}") for seed in (0, 1))
  rate = lambda adapter: task.rate(adapter)["mpjpe_mm"]
  scaled = lambda share: {"lora": lora.combine([one["lora"]], [share]), "bias": share * one["bias"]}
  mean = lambda w: {"lora": lora.combine([one["lora"], two["lora"]], [1 - w, w]), "bias": (1 - w) * one["bias"] + w * two["bias"]}
  naive = jax.tree.map(lambda a, b: (a + b) / 2, one, two)
  return {
      "share_of_one": {str(share): rate(scaled(share)) for share in SHARES},
      "between_seeds": {str(w): rate(mean(w)) for w in (0.0, 0.25, 0.5, 0.75, 1.0)},
      "mean_of_factors": rate(naive),
  }


def study_merge(base, adapter, task, scale: float) -> dict[str, float]:
  """How far the merged model is from the factorised one on a batch of test clips, and merging from unmerging."""
  clip = next(pipeline.in_order(task.test, 16))
  noise = jax.random.normal(jax.random.key(0), (*clip["keypoints"].shape[:-1], 3))
  t = jnp.full(16, base.diffusion_steps - 1)
  answer = lambda form: jax.jit(adapt.make_denoiser(base.model, base.params, adapter, scale, form))(clip["keypoints"], noise, t)
  back = lora.unmerge(lora.merge(base.params, adapter["lora"], scale), adapter["lora"], scale)
  apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), back, base.params)
  return {
      "merged_against_factorised_mm": 1000 * float(jnp.abs(answer("merged") - answer("factorised")).max()),
      "unmerged_against_base": max(jax.tree.leaves(apart)),
  }


def _load(base, folder: pathlib.Path):
  return common.load_adapter(folder, "adapted", base, runs.read_config(folder))[0]


def save_picture(path, results: dict) -> None:
  """Scores over rate by rank and rule; over the share of one update, and between two seeds; norms by layer."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
  colours = dict(zip(results["rules"], ("#33658a", "#d1495b", "#758e4f", "#86608e"), strict=False))
  styles = dict(zip(sorted({row["rank"] for rows in results["rules"].values() for row in rows}), ("-", "--", ":", "-.")))
  for rule, rows in results["rules"].items():
    for rank, style in styles.items():
      line = sorted((row["rate"], row["mpjpe_mm"]) for row in rows if row["rank"] == rank and row["mpjpe_mm"] is not None)
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
  if common.WORKDIR.value is None:
    raise ValueError("--workdir is not given: name a folder for the sweeps")
  if unknown := [rule for rule in RULES.value if rule not in PATTERNS]:
    raise ValueError(f"rules {', '.join(unknown)} are unknown; choose of {', '.join(PATTERNS)}")
  folder = pathlib.Path(common.WORKDIR.value).expanduser()
  base, base_folder = script.load_base()
  with flagsaver.flagsaver(base=str(base_folder)):
    grid = f"rank={','.join(RANKS.value)};adapt_rate={','.join(RATES.value)}"
    rules, source_only = {}, None
    for rule in RULES.value:
      rules[rule] = []
      for row in sweep_rule(rule, folder / rule, grid).values():
        changes, diverged = row["changes"], "diverged" in row
        source_only = source_only or (None if diverged else row["source_only"]["mpjpe_mm"])
        rules[rule].append({
            "rank": changes["rank"], "rate": changes["adapt_rate"], "mpjpe_mm": None if diverged else row["adapted"]["mpjpe_mm"],
            "trainable": None if diverged else row["adapted"]["trainable"],
        })
    sweep_rule("attention", folder / "seeds", "seed=0,1")
    with flagsaver.flagsaver(lora_rule=PATTERNS["attention"]):
      source = script.load_source(base)
      config = script.adapt_config(base, source)
      task = script.make_task(base, source, config, script.open_test(base, script.TARGET.value, script.TEST_SPLIT.value))
  one = _load(base, folder / "seeds" / "seed_0")
  results = {
      "source_only": source_only, "rules": rules, "arithmetic": study_arithmetic(base, task, folder / "seeds"),
      "merge": study_merge(base, one, task, config.scale), "relative_norms": lora.relative_norms(base.params, one["lora"], config.scale),
      "target": f"{script.TARGET.value}:{script.TEST_SPLIT.value}", "base": base.digest, "updates": config.num_steps,
      "clips": script.CLIPS.value,
  }
  runs.write_json(folder / "peft.json", results)
  save_picture(folder / "peft.png", results)
  print(json.dumps({name: results[name] for name in ("source_only", "rules", "arithmetic", "merge")}, indent=1), flush=True)


if __name__ == "__main__":
  common.run(main)
