"""Where a gap comes from, and what choosing among hypotheses could give: evaluation only, nothing is trained.

    python -m experiments.diagnose --base=runs/base_cmu --manual_dir=DIR --out=gap.json
    python -m experiments.diagnose --base=runs/base_cmu --manual_dir=DIR --datasets=hdm05_mocap --rigs=wild_rig \\
        --weights=RUN/f_bias,RUN/ceiling --out=gap_hdm05_wild.json

Gap: the test motion of the source and of every dataset is seen by every rig, once with its own bodies and once with every bone as
long as the mean of the source's training subjects (directions kept, so that the motion is what remains). `decompose` splits
each error into the source's error at home and three parts that add up: camera, motion and body; with `--detected` a fourth, what a simulated
detector's errors add in the same views. For trained rows (`--weights`), a part is what is left of it.

Hypotheses: for H samples of the bare base, their spread, and the error of one sample, of the mean, of the choice by reprojection, of the best
choice there is (which needs the truth), of the mean moved onto the rays of the keypoints, and of the
mean fitted to the source's mean body.

Actions: the error of every action of a target with its own bodies, because one action that the source never shows can hold a gap open.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from posynda_jax.adaptation import adapt, bases, synthesis
from posynda_jax.data import pipeline
from posynda_jax.datasets.mocap import views
from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.evaluation import evaluate, protocols
from posynda_jax.geometry import metrics, skeleton
from posynda_jax.runtime import runs

flags.declare_key_flag("base")
DATASETS = flags.DEFINE_list("datasets", ["hdm05_mocap", "bandai_namco_mocap"], "Datasets with a world config, beside the source.")
RIGS = flags.DEFINE_list("rigs", ["dhp_rig", "wild_rig"], "Rigs that see them.")
WEIGHTS = flags.DEFINE_list("weights", [], "RUN/NAME, or LABEL=RUN/NAME, of adapters on the base, of `adapt`, `components` or `tables` runs, "
                            "beside the bare base.")
NUM = flags.DEFINE_integer("num_hypotheses", 3, "H of the hypothesis study.")
DETECTED = flags.DEFINE_bool("detected", False, "The targets also with a simulated detector's 2D, as their `_detected` configs have it.")
OUT = flags.DEFINE_string("out", None, "JSON file for the results.")


def with_body(motion: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """The motion [f 17 3] performed with the given bone lengths, ankles as high above the floor as they were."""
  moved = np.asarray(synthesis.with_bones(motion, lengths))
  lift = motion[:, [3, 6], 1].min(-1) - moved[:, [3, 6], 1].min(-1)
  return (moved + lift[:, None, None] * np.array([0, 1, 0])).astype(np.float32)


def see(records, dataset: str, rig: str, body: np.ndarray | None, detected: bool = False) -> list[dict]:
  """View records of world records under a rig: the views of the dataset's own rig config."""
  seen = []
  for record in records:
    max_frames = int(views.SHOT_SECONDS * record["fps"])
    motion = record["poses_world_m"] if body is None else with_body(record["poses_world_m"], body)
    for shot, frames in enumerate(views.shots(len(motion), max_frames)):
      one_shot = views.see(
          motion[frames], rig, detected=detected, max_frames=max_frames, dataset=dataset, sequence=record["sequence"], shot=shot
      )
      labels = {name: record[name] for name in ("fps", "subject", "action", "sequence")}
      seen += [{**fields, **labels} for _, fields in one_shot]
  return seen


