"""Trains the base theta_s on a labelled source.

    python -m experiments.pretrain --workdir=runs/base_synthetic --flagfile=experiments/presets/embedded_base.flags
    python -m experiments.pretrain --workdir=runs/base_cmu --manual_dir=DIR --flagfile=experiments/presets/cmu_compact.flags

The first takes about three minutes on two cores, the second about forty. The run folder then holds `base/` (what `--base`
takes), checkpoints, TensorBoard events, loss curves and `metrics.json`.
"""

import dataclasses
import json

import jax
from absl import flags

from experiments import common
from posynda_jax.adaptation import bases, pretrain
from posynda_jax.data import pipeline
from posynda_jax.evaluation import evaluate
from posynda_jax.peft import lora
from posynda_jax.runtime import checkpoint, loop, parallel, runs
from posynda_jax.visuals import render

SOURCE = flags.DEFINE_string("source", "synthetic_motion/source", "Labelled source, dataset/rig, dataset/rig+rig or dataset/config.")
SPLIT = flags.DEFINE_string("split", "train", "Its training split.")
EVAL_ON = flags.DEFINE_string("eval_on", None, "dataset/config that is scored at the end (default: the source's exact 2D).")
EVAL_SPLIT = flags.DEFINE_string("eval_split", "test", "Which split of it, in TFDS syntax.")
STEPS = flags.DEFINE_integer("steps", 4000, "Updates.")
BATCH = flags.DEFINE_integer("batch", 64, "Clips an update.")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Peak AdamW rate.")
WARMUP = flags.DEFINE_integer("warmup_steps", 200, "Linear warm-up.")
DECAY = flags.DEFINE_enum("decay", "cosine", ["cosine", "exponential"], "Learning-rate schedule.")
WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 0.01, "AdamW weight decay.")
EMA = flags.DEFINE_float("ema", 0.995, "Exponential average of the weights that is kept as the base; 0 keeps the last.")
LOSS = flags.DEFINE_enum("loss", "mpjpe", pretrain.LOSSES, "Eq. 9 as mean square error, or the field's MPJPE.")
FINAL_SHARE = flags.DEFINE_float("final_step_share", 0.5, "Share of clips trained at t = T-1, where K = 1 inference happens.")
DETECTED_SHARE = flags.DEFINE_float("detected_share", 0.0, "Share of clips of world motion that see 2D as a detector gives it.")
DIFFUSION_STEPS = flags.DEFINE_integer("diffusion_steps", 1000, "T of the schedule.")


def identify(*, model_config: dict, config: pretrain.PretrainConfig, **others) -> dict:
  """All that defines a base: the config of its folder."""
  return {"model": model_config, "pretrain": dataclasses.asdict(config), **others}


def train_base(folder, *, source: str, split: str, model_config: dict, config: pretrain.PretrainConfig, batch: int, seed: int,
               clip_fps: float, eval_on: str, eval_split: str) -> bases.Base:
  """Trains (or resumes, or finds finished) a base in `folder` and scores it on `eval_split` of `eval_on`."""
  identity = identify(
      model_config=model_config, config=config, source=source, split=split, batch=batch, seed=seed, clip_fps=clip_fps,
      eval_on=eval_on, eval_split=eval_split,
  )
  run = runs.Run(folder, identity)
  if (run.folder / "metrics.json").exists():
    return bases.load(run.folder)
  model = common.make_model(model_config)
  data = common.load_source(source, split, clip_fps)
  clips = pipeline.ClipSource(data.tracks, model.num_frames)
  tx = pretrain.make_optimizer(config)
  state = pretrain.init_state(jax.random.key(seed), model, config)
  print(f"Base: {lora.count(state.params['params']):,} parameters, {len(clips):,} clips of {model.num_frames} frames from {source}", flush=True)
  step = common.make_step(pretrain.pretrain_step, model=model, config=config, rig=data.rig, tx=tx)
  identity = run.config | {"data": checkpoint.describe_data({"source": clips})}
  checkpoints = checkpoint.Checkpoints(run.folder / "checkpoints", common.KEEP.value, identity)
  feed = pipeline.batches({"source": clips}, {"source": batch}, seed)
  state, _ = loop.train(
      step, loop.resume(checkpoints, state, feed, "pretrain"), (), feed, jax.random.key(seed + 1), num_steps=config.num_steps,
      checkpoints=checkpoints, save_every=common.SAVE_EVERY.value, log_every=common.LOG_EVERY.value,
      write=run.write_scalars("pretrain"), name="pretrain",
  )
  seconds = checkpoints.seconds
  checkpoints.close()
  checkpoint.save_tree(run.folder / "base", state.ema if config.ema else state.params)
  run.close()
  if parallel.is_main() and (rows := runs.read_rows(run.folder, "pretrain")):
    render.save_curves(run.folder / "figures" / "pretrain.png", rows, ("loss", "train_mpjpe_mm", "grad_norm"))
  base = bases.load(run.folder)
  score_config = evaluate.EvaluateConfig(diffusion_steps=config.diffusion_steps)
  score = evaluate.make_scorer(lambda params: lora.bind(model, params, None), score_config)
  tracks = pipeline.make_tracks(common.load_records(eval_on, eval_split), pipeline.LABELLED, clip_fps)
  result = evaluate.evaluate(score, base.params, pipeline.ClipSource(tracks, model.num_frames), score_config.batch_size)
  protocol = evaluate.protocol(eval_on, eval_split, clip_fps, score_config)
  runs.write_json(run.folder / "metrics.json", {
      "base": result, "protocol": protocol, "seconds": seconds, "digest": base.digest, "body": pipeline.mean_bones(data.tracks),
  })
  run.write_results(runs.read_metrics(run.folder), config.num_steps)
  print(f"Base on {eval_on} {eval_split}: MPJPE {result['mpjpe_mm']:.1f} mm, P-MPJPE {result['p_mpjpe_mm']:.1f} mm, "
        f"{result['frames']:,} frames ({seconds:.0f} s of training)", flush=True)
  parallel.wait()  # for metrics.json
  return bases.load(run.folder)


def settings() -> dict:
  """The base that the flags describe, as arguments of `train_base`."""
  config = pretrain.PretrainConfig(
      learning_rate=LEARNING_RATE.value, num_steps=STEPS.value, warmup_steps=WARMUP.value, decay=DECAY.value,
      weight_decay=WEIGHT_DECAY.value, ema=EMA.value, loss=LOSS.value, final_step_share=FINAL_SHARE.value,
      diffusion_steps=DIFFUSION_STEPS.value, detected_share=DETECTED_SHARE.value,
  )
  return dict(
      source=SOURCE.value, split=SPLIT.value, model_config=common.model_config(), config=config, batch=BATCH.value,
      seed=common.SEED.value, clip_fps=common.CLIP_FPS.value, eval_on=EVAL_ON.value or common.fixed_views(SOURCE.value),
      eval_split=EVAL_SPLIT.value,
  )


def is_described(base: bases.Base) -> bool:
  """Whether a base is what the flags would train."""
  wanted = identify(**settings())
  return json.loads(json.dumps({name: base.config.get(name) for name in wanted})) == json.loads(json.dumps(wanted))


def from_flags(folder) -> bases.Base:
  """The base that the flags describe, in `folder`."""
  common.check_batch(BATCH.value, "batch")
  return train_base(folder, **settings())


def main() -> None:
  if common.WORKDIR.value is None:
    raise ValueError("--workdir is not given: name a folder for this run")
  common.print_devices()
  from_flags(common.WORKDIR.value)


if __name__ == "__main__":
  common.run(main)
