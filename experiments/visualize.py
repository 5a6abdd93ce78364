"""Pictures of a sequence: an interactive page, a film, or Figure 3 or 4 of the paper; the ending of --output decides.

    python -m experiments.visualize --lifted=walk.npz --output=walk.html,walk.gif
    python -m experiments.visualize --run=runs/cmu_wild --sequence=02_01/shot00 --output=walk.html
    python -m experiments.visualize --dataset=synthetic_motion/target_gt --figure=methods --output=methods.png

`--lifted` takes the npz file of `experiments.lift`, with all hypotheses if it ran with --hypotheses above 1. Without
it, the weights of `--run`, or of the base that ships, lift a labelled sequence of `--dataset`, and the ground truth is
shown too. An adaptation run shows its adapted weights with H hypotheses, then source-only and ceiling. A page (.html)
has the whole sequence, a film (.gif, .mp4) its first ten seconds. A page takes about half a minute on two cores, a film
a quarter of a minute more.
"""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
from absl import flags

from posynda_jax import lifter
from posynda_jax.adaptation import adapt, bases
from posynda_jax.evaluation import evaluate
from posynda_jax.runtime import runs
from posynda_jax.visuals import output, pose_sequence

from . import common, own_keypoints

LIFTED = flags.DEFINE_string("lifted", None, "npz file that experiments.lift wrote.")
RUN = flags.DEFINE_string("run", None, "Folder of a pretraining or adaptation run.")
flags.declare_key_flag("base")
DATASET = flags.DEFINE_string("dataset", None, "dataset/config with labels (default: the dataset that scores the run).")
SPLIT = flags.DEFINE_string("split", "test", "Split of the dataset, in TFDS syntax.")
CAMERA = flags.DEFINE_string("camera", None, "Camera of the sequence (default: the first).")
OUTPUT = flags.DEFINE_list("output", [], "Files to write, with commas between: .html, .gif, .mp4 or .png.")
FIGURE = flags.DEFINE_enum("figure", None, output.FIGURES, "Content of a .png: hypotheses with the chosen one in red "
                           "(Figure 3; default for several hypotheses), or methods side by side (Figure 4).")
ROWS = flags.DEFINE_integer("rows", 4, "Frames in a .png.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", None, "Length to show, from the start of the sequence.", lower_bound=0.01)
HYPOTHESES = flags.DEFINE_integer("hypotheses", 5, "H, hypotheses per clip; not with --lifted.", lower_bound=1)
SAMPLING_STEPS = flags.DEFINE_integer("sampling_steps", 1, "K, DDIM steps; not with --lifted.", lower_bound=1)
SELECT = flags.DEFINE_enum("select", "frame", evaluate.RULES, "Rule that makes one pose of H; not with --lifted. "
                           "The teacher uses frame.")
TITLE = flags.DEFINE_string("title", None, "Heading of a page.")
flags.declare_key_flag("sequence")

FILM_SECONDS = 10.0


def lift_labelled() -> pose_sequence.PoseSequence:
  """A labelled sequence, lifted by all weights that the flags name."""
  base, weights, scale, scored_on = _weights()
  dataset = DATASET.value or scored_on
  if dataset is None or own_keypoints.is_own(dataset):
    raise ValueError("--dataset with labels is needed: for your own keypoints run experiments.lift and give --lifted")
  records, where = common.load_records(dataset, SPLIT.value), f"{dataset} {SPLIT.value}"
  record = pose_sequence.find_record(records, where, own_keypoints.SEQUENCE.value, CAMERA.value)
  if "poses_camera_m" not in record:
    raise ValueError(f"{dataset} has no ground truth: lift it with experiments.lift and give --lifted")
  config = evaluate.EvaluateConfig(
      num_hypotheses=HYPOTHESES.value, sampling_steps=SAMPLING_STEPS.value, select=SELECT.value,
      diffusion_steps=base.diffusion_steps,
  )

  @functools.cache  # Weights with the same view share one compiled program.
  def make_lifter(view):
    config_of_view = dataclasses.replace(config, view=view)
    return lifter.make_lifter(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config_of_view)

  lifted = {}
  for name, adapter in weights.items():
    lift = make_lifter(() if name == "source only" else base.view)
    settings = base.clip_fps, base.model.num_frames, config.batch_size
    lifted[name] = lifter.lift_record(lift, (base.params, adapter), record, *settings)
  first = next(iter(lifted))
  shown = pose_sequence.from_record(
      record, {name: one.pose for name, one in lifted.items()},
      hypotheses=np.moveaxis(lifted[first].hypotheses, 1, 0) if HYPOTHESES.value > 1 else None,
      title=f"{dataset}: {record['sequence']}, camera {record['camera']}",
      chosen_name=f"{first}, select={SELECT.value}",
  )
  errors = {name: np.linalg.norm(pose - shown.truth, axis=-1) for name, pose in shown.poses.items()}
  means = ", ".join(f"{name} {1000 * np.nanmean(error):.1f} mm" for name, error in errors.items())
  print(f"{record['sequence']}, {record['camera']}: MPJPE {means}", flush=True)
  notes = {"MPJPE of this sequence": means, "hypotheses shown": f"of {first}", "base": base.digest}
  for key, value in evaluate.protocol(dataset, SPLIT.value, base.clip_fps, config).items():
    notes[key.replace("_", " ")] = str(value)
  return dataclasses.replace(shown, notes=notes)


def _weights():
  """(Base, {name: adapter or None}, LoRA scale, the dataset that scores them or None) of the flags."""
  if RUN.value is None:
    return bases.load(common.BASE.value), {"base": None}, 1.0, None
  config = runs.read_config(RUN.value)
  if "adapt" not in config:
    return bases.load(RUN.value), {"base": None}, 1.0, config.get("eval_on")
  folder = pathlib.Path(RUN.value).expanduser()
  loaded = {name: common.load_weights(RUN.value, name) for name in ("adapted", "ceiling") if (folder / name).is_dir()}
  if not loaded:
    raise FileNotFoundError(f"{RUN.value} holds neither adapted/ nor ceiling/: let the adaptation finish first")
  base, fresh, scale = next(iter(loaded.values()))
  adapters = {name: adapter for name, (_, adapter, _) in loaded.items()}
  adapters["source only"] = jax.tree.map(np.zeros_like, fresh)  # An adapter of zeros changes nothing.
  order = [name for name in ("adapted", "source only", "ceiling") if name in adapters]
  return base, {name: adapters[name] for name in order}, scale, config["target"]


def main() -> None:
  paths = [pathlib.Path(path).expanduser() for path in OUTPUT.value]
  if not paths:
    raise ValueError(f"--output is needed: files that end in {', '.join(output.ENDINGS)}")
  for path in paths:
    output.check_path(path)
  if LIFTED.value and (RUN.value or DATASET.value):
    raise ValueError("--lifted contradicts --run and --dataset: give the poses, or the weights that make them")
  shown = pose_sequence.read_lifted(LIFTED.value) if LIFTED.value else lift_labelled()
  shown = dataclasses.replace(shown, title=TITLE.value or shown.title)
  if SECONDS.value is not None:
    shown = shown.first_seconds(SECONDS.value)
  if not np.any(shown.valid):
    raise ValueError("no frame to show has a detected person: choose others")
  for path in paths:
    is_long_film = path.suffix in (".gif", ".mp4") and SECONDS.value is None
    part = shown.first_seconds(FILM_SECONDS) if is_long_film else shown
    print(output.save(path, part, FIGURE.value, ROWS.value), flush=True)


if __name__ == "__main__":
  common.run(main)
