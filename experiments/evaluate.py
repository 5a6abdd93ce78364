"""Scores a run, adapted or bare base, on any dataset and split, or by a protocol of the field.

    python -m experiments.evaluate --dataset=cmu_mocap/h36m_rig_gt --manual_dir=DIR        # the base that ships
    python -m experiments.evaluate --run=runs/adapt_hdm05 --dataset=hdm05_mocap/wild_rig_gt
    python -m experiments.evaluate --run=runs/base_cmu --dataset=cmu_mocap/h36m_rig_gt --flip --hypotheses=5 --sampling_steps=5
    python -m experiments.evaluate --run=runs/adapt_dhp --protocol=3dhp --manual_dir=DIR

Prints one table and appends one JSON row a call, with its protocol, to `evaluations.jsonl` where the run is a folder. Where the paper
prints figures of the protocol they follow, each line marked "paper"; they are never written to the row.
"""

import functools
import json
import pathlib

from absl import flags

from experiments import common
from posynda_jax.adaptation import adapt
from posynda_jax.data import pipeline
from posynda_jax.diffusion import hypotheses
from posynda_jax.evaluation import evaluate, protocols, tally
from posynda_jax.runtime import parallel, runs

RUN = flags.DEFINE_string("run", None, "Folder of a pretraining or adaptation run; or an adapter's .safetensors file, on --base.")
flags.declare_key_flag("base")
PROTOCOL = flags.DEFINE_enum("protocol", None, list(protocols.PROTOCOLS), "Protocol of the field; it fixes dataset and split.")
DATASET = flags.DEFINE_list("dataset", [], "dataset/config with labels, one or several; with --protocol, other configs of its dataset.")
SPLIT = flags.DEFINE_string("split", "test", "Split to score, in TFDS syntax.")
WEIGHTS = flags.DEFINE_enum("weights", "adapted", ["adapted", "ceiling", "source_only"], "Which weights of an adaptation run.")
HYPOTHESES = flags.DEFINE_integer("hypotheses", 1, "H, hypotheses per clip.")
SAMPLING_STEPS = flags.DEFINE_integer("sampling_steps", 1, "K, DDIM steps.")
SELECT = flags.DEFINE_enum("select", "mean", evaluate.RULES, "Rule that makes one pose of H.")
REFINE = flags.DEFINE_enum("refine", "none", hypotheses.REFINEMENTS, "What a clip's own 2D mends of its pose; `body` needs weights "
                           "that know their source's mean bone lengths.")
ROOT = flags.DEFINE_enum("root", "solve", evaluate.ROOTS, "Root of the reprojection; oracle is the dataset's own (ablation).")
FLIP = flags.DEFINE_bool("flip", False, "Average each step with its mirror image.")
JSON = flags.DEFINE_string("json", None, "Also write the rows to this file.")
BATCH = flags.DEFINE_integer("batch", 64, "Clips at once.")


def main() -> None:
  chosen = protocols.PROTOCOLS.get(PROTOCOL.value)
  datasets, split = _datasets_and_split(chosen)
  base, adapter, scale = common.load_weights(RUN.value, WEIGHTS.value, common.BASE.value)
  body = common.known_body(base) if REFINE.value == "body" else ()
  config = evaluate.EvaluateConfig(
      num_hypotheses=HYPOTHESES.value, sampling_steps=SAMPLING_STEPS.value, flip=FLIP.value, select=SELECT.value,
      refine=REFINE.value, body=body, root=ROOT.value, batch_size=BATCH.value, view=base.view, diffusion_steps=base.diffusion_steps,
      hypothesis_chunk=common.HYPOTHESIS_CHUNK.value,
  )
  measure = functools.partial(protocols.frame_scores, chosen) if chosen else evaluate.frame_errors
  score = evaluate.make_scorer(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config, measure)
  fields = pipeline.LABELLED + (chosen.fields if chosen else ())
  rows = []
  for dataset in datasets:
    tracks = pipeline.make_tracks(common.load_records(dataset, split), fields, base.clip_fps)
    inputs = (score, (base.params, adapter), pipeline.ClipSource(tracks, base.model.num_frames), config.batch_size)
    result = evaluate.evaluate_protocol(*inputs, chosen) if chosen else evaluate.evaluate(*inputs)
    row = {
        "run": RUN.value or common.BASE.value, "base": base.digest, "weights": "base" if adapter is None else WEIGHTS.value, **result,
        "protocol": evaluate.protocol(dataset, split, base.clip_fps, config, chosen),
    }
    _print(row, chosen)
    rows.append(row)
  if not parallel.is_main():
    return
  if (folder := pathlib.Path(rows[0]["run"]).expanduser()).is_dir():
    with open(folder / "evaluations.jsonl", "a") as file:
      file.writelines(json.dumps(row) + "\n" for row in rows)
  if JSON.value:
    runs.write_json(JSON.value, {"evaluations": rows})


def _print(row: dict, chosen: protocols.Protocol | None) -> None:
  protocol = row["protocol"]
  what = f"{row['weights']} on {protocol['dataset']} {protocol['split']}"
  if chosen:
    print(f"{what}\n{tally.table(row)}\n\n{protocols.paper_figures(chosen)}", flush=True)
    return
  print(f"{what}: MPJPE {row['mpjpe_mm']:.1f} mm, P-MPJPE {row['p_mpjpe_mm']:.1f} mm, N-MPJPE {row['n_mpjpe_mm']:.1f} mm, "
        f"{row['frames']:,} frames")
  print("protocol: " + ", ".join(f"{k}={v}" for k, v in protocol.items()), flush=True)


def _datasets_and_split(chosen: protocols.Protocol | None) -> tuple[list[str], str]:
  """What the flags ask to score. Raises ValueError where they lack something or contradict the protocol."""
  if not DATASET.value and chosen is None:
    raise ValueError("--dataset or --protocol is needed: what to score on")
  if chosen is None:
    return DATASET.value, SPLIT.value
  if flags.FLAGS["split"].present:
    raise ValueError(f"--split={SPLIT.value} contradicts --protocol={chosen.name}, which scores {chosen.split}: leave one out")
  known = chosen.dataset.partition("/")[0]
  for dataset in (datasets := DATASET.value or [chosen.dataset]):
    if dataset.partition("/")[0] != known:
      raise ValueError(f"--dataset={dataset} is not of protocol {chosen.name}: give a config of {known}")
  return datasets, chosen.split


if __name__ == "__main__":
  common.run(main)
