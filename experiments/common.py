"""What the scripts share: flags for data and model, sources and targets by name, bases on disk, one-line errors."""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags, logging

from experiments import console, own_keypoints
from posynda_jax.adaptation import adapt, bases, pretrain, tensors_file
from posynda_jax.data import pipeline
from posynda_jax.datasets import load
from posynda_jax.diffusion.denoisers import DENOISERS, make_model
from posynda_jax.geometry import rigs, virtual_camera
from posynda_jax.runtime import checkpoint, interrupt, parallel, runs

DATA_DIR = flags.DEFINE_string("data_dir", "~/.cache/posynda_jax/datasets", "Where built datasets are kept.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder that holds the owners' archives (cmu.zip, hdm05.zip, ...).")
BASE = flags.DEFINE_string("base", bases.DEFAULT, "Folder of a pretraining run, a .safetensors file, or a base that ships; to `adapt`, "
                           "`train` means to train one on --source in WORKDIR/base.")
WORKDIR = flags.DEFINE_string("workdir", None, "This run's folder; a second start with the same flags resumes it.")
SEED = flags.DEFINE_integer("seed", 0, "Every random number of a run follows from it.")
CLIP_FPS = flags.DEFINE_float("clip_fps", 50.0, "Frame rate of the clips; faster captures are read as interleaved tracks.")
NUM_FRAMES = flags.DEFINE_integer("num_frames", 27, "Frames in a clip (paper: 243 on H3.6M, 27 on 3DHP and 3DPW).")
DENOISER = flags.DEFINE_enum("denoiser", "mixste", list(DENOISERS), "Network that pretraining makes; the rest follows its base.")
DIFFUSION = flags.DEFINE_bool("diffusion", True, "False makes the plain 2D-to-3D lifter, which sees neither noise nor t.")
WIDTH = flags.DEFINE_integer("width", 512, "mixste: its width.")
DEPTH = flags.DEFINE_integer("depth", 8, "mixste: its depth, spatial and temporal block pairs.")
HEADS = flags.DEFINE_integer("heads", 8, "mixste: attention heads; compact models want a head width of 32 or more.")
DROP_PATH = flags.DEFINE_float("drop_path", 0.1, "mixste: stochastic depth of the last depth, in pretraining.")
CHANNELS = flags.DEFINE_integer("channels", 1024, "videopose: channels of its convolutions.")
FILTER_WIDTHS = flags.DEFINE_list("filter_widths", ["3", "3", "3"], "videopose: their product is its receptive field, in frames.")
CAUSAL = flags.DEFINE_bool("causal", False, "videopose: no frame sees later ones.")
DROPOUT = flags.DEFINE_float("dropout", 0.25, "videopose: dropout, in pretraining.")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Computation type; parameters stay float32.")
MATMUL_PRECISION = flags.DEFINE_enum("matmul_precision", "highest", ["highest", "high", "default"], "How GPUs and TPUs multiply float32 "
                                     "matrices. highest: float32; default: faster, to 10 bits on a GPU (TF32), 7 on a TPU. CPUs have one way.")
HYPOTHESIS_CHUNK = flags.DEFINE_integer("hypothesis_chunk", 0, "Hypotheses that are computed at once, so that many fit into memory; "
                                        "0: all.", lower_bound=0)
REMAT = flags.DEFINE_bool("remat", True, "mixste: an adaptation's backward pass computes norms, GELU and attention again, which takes "
                          "a third less memory and, measured, no more time; the numbers stay.")
LOG_EVERY = flags.DEFINE_integer("log_every", 50, "Steps between log rows.")
SAVE_EVERY = flags.DEFINE_integer("save_every", 500, "Steps between checkpoints.")
KEEP = flags.DEFINE_integer("keep", 2, "Checkpoints that are kept: the last, and those before it in case it is damaged.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 where several processes train together and no "
                                  "launcher (Cloud TPU, SLURM, Open MPI) says so; with --num_processes and --process_id.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes those are.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0)
PEER_TIMEOUT = flags.DEFINE_integer("peer_timeout", 100, "Seconds after which a silent process ends all the others.", lower_bound=1)


def _keep_memory() -> None:
  """glibc keeps what is freed. XLA's CPU code asks for all its memory anew at every step; getting it from the kernel page by page
  takes longer than a compact model's forward pass, and a fifth of a large one's step."""
  import ctypes

  try:
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)  # M_MMAP_MAX: no block is mapped, and returned to the kernel, on its own
    libc.mallopt(-8, 1)  # M_ARENA_MAX: other threads' arenas cannot hold large blocks, which would be mapped after all
    libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks
  except (OSError, AttributeError):  # another C library: only slower
    pass


