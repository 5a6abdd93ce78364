"""Pictures of a sequence: an interactive page, a film, or the paper's Figures 3 and 4, chosen by the ending of --output.

    python -m experiments.visualize --lifted=walk.npz --output=walk.html,walk.gif
    python -m experiments.visualize --run=runs/cmu_wild --sequence=02_01/shot00 --output=walk.html
    python -m experiments.visualize --dataset=synthetic_motion/target_gt --figure=methods --output=methods.png

`--lifted` takes what `experiments.lift` wrote, with all hypotheses where it ran with --hypotheses above 1. Otherwise the weights
of `--run`, or of the base that ships, lift a labelled sequence of `--dataset`, and are shown with the ground truth: of an
adaptation run the adapted weights with H hypotheses, then source-only and ceiling. A page (.html) holds the whole sequence, a
film (.gif, .mp4) its first ten seconds. Takes about half a minute on two cores, a film a quarter more.
"""

import dataclasses
import functools
import json
import pathlib
import zipfile

import jax
import numpy as np
from absl import flags

from experiments import common, own_keypoints
from posynda_jax import lifter
from posynda_jax.adaptation import adapt, bases
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import skeleton
from posynda_jax.runtime import runs
from posynda_jax.visuals import animation, render, viewer

LIFTED = flags.DEFINE_string("lifted", None, "An npz that experiments.lift wrote.")
RUN = flags.DEFINE_string("run", None, "Folder of a pretraining or adaptation run.")
flags.declare_key_flag("base")
DATASET = flags.DEFINE_string("dataset", None, "dataset/config with labels; without it, the one that the run is scored on.")
SPLIT = flags.DEFINE_string("split", "test", "Its split, in TFDS syntax.")
CAMERA = flags.DEFINE_string("camera", None, "Which camera's view of the sequence; without it the first.")
OUTPUT = flags.DEFINE_list("output", [], "Files to write, with commas between: .html, .gif, .mp4 or .png.")
FIGURE = flags.DEFINE_enum("figure", None, ["hypotheses", "methods"], "What a .png shows: hypotheses with the chosen one in red "
                           "(Figure 3, the default where there are several), or methods side by side (Figure 4).")
ROWS = flags.DEFINE_integer("rows", 4, "Frames in a .png.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", None, "How much of the sequence to show, from its start.", lower_bound=0.01)
HYPOTHESES = flags.DEFINE_integer("hypotheses", 5, "H, hypotheses per clip, where weights lift.", lower_bound=1)
SAMPLING_STEPS = flags.DEFINE_integer("sampling_steps", 1, "K, DDIM steps, where weights lift.", lower_bound=1)
SELECT = flags.DEFINE_enum("select", "frame", evaluate.RULES, "Rule that makes one pose of H, where "
                           "weights lift; by frame it is the teacher's.")
TITLE = flags.DEFINE_string("title", None, "Heading of a page.")
flags.declare_key_flag("sequence")

ENDINGS = (".html", ".gif", ".mp4", ".png")
FILM_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Scene:
  """What there is to show of T frames: `poses` name -> [T 17 3], the chosen first, `hypotheses` [H T 17 3], `truth` [T 17 3], all
  root-relative (m); the 2D input with its camera, `fps`, and `notes` for a reader."""

  title: str
  poses: dict[str, np.ndarray]
  hypotheses: np.ndarray | None
  truth: np.ndarray | None
  keypoints_px: np.ndarray
  confidence: np.ndarray
  valid: np.ndarray
  intrinsics: np.ndarray
  resolution: np.ndarray
  fps: float
  chosen_name: str  # where it stands among its hypotheses
  notes: dict[str, str]
  first_frame: int = 0

  def cut(self, seconds: float | None) -> "Scene":
    """The first `seconds` of it; all where None."""
    end = None if seconds is None else max(1, round(seconds * self.fps))
    values = {name: getattr(self, name) for name in ("hypotheses", "truth", "keypoints_px", "confidence", "valid")}
    cut = {name: v if v is None else v[:, :end] if name == "hypotheses" else v[:end] for name, v in values.items()}
    return dataclasses.replace(self, poses={name: pose[:end] for name, pose in self.poses.items()}, **cut)


