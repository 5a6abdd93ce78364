"""Scores a run folder, adapted or bare base, on any dataset and split, or by a protocol of the field.

    python -m experiments.evaluate --run=runs/adapt_hdm05 --dataset=hdm05_mocap/wild_rig_gt
    python -m experiments.evaluate --run=runs/base_cmu --dataset=cmu_mocap/h36m_rig_gt --flip --hypotheses=5 --sampling_steps=5
    python -m experiments.evaluate --run=runs/adapt_dhp --protocol=3dhp --manual_dir=DIR

Prints one table and appends one JSON row a call to `evaluations.jsonl` in the run folder, with its protocol. Where the paper
prints figures of the protocol they follow, each line marked "paper"; they are never written to the row.
"""

import functools
import json

from absl import flags

from experiments import common
from posynda_jax import adapt, evaluate, hypotheses, pipeline, protocols, tally

RUN = flags.DEFINE_string("run", None, "Folder of a pretraining or adaptation run.")
PROTOCOL = flags.DEFINE_enum("protocol", None, list(protocols.PROTOCOLS), "Protocol of the field; it fixes dataset and split.")
DATASET = flags.DEFINE_string("dataset", None, "dataset/config with labels; with --protocol, another config of its dataset.")
SPLIT = flags.DEFINE_string("split", "test", "Split to score, in TFDS syntax.")
WEIGHTS = flags.DEFINE_enum("weights", "adapted", ["adapted", "ceiling", "source_only"], "Which weights of an adaptation run.")
HYPOTHESES = flags.DEFINE_integer("hypotheses", 1, "H, hypotheses per clip.")
SAMPLING_STEPS = flags.DEFINE_integer("sampling_steps", 1, "K, DDIM steps.")
SELECT = flags.DEFINE_enum("select", "mean", ("mean",) + hypotheses.GRANULARITIES, "Rule that makes one pose of H.")
REFINE = flags.DEFINE_enum("refine", "none", hypotheses.REFINEMENTS, "What a clip's own 2D mends of its pose; `body` needs an "
                           "adaptation run, which knows its source's mean bone lengths.")
ROOT = flags.DEFINE_enum("root", "solve", evaluate.ROOTS, "Root of the reprojection; oracle is the dataset's own (ablation).")
FLIP = flags.DEFINE_bool("flip", False, "Average each step with its mirror image.")
BATCH = flags.DEFINE_integer("batch", 64, "Clips at once.")


def main() -> None:
  chosen = protocols.PROTOCOLS.get(PROTOCOL.value)
  dataset, split = _dataset_and_split(chosen)
  base, adapter, scale = common.load_weights(RUN.value, WEIGHTS.value)
  clip_fps = base.config["clip_fps"]
  body = common.source_body(RUN.value) if REFINE.value == "body" else ()
  config = evaluate.EvaluateConfig(
      num_hypotheses=HYPOTHESES.value, sampling_steps=SAMPLING_STEPS.value, flip=FLIP.value, select=SELECT.value,
      refine=REFINE.value, body=body, root=ROOT.value, batch_size=BATCH.value,
      diffusion_steps=base.config["pretrain"]["diffusion_steps"],
  )
  measure = functools.partial(protocols.frame_scores, chosen) if chosen else evaluate.frame_errors
  score = evaluate.make_scorer(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config, measure)
  fields = pipeline.LABELLED + (chosen.fields if chosen else ())
  tracks = pipeline.make_tracks(common.load_records(dataset, split), fields, clip_fps)
  inputs = (score, (base.params, adapter), pipeline.ClipSource(tracks, base.model.num_frames), config.batch_size)
  result = evaluate.evaluate_protocol(*inputs, chosen) if chosen else evaluate.evaluate(*inputs)
  protocol = evaluate.protocol(dataset, split, clip_fps, config, chosen)
  row = {"run": RUN.value, "weights": "base" if adapter is None else WEIGHTS.value, **result, "protocol": protocol}
  with open(f"{RUN.value}/evaluations.jsonl", "a") as file:
    file.write(json.dumps(row) + "\n")
  if chosen:
    print(f"{row['weights']} on {dataset} {split}\n{tally.table(row)}\n\n{protocols.paper_figures(chosen)}")
    return
  print(f"{row['weights']} on {dataset} {split}: MPJPE {result['mpjpe_mm']:.1f} mm, "
        f"P-MPJPE {result['p_mpjpe_mm']:.1f} mm, N-MPJPE {result['n_mpjpe_mm']:.1f} mm, {result['frames']:,} frames")
  print("protocol: " + ", ".join(f"{k}={v}" for k, v in protocol.items()))


def _dataset_and_split(chosen: protocols.Protocol | None) -> tuple[str, str]:
  """What the flags ask to score. Raises ValueError where they lack something or contradict the protocol."""
  if RUN.value is None or (DATASET.value is None and chosen is None):
    raise ValueError("--run and either --dataset or --protocol are needed: a run folder, and what to score it on")
  if chosen is None:
    return DATASET.value, SPLIT.value
  if flags.FLAGS["split"].present:
    raise ValueError(f"--split={SPLIT.value} contradicts --protocol={chosen.name}, which scores {chosen.split}: leave one out")
  dataset = DATASET.value or chosen.dataset
  if dataset.partition("/")[0] != chosen.dataset.partition("/")[0]:
    raise ValueError(f"--dataset={dataset} is not of protocol {chosen.name}: give a config of {chosen.dataset.partition('/')[0]}")
  return dataset, chosen.split


if __name__ == "__main__":
  common.run(main)
