"""How well measures without labels tell a better adapter from a worse one.

    python -m experiments.accounts --runs=runs/a,runs/b --manual_dir=DIR --json=accounts.json
    python -m experiments.accounts --join=accounts_1.json,accounts_2.json
    python -m experiments.accounts --runs=runs/a,runs/b --kept --json=guard.json
    python -m experiments.accounts --spoilt=hdm05_mocap/wild_rig_gt,accad_mocap/wild_rig_gt --json=spoilt.json

Each run of `adapt` is taken at five shares of its adapter, from none to all. Measures are taken on the split that was
adapted on, from 2D alone; errors on the run's test split. Printed are, over all runs, the rank correlation of the
change of each measure with the change of MPJPE, and the AUC of "worse than the bare base".

With --kept nothing is computed: what the guard of each run kept is read from its folder, with the errors of the bare
base, the whole adapter and what was kept.

With --spoilt no adapter is needed: the targets' 2D is spoilt in the ways of SPOILT, and what the guard says of each is
printed. It should refuse all but the first; focal lengths within a quarter may pass.
"""

import dataclasses
import json
import pathlib

import numpy as np
from absl import flags
from scipy import stats

from posynda_jax.adaptation import account, bases, sources
from posynda_jax.data import tracks
from posynda_jax.evaluation import scoring
from posynda_jax.runtime import runs
from posynda_jax.runtime.text import markdown_table

from . import common, results_file

RUNS = flags.DEFINE_list("runs", [], "Folders of adaptations.")
JOIN = flags.DEFINE_list("join", [], "Files that earlier calls wrote with --json.")
KEPT = flags.DEFINE_bool("kept", False, "Only show what the guard of each run kept.")
TARGETS = flags.DEFINE_list("spoilt", [], "Targets, dataset/config, that are only spoilt, to see what the guard says.")
flags.declare_key_flag("json")
SHUFFLED = np.random.default_rng(0).permutation(17)
A_QUARTER = np.float32([0, 0, 0.5, 0, 0, 0, 0, 0, 0])  # of the image's width, along x
SPOILT = {  # changes that make right 2D wrong; the guard's remedies of sides and axes do so too
    "as it is": lambda clip: {}, **account.OTHERWISE,
    "joints shuffled": lambda clip: {"keypoints": clip["keypoints"][..., SHUFFLED, :]},
    **{f"{factor:.3g} times the focal length": lambda clip, factor=factor: account.scale_intrinsics(clip, focal=factor)
       for factor in (0.5, 2 / 3, 0.8, 1.25, 1.5, 2)},
    "principal point a quarter off": lambda clip: {"intrinsics": clip["intrinsics"] + A_QUARTER},
}
WORSE_MM = 1.0  # a change of MPJPE that counts as worse


def study(folder: str) -> list[dict]:
  """A row for each share of the run's adapter: its account, and its errors in mm."""
  config, where = runs.read_config(folder), common.folders()
  name = "unguarded" if (pathlib.Path(folder) / "unguarded").exists() else "adapted"
  weights = bases.load_weights(folder, name)
  base, settings = weights.base, scoring.SamplingConfig(diffusion=weights.base.diffusion)
  shape = (base.clip_fps, base.model.num_frames, where)
  target = sources.open_clips(config["target"], config["target_split"], tracks.UNLABELLED, *shape)
  test = sources.open_clips(config["target"], config["test_split"], tracks.LABELLED, *shape)
  score, rows = scoring.make_scorer(weights.make_denoiser, settings), []
  for share, found in account.accounts_by_share(weights, target, settings)[0].items():
    part = dataclasses.replace(weights, adapter=account.shrink(weights.adapter, share))
    errors = scoring.evaluate(score, part.params, weights.measured, test, settings.batch_size)
    lessons = "+".join(lesson["name"] for lesson in config["recipe"]["lessons"])
    rows.append({"run": pathlib.Path(folder).name, "target": config["target"], "lessons": lessons, "base": base.digest,
                 "seed": config["seed"], "share": share, **found, **errors})
    print(f"{rows[-1]['run']:32}{share:5.2f}  " + "  ".join(f"{key} {found[key]:7.2f}" for key in account.MEASURES)
          + f"  MPJPE {errors['mpjpe_mm']:6.1f}  P-MPJPE {errors['p_mpjpe_mm']:6.1f}", flush=True)
  return rows


