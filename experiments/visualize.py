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
import pathlib

import numpy as np
from absl import flags

from posynda_jax.adaptation import bases, sources
from posynda_jax.evaluation import lifting, scoring
from posynda_jax.interop.keypoints import targets
from posynda_jax.runtime import runs
from posynda_jax.visuals import output, pose_sequence

from . import common, own_keypoints, sampling

LIFTED = flags.DEFINE_string("lifted", None, "npz file that experiments.lift wrote.")
DATASET = flags.DEFINE_string("dataset", None, "dataset/config with labels. Default: the dataset that scores the run.")
SPLIT = flags.DEFINE_string("split", "test", "Split of the dataset, in TFDS syntax.")
CAMERA = flags.DEFINE_string("camera", None, "Camera of the sequence. Default: the first.")
OUTPUT = flags.DEFINE_list("output", [], "Files to write, with commas between: .html, .gif, .mp4 or .png.")
FIGURE = flags.DEFINE_enum(
    "figure", None, output.FIGURES, "Content of a .png: hypotheses with the chosen one in red (Figure 3; default for "
    "several hypotheses), or methods side by side (Figure 4).")
ROWS = flags.DEFINE_integer("rows", 4, "Frames in a .png.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", None, "Length to show, from the start of the sequence.", lower_bound=0.01)
TITLE = flags.DEFINE_string("title", None, "Heading of a page.")
for name in ("base", "data_dir", "manual_dir", "run", "hypotheses", "sampling_steps", "select", "sequence"):
  flags.declare_key_flag(name)
flags.set_default(sampling.HYPOTHESES, 5)
flags.set_default(sampling.SELECT, "frame")  # as the teacher chooses

FILM_SECONDS = 10.0


def lift_labelled() -> pose_sequence.PoseSequence:
  """A labelled sequence, lifted by all weights that the flags name."""
  loaded, scored_on = _load_weights()
  dataset, first = DATASET.value or scored_on, loaded[0]
  if dataset is None or targets.is_own(dataset):
    raise ValueError("--dataset with labels is needed: for your own keypoints run experiments.lift and give --lifted")
  records, where = sources.load_records(dataset, SPLIT.value, common.folders()), f"{dataset} {SPLIT.value}"
  record = pose_sequence.find_record(records, where, own_keypoints.SEQUENCE.value, CAMERA.value)
  if "poses_camera_m" not in record:
    raise ValueError(f"{dataset} has no ground truth: lift it with experiments.lift and give --lifted")
  config, base = sampling.config(first), first.base
  lift = lifting.make_lifter(first.make_denoiser, config)
  settings = base.clip_fps, base.model.num_frames, config.batch_size
  lifted = {
      weights.name.replace("_", " "): lifting.lift_record(lift, weights.params, weights.measured, record, *settings)
      for weights in loaded
  }
  shown = pose_sequence.from_record(
      record, {name: one.pose for name, one in lifted.items()},
      hypotheses=np.moveaxis(lifted[first.name].hypotheses, 1, 0) if config.num_hypotheses > 1 else None,
      title=f"{dataset}: {record['sequence']}, camera {record['camera']}",
      chosen_name=f"{first.name}, select={config.select}",
  )
  errors = {name: np.linalg.norm(pose - shown.truth, axis=-1) for name, pose in shown.poses.items()}
  means = ", ".join(f"{name} {1000 * np.nanmean(error):.1f} mm" for name, error in errors.items())
  print(f"{record['sequence']}, {record['camera']}: MPJPE {means}", flush=True)
  notes = {"MPJPE of this sequence": means, "hypotheses shown": f"of {first.name}", "base": base.digest}
  protocol = scoring.describe_protocol(dataset, SPLIT.value, base.clip_fps, config, first.view)
  notes |= {name.replace("_", " "): str(value) for name, value in protocol.items()}
  return dataclasses.replace(shown, notes=notes)


def _load_weights() -> tuple[list[bases.Weights], str | None]:
  """(The weights to show, the dataset that scores them or None) of the flags."""
  run, config = sampling.RUN.value, {}
  if run is not None and not run.endswith(".safetensors"):
    config = runs.read_config(run)
  if "recipe" not in config:
    return [sampling.load_weights()], config.get("eval_on")
  folder = pathlib.Path(run).expanduser()
  trained = [name for name in ("adapted", "ceiling") if (folder / name).is_dir()]
  if not trained:
    raise FileNotFoundError(f"{run} holds neither adapted/ nor ceiling/: let the adaptation finish first")
  names = [trained[0], "source_only", *trained[1:]]
  return [bases.load_weights(run, name) for name in names], config["target"]


def main() -> None:
  paths = [pathlib.Path(path).expanduser() for path in OUTPUT.value]
  if not paths:
    raise ValueError(f"--output is needed: files that end in {', '.join(output.ENDINGS)}")
  for path in paths:
    output.check_path(path)
  if LIFTED.value and (sampling.RUN.value or DATASET.value):
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