def set_matmul_precision() -> None:
  """Makes --matmul_precision what every product of this process is traced with, unless its code asks for another."""
  jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION.value)


def run(main: Callable[[], None]) -> None:
  """Runs a script's main: what a user can get wrong, or the disk refuses, ends in one line and exit code 1.

  What has a --workdir can be stopped: SIGTERM and SIGINT end it with a line that says how to go on, and exit code 0.
  """

  def guarded(argv):
    if len(argv) > 1:
      raise app.UsageError(f"unexpected argument {argv[1]!r}: options are written --name=value")
    logging.set_verbosity(logging.FATAL)  # Orbax and TFDS narrate every file; what fails is raised, and said in one line
    logging.logging.getLogger("jax").setLevel("WARNING")
    sys.unraisablehook = _report_unraisable
    _keep_memory()
    set_matmul_precision()
    if WORKDIR.value is not None:
      interrupt.listen()
    try:
      parallel.start(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, PEER_TIMEOUT.value)
      main()
    except interrupt.Stopped as stopped:
      print(f"{stopped} {interrupt.hint()}", flush=True)
    except jax.errors.JaxRuntimeError as error:
      if jax.process_count() == 1:
        raise
      print(f"error: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
      os._exit(1)  # the others are gone, and `parallel.start` left word of what to do
    except (ValueError, OSError, FloatingPointError) as error:
      print(f"error: {' '.join(str(error).split())}{_advice(error)}", file=sys.stderr)
      sys.exit(1)

  app.run(guarded, argv=[sys.argv[0], *console.read_presets(sys.argv[1:])])


def _report_unraisable(unraisable) -> None:
  """Says what Python could not raise, but for the writes that Orbax gives up when one has failed: that one is raised."""
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _advice(error: Exception) -> str:
  """What to do where the disk is at fault."""
  text = str(error)
  if "No space left" in text or "File too large" in text or "quota" in text:
    return ". Make space; the same command then goes on from the last checkpoint"
  if "Read-only file system" in text or "Permission denied" in text:
    return ". Choose a --workdir that can be written to"
  return ""


@dataclasses.dataclass(frozen=True)
class Source:
  """A labelled source: its tracks, and the rig that sees them afresh where they are world motion."""

  tracks: list[pipeline.Track]
  rig: rigs.Rig | rigs.Mixture | None


def load_records(name: str, split: str):
  """Records of a dataset under the data flags; of `keypoints:FILE`, which has no splits, all under the flags of own keypoints."""
  if own_keypoints.is_own(name):
    return own_keypoints.load_records(name)
  with parallel.main_first():  # which builds it where it is not built yet
    return load.load(name, split, data_dir=DATA_DIR.value, manual_dir=MANUAL_DIR.value)


def load_source(name: str, split: str, clip_fps: float) -> Source:
  """A source by name. `dataset/<rig>` or `synthetic_motion/<domain>` is world motion under fresh virtual views of the rig, or of
  several as in `cmu_mocap/h36m_rig+wild_rig`; a full config name (`..._gt`, `..._detected`), or any of a dataset that real
  cameras recorded, is its fixed views."""
  if _is_fixed(name):
    return Source(pipeline.make_tracks(load_records(name, split), pipeline.LABELLED, clip_fps), None)
  dataset, _, views = name.partition("/")
  worlds, names = zip(*(load.world_config(f"{dataset}/{view}") for view in views.split("+")), strict=True)
  if len(set(worlds)) > 1:
    raise ValueError(f"{name} mixes different motion ({', '.join(sorted(set(worlds)))}): give rigs that see the same")
  records = load_records(f"{dataset}/{worlds[0]}", split)
  return Source(pipeline.make_tracks(records, pipeline.WORLD, clip_fps), rigs.get_rig("+".join(names)))


def usual_view(source: Source) -> virtual_camera.View:
  """How the source's cameras see people: over up to 2,000 of its clips of nine frames, of world motion in one fresh view each."""
  clips = pipeline.ClipSource(source.tracks, 9)
  batch = clips.take(np.unique(np.linspace(0, len(clips) - 1, 2000).astype(int)))
  keys = jax.random.split(jax.random.key(0), len(batch["valid"]))
  keypoints, poses = jax.jit(pretrain.see, static_argnums=2)(keys, batch, source.rig)
  return virtual_camera.usual_view(keypoints, poses, batch["valid"])


def fixed_views(name: str) -> str:
  """The fixed, exact-2D views that score a dataset given by rig or domain. Raises ValueError for a mixture of rigs."""
  if "+" in name:
    raise ValueError(f"{name} names several rigs: say with --eval_on=DATASET/CONFIG what the base is scored on")
  return name if _is_fixed(name) else f"{name}_gt"


def _is_fixed(name: str) -> bool:
  """Whether a source's name means recorded or fixed views, not world motion seen afresh."""
  return name.endswith(("_gt", "_detected")) or not load.has_world(name.partition("/")[0])


def model_config() -> dict:
  """The denoiser's fields as the flags give them, without those that older configs do not have where they are the default."""
  if DENOISER.value == "videopose":
    if not all(width.strip().isdigit() for width in FILTER_WIDTHS.value):
      raise ValueError(f"--filter_widths={','.join(FILTER_WIDTHS.value)} are not whole numbers: write them as 3,3,3")
    fields = {
        "denoiser": "videopose", "filter_widths": [int(width) for width in FILTER_WIDTHS.value], "channels": CHANNELS.value,
        "causal": CAUSAL.value, "dropout": DROPOUT.value,
    }
  else:
    if WIDTH.value % HEADS.value or WIDTH.value < 4:
      raise ValueError(f"width {WIDTH.value} is not a multiple of {HEADS.value} heads: choose one that is")
    fields = {"width": WIDTH.value, "depth": DEPTH.value, "num_heads": HEADS.value, "drop_path": DROP_PATH.value}
  config = {"num_frames": NUM_FRAMES.value, "dtype": DTYPE.value, **fields, **({} if DIFFUSION.value else {"diffusion": False})}
  make_model(config)  # refuses what cannot be built, before a folder is made
  return config


def load_weights(run, which: str, base=bases.DEFAULT):
  """(base, adapter or None, LoRA scale) of a run folder of either kind, of an adapter's `.safetensors` file on `base`, or for
  no run of the bare `base`."""
  if run is None:
    return bases.load(base), None, 1.0
  if str(run).endswith(".safetensors"):
    base = bases.load(base)
    adapter, settings = tensors_file.load_adapter(run, base.digest)
    return told(base, settings), adapter, settings["scale"]
  config = runs.read_config(run)
  if "adapt" not in config:
    return bases.load(run), None, 1.0
  if "base_folder" not in config:
    raise ValueError(f"{run} holds several adapters and not where their base is: give the run of one adaptation")
  base = bases.load(config["base_folder"])
  if base.digest != config["base"]:
    raise ValueError(f"the base in {config['base_folder']} is {base.digest}, this adapter belongs to {config['base']}")
  if which == "source_only":
    return told(base, config["adapt"] | {"view": ()}), None, config["adapt"]["scale"]
  base = told(base, runs.adapter_settings(run, which))
  return base, *load_adapter(run, which, base, config)


def told(base: bases.Base, settings: dict) -> bases.Base:
  """The base with what an adapter's AdaptConfig knows: the body of its source, which may be another's than the base's, and its view."""
  known = {name: settings[name] for name in ("body", "view") if settings.get(name)}
  return dataclasses.replace(base, config=base.config | known)


def load_adapter(folder, name: str, base: bases.Base, config: dict):
  """(adapter `name` of a run folder with that config, LoRA scale), checked against the base's shapes."""
  settings = adapt.from_settings(config["adapt"])
  like = jax.eval_shape(lambda: adapt.init_adapter(jax.random.key(0), base.params, settings))
  return checkpoint.load_tree(f"{folder}/{name}", like), settings.scale


def known_body(base: bases.Base) -> tuple[float, ...]:
  """Mean bone lengths [16] (m) of the people that the base, or the run on it, was trained on. Raises ValueError where unknown."""
  if not base.body:
    raise ValueError("this base does not know its source's bone lengths, which refine body needs: give an adaptation run")
  return base.body


def check_batch(size: int, name: str) -> None:
  """Refuses a batch that the devices of all processes cannot share, before anything is loaded."""
  devices = jax.device_count()
  if size < 1 or size % devices:
    raise ValueError(f"{name} {size} is not divisible by {devices} devices: choose a multiple of {devices}")


def print_devices() -> None:
  """One line: which devices this run uses."""
  device = jax.devices()[0]
  processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
  print(f"{jax.device_count()} x {device.device_kind} ({device.platform}){processes}, jax {jax.__version__}", flush=True)


def with_remat(model):
  """The model as an adaptation trains it: with `--remat`, where it has such a field."""
  return model.clone(remat=REMAT.value) if hasattr(model, "remat") else model


def make_step(step: Callable, **static) -> Callable:
  """The parallel form of a step with its static arguments bound."""
  return parallel.make_parallel_step(functools.partial(step, **static))