def refusals_of_spoilt(name: str, base: bases.Base) -> list[dict]:
  """The base's account of a target's training split, as it is and spoilt, and why the guard refuses it, if it does."""
  weights = bases.Weights(base)
  settings = scoring.SamplingConfig(diffusion=base.diffusion)
  observe = account.make_observer(weights.make_denoiser, settings)
  target = sources.open_clips(
      name, "train", tracks.UNLABELLED, base.clip_fps, base.model.num_frames, common.folders())
  rows = []

  def take(change):
    return account.take_account(observe, weights.params, weights.measured, target, settings.batch_size, change)

  for spoilt, change in SPOILT.items():
    found = take(change)
    mended = {mistake: take(lambda clip, mend=mend: (changed := change(clip)) | mend(clip | changed))
              for mistake, mend in account.mistakes_of(base).items()}
    why = account.why_refused(found, mended, len(target))
    rows.append({"target": name, "spoilt": spoilt, "base": base.digest, "why_refused": why, **found})
    print(f"{name}  {spoilt:30}{why or 'not refused'}", flush=True)
  return rows


def summarise(rows: list[dict]) -> list[list[str]]:
  """For each measure: Spearman's correlation of its change with that of MPJPE, and the AUC of "worse than the base"."""
  base = {row["run"]: row for row in rows if row["share"] == 0}
  changed = [row for row in rows if row["share"] > 0]
  errors = np.array([row["mpjpe_mm"] - base[row["run"]]["mpjpe_mm"] for row in changed])
  worse, table = errors > WORSE_MM, []
  for measure in account.MEASURES:
    change = np.array([row[measure] / base[row["run"]][measure] - 1 for row in changed])
    auc = "" if worse.all() or not worse.any() else (
        f"{stats.mannwhitneyu(change[worse], change[~worse]).statistic / worse.sum() / (~worse).sum():.2f}")
    table.append([measure, f"{stats.spearmanr(change, errors).statistic:.2f}", auc, f"{worse.sum()} of {len(worse)}"])
  return table


def kept(folder: str) -> dict:
  """What the guard of a run kept, with MPJPE (mm) of the bare base, the whole adapter and the kept share of it."""
  config, scores = runs.read_config(folder), runs.read_metrics(folder)
  decision = json.loads((pathlib.Path(folder).expanduser() / "account.json").read_text())
  whole = scores.get("unguarded", scores["adapted"])
  return {"target": config["target"], "seed": config["seed"], "base": config["base"], "share": decision["share"],
          "source_only": scores["source_only"], "whole": whole, "guarded": scores["adapted"]}


def main() -> None:
  if KEPT.value:
    rows = [kept(folder) for folder in RUNS.value]
    print(markdown_table(["target", "seed", "share", "source only", "whole", "guarded"], [
        [row["target"], str(row["seed"]), f"{row['share']:g}",
         *(f"{row[name]['mpjpe_mm']:.1f}" for name in ("source_only", "whole", "guarded"))] for row in rows]))
    results_file.write({"runs": rows})
    return
  if TARGETS.value:
    rows = [row for name in TARGETS.value for row in refusals_of_spoilt(name, bases.load(common.BASE.value))]
    results_file.write({"rows": rows})
    return
  rows = [row for path in JOIN.value for row in json.loads(pathlib.Path(path).read_text())["rows"]]
  for folder in RUNS.value:
    rows += study(folder)
  if not rows:
    raise ValueError("nothing to measure: give --runs=FOLDER,FOLDER or --join=FILE,FILE")
  head = ["measure", "rank correlation with MPJPE", "AUC of worse", "worse"]
  print(markdown_table(head, summarise(rows)), flush=True)
  results_file.write({"rows": rows})


if __name__ == "__main__":
  common.run(main)
