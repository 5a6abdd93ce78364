"""Adapts a base to an unlabelled target domain (Algorithm 1) and scores it before and after.

    python -m experiments.adapt                                   # the embedded pair, about five minutes on two cores
    python -m experiments.adapt --base=runs/base_cmu --manual_dir=DIR --flagfile=experiments/presets/cmu_to_hdm05_wild.flags
    python -m experiments.adapt --target=keypoints:openpose_json/ --resolution=1920x1080 --fps=30 --workdir=runs/my_video ...

Without any flag it runs the preset `embedded.flags`: a compact base is trained on synthetic motion if the work directory has
none yet, then adapted to a target with other bodies, motions and cameras. Flag defaults are the paper's settings. A base that is
given, or the one that ships, adapts source-free where no --source is named: from its own pseudo-labels alone. The keypoints of
your own video are a target too, `keypoints:FILE`; without ground truth the scores are reprojection errors then, and say so.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import common, console, own_keypoints, sweep
from experiments import pretrain as pretrain_script
from posynda_jax import lifter
from posynda_jax.adaptation import adapt, bases, pretrain, synthesis
from posynda_jax.data import pipeline
from posynda_jax.diffusion import hypotheses
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import skeleton, virtual_camera
from posynda_jax.peft import lora
from posynda_jax.runtime import checkpoint, loop, parallel, runs
from posynda_jax.visuals import render

flags.declare_key_flag("base")
SOURCE_FREE = "none"  # as --source
TARGET = flags.DEFINE_string("target", "synthetic_motion/target_gt", "Unlabelled target: dataset/config, or keypoints:FILE.")
TARGET_SPLIT = flags.DEFINE_string("target_split", "train", "Split adapted on; its 3D is never read (except by --ceiling).")
TEST_SPLIT = flags.DEFINE_string("test_split", "test", "Target split that is scored.")
CEILING = flags.DEFINE_bool("ceiling", False, "Also train the same adapter with target labels: the bound of this adapter.")
UPDATES = flags.DEFINE_integer("updates", 1000, "Updates of the adapter (paper: 1,000).")
CLIPS = flags.DEFINE_integer("clips", 4, "Source clips an update, and as many target clips (paper: 4 + 4).")
ADAPT_RATE = flags.DEFINE_float("adapt_rate", 6e-5, "Adam rate of the adapter (paper: 6e-5).")
ADAPT_DECAY = flags.DEFINE_enum("adapt_decay", "constant", ["constant", "cosine"], "Its schedule.")
HYPOTHESES = flags.DEFINE_integer("hypotheses", 3, "H, hypotheses of the teacher (paper: 3).")
SELECT = flags.DEFINE_enum("select", "frame", hypotheses.GRANULARITIES, "What Eq. 4 chooses a hypothesis for.")
PSEUDO = flags.DEFINE_enum("pseudo_label", "best", adapt.PSEUDO_LABELS, "Chosen hypothesis (Eq. 5), or the mean of all.")
REFINE = flags.DEFINE_enum("refine", "none", hypotheses.REFINEMENTS, "What the target's 2D mends of a pseudo-label: `rays` puts its "
                           "joints on the rays of the keypoints, `body` also gives it the source's mean bone lengths.")
TEST_REFINE = flags.DEFINE_enum("test_refine", "none", hypotheses.REFINEMENTS, "The same for every scored pose; `body` "
                                "fits it to the body that its adapter was trained on, the bare base's to the source's.")
ALIGN = flags.DEFINE_enum("align", "clip", synthesis.ALIGNMENTS, "One placement F for a clip, or one for every frame.")
TILT = flags.DEFINE_enum("tilt", "none", adapt.TILTS, "F also turns source clips: pitched at random or as "
                         "the teacher sees the target, or with the spine along the one it sees.")
TILT_DEG = flags.DEFINE_float("tilt_deg", 25.0, "By at most this many degrees.")
PAIR = flags.DEFINE_enum("pair", "random", adapt.PAIRS, "Which source clip F puts before a target clip's camera: any, or the more upright "
                         "of a batch the more upright the teacher sees the target.")
PROPORTIONS = flags.DEFINE_enum("proportions", "source", adapt.PROPORTIONS, "Whose bone-length ratios F gives to source bodies: their own, "
                                "or the target's as its 2D shows them.")
VIEW = flags.DEFINE_enum("view", "own", virtual_camera.VIEWS, "The camera that the lifter sees the target by: its own, or a virtual one that turns "
                         "and zooms until people stand where and as large as the source's cameras see them.")
STRETCH = flags.DEFINE_float("stretch", 0.0, "F also varies bone lengths by this log-standard deviation (paper: not).")
NOVEL_VIEWS = flags.DEFINE_float("novel_views", 0.0, "Weight of the target's people as the teacher sees them, turned to another side: "
                                  "exact labels of what the camera then sees. 0: not.", lower_bound=0.0)
TUMBLE = flags.DEFINE_float("tumble", 0.0, "Clips of F and of novel views are also turned about any axis, by normal angles that deviate by this "
                            "times the angle at which the teacher sees the target's people lean.", lower_bound=0.0)
TEACHER_FLIP = flags.DEFINE_bool("teacher_flip", False, "The teacher averages each answer with the mirrored one.")
RANK = flags.DEFINE_integer("rank", 4, "LoRA rank r (paper: 4).")
SCALE = flags.DEFINE_float("lora_scale", 1.0, "LoRA scale s (paper: 1).")
RULE = flags.DEFINE_string("lora_rule", None, "Regular expression on module paths: which kernels are adapted; by default the "
                           "attention of mixste, the convolutions of videopose.")
TUNE = flags.DEFINE_enum("tune", "lora", adapt.TUNES, "What of the base is tuned: low-rank factors, the same with DoRA's magnitudes, every "
                         "parameter, biases (BitFit), or norms.")
USE_SYNTHESIS = flags.DEFINE_bool("synthesis", True, "Target-specific source augmentation F (Eq. 3).")
ADVERSARIAL = flags.DEFINE_float("adversarial_rate", 0.0, "Above 0: in place of F, a generator of target poses learns against a critic "
                                 "of 2D at this Adam rate (the kind of baseline that the paper's Table 5 has).", lower_bound=0.0)
PENALTY = flags.DEFINE_float("adversarial_penalty", 1.0, "Weight of the critic's squared slope, which keeps the game from being lost.", lower_bound=0.0)
GENERATOR_SHARE = flags.DEFINE_float("adversarial_share", 0.25, "The generator's Adam rate, as a share of the critic's.", lower_bound=0.0)
USE_PSEUDO = flags.DEFINE_bool("pseudo", True, "Pseudo-labelled target clips (Eq. 4-5).")
USE_BIAS = flags.DEFINE_bool("bias", True, "Cross-dataset bias (Eq. 11).")
ADAPT_LOSS = flags.DEFINE_enum("adapt_loss", "mse", pretrain.LOSSES, "Loss of adaptation (Eq. 9: mse).")
PSEUDO_WEIGHT = flags.DEFINE_float("pseudo_weight", 1.0, "Weight of a pseudo-labelled frame against a source frame.")
REPROJECTION = flags.DEFINE_float("reprojection_weight", 0.0, "Weight of a 2D reprojection term on target clips.")
STUDENT_INPUT = flags.DEFINE_enum("student_input", "noise", adapt.STUDENT_INPUTS, "Pure noise at T-1, or the diffused label.")
TEACHER_EMA = flags.DEFINE_float("teacher_ema", 0.0, "Share of the old teacher kept at each step (paper: 0).")
TEACHER_STEPS = flags.DEFINE_integer("teacher_steps", 1, "K, DDIM steps of the teacher.")
FLIP = flags.DEFINE_bool("flip", False, "Average each evaluation step with its mirror image.")


def adapt_config(base: bases.Base, source: common.Source | None, view: str | None = None) -> adapt.AdaptConfig:
  """The flags as one frozen config, `view` in place of --view where it is given. The mean body is the source's; source-free, what
  the base knows of its own. Raises ValueError for a source's view without a source."""
  body = pipeline.mean_bones(source.tracks) if source else base.body
  turned = (view or VIEW.value) == "source"
  if turned and source is None:
    raise ValueError("--view=source needs the cameras of a source, and there is none: name a --source, or leave it out")
  return adapt.AdaptConfig(
      view=common.usual_view(source) if turned else (),
      source=source is not None,
      num_hypotheses=HYPOTHESES.value, select=SELECT.value, pseudo_label=PSEUDO.value, refine=REFINE.value, body=body,
      align=ALIGN.value, tilt=TILT.value, tilt_deg=TILT_DEG.value, stretch=STRETCH.value, pair=PAIR.value, proportions=PROPORTIONS.value,
      teacher_flip=TEACHER_FLIP.value, novel_views=NOVEL_VIEWS.value, tumble=TUMBLE.value,
      synthesis=USE_SYNTHESIS.value, pseudo=USE_PSEUDO.value, rank=RANK.value, scale=SCALE.value,
      adversarial_rate=ADVERSARIAL.value, adversarial_penalty=ADVERSARIAL.value and PENALTY.value,
      adversarial_share=GENERATOR_SHARE.value,
      target_rule=RULE.value or adapt.TARGET_RULES[base.config["model"].get("denoiser", "mixste")],
      tune=TUNE.value, bias=USE_BIAS.value, learning_rate=ADAPT_RATE.value, num_steps=UPDATES.value, decay=ADAPT_DECAY.value,
      loss=ADAPT_LOSS.value,
      pseudo_weight=PSEUDO_WEIGHT.value, reprojection_weight=REPROJECTION.value, student_input=STUDENT_INPUT.value,
      teacher_ema=TEACHER_EMA.value, sampling_steps=TEACHER_STEPS.value, diffusion_steps=base.diffusion_steps,
  )


