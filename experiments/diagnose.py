"""Splits a gap into camera, motion and body, without training.

    python -m experiments.diagnose --source=cmu_mocap/h36m_rig --manual_dir=DIR --out=gap.json
    python -m experiments.diagnose --source=cmu_mocap/h36m_rig --manual_dir=DIR --datasets=hdm05_mocap \\
        --rigs=wild_rig --adapters=RUN/adapted,RUN/ceiling --out=gap_hdm05_wild.json

Gap: every rig renders the test motion of the source and of every dataset, once with its own bodies and once with all
bones at the mean length of the source's training subjects. Only frames with people inside the image count.
`decompose` splits each error into the source's error at home and three parts that add up. For adapters a part is what
is left of it.

Actions: the error of every action of a target with its own bodies.
"""

import dataclasses
import functools

import numpy as np
from absl import flags

from posynda_jax.adaptation import bases, placement, sources
from posynda_jax.data import clips, tracks
from posynda_jax.datasets.mocap import views
from posynda_jax.evaluation import protocols, scoring
from posynda_jax.runtime import files, runs
from posynda_jax.runtime.text import markdown_table

from . import common

for name in ("base", "data_dir", "manual_dir"):
  flags.declare_key_flag(name)
SOURCE = flags.DEFINE_string(
    "source", None, "Home, dataset/rig; default: what the base was trained on, if that is one rig.")
DATASETS = flags.DEFINE_list(
    "datasets", ["hdm05_mocap", "bandai_namco_mocap"], "Datasets with a world config, beside the source.")
RIGS = flags.DEFINE_list("rigs", ["dhp_rig", "wild_rig"], "Rigs that render them.")
ADAPTERS = flags.DEFINE_list(
    "adapters", [], "RUN/NAME, or LABEL=RUN/NAME, of adapters on the base, beside the bare base.")
OUT = flags.DEFINE_string("out", None, "JSON file for the results.")

