"""Trains the base theta_s on a labelled source.

    python -m experiments.pretrain --plan=embedded --workdir=runs/base_synthetic               # two minutes
    python -m experiments.pretrain --plan=small --workdir=runs/small --manual_dir=DIR          # eighty minutes
    python -m experiments.pretrain --source=human36m/gt --split=S1 --workdir=runs/base_s1 --manual_dir=DIR

Times are of two cores; the last command trains the paper's size. A plan names all that defines a base
(`posynda_jax/adaptation/base_job.py`); other flags replace single settings of it. The run folder then holds `base/`
(what --base takes), checkpoints, TensorBoard events, loss curves and `metrics.json`.
"""

import dataclasses

from absl import flags

from posynda_jax.adaptation import base_job, pretraining
from posynda_jax.diffusion.denoisers import DENOISERS
from posynda_jax.geometry import detector

from . import common

PLAN = flags.DEFINE_enum("plan", "paper", list(base_job.PLANS), "The settings that other flags replace.")
SOURCE = flags.DEFINE_string(
    "source", None, "Labelled source: dataset/rig, dataset/rig+rig or dataset/config; "
    "dataset/rig+2*other/rig counts clips of the other twice.")
START = flags.DEFINE_string("start", None, "A base of the same denoiser, whose weights training starts from.")
SPLIT = flags.DEFINE_string("split", None, "Its training split.")
EVAL_ON = flags.DEFINE_string("eval_on", None, "dataset/config that scores the base; default: the source's exact 2D.")
EVAL_SPLIT = flags.DEFINE_string("eval_split", None, "Split of it, in TFDS syntax.")
BATCH = flags.DEFINE_integer("batch", None, "Clips an update.", lower_bound=1)
CLIP_FPS = flags.DEFINE_float("clip_fps", None, "Frame rate of clips; faster captures are read as interleaved tracks.")
STEPS = flags.DEFINE_integer("steps", None, "Updates.", lower_bound=1)
LEARNING_RATE = flags.DEFINE_float("learning_rate", None, "Peak AdamW rate.")
WARMUP = flags.DEFINE_integer("warmup_steps", None, "Steps of linear warm-up.")
DECAY = flags.DEFINE_enum("decay", None, pretraining.LR_DECAYS, "Schedule of the rate.")
WEIGHT_DECAY = flags.DEFINE_float("weight_decay", None, "AdamW weight decay.")
EMA = flags.DEFINE_float("ema", None, "Decay of the weight average that becomes the base; 0 keeps the last weights.")
LOSS = flags.DEFINE_enum("loss", None, pretraining.LOSSES, "Eq. 9 as mean square error, or the field's MPJPE.")
FINAL_SHARE = flags.DEFINE_float("final_step_share", None, "Share of clips trained at t = T-1.")
DETECTED_SHARE = flags.DEFINE_float("detected_share", None, "Share of rendered clips with a detector's errors in 2D.")
DETECTOR = flags.DEFINE_enum(
    "detector", None, list(detector.ERRORS), "Whose errors: simulated, or BlazePose's on real footage.")
MUON_RATE = flags.DEFINE_float("muon_rate", None, "Peak rate of Muon for large kernels; 0: AdamW trains all.")
TURNED = flags.DEFINE_float("turned", None, "Share of clips of world motion that are turned about a random axis.")
REPROPORTIONED = flags.DEFINE_float("reproportioned", None, "Share of clips of world motion with other proportions.")
HIDDEN = flags.DEFINE_float("hidden", None, "Share of clips with hidden joints, of confidence 0; needs --inputs=5.")
DIFFUSION_STEPS = flags.DEFINE_integer("diffusion_steps", None, "T of the schedule.", lower_bound=1)
MIXED = flags.DEFINE_float("mixed", None, "Share of clips of world motion with the trunk of another clip.")
OFFSET = flags.DEFINE_float("offset", None, "Share of clips of world motion whose joints lie elsewhere in the body.")
RESIZED = flags.DEFINE_float("resized", None, "Share of clips of world motion of larger or smaller people.")
NOISE_STD = flags.DEFINE_float("noise_std", None, "Standard deviation (m) of the process's noise.")
DENOISER = flags.DEFINE_enum("denoiser", None, list(DENOISERS), "Network; the fields below are those of either.")
DIFFUSION = flags.DEFINE_bool("diffusion", None, "False trains the plain 2D-to-3D lifter, without noise and t.")
INPUTS = flags.DEFINE_integer(
    "inputs", None, "2: keypoints as the camera shows them; 5: through the canonical camera, with what it removes.")