@dataclasses.dataclass(frozen=True)
class Task:
  """A base, a labelled source (None: source-free) and a target: what every adaptation of a comparison shares."""

  base: bases.Base
  source: common.Source | None
  target: str
  target_split: str
  test_split: str
  num_clips: int
  seed: int
  score_config: evaluate.EvaluateConfig
  score: Callable  # compiled ((base params, adapter), clip) -> poses, errors; for own keypoints a lifter
  score_own: Callable  # the same where clips are seen by their own cameras: `score`, unless the config has a view
  test: pipeline.ClipSource | None  # None for own keypoints, which have no labels

  @property
  def clip_fps(self) -> float:
    return self.base.clip_fps

  def rate(self, adapter, own: bool = False) -> dict[str, float]:
    """The adapter (None: the bare base) on the labelled test split; on own keypoints, its reprojection error. With `own`, no view."""
    weights, size, score = (self.base.params, adapter), self.score_config.batch_size, self.score_own if own else self.score
    if self.test is None:
      return own_keypoints.rate(score, weights, self.target, self.clip_fps, self.base.model.num_frames, size)
    return evaluate.evaluate(score, weights, self.test, size)


def source_name() -> str:
  """The flags' source: `none`, which is source-free, where a base is given and no --source."""
  given = flags.FLAGS["source"].present or common.BASE.value == "train"
  return pretrain_script.SOURCE.value if given else SOURCE_FREE


