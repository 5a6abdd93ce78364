"""What each component closes of a gap: one base, one target, one row a configuration (the paper's Table 3, and more).

    python -m experiments.components --base=runs/base_cmu --workdir=runs/components_hdm05 --manual_dir=DIR \\
        --flagfile=experiments/presets/cmu_to_hdm05_wild.flags --rows=f,f_bias,posynda,rays,ceiling --also=cmu_mocap/wild_rig_gt

Rows are changes to the configuration of the flags. Finished rows are kept and not run again. `--also` scores every row on
further test splits: crossing rigs and datasets tells which part of the gap, camera or body and motion, a row closes.
Results go to `components.json` and `components.md` in the work directory.
"""

import dataclasses
import json

import jax
import numpy as np
from absl import flags

from experiments import adapt as script
from experiments import common
from posynda_jax.adaptation import adapt, bases
from posynda_jax.data import pipeline
from posynda_jax.evaluation import evaluate
from posynda_jax.runtime import runs

FITTED = " +body"  # beside every score: the same poses after `hypotheses.fit_body`, which reads the test clip's 2D and no label
# Name -> changes to the flags' AdaptConfig.
_PAPER = dict(pseudo=True, pseudo_label="best", refine="none", tilt="none", stretch=0.0, novel_views=0.0, tumble=0.0, teacher_flip=False)
_F = dict(_PAPER, pseudo=False)
ROWS = {
    "f": dict(_F, bias=False),
    "f_bias": _F,
    "posynda": _PAPER,
    "posynda_mean": dict(_PAPER, pseudo_label="mean"),
    "rays": dict(_PAPER, refine="rays", pseudo_label="mean"),
    "tilt_posynda": dict(_PAPER, tilt="teacher"),
    "tilt_rays": dict(_PAPER, tilt="teacher", refine="rays", pseudo_label="mean"),
    "body": dict(_PAPER, refine="body", pseudo_label="mean"),
    "tilt_body": dict(_PAPER, tilt="teacher", refine="body", pseudo_label="mean"),
    "tilt_stretch": dict(_F, tilt="teacher", stretch=0.1),
    "tilt_rays_stretch": dict(_PAPER, tilt="teacher", refine="rays", pseudo_label="mean", stretch=0.05),
    "f_tilt_random": dict(_F, tilt="random"),
    "f_tilt": dict(_F, tilt="teacher"),
    "f_spine": dict(_F, tilt="spine"),
    "spine_body": dict(_PAPER, tilt="spine", refine="body", pseudo_label="mean"),
    "f_stretch": dict(_F, stretch=0.1),
    "pseudo_alone": dict(_PAPER, synthesis=False),  # the source stays in its own cameras
    "flags": {},
    "ceiling": dict(supervision="ceiling"),
}
NAMES = flags.DEFINE_list("rows", ["f", "f_bias", "posynda", "flags", "ceiling"], f"Rows to run, of {', '.join(ROWS)}.")
ALSO = flags.DEFINE_list("also", [], "Further dataset/config whose test split scores every row.")


def main() -> None:
  if common.WORKDIR.value is None:
    raise ValueError("--workdir is not given: name a folder for the rows")
  if unknown := set(NAMES.value) - set(ROWS):
    raise ValueError(f"rows {', '.join(sorted(unknown))} are unknown; choose of {', '.join(ROWS)}")
  common.print_devices()
  base = bases.load(common.BASE.value)
  source = script.load_source(base)
  config = script.adapt_config(base, source)
  run = runs.Run(common.WORKDIR.value, {
      "base": base.digest, "adapt": adapt.describe(config), "source": script.source_name(),
      "target": script.TARGET.value, "target_split": script.TARGET_SPLIT.value, "seed": common.SEED.value,
      "clips": script.CLIPS.value, "also": ALSO.value,
  })
  task = script.make_task(base, source, config, script.open_test(base, script.TARGET.value, script.TEST_SPLIT.value))
  fitted = evaluate.make_scorer(
      lambda weights: adapt.make_denoiser(base.model, *weights, config.scale), dataclasses.replace(task.score_config, refine="body")
  )
  tests = {task.target: task.test} | {
      name: pipeline.ClipSource(
          pipeline.make_tracks(common.load_records(name, "test"), pipeline.LABELLED, task.clip_fps), base.model.num_frames
      )
      for name in ALSO.value
  }
  path = run.folder / "components.json"
  results = json.loads(path.read_text())["rows"] if path.exists() else {}
  rate = lambda adapter: {
      name + suffix: evaluate.evaluate(score, (base.params, adapter), clips, task.score_config.batch_size)
      for name, clips in tests.items() for suffix, score in (("", task.score), (FITTED, fitted))
  }
  for name in ["source_only", *NAMES.value]:
    if name in results:
      continue
    row = dataclasses.replace(config, **ROWS.get(name, {}))
    if name == "source_only":
      shape = jax.eval_shape(lambda: script.adapt.init_adapter(jax.random.key(0), base.params, config))
      scores, extra = rate(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)), {"trainable": 0, "seconds": 0.0}
    else:
      adapter, seconds = script.train_adapter(task, row, run, name)
      scores, extra = rate(adapter), {"trainable": script.count_trainable(task, row), "seconds": seconds}
    results[name] = {"scores": scores, **extra, "changes": ROWS.get(name, {})}
    protocol = evaluate.protocol(task.target, task.test_split, task.clip_fps, task.score_config)
    runs.write_json(path, {"rows": results, "protocol": protocol, "adapted_on": f"{task.target}:{task.target_split}"})
    print(f"{name:14}" + "  ".join(f"{n} {s['mpjpe_mm']:.1f}/{s['p_mpjpe_mm']:.1f}" for n, s in scores.items()), flush=True)
  text = markdown(results, list(next(iter(results.values()))["scores"]))
  runs.write_text(run.folder / "components.md", text)
  run.write_results({"rows": results}, config.num_steps)
  print("\n" + text)


def markdown(results: dict, tests: list[str]) -> str:
  """The rows as a table: MPJPE (P-MPJPE) in mm on every test split, and closure where the ceiling was run."""
  lines = ["| row | " + " | ".join(tests) + " | trainable |", "|---" * (len(tests) + 2) + "|"]
  for name, row in results.items():
    cells = []
    for test in tests:
      score = row["scores"][test]
      cell = f"{score['mpjpe_mm']:.1f} ({score['p_mpjpe_mm']:.1f})"
      if "ceiling" in results and name not in ("source_only", "ceiling"):
        start, bound = (results[k]["scores"][test]["mpjpe_mm"] for k in ("source_only", "ceiling"))
        cell += f", {100 * (start - score['mpjpe_mm']) / (start - bound):.0f}%"
      cells.append(cell)
    lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['trainable']:,} |")
  return "\n".join(lines) + "\n"


if __name__ == "__main__":
  common.run(main)
