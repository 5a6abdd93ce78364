"""A base trained, or found finished, in a run folder: `Plan` says how, `PLANS` holds those that this project uses."""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp

from posynda_jax.adaptation import bases, pretraining, sources
from posynda_jax.adaptation.training import save_curves
from posynda_jax.data import clips, feed, tracks
from posynda_jax.diffusion import process
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.evaluation import results, scoring
from posynda_jax.geometry import virtual_camera
from posynda_jax.peft import counting
from posynda_jax.runtime import checkpoint, files, loop, parallel, processes, runs


@dataclasses.dataclass(frozen=True)
class Plan:
  """All that defines a base.

  `model`: fields of the denoiser, for `denoisers.make_model`. `source`: for `sources.load_source`. `eval_on`:
  dataset/config that scores the base; None is the source's exact 2D. `start`: base whose weights training starts
  from, for `bases.load`; None starts afresh.
  """

  model: dict[str, Any]
  pretrain: pretraining.PretrainConfig = pretraining.PretrainConfig()
  source: str = "synthetic_motion/source"
  split: str = "train"
  batch: int = 64
  seed: int = 0
  clip_fps: float = 50.0
  eval_on: str | None = None
  eval_split: str = "test"
  start: str | None = None


MODELS = {  # fields of the paper's size
    "mixste": {"width": 512, "depth": 8, "num_heads": 8, "drop_path": 0.1},
    "videopose": {
        "denoiser": "videopose", "filter_widths": [3, 3, 3], "channels": 1024, "causal": False, "dropout": 0.25,
    },
}
_FRAMES = {"num_frames": 9, "dtype": "float32"}
_COMPACT = _FRAMES | {"width": 96, "depth": 3, "num_heads": 3, "drop_path": 0.0}
_CMU = Plan(
    _COMPACT, pretraining.PretrainConfig(num_steps=5200, final_step_share=0.75), source="cmu_mocap/h36m_rig",
    clip_fps=15.0,
)
_ALL_RIGS = "h36m_rig+dhp_rig+wild_rig"
# Muon, a canonical camera, ACCAD's floor work twice beside CMU, and milder augmentations.
_SMALL = dataclasses.replace(
    _CMU, model=_COMPACT | {"inputs": 5},
    pretrain=dataclasses.replace(
        _CMU.pretrain, num_steps=9000, ema=0.998, muon_rate=0.01, detected_share=0.5, turned=0.1, reproportioned=0.5,
        hidden=0.1,
    ),
    source=f"cmu_mocap/{_ALL_RIGS}+2*accad_mocap/{_ALL_RIGS}", eval_on="cmu_mocap/h36m_rig_gt",
)
# Wider and deeper, with noise as large as poses, so that K > 1 gives samples; more people that nobody captured.
_BASE = dataclasses.replace(
    _SMALL, model=_SMALL.model | {"width": 128, "depth": 4, "num_heads": 4},
    pretrain=dataclasses.replace(
        _SMALL.pretrain, num_steps=6500, final_step_share=0.5, noise_std=0.25, mixed=0.3, offset=0.5, resized=0.5),
)
# The end of the base's training, with a real detector's errors in half of the clips' 2D and the doubt head; it needs
# `start`.
_BASE_DETECTED = dataclasses.replace(
    _BASE, model=_BASE.model | {"doubt": True}, pretrain=dataclasses.replace(
        _BASE.pretrain, num_steps=2000, detector="real", muon_rate=0.004, learning_rate=6e-4),
)
PLANS = {
    "paper": Plan(_FRAMES | MODELS["mixste"] | {"num_frames": 27}, pretraining.PretrainConfig(learning_rate=1e-3)),
    # A compact base on real motion: 33 minutes on two cores.
    "cmu_h36m": _CMU,
    # A base that ships: 80 minutes on two cores.
    "small": _SMALL,
    # The default base, in two parts: 155 and 43 minutes on two cores.
    "base": _BASE,
    "base_detected": _BASE_DETECTED,
    # VideoPose on the same clips. Every view is fresh and the base is an average of updates, so dropout only slowed it.
    "cmu_videopose": dataclasses.replace(
        _CMU, model=_FRAMES | MODELS["videopose"] | {"filter_widths": [3, 3], "channels": 512, "dropout": 0.0},
        pretrain=dataclasses.replace(_CMU.pretrain, learning_rate=3e-3, num_steps=10000),
    ),
    # The base of the default run: two minutes on two cores.
    "embedded": Plan(
        _COMPACT | {"num_frames": 3, "width": 64, "depth": 2, "num_heads": 2},
        pretraining.PretrainConfig(
            learning_rate=2.5e-3, muon_rate=0.02, num_steps=1200, warmup_steps=100, ema=0.99, final_step_share=0.9),
        batch=128, clip_fps=12.5,
    ),
    # The smallest run; its numbers mean nothing.
    "smoke": Plan(
        _COMPACT | {"num_frames": 3, "width": 16, "depth": 1, "num_heads": 1},
        pretraining.PretrainConfig(learning_rate=1e-3, num_steps=6), split="train[:5%]", batch=8, clip_fps=12.5,
        eval_split="test[:2%]",
    ),
}