def load_source(base: bases.Base) -> common.Source | None:
  """The labelled source that the flags name; None for `none`."""
  name = source_name()
  return None if name == SOURCE_FREE else common.load_source(name, pretrain_script.SPLIT.value, base.clip_fps)


def open_test(base: bases.Base, target: str, split: str) -> pipeline.ClipSource:
  """A labelled split as clips of the base."""
  tracks = pipeline.make_tracks(common.load_records(target, split), pipeline.LABELLED, base.clip_fps)
  return pipeline.ClipSource(tracks, base.model.num_frames)


def make_task(
    base: bases.Base, source: common.Source | None, config: adapt.AdaptConfig, test: pipeline.ClipSource | None
) -> Task:
  """The task that the flags describe, scored on `test`; None for own keypoints."""
  score_config = evaluate.EvaluateConfig(
      flip=FLIP.value, refine=TEST_REFINE.value, body=config.body, view=config.view, diffusion_steps=config.diffusion_steps
  )
  make_score = lifter.make_lifter if test is None else evaluate.make_scorer
  make_denoiser = lambda weights: adapt.make_denoiser(base.model, *weights, config.scale)
  score = make_score(make_denoiser, score_config)
  return Task(
      score_own=make_score(make_denoiser, dataclasses.replace(score_config, view=())) if config.view else score,
      base=base, source=source, target=TARGET.value, target_split=TARGET_SPLIT.value, test_split=TEST_SPLIT.value, num_clips=CLIPS.value,
      seed=common.SEED.value, score_config=score_config, score=score, test=test,
  )


