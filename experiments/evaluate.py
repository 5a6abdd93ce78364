"""Scores a run, adapted or bare base, on any dataset and split, or by a protocol of the field.

    python -m experiments.evaluate --dataset=cmu_mocap/h36m_rig_gt --manual_dir=DIR        # the base that ships
    python -m experiments.evaluate --run=runs/adapt_hdm05 --dataset=hdm05_mocap/wild_rig_gt
    python -m experiments.evaluate --dataset=cmu_mocap/wild_rig_gt --hypotheses=20 --sampling_steps=2 --select=bones
    python -m experiments.evaluate --run=runs/adapt_dhp --protocol=3dhp --manual_dir=DIR

Prints one table and appends one JSON row a call, with its protocol, to `evaluations.jsonl` if the run is a folder.
The paper's figures of a protocol follow in a line marked "paper"; they are never written to the row.
"""

import functools
import json
import pathlib

from absl import flags

from posynda_jax.adaptation import sources
from posynda_jax.data import tracks
from posynda_jax.evaluation import people, protocols, scoring, tally
from posynda_jax.runtime import processes

from . import common, results_file, sampling

PROTOCOL = flags.DEFINE_enum("protocol", None, list(protocols.PROTOCOLS), "Protocol; it fixes dataset and split.")
DATASET = flags.DEFINE_list(
    "dataset", [], "dataset/config with labels, one or several; with --protocol, other configs of its dataset.")
SPLIT = flags.DEFINE_string("split", "test", "Split to score, in TFDS syntax.")
ROOT = flags.DEFINE_enum(
    "root", "solve", scoring.ROOTS, "Root of the reprojection; oracle is the dataset's own (ablation).")
flags.declare_key_flag("json")
flags.adopt_module_key_flags(sampling)
AGGREGATIONS = {
    "P-Agg (mean)": "p_agg_mm", "J-Agg (each joint by reprojection)": "j_agg_mm",
    "P-Best (each clip by the truth)": "p_best_mm", "J-Best (each joint by the truth)": "j_best_mm",
}


def main() -> None:
  chosen = protocols.PROTOCOLS.get(PROTOCOL.value)
  datasets, split = _datasets_and_split(chosen)
  weights = sampling.load_weights()
  config = sampling.config(weights, ROOT.value)
  if chosen:
    measure = functools.partial(protocols.frame_scores, chosen)
    score = scoring.make_rule_scorer(weights.make_denoiser, config, (config.select,), measure)
  else:
    score = scoring.make_scorer(weights.make_denoiser, config, with_aggregations=config.num_hypotheses > 1)
  observe = people.make_observer(weights.make_denoiser, config)  # compiled where the rule is bones
  fields, base = tracks.LABELLED + (chosen.fields if chosen else ()), weights.base
  rows = []
  for dataset in datasets:
    test = sources.open_clips(dataset, split, fields, base.clip_fps, base.model.num_frames, common.folders())
    if config.select == "bones":
      test = people.measure(observe, weights.params, weights.measured, test, config.batch_size)
    inputs = (score, weights.params, weights.measured, test, config.batch_size)
    result = scoring.evaluate_rules(*inputs, chosen)[config.select] if chosen else scoring.evaluate(*inputs)
    row = {
        "run": sampling.name(), "base": base.digest, "weights": weights.name, **result,
        "protocol": scoring.describe_protocol(dataset, split, base.clip_fps, config, weights.view, chosen),
    }
    _print(row, chosen)
    rows.append(row)
  if not processes.is_main():
    return
  if (folder := pathlib.Path(sampling.name()).expanduser()).is_dir():
    with open(folder / "evaluations.jsonl", "a") as file:
      file.writelines(json.dumps(row) + "\n" for row in rows)
  results_file.write({"evaluations": rows})


def _print(row: dict, chosen: protocols.Protocol | None) -> None:
  protocol = row["protocol"]
  what = f"{row['weights']} on {protocol['dataset']} {protocol['split']}"
  if chosen:
    print(f"{what}\n{tally.table(row)}\n\npaper  {chosen.paper or 'has no figures of this protocol'}", flush=True)
    return
  print(f"{what}: MPJPE {row['mpjpe_mm']:.1f} mm, P-MPJPE {row['p_mpjpe_mm']:.1f} mm, "
        f"N-MPJPE {row['n_mpjpe_mm']:.1f} mm, {row['frames']:,} frames")
  if "p_agg_mm" in row:
    print("D3DP's aggregations: " + ", ".join(f"{name} {row[column]:.1f} mm" for name, column in AGGREGATIONS.items()))
  print("protocol: " + ", ".join(f"{k}={v}" for k, v in protocol.items()), flush=True)


def _datasets_and_split(chosen: protocols.Protocol | None) -> tuple[list[str], str]:
  """The data to score. Raises ValueError where flags are missing or contradict the protocol."""
  if not DATASET.value and chosen is None:
    raise ValueError("--dataset or --protocol is needed: it says what to score on")
  if chosen is None:
    return DATASET.value, SPLIT.value
  if flags.FLAGS["split"].present:
    raise ValueError(
        f"--split={SPLIT.value} contradicts --protocol={chosen.name}, which scores {chosen.split}: leave one out")
  known = chosen.dataset.partition("/")[0]
  for dataset in (datasets := DATASET.value or [chosen.dataset]):
    if dataset.partition("/")[0] != known:
      raise ValueError(f"--dataset={dataset} is not of protocol {chosen.name}: give a config of {known}")
  return datasets, chosen.split


if __name__ == "__main__":
  common.run(main)