def read_lifted(path: str) -> Scene:
  """The scene of an npz that `experiments.lift` wrote. Raises FileNotFoundError, or ValueError for a file of another kind."""
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise FileNotFoundError(f"--lifted={path} does not exist: give the npz that experiments.lift wrote")
  needed = {"frame", "pose_root_m", "keypoints_px", "confidence", "detected", "intrinsics", "resolution", "fps", "metadata"}
  try:
    with np.load(file) as found:
      data = {name: found[name] for name in found.files}
  except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
    raise ValueError(f"--lifted={path} cannot be read as an npz of arrays: give the file that experiments.lift wrote") from error
  if missing := sorted(needed - set(data)):
    raise ValueError(f"--lifted={path} is an npz of another kind: it lacks {', '.join(missing)}, which experiments.lift writes")
  metadata, several = json.loads(str(data["metadata"])), data.get("hypotheses_root_m")
  name = "lifted" if several is None else _made(metadata["selection"])
  return Scene(
      title=f"Lifted: {metadata.get('sequence', file.stem)}", chosen_name=name,
      poses={name: data["pose_root_m"]}, hypotheses=several, truth=None,
      keypoints_px=data["keypoints_px"], confidence=data["confidence"], valid=data["detected"], intrinsics=data["intrinsics"],
      resolution=data["resolution"], fps=float(data["fps"]), first_frame=int(data["frame"][0]),
      notes={name.replace("_", " "): _text(value) for name, value in metadata.items() if name != "sequence"},
  )


def _made(selection: str) -> str:
  """How one pose was made of the hypotheses."""
  return "mean of hypotheses" if selection == "mean" else f"chosen by {selection}"


def _text(value) -> str:
  return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def lift_labelled() -> Scene:
  """The scene of a labelled sequence, lifted by all weights that the flags name."""
  base, weights, scale, trained_for = _weights()
  dataset = DATASET.value or trained_for
  if dataset is None or own_keypoints.is_own(dataset):
    raise ValueError("--dataset is needed, one with labels: own keypoints are shown by experiments.lift and then --lifted")
  records = common.load_records(dataset, SPLIT.value)
  record = find_record(records, f"{dataset} {SPLIT.value}", own_keypoints.SEQUENCE.value, CAMERA.value)
  if "poses_camera_m" not in record:
    raise ValueError(f"{dataset} has no ground truth to compare with: lift it with experiments.lift and give --lifted")
  config = evaluate.EvaluateConfig(
      num_hypotheses=HYPOTHESES.value, sampling_steps=SAMPLING_STEPS.value, select=SELECT.value,
      diffusion_steps=base.diffusion_steps,
  )
  make_denoiser = lambda weights: adapt.make_denoiser(base.model, *weights, scale)
  lift = functools.cache(lambda view: lifter.make_lifter(make_denoiser, dataclasses.replace(config, view=view)))
  settings = base.clip_fps, base.model.num_frames, config.batch_size
  lifted = {
      name: lifter.lift_record(lift(() if name == "source only" else base.view), (base.params, adapter), record, *settings)
      for name, adapter in weights.items()
  }
  truth = record["poses_camera_m"] - record["poses_camera_m"][:, skeleton.ROOT, None]
  truth = np.where(record["valid"][:, None, None], truth, np.nan)
  errors = {name: 1000 * np.nanmean(np.linalg.norm(one.pose - truth, axis=-1)) for name, one in lifted.items()}
  means = ", ".join(f"{name} {error:.1f} mm" for name, error in errors.items())
  print(f"{record['sequence']}, {record['camera']}: MPJPE {means}", flush=True)
  first = next(iter(lifted))
  notes = {"MPJPE of this sequence": means, "hypotheses shown": f"of {first}", "base": base.digest}
  protocol = evaluate.protocol(dataset, SPLIT.value, base.clip_fps, config)
  return Scene(
      title=f"{dataset}: {record['sequence']}, camera {record['camera']}", chosen_name=f"{first}, {_made(SELECT.value)}",
      poses={name: one.pose for name, one in lifted.items()}, truth=truth,
      hypotheses=np.moveaxis(lifted[first].hypotheses, 1, 0) if HYPOTHESES.value > 1 else None,
      keypoints_px=record["keypoints_px"], confidence=record["confidence"], valid=record["valid"],
      intrinsics=record["intrinsics"], resolution=record["resolution"], fps=float(record["fps"]),
      notes=notes | {name.replace("_", " "): str(value) for name, value in protocol.items()},
  )


def _weights():
  """(Base, {name: adapter or None}, LoRA scale, the dataset it is scored on or None) of the flags."""
  if RUN.value is None:
    return bases.load(common.BASE.value), {"base": None}, 1.0, None
  config = runs.read_config(RUN.value)
  if "adapt" not in config:
    return bases.load(RUN.value), {"base": None}, 1.0, config.get("eval_on")
  there = [name for name in ("adapted", "ceiling") if (pathlib.Path(RUN.value).expanduser() / name).is_dir()]
  loaded = [common.load_weights(RUN.value, name) for name in there]
  if not loaded:
    raise FileNotFoundError(f"{RUN.value} holds neither adapted/ nor ceiling/: let the adaptation finish first")
  (base, fresh, scale), adapters = loaded[0], {name: one[1] for name, one in zip(there, loaded, strict=True)}
  adapters = {"source only": jax.tree.map(np.zeros_like, fresh)} | adapters  # zero adapters change nothing
  order = [name for name in ("adapted", "source only", "ceiling") if name in adapters]
  return base, {name: adapters[name] for name in order}, scale, config["target"]


