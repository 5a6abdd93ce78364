"""Flags of the scripts that sample poses: how many hypotheses, and how they become one pose."""

from absl import flags

from posynda_jax.adaptation import bases
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import body

from . import common

RUN = flags.DEFINE_string("run", None, "Folder of a run, or an adapter's .safetensors file, which goes on --base.")
WEIGHTS = flags.DEFINE_enum(
    "weights", "adapted", ["adapted", "ceiling", "source_only"], "Which weights of an adaptation run.")
HYPOTHESES = flags.DEFINE_integer("hypotheses", 1, "H, hypotheses for each clip.", lower_bound=1)
SAMPLING_STEPS = flags.DEFINE_integer("sampling_steps", 1, "K, DDIM steps.", lower_bound=1)
SELECT = flags.DEFINE_enum("select", "mean", scoring.RULES, "Rule that reduces H hypotheses to one pose.")
REFINE = flags.DEFINE_enum(
    "refine", "none", body.REFINEMENTS, "Correction of the pose by its own 2D: `rays` moves joints onto their "
    "keypoints' rays, `body` also gives the pose the source's mean bone lengths.")
FLIP = flags.DEFINE_bool("flip", False, "Average each step with its mirror image.")
BATCH = flags.DEFINE_integer("batch", 64, "Clips computed at once.", lower_bound=1)
for flag in ("base", "data_dir", "manual_dir"):
  flags.declare_key_flag(flag)


def load_weights() -> bases.Weights:
  """The weights that the flags name. Raises ValueError for --refine=body where the body is unknown."""
  weights = bases.load_weights(RUN.value, WEIGHTS.value, common.BASE.value)
  if REFINE.value == "body" and not weights.body:
    raise ValueError(
        "this base does not hold its source's bone lengths, which --refine=body needs: give an adaptation run")
  return weights


def config(weights: bases.Weights, root: str = "solve") -> scoring.SamplingConfig:
  """The flags as a config, for the schedule of the given weights."""
  return scoring.SamplingConfig(
      num_hypotheses=HYPOTHESES.value, sampling_steps=SAMPLING_STEPS.value, flip=FLIP.value, select=SELECT.value,
      refine=REFINE.value, root=root, batch_size=BATCH.value, hypothesis_chunk=common.HYPOTHESIS_CHUNK.value,
      diffusion=weights.base.diffusion,
  )


def name() -> str:
  """Which run or base the weights are of, for printing."""
  return RUN.value or common.BASE.value