def open_streams(task: Task, config: adapt.AdaptConfig) -> tuple[dict[str, pipeline.ClipSource], dict[str, int]]:
  """What the training draws from, and how many clips of each an update.

  The target's 3D poses are not even read, unless the config asks for its ceiling.
  """
  num_frames = task.base.model.num_frames
  fields = pipeline.UNLABELLED if config.supervision == "adapt" else pipeline.LABELLED
  records = common.load_records(task.target, task.target_split)
  target = pipeline.ClipSource(pipeline.make_tracks(records, fields, task.clip_fps), num_frames)
  if config.supervision == "ceiling":  # as many clips an update as adaptation learns from, all of them the target's
    streams, sizes = {"target": target}, {"target": config.num_sets * task.num_clips}
  else:
    streams, sizes = {"target": target}, {"target": task.num_clips}
    if task.source:
      streams, sizes = {"source": pipeline.ClipSource(task.source.tracks, num_frames), **streams}, {"source": task.num_clips, **sizes}
  return streams, sizes


def train_adapter(task: Task, config: adapt.AdaptConfig, run: runs.Run, name: str):
  """One adapter, trained or resumed in the run's folder under `name`, and NAME_body.json. Returns (adapter, seconds)."""
  streams, sizes = open_streams(task, config)
  tx = adapt.make_optimizer(config)
  state = adapt.init_state(jax.random.key(task.seed), task.base.params, config, task.base.model.num_frames)
  rig = task.source and task.source.rig
  chunk = common.HYPOTHESIS_CHUNK.value
  model = common.with_remat(task.base.model)
  step = common.make_step(adapt.adapt_step, model=model, config=config, rig=rig, tx=tx, chunk=chunk)
  identity = run.config | {"adapt": adapt.describe(config), "data": checkpoint.describe_data(streams)}
  checkpoints = checkpoint.Checkpoints(run.folder / "checkpoints" / name, common.KEEP.value, identity)
  feed = pipeline.batches(streams, sizes, task.seed)
  state, _ = loop.train(
      step, loop.resume(checkpoints, state, feed, name), task.base.params, feed, jax.random.key(task.seed + 1),
      num_steps=config.num_steps, checkpoints=checkpoints, save_every=common.SAVE_EVERY.value, log_every=common.LOG_EVERY.value,
      write=run.write_scalars(name), name=name,
  )
  seconds = checkpoints.seconds
  checkpoints.close()
  save_adapter(run, name, state.adapter)
  if body := find_body(task, config, streams["target"], state.adapter):
    with parallel.main_first():  # who scores the adapter reads it
      runs.write_json(run.folder / f"{name}_body.json", {"body": body})
  return state.adapter, seconds