PARTS = {  # part of a plan -> the fields of its training that leave it out
    "Muon": {"muon_rate": 0.0}, "turned people": {"turned": 0.0}, "mixed people": {"mixed": 0.0},
    "resized people": {"resized": 0.0}, "other proportions": {"reproportioned": 0.0}, "offset joints": {"offset": 0.0},
    "hidden joints": {"hidden": 0.0}, "a detector's errors": {"detected_share": 0.0},
    "the canonical camera": {"hidden": 0.0},  # without it a denoiser has no input for hidden joints
}


def get(name: str) -> Plan:
  """The named plan. Raises ValueError that lists the names."""
  if name not in PLANS:
    raise ValueError(f"plan {name!r} is unknown; choose one of {', '.join(PLANS)}")
  return PLANS[name]


def plan_of(base: bases.Base) -> Plan:
  """The plan that the base was trained by. Raises ValueError for a base that was not trained here."""
  names = {field.name for field in dataclasses.fields(Plan)}
  found = {name: value for name, value in base.config.items() if name in names}
  if set(found) | {"start"} != names:  # older bases have none
    raise ValueError(f"base {base.digest} does not say how it was trained: give one that `pretrain` made")
  return Plan(**found | {"pretrain": pretraining.PretrainConfig(**found["pretrain"])})


def changed(plan: Plan, width: float = 1.0, **training) -> Plan:
  """The plan with `width` as a share of its own width, and other fields of its training."""
  model = plan.model | ({"width": round(plan.model["width"] * width)} if width != 1.0 else {})
  return dataclasses.replace(plan, model=model, pretrain=dataclasses.replace(plan.pretrain, **training))


def ablations(plan: Plan) -> dict[str, Plan]:
  """Plans by row of a table: the whole plan "as it is", and it without each of PARTS that it has."""
  rows = {"as it is": plan}
  for part, fields in PARTS.items():
    reduced = changed(plan, **fields)
    if part == "the canonical camera" and "inputs" in plan.model:
      reduced = dataclasses.replace(reduced, model=plan.model | {"inputs": 2})
    if reduced not in rows.values():
      rows[f"without {part}"] = reduced
  return rows


def describe(plan: Plan) -> dict[str, Any]:
  """The plan as JSON with `eval_on` filled in: a base's config. Raises ValueError as `sources.fixed_views`."""
  eval_on = plan.eval_on or sources.fixed_views(plan.source)
  return json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(plan, eval_on=eval_on))))


def check_plan(plan: Plan) -> None:
  """Raises ValueError for augmentations that the plan's source or denoiser cannot have."""
  settings, inputs = plan.pretrain, plan.model.get("inputs", 2)
  if inputs not in (2, virtual_camera.CHANNELS):
    raise ValueError(f"inputs {inputs} is unknown; choose 2 for keypoints, 5 for the canonical camera's channels")
  changes = [name for name in pretraining.MOTION_CHANGES if getattr(settings, name)]
  if changes and sources.is_fixed(plan.source):
    raise ValueError(f"{plan.source} is recorded views: only world motion can be {', '.join(changes)}; set them to 0")
  if settings.hidden and inputs == 2:
    raise ValueError("a denoiser of keypoints alone has no input for hidden joints: give it inputs=5, or hidden=0")