def make_study(base: bases.Base, scale: float, num: int, body: np.ndarray):
  """Compiled as `evaluate.make_scorer`'s: the mean pose, and the errors of what could be made of `num` hypotheses, with their spread."""
  steps = process.ddim_steps(process.cosine_schedule(base.config["pretrain"]["diffusion_steps"]), 1)
  key = jax.random.key(2023)

  @jax.jit
  def study(weights, clip):
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(clip["index"])
    poses = sampler.propose(keys, adapt.make_denoiser(base.model, *weights, scale), clip["keypoints"], steps, num)
    poses, truth = skeleton.root_centre(poses), skeleton.root_centre(clip["poses"])
    seen = (clip["keypoints"], clip["intrinsics"], clip["confidence"])
    roots = hypotheses.solve_roots(poses, *seen)
    errors_2d = hypotheses.reprojection_error(poses, roots, *seen[:2])
    choice = lambda by: hypotheses.pick(poses, hypotheses.choose(errors_2d, clip["confidence"], by))
    mean = poses.mean(0)
    root_error = jnp.linalg.norm(hypotheses.solve_roots(mean[None], *seen)[0] - clip["poses"][..., 0, :], axis=-1)
    made = {"one": poses[0], "mean": mean, "chosen_frame": choice("frame"), "chosen_joint": choice("joint"),
            "mean_on_rays": hypotheses.onto_rays(mean, *seen), "mean_of_body": hypotheses.fit_body(mean, *seen, body)}
    return mean, {name: metrics.mpjpe(pose, truth) for name, pose in made.items()} | {
        "best_of_frame": metrics.mpjpe(poses, truth[None]).min(0),
        "spread": jnp.linalg.norm(poses - mean, axis=-1).mean((0, -1)),
        "mean_depth_error": jnp.abs(mean - truth)[..., 2].mean(-1),
        "mean_image_plane_error": jnp.linalg.norm((mean - truth)[..., :2], axis=-1).mean(-1),
        "root_error": root_error,
    }

  return study