PARTS = ("home", "camera", "motion", "body", "total")
BY_ACTION = protocols.Protocol(
    "by_action", "", "test", (protocols.Score("mpjpe_mm", "mpjpe"), protocols.Score("p_mpjpe_mm", "p_mpjpe")),
    (protocols.Grouping("action", "action"),), ("pooled",),
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A test split: a dataset's motion under a rig, with own bodies or the source's mean."""

  dataset: str
  rig: str
  own_body: bool


def with_body(motion: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """The motion [f 17 3] with the given bone lengths, and its ankles as high above the floor as before."""
  moved = np.asarray(placement.with_bones(motion, lengths)).copy()
  moved[..., 1] += (motion[:, [3, 6], 1].min(-1) - moved[:, [3, 6], 1].min(-1))[:, None]
  return moved.astype(np.float32)


def render_cell(cell: Cell, lengths: np.ndarray, folders: sources.Folders) -> list[dict]:
  """View records of the cell, rendered from the dataset's world records: the spans in which people with their own
  bodies are inside the image.
  """
  found = []
  for record in sources.load_records(f"{cell.dataset}/world", "test", folders):
    max_frames = int(views.SHOT_SECONDS * record["fps"])
    render = functools.partial(
        views.render_shots, rig_name=cell.rig, max_frames=max_frames, detected=False, dataset=cell.dataset,
        sequence=record["sequence"])
    own = list(render(record["poses_world_m"]))
    shown = own if cell.own_body else render(with_body(record["poses_world_m"], lengths))
    labels = {name: record[name] for name in ("fps", "subject", "action", "sequence")}
    for (*_, own_fields), (*_, fields) in zip(own, shown, strict=True):
      spans = views.spans_in_image(own_fields, float(record["fps"]))
      found += [{**views.frames_of(fields, span), **labels} for span in spans]
  return found


def decompose(errors: dict[Cell, float], source: str, home_rig: str) -> list[dict]:
  """Rows {dataset, rig, home, camera, motion, body, total}, where home + camera + motion + body = total.

  `camera`: what the rig adds to the source's own test motion. `body`: what the dataset's own bodies add to the
  source's mean body, beyond what the source's own add. `motion`: what remains.
  """
  home, rows = errors[Cell(source, home_rig, True)], []
  for dataset, rig in sorted({(cell.dataset, cell.rig) for cell in errors} - {(source, home_rig)}):
    own, mean = errors[Cell(dataset, rig, True)], errors[Cell(dataset, rig, False)]
    source_own, source_mean = errors[Cell(source, rig, True)], errors[Cell(source, rig, False)]
    parts = {"home": home, "camera": source_own - home, "motion": mean - source_mean,
             "body": (own - mean) - (source_own - source_mean)}
    rows.append({"dataset": dataset, "rig": rig, **parts, "total": own})
  return rows


def load_all(base: bases.Base) -> dict[str, bases.Weights]:
  """The bare base and the adapters of --adapters, by label. Raises ValueError for labels that repeat and another base.
  """
  found = {"base": bases.Weights(base)}
  for text in ADAPTERS.value:
    label, _, path = text.rpartition("=")
    folder, _, name = path.rstrip("/").rpartition("/")
    if (label := label or name) in found:
      raise ValueError(f"two of --adapters are called {label}: write LABEL=RUN/NAME")
    if (trained_on := runs.read_config(folder).get("base")) != base.digest:
      raise ValueError(f"{path} adapts the base {trained_on}, --base is {base.digest}: give the base it was trained on")
    found[label] = bases.load_adapter(folder, name, base)
  if len(scales := {weights.config.scale for weights in found.values() if weights.adapter}) > 1:
    raise ValueError(f"the adapters have LoRA scales {sorted(scales)}: give those of one scale at a time")
  return found


def main() -> None:
  base = bases.load(common.BASE.value)
  source, _, home_rig = (SOURCE.value or base.config["source"]).partition("/")
  if "+" in home_rig:
    raise ValueError(f"base {common.BASE.value} was trained on {base.config['source']}: choose its home, of one rig, "
                     "as in --source=cmu_mocap/h36m_rig")
  all_weights, folders, config = load_all(base), common.folders(), scoring.SamplingConfig(diffusion=base.diffusion)
  world = tracks.make_tracks(sources.load_records(f"{source}/world", "train", folders), tracks.WORLD, base.clip_fps)
  lengths = np.array(tracks.mean_bones(world))
  measure = functools.partial(protocols.frame_scores, BY_ACTION)
  score = scoring.make_rule_scorer(list(all_weights.values())[-1].make_denoiser, config, ("mean",), measure)
  cells = [Cell(source, home_rig, True)]
  for rig in RIGS.value:
    cells += [Cell(it, rig, own) for it in dict.fromkeys([source, *DATASETS.value]) for own in (True, False)]
  rows = []
  for cell in dict.fromkeys(cells):
    rendered = tracks.make_tracks(render_cell(cell, lengths, folders), tracks.LABELLED, base.clip_fps)
    test = clips.ClipSource(rendered, base.model.num_frames)
    for name, weights in all_weights.items():
      inputs = (score, weights.params, weights.measured, test, config.batch_size)
      found = scoring.evaluate_rules(*inputs, BY_ACTION)["mean"]
      row = {"weights": name, **dataclasses.asdict(cell), **found["result"], "frames": found["counts"]["frames"]}
      if cell.own_body and cell.dataset != source:
        row["actions"] = found["groups"]["action"]
      rows.append(row)
      print(f"{cell.dataset:20}{cell.rig:10}{'own' if cell.own_body else 'mean'} body "
            f"{name:30} MPJPE {row['mpjpe_mm']:6.1f}  P-MPJPE {row['p_mpjpe_mm']:6.1f}  {row['frames']:,} frames",
            flush=True)
  parts, names = {}, [field.name for field in dataclasses.fields(Cell)]
  for name in all_weights:
    its = [row for row in rows if row["weights"] == name]
    parts[name] = decompose({Cell(*map(row.get, names)): row["mpjpe_mm"] for row in its}, source, home_rig)
    print(f"\n{name}: MPJPE in mm\n{markdown(parts[name])}", flush=True)
  protocol = {
      "base": base.digest, "split": "test", "keypoints_2d": "gt", "hypotheses": 1, "sampling_steps": 1,
      "joints": "17 (H36M order, root included)", "clip_fps": base.clip_fps, "seed": config.seed,
  }
  if OUT.value:
    files.write_json(OUT.value, {"cells": rows, "parts": parts, "protocol": protocol})


def markdown(parts: list[dict]) -> str:
  """The parts as a table."""
  rows = [[f"{row['dataset']}, {row['rig']}", *(f"{row[name]:.1f}" for name in PARTS)] for row in parts]
  return markdown_table(["target", *PARTS], rows)


if __name__ == "__main__":
  common.run(main)