NUM_FRAMES = flags.DEFINE_integer("num_frames", None, "Frames in a clip (paper: 243 on H3.6M, 27 on 3DHP and 3DPW).")
DTYPE = flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "Computation type; parameters stay float32.")
WIDTH = flags.DEFINE_integer("width", None, "mixste: width.", lower_bound=4)
DEPTH = flags.DEFINE_integer("depth", None, "mixste: spatial and temporal block pairs.")
HEADS = flags.DEFINE_integer("heads", None, "mixste: attention heads; use heads of 32 numbers or more.", lower_bound=1)
DROP_PATH = flags.DEFINE_float("drop_path", None, "mixste: stochastic depth of the last block.")
DOUBT = flags.DEFINE_bool("doubt", None, "mixste: a second head that states how far off each joint may be.")
CHANNELS = flags.DEFINE_integer("channels", None, "videopose: channels.")
FILTER_WIDTHS = flags.DEFINE_list("filter_widths", None, "videopose: widths whose product is the receptive field.")
CAUSAL = flags.DEFINE_bool("causal", None, "videopose: no frame sees later ones.")
DROPOUT = flags.DEFINE_float("dropout", None, "videopose: dropout.")
flags.adopt_module_key_flags(common)
OF_PLAN = {
    "source": SOURCE, "split": SPLIT, "eval_on": EVAL_ON, "eval_split": EVAL_SPLIT, "batch": BATCH,
    "clip_fps": CLIP_FPS, "start": START,
}
OF_TRAINING = {
    "num_steps": STEPS, "learning_rate": LEARNING_RATE, "warmup_steps": WARMUP, "decay": DECAY,
    "weight_decay": WEIGHT_DECAY, "ema": EMA, "loss": LOSS, "final_step_share": FINAL_SHARE,
    "detected_share": DETECTED_SHARE, "diffusion_steps": DIFFUSION_STEPS, "muon_rate": MUON_RATE, "turned": TURNED,
    "reproportioned": REPROPORTIONED, "hidden": HIDDEN, "mixed": MIXED, "offset": OFFSET,
    "resized": RESIZED, "noise_std": NOISE_STD, "detector": DETECTOR,
}
OF_ANY_MODEL = {"inputs": INPUTS, "diffusion": DIFFUSION, "num_frames": NUM_FRAMES, "dtype": DTYPE}
OF_MODEL = {
    "mixste": {"width": WIDTH, "depth": DEPTH, "num_heads": HEADS, "drop_path": DROP_PATH, "doubt": DOUBT},
    "videopose": {"channels": CHANNELS, "filter_widths": FILTER_WIDTHS, "causal": CAUSAL, "dropout": DROPOUT},
}


def plan_from_flags() -> base_job.Plan:
  """The plan of --plan with the settings that other flags replace."""
  plan = base_job.get(PLAN.value)
  training = dataclasses.replace(plan.pretrain, **common.given(OF_TRAINING))
  return dataclasses.replace(
      plan, model=_model(plan.model), pretrain=training, seed=common.SEED.value, **common.given(OF_PLAN))


def _model(model: dict) -> dict:
  """Fields of the denoiser. Raises ValueError for widths that do not divide, and for filter widths that are no
  numbers.
  """
  name = DENOISER.value or model.get("denoiser", "mixste")
  if name != model.get("denoiser", "mixste"):
    model = {key: model[key] for key in ("num_frames", "dtype")} | base_job.MODELS[name]
  model = model | common.given(OF_ANY_MODEL) | common.given(OF_MODEL[name])
  if name == "videopose":
    if not all(str(width).strip().isdigit() for width in model["filter_widths"]):
      raise ValueError(f"--filter_widths={','.join(model['filter_widths'])} are no whole numbers: write them as 3,3,3")
    model["filter_widths"] = [int(width) for width in model["filter_widths"]]
  elif model["width"] % model["num_heads"]:
    raise ValueError(f"width {model['width']} is not a multiple of {model['num_heads']} heads: choose one that is")
  return model


def main() -> None:
  folder = common.need_workdir()
  plan = plan_from_flags()
  common.print_devices()
  common.check_batch(plan.batch, "batch")
  base_job.train_base(plan, folder, common.folders(), common.saving())


if __name__ == "__main__":
  common.run(main)