def find_body(task: Task, config: adapt.AdaptConfig, target: pipeline.ClipSource, adapter) -> tuple[float, ...]:
  """Mean bone lengths [16] (m) of the people that the adapter was trained on, where they are not the config's: with the target's
  proportions as its 2D shows them, or for the ceiling the labelled target's own; else empty."""
  if config.supervision == "ceiling":
    return pipeline.mean_bones(target.tracks)
  if config.proportions == "source":
    return ()
  make_denoiser = lambda weights: adapt.make_denoiser(task.base.model, *weights, config.scale)
  plain = evaluate.EvaluateConfig(view=config.view, diffusion_steps=config.diffusion_steps)
  return evaluate.find_body(make_denoiser, (task.base.params, adapter), target, config.body, plain)


def fitted(task: Task, config: adapt.AdaptConfig, run: runs.Run, name: str) -> Task:
  """The task that scores adapter `name`: under --test_refine=body its poses get the body that it was trained on."""
  body = tuple(runs.adapter_settings(run.folder, name)["body"])
  if TEST_REFINE.value != "body" or body == config.body:
    return task
  return make_task(task.base, task.source, dataclasses.replace(config, body=body), task.test)


def save_adapter(run: runs.Run, name: str, adapter) -> None:
  """The trained adapter `name` in the run's folder, and the curves of what was logged of it."""
  checkpoint.save_tree(run.folder / name, adapter)
  run.close()
  if parallel.is_main() and (rows := runs.read_rows(run.folder, name)):
    names = ("loss", "loss_pose", "teacher_spread_mm", "grad_norm", "adapter_norm")
    render.save_curves(run.folder / "figures" / f"{name}.png", rows, names)


def count_trainable(task: Task, config: adapt.AdaptConfig) -> int:
  """Parameters that the config's adapter trains."""
  adapter = jax.eval_shape(lambda: adapt.init_adapter(jax.random.key(0), task.base.params, config))
  return lora.count({name: part for name, part in adapter.items() if config.bias or name != "bias"})


def write_results(run: runs.Run, task: Task, config: adapt.AdaptConfig, results: dict) -> dict:
  """Puts the results into the run's folder with their protocol, which is returned."""
  if own := task.test is None:
    protocol = own_keypoints.protocol(task.target, task.clip_fps, task.score_config)
  else:
    protocol = evaluate.protocol(task.target, task.test_split, task.clip_fps, task.score_config)
  split = "all frames" if own else task.target_split
  protocol |= {"adapted_on": f"{task.target}:{split} (2D and intrinsics only)", "run_seed": task.seed}
  runs.write_json(run.folder / "metrics.json", {**results, "protocol": protocol})
  run.write_results(results, config.num_steps)
  return protocol


def print_table(results: dict, protocol: dict) -> None:
  """Rows with their protocol; gap closure where a ceiling was trained."""
  print(f"\n{'':14}{'MPJPE mm':>10}{'P-MPJPE mm':>12}{'frames':>9}{'trainable':>11}{'seconds':>9}")
  for name, row in results.items():
    print(f"{name:14}{row['mpjpe_mm']:10.1f}{row['p_mpjpe_mm']:12.1f}{row['frames']:9,}{row['trainable']:11,}{row['seconds']:9.0f}")
  if "ceiling" in results:
    print(f"gap closure {100 * closure(results):.0f}%")
  print("protocol: " + ", ".join(f"{k}={v}" for k, v in protocol.items()) + "\n", flush=True)


def closure(results: dict) -> float:
  """(source-only - adapted) / (source-only - ceiling), in MPJPE."""
  source_only, adapted, ceiling = (results[k]["mpjpe_mm"] for k in ("source_only", "adapted", "ceiling"))
  return (source_only - adapted) / (source_only - ceiling)


def save_picture(path, task: Task, adapter) -> None:
  """Before, after and ground truth for the middle frames of a few test clips spread over the split; of own keypoints no truth."""
  if task.test is None:
    own_keypoints.save_comparison(path, task.target, (task.score_own, task.score), task.base, adapter, task.score_config.batch_size)
    return
  picked = np.linspace(0, len(task.test) - 1, 6).astype(int)[1:-1]
  rows, size = [task.test[i] for i in picked], task.score_config.batch_size
  batch = {k: np.stack([row[k] for row in (rows * size)[:size]]) for k in rows[0]}
  middle = task.base.model.num_frames // 2
  shown = lambda poses: np.asarray(poses)[: len(rows), middle]
  poses = lambda score, adapter: shown(score((task.base.params, adapter), batch)[0])
  fresh = jax.tree.map(jax.numpy.zeros_like, adapter)
  columns = {"source only": poses(task.score_own, fresh), "adapted": poses(task.score, adapter), "ground truth": shown(skeleton.root_centre(batch["poses"]))}
  render.save_comparison(path, shown(batch["keypoints"]), columns)


