"""Scores a run folder, adapted or bare base, on any dataset and split.

    python -m experiments.evaluate --run=runs/adapt_hdm05 --dataset=hdm05_mocap/wild_rig_gt
    python -m experiments.evaluate --run=runs/base_cmu --dataset=cmu_mocap/h36m_rig_gt --flip --hypotheses=5 --sampling_steps=5

Prints one table and appends one JSON row a call to `evaluations.jsonl` in the run folder, with its protocol.
"""

import json

from absl import flags

from experiments import common
from posynda_jax import adapt, evaluate, hypotheses, pipeline

RUN = flags.DEFINE_string("run", None, "Folder of a pretraining or adaptation run.")
DATASET = flags.DEFINE_string("dataset", None, "dataset/config with labels.")
SPLIT = flags.DEFINE_string("split", "test", "Split to score, in TFDS syntax.")
WEIGHTS = flags.DEFINE_enum("weights", "adapted", ["adapted", "ceiling", "source_only"], "Which weights of an adaptation run.")
HYPOTHESES = flags.DEFINE_integer("hypotheses", 1, "H, hypotheses per clip.")
SAMPLING_STEPS = flags.DEFINE_integer("sampling_steps", 1, "K, DDIM steps.")
SELECT = flags.DEFINE_enum("select", "mean", ("mean",) + hypotheses.GRANULARITIES, "Rule that makes one pose of H.")
ROOT = flags.DEFINE_enum("root", "solve", evaluate.ROOTS, "Root of the reprojection; oracle is the dataset's own (ablation).")
FLIP = flags.DEFINE_bool("flip", False, "Average each step with its mirror image.")
BATCH = flags.DEFINE_integer("batch", 64, "Clips at once.")


def main() -> None:
  if RUN.value is None or DATASET.value is None:
    raise ValueError("--run and --dataset are needed: a run folder, and dataset/config to score it on")
  base, adapter, scale = common.load_weights(RUN.value, WEIGHTS.value)
  clip_fps = base.config["clip_fps"]
  config = evaluate.EvaluateConfig(
      num_hypotheses=HYPOTHESES.value, sampling_steps=SAMPLING_STEPS.value, flip=FLIP.value, select=SELECT.value,
      root=ROOT.value, batch_size=BATCH.value, diffusion_steps=base.config["pretrain"]["diffusion_steps"],
  )
  tracks = pipeline.make_tracks(common.load_records(DATASET.value, SPLIT.value), pipeline.LABELLED, clip_fps)
  score = evaluate.make_scorer(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config)
  clips = pipeline.ClipSource(tracks, base.model.num_frames)
  result = evaluate.evaluate(score, (base.params, adapter), clips, config.batch_size)
  protocol = evaluate.protocol(DATASET.value, SPLIT.value, clip_fps, config)
  row = {"run": RUN.value, "weights": "base" if adapter is None else WEIGHTS.value, **result, "protocol": protocol}
  with open(f"{RUN.value}/evaluations.jsonl", "a") as file:
    file.write(json.dumps(row) + "\n")
  print(f"{row['weights']} on {DATASET.value} {SPLIT.value}: MPJPE {result['mpjpe_mm']:.1f} mm, "
        f"P-MPJPE {result['p_mpjpe_mm']:.1f} mm, N-MPJPE {result['n_mpjpe_mm']:.1f} mm, {result['frames']:,} frames")
  print("protocol: " + ", ".join(f"{k}={v}" for k, v in protocol.items()))


if __name__ == "__main__":
  common.run(main)