BY_ACTION = protocols.Protocol(
    "by_action", "", "test", (protocols.Score("mpjpe_mm", "mpjpe"), protocols.Score("p_mpjpe_mm", "p_mpjpe")),
    (protocols.Grouping("action", "action"),), ("pooled",),
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One test split: a dataset's motion before a rig, with its own bodies or the source's mean body, and exact or detected 2D."""

  dataset: str
  rig: str
  own_body: bool
  detected: bool = False


def decompose(errors: dict[Cell, float], source: str, home_rig: str) -> list[dict]:
  """Rows {dataset, rig, home, camera, motion, body, total}, one a dataset and rig: home + camera + motion + body = total. Where
  there is a cell with detected 2D, the row has a part `detector` too.

  `camera` is what the rig adds to the source's own test motion. `body` is what the dataset's own bodies add to the source's mean
  body, beyond what the source's own do; `motion` is what remains: the dataset's motion against the source's, both on the mean body.
  `detector` is what detected 2D adds to exact 2D.
  """
  home = errors[Cell(source, home_rig, True)]
  rows = []
  for dataset, rig in sorted({(cell.dataset, cell.rig) for cell in errors} - {(source, home_rig)}):
    own, mean = errors[Cell(dataset, rig, True)], errors[Cell(dataset, rig, False)]
    source_own, source_mean = errors[Cell(source, rig, True)], errors[Cell(source, rig, False)]
    total = errors.get(Cell(dataset, rig, True, True), own)
    rows.append({
        "dataset": dataset, "rig": rig, "home": home, "camera": source_own - home, "motion": mean - source_mean,
        "body": (own - mean) - (source_own - source_mean), **({"detector": total - own} if total is not own else {}), "total": total,
    })
  return rows


def name_weights(text: str) -> tuple[str, str]:
  """(label, RUN/NAME) of LABEL=RUN/NAME, or of RUN/NAME, whose label is NAME."""
  label, _, path = text.rpartition("=")
  return label or path.rstrip("/").rpartition("/")[2], path


def load_adapter(path: str, base: bases.Base):
  """(adapter, LoRA scale, view) of RUN/NAME. Raises ValueError where it belongs to another base."""
  folder, _, name = path.rstrip("/").rpartition("/")
  config = runs.read_config(folder)
  if config.get("base") != base.digest:
    raise ValueError(f"{path} adapts the base {config.get('base')}, --base is {base.digest}: give the base it was trained on")
  return *common.load_adapter(folder, name, base, config), tuple(config["adapt"].get("view", ()))


def main() -> None:
  base = bases.load(common.BASE.value)
  source, _, home_rig = base.config["source"].partition("/")
  if "+" in home_rig:
    raise ValueError(f"base {common.BASE.value} was trained under {home_rig}: the camera's part is a gap to one rig, give a base of one")
  named = dict(map(name_weights, WEIGHTS.value))
  if len(named) < len(WEIGHTS.value):
    raise ValueError("two --weights have the same name: write LABEL=RUN/NAME")
  adapters = {name: load_adapter(path, base) for name, path in named.items()}
  if len(scales := {scale for _, scale, _ in adapters.values()}) > 1:
    raise ValueError(f"the adapters have different LoRA scales {sorted(scales)}: give those of one scale at a time")
  scale = scales.pop() if scales else 1.0
  all_weights = {"base": (None, ()), **{name: (adapter, view) for name, (adapter, _, view) in adapters.items()}}
  clip_fps, config = base.config["clip_fps"], evaluate.EvaluateConfig()
  make_denoiser = lambda weights: adapt.make_denoiser(base.model, *weights, scale)
  measure = functools.partial(protocols.frame_scores, BY_ACTION)
  make_scorer = functools.cache(lambda view: evaluate.make_scorer(make_denoiser, dataclasses.replace(config, view=view), measure))
  world = common.load_records(f"{source}/world", "train")
  body = np.array(pipeline.mean_bones(pipeline.make_tracks(world, pipeline.WORLD, clip_fps)))
  study = make_study(base, scale, NUM.value, body)
  cells = [Cell(source, home_rig, True)] + [
      Cell(dataset, rig, own) for rig in RIGS.value for dataset in dict.fromkeys([source, *DATASETS.value]) for own in (True, False)
  ] + [Cell(dataset, rig, True, True) for rig in RIGS.value for dataset in DATASETS.value if DETECTED.value]
  rows = []
  for cell in dict.fromkeys(cells):
    records = common.load_records(f"{cell.dataset}/world", "test")
    views_of = see(records, cell.dataset, cell.rig, None if cell.own_body else body, cell.detected)
    tracks = pipeline.make_tracks(views_of, pipeline.LABELLED, clip_fps)
    clips = pipeline.ClipSource(tracks, base.model.num_frames)
    for name, (adapter, view) in all_weights.items():
      weights = (base.params, adapter)
      found = evaluate.evaluate_protocol(make_scorer(view), weights, clips, config.batch_size, BY_ACTION)
      row = {"weights": name, **dataclasses.asdict(cell), **found["result"], "frames": found["counts"]["frames"]}
      if cell.own_body and adapter is None:
        row["hypotheses"] = evaluate.evaluate(study, weights, clips, config.batch_size)
      if cell.own_body and cell.dataset != source:
        row["actions"] = found["groups"]["action"]
      rows.append(row)
      print(f"{cell.dataset:20}{cell.rig:10}{'own body' if cell.own_body else 'mean body':11}{'detected ' * cell.detected}{name:30} MPJPE {row['mpjpe_mm']:6.1f}  "
            f"P-MPJPE {row['p_mpjpe_mm']:6.1f}  {row['frames']:,} frames", flush=True)
  parts = {
      name: decompose(
          {Cell(r["dataset"], r["rig"], r["own_body"], r["detected"]): r["mpjpe_mm"] for r in rows if r["weights"] == name},
          source, home_rig,
      )
      for name in all_weights
  }
  for name, found in parts.items():
    print(f"\n{name}: MPJPE in mm\n" + markdown(found), flush=True)
  protocol = {"base": base.digest, "split": "test", "keypoints_2d": "gt and detected" if DETECTED.value else "gt", "hypotheses": NUM.value, "sampling_steps": 1,
              "joints": "17 (H36M order, root included)", "clip_fps": clip_fps, "seed": config.seed}
  if OUT.value:
    runs.write_json(OUT.value, {"cells": rows, "parts": parts, "protocol": protocol})


def markdown(parts: list[dict]) -> str:
  """The parts as a table."""
  detector = ["detector"] if any("detector" in row for row in parts) else []
  columns = ["home", "camera", "motion", "body", *detector, "total"]
  lines = ["| target | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
  lines += [f"| {row['dataset']}, {row['rig']} | " + " | ".join(f"{row.get(c, 0.0):.1f}" for c in columns) + " |" for row in parts]
  return "\n".join(lines)


if __name__ == "__main__":
  common.run(main)