def find_record(records, where: str, sequence: str | None, camera: str | None) -> dict:
  """The first record of that sequence and camera, or of any where None. Raises ValueError that lists the choices."""
  seen: dict[str, list[str]] = {}
  for record in records:
    if sequence in (None, record["sequence"]) and camera in (None, record["camera"]):
      return record
    seen.setdefault(record["sequence"], []).append(record["camera"])
  if sequence in seen:
    raise ValueError(f"--camera={camera} did not see {sequence} of {where}: choose one of {', '.join(seen[sequence])}")
  if sequence is None:
    cameras = dict.fromkeys(one for several in seen.values() for one in several)
    raise ValueError(f"--camera={camera} saw nothing of {where}: choose one of {', '.join(cameras)}")
  some = ", ".join(list(seen)[:8]) + (", ..." if len(seen) > 8 else "")
  raise ValueError(f"{where} has no sequence {sequence}: choose one of {some}")


def write(path: pathlib.Path, scene: Scene) -> str:
  """Writes what the ending asks for; a line that says what was written."""
  shared = {"poses": scene.poses, "hypotheses": scene.hypotheses, "truth": scene.truth, "first_frame": scene.first_frame}
  if path.suffix == ".html":
    size = viewer.save_page(
        path, **shared, keypoints_px=scene.keypoints_px, intrinsics=scene.intrinsics, resolution=scene.resolution, fps=scene.fps,
        confidence=scene.confidence, valid=scene.valid, title=TITLE.value or scene.title, notes=scene.notes,
    )
    return f"{path}: {len(scene.valid):,} frames, {size / 1e6:.2f} MB, open it in any browser"
  if path.suffix == ".png":
    return _write_figure(path, scene)
  count = animation.save_animation(path, **shared, keypoints_px=scene.keypoints_px, fps=scene.fps)
  return f"{path}: {count:,} pictures of {len(scene.valid) / scene.fps:.1f} s"


def _write_figure(path: pathlib.Path, scene: Scene) -> str:
  """The paper's Figure 3 or 4 for a few valid frames, spread over the sequence."""
  figure = FIGURE.value or ("hypotheses" if scene.hypotheses is not None else "methods")
  if figure == "hypotheses" and scene.hypotheses is None:
    raise ValueError("--figure=hypotheses needs several: lift with --hypotheses above 1")
  seen = np.flatnonzero(scene.valid)
  picked = np.unique(seen[np.linspace(0, len(seen) - 1, ROWS.value + 2).astype(int)[1:-1]])
  labels = [f"2D input, frame {scene.first_frame + t}" for t in picked]
  chosen = next(iter(scene.poses.values()))
  truth = None if scene.truth is None else scene.truth[picked]
  if figure == "hypotheses":
    made = render.hypotheses_figure(
        scene.keypoints_px[picked], scene.hypotheses[:, picked], chosen[picked], truth, labels, scene.chosen_name
    )
  else:
    columns = {name: pose[picked] for name, pose in scene.poses.items()} | ({} if truth is None else {"ground truth": truth})
    made = render.methods_figure(scene.keypoints_px[picked], columns, labels)
  render.save(path, made)
  return f"{path}: {figure} in frames {', '.join(str(scene.first_frame + t) for t in picked)}"


def check_outputs(paths: list[pathlib.Path]) -> None:
  """Raises ValueError or FileNotFoundError for files that cannot be made, before anything is read."""
  if not paths:
    raise ValueError(f"--output is needed: files that end in {', '.join(ENDINGS)}")
  for path in paths:
    if path.suffix not in ENDINGS:
      raise ValueError(f"--output={path} ends in none of {', '.join(ENDINGS)}: the ending says what to make")
    if not path.parent.is_dir():
      raise FileNotFoundError(f"the folder of {path} does not exist: make it first")
    if path.suffix in (".gif", ".mp4"):
      animation.check_ending(path)


def main() -> None:
  paths = [pathlib.Path(path).expanduser() for path in OUTPUT.value]
  check_outputs(paths)
  if LIFTED.value and (RUN.value or DATASET.value):
    raise ValueError("--lifted and --run or --dataset contradict each other: give the poses, or the weights that make them")
  scene = (read_lifted(LIFTED.value) if LIFTED.value else lift_labelled()).cut(SECONDS.value)
  if not np.any(scene.valid):
    raise ValueError("nobody was detected in the frames to show: choose others")
  for path in paths:
    film = path.suffix in (".gif", ".mp4") and SECONDS.value is None
    print(write(path, scene.cut(FILM_SECONDS) if film else scene), flush=True)


if __name__ == "__main__":
  common.run(main)