def identify(base: bases.Base, base_folder, config: adapt.AdaptConfig) -> dict[str, Any]:
  """All that defines a run of the flags: the config of its folder."""
  return {
      "base": base.digest, "base_folder": str(base_folder), "adapt": adapt.describe(config),
      "source": source_name(), "target": TARGET.value, "target_split": TARGET_SPLIT.value,
      "test_split": TEST_SPLIT.value, "clips": CLIPS.value, "seed": common.SEED.value, "flip": FLIP.value,
      "test_refine": TEST_REFINE.value,
  }


def load_base() -> tuple[bases.Base, str]:
  """The base that the flags name, trained first for `--base=train`, and its folder."""
  folder = f"{common.WORKDIR.value}/base" if common.BASE.value == "train" else common.BASE.value
  return (pretrain_script.from_flags(folder) if common.BASE.value == "train" else bases.load(folder)), folder


def main() -> None:
  common.check_batch(CLIPS.value, "clips")
  if common.WORKDIR.value is None:
    raise ValueError("--workdir is not given: name a folder for this run")
  own = own_keypoints.identity(TARGET.value) if own_keypoints.is_own(TARGET.value) else None
  if own and CEILING.value:
    raise ValueError(f"--ceiling trains on labels, which {TARGET.value} does not have: leave it out")
  common.print_devices()
  base, base_folder = load_base()
  source = load_source(base)
  config = adapt_config(base, source)
  identity = identify(base, base_folder, config) | ({"own_keypoints": own} if own else {})
  if sweep.SWEEP.value:
    sweep.run(sys.modules[__name__], base, source, config, identity)
    return
  run = runs.Run(common.WORKDIR.value, identity)
  task = make_task(base, source, config, None if own else open_test(base, TARGET.value, TEST_SPLIT.value))
  if source is None:
    print("Source-free: no --source, so the adapter learns from pseudo-labels of the target alone", flush=True)
  trainable = count_trainable(task, config)
  print(f"Adapter: {trainable:,} parameters train; the base's {lora.count(base.params['params']):,} are frozen", flush=True)

  adapter, seconds = train_adapter(task, config, run, "adapted")
  fresh = jax.tree.map(jax.numpy.zeros_like, adapter)
  results = {
      "source_only": task.rate(fresh, own=True) | {"trainable": 0, "seconds": 0.0},
      **({"view_alone": task.rate(fresh) | {"trainable": 0, "seconds": 0.0}} if config.view else {}),
      "adapted": fitted(task, config, run, "adapted").rate(adapter) | {"trainable": trainable, "seconds": seconds},
  }
  if parallel.is_main():
    save_picture(run.folder / "figures" / "comparison.png", task, adapter)
  if CEILING.value:
    bound, seconds = train_adapter(task, dataclasses.replace(config, supervision="ceiling"), run, "ceiling")
    results["ceiling"] = fitted(task, config, run, "ceiling").rate(bound) | {"trainable": trainable, "seconds": seconds}
  protocol = write_results(run, task, config, results)
  (own_keypoints.print_table if own else print_table)(results, protocol)
  print(f"Everything is in {run.folder}: metrics.json, figures/, events/ (TensorBoard), adapted/ (the adapter)", flush=True)


if __name__ == "__main__":
  if len(sys.argv) == 1:
    preset = console.PRESETS / "embedded.flags"
    print(f"No flags given: --flagfile={preset}", flush=True)
    sys.argv.append(f"--flagfile={preset}")
  common.run(main)