def train_base(
    plan: Plan, folder, folders: sources.Folders = sources.Folders(), saving: loop.Saving = loop.Saving()
) -> bases.Base:
  """The plan's base, trained, resumed or found finished in `folder`, and scored at home.

  Raises ValueError for a plan that contradicts itself and for a folder of another plan.
  """
  model = make_model(plan.model)
  check_plan(plan)
  run = runs.Run(folder, describe(plan))
  if (run.folder / "metrics.json").exists():
    return bases.load(run.folder)
  source = sources.load_source(plan.source, plan.split, plan.clip_fps, folders)
  found = clips.ClipSource(source.tracks, model.num_frames)
  state, started = _first_state(plan, model)
  size = counting.count(state.params["params"])
  print(f"Base: {size:,} parameters, {len(found):,} clips of {model.num_frames} frames from {plan.source}", flush=True)
  step = parallel.make_parallel_step(
      functools.partial(pretraining.pretrain_step, model=model, config=plan.pretrain, rig=source.rig)
  )
  identity = run.config | started | {"data": checkpoint.describe_data({"source": found})}
  checkpoints = checkpoint.Checkpoints(run.folder / "checkpoints", saving.keep, identity)
  batches = feed.Feed({"source": found}, {"source": plan.batch}, plan.seed)
  settings = loop.LoopSettings(
      plan.pretrain.num_steps, saving.save_every, saving.log_every, run.write_scalars("pretrain"), "pretrain"
  )
  state = loop.resume(checkpoints, state, batches, "pretrain")
  state, _ = loop.train(step, state, (), batches, jax.random.key(plan.seed + 1), settings, checkpoints)
  seconds = checkpoints.seconds
  checkpoints.close()
  checkpoint.save_tree(run.folder / "base", state.ema if plan.pretrain.ema else state.params)
  run.close()
  save_curves(run, "pretrain", ("loss", "train_mpjpe_mm", "grad_norm"))
  base = bases.load(run.folder)
  scores, protocol = score_base(base, run.config["eval_on"], plan.eval_split, folders)
  files.write_json(run.folder / "metrics.json", {
      "base": scores, "protocol": protocol, "seconds": seconds, "digest": base.digest, "body": source.body,
  })
  run.write_results(results.result_table({"base": scores}), plan.pretrain.num_steps)
  print(f"Base on {run.config['eval_on']} {plan.eval_split}: MPJPE {scores['mpjpe_mm']:.1f} mm, P-MPJPE "
        f"{scores['p_mpjpe_mm']:.1f} mm, {scores['frames']:,} frames ({seconds:.0f} s of training)", flush=True)
  processes.wait()  # for metrics.json
  return bases.load(run.folder)


def _first_state(plan: Plan, model) -> tuple[pretraining.PretrainState, dict[str, str]]:
  """The state before the first update, and the digest of the base that it starts from; empty where it starts afresh.

  Raises ValueError for a base of another denoiser or another process.
  """
  state = pretraining.init_state(jax.random.key(plan.seed), model, plan.pretrain)
  if plan.start is None:
    return state, {}
  base = bases.load(plan.start)
  without_doubt = model.clone(doubt=False) if getattr(model, "doubt", False) else model
  diffusion = process.Diffusion(plan.pretrain.diffusion_steps, plan.pretrain.noise_std)
  if base.model not in (model, without_doubt) or base.diffusion != diffusion:
    raise ValueError(f"training starts from {plan.start}, which has {base.model} and {base.diffusion}, but the plan "
                     f"has {model} and {diffusion}: give the plan and the flags that this base was made with")
  params = {**base.params, "params": {**state.params["params"], **base.params["params"]}}
  return state.replace(params=params, ema=jax.tree.map(jnp.copy, params)), {"start": base.digest}


def score_base(base: bases.Base, dataset: str, split: str, folders: sources.Folders) -> tuple[dict, dict]:
  """(scores, protocol) of a bare base on a labelled split."""
  weights, config = bases.Weights(base), scoring.SamplingConfig(diffusion=base.diffusion)
  score = scoring.make_scorer(weights.make_denoiser, config)
  test = sources.open_clips(dataset, split, tracks.LABELLED, base.clip_fps, base.model.num_frames, folders)
  scores = scoring.evaluate(score, weights.params, weights.measured, test, config.batch_size)
  return scores, scoring.describe_protocol(dataset, split, base.clip_fps, config, base.view)
