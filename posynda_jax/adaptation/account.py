"""Measures of a lifter on a target that need no 3D label, and the guard that decides by them.

    target 2D --lift--> pose --turn, project--> other 2D --lift again--> agreement with the turned pose

Measures, each better when smaller:
    reprojection_percent   distance of the lifted pose's projection from the 2D, in percent of the person's box
    views_mm               distance of the pose lifted from another side to the pose that was turned there
    bones_percent          standard deviation of each bone's length over a person's video, in percent of its mean
    symmetry_percent       difference of left and right bones, in percent of their mean
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from posynda_jax.adaptation import bases, placement
from posynda_jax.data import clips
from posynda_jax.evaluation import lifting, scoring
from posynda_jax.geometry import camera, metrics, skeleton

BATCHES = 8  # batches of target clips that an account reads, spread over all clips
STEPS = (1.0, 0.75, 0.5, 0.25)  # shares of an adapter that the guard compares, the largest first
REPROJECTION_LIMIT = 4.0  # percent, of the bare base, above which a target's 2D is not trusted
FITS_BETTER = 0.9  # 2D with a mistake mended that has less than this share of the given 2D's misfit is taken for right
SYMMETRY_POWER = 6  # in the misfit; chosen on HDM05's training actors, who fit best at their own focal length by it
KEPT_GAIN = 0.65  # share of the largest fall of doubt; the largest share of an adapter that reaches it is kept
LEAST_CLIPS = 256  # of a target, fewer of which tell nothing: `experiments.one_video`
MEASURES = ("reprojection_percent", "views_mm", "bones_percent", "symmetry_percent")
OTHERWISE = {  # mistake in a target's 2D -> the changed arrays of a clip that mend it
    "left and right exchanged": lambda arrays: {"keypoints": skeleton.flip(arrays["keypoints"]) * np.float32([-1, 1])},
    "y downwards": lambda arrays: {"keypoints": arrays["keypoints"] * np.float32([1, -1])},
}
OTHER_CAMERAS = {  # as OTHERWISE, for bases with a canonical camera; another base may know a longer lens better
    "two thirds of the focal length": lambda arrays: scale_intrinsics(arrays, focal=2 / 3),
    "1.5 times the focal length": lambda arrays: scale_intrinsics(arrays, focal=1.5),
    "the principal point in the image's centre": lambda arrays: scale_intrinsics(arrays, centre=0),
}
_RIGHT, _LEFT = np.array(skeleton.RIGHT) - 1, np.array(skeleton.LEFT) - 1  # bones by their end joint


def mistakes_of(base: bases.Base) -> dict[str, Callable[[dict], dict]]:
  """The mistakes in 2D that a base can tell from right 2D, as in OTHERWISE."""
  return OTHERWISE | (OTHER_CAMERAS if base.view else {})


def scale_intrinsics(arrays: dict, focal: float = 1, centre: float = 1) -> dict:
  """A clip's intrinsics with `focal` times the focal length and `centre` times the principal point's offset from the
  image's centre.
  """
  return {"intrinsics": arrays["intrinsics"] * np.float32(2 * [focal] + 2 * [centre] + 5 * [1])}


@dataclasses.dataclass(frozen=True)
class Decision:
  """What the guard chose: the share of the adapter that is kept (0: none), why, and the accounts by share."""

  share: float
  reason: str
  accounts: dict[float, dict[str, float]]


def shrink(adapter: PyTree, share: float) -> PyTree:
  """The adapter with its update and bias times `share`: an exact interpolation between base (0) and adapter (1)."""
  changed = {"bias": share * adapter["bias"]}
  if "lora" in adapter:
    changed["lora"] = {path: {"a": ab["a"], "b": share * ab["b"]} for path, ab in adapter["lora"].items()}
  if "delta" in adapter:
    changed["delta"] = jax.tree.map(lambda delta: share * delta, adapter["delta"])
  return changed


def make_observer(make_denoiser: Callable, config: scoring.SamplingConfig) -> Callable:
  """Compiled `(params, measured, clip) -> {reprojection, views, bones [b f ...]}`, in metres and shares of the box."""
  key = jax.random.key(config.seed)

  @jax.jit
  def observe(params, measured, clip):
    def lift(clip):
      poses = scoring.propose(make_denoiser(params), measured, clip, key, config)
      return skeleton.root_centre(poses.mean(0))

    pose = lift(clip)
    root, error = lifting.reproject(pose, clip)
    box = (clip["keypoints"].max(-2) - clip["keypoints"].min(-2)).max(-1)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(clip["index"])
    turned = placement.orbit(keys, pose + root[..., None, :], jnp.array([0.0, -1.0, 0.0]))
    turned = placement.keep_in_front(turned)
    other = clip | {
        "keypoints": camera.project(turned, clip["intrinsics"]), "confidence": jnp.ones_like(clip["confidence"])}
    return {
        "reprojection": jnp.minimum(error / jnp.maximum(box, 1e-6), 1.0),  # a lost pose counts once
        "views": metrics.mpjpe(lift(other), skeleton.root_centre(turned)),
        "bones": skeleton.bone_lengths(pose),
    }

  return observe


def take_account(
    observe: Callable, params: tuple, measured, target: clips.ClipSource, batch_size: int,
    change: Callable[[dict], dict] = lambda clip: {},
) -> dict[str, float]:
  """The MEASURES of a lifter on up to BATCHES batches spread evenly over the target; `change` replaces arrays."""
  count = min(BATCHES * batch_size, len(target))
  spread = np.linspace(0, len(target) - 1, count).astype(int)
  padded = np.resize(spread, -(-count // batch_size) * batch_size).reshape(-1, batch_size)
  found = []
  for indices in padded:
    clip = target.take(indices)
    clip |= change(clip)
    found.append({**jax.tree.map(np.asarray, observe(params, measured, clip)), "valid": clip["valid"] > 0})
  valid = np.concatenate([batch["valid"] for batch in found])
  valid[count:] = False  # repeats
  values = {name: np.concatenate([batch[name] for batch in found]) for name in ("reprojection", "views", "bones")}
  tracks = np.array([target.track_of(index) for index in padded.reshape(-1)])
  spreads, differences = [], []
  for track in np.unique(tracks):
    lengths = values["bones"][tracks == track][valid[tracks == track]]
    if len(lengths) > 1:
      mean = np.maximum(lengths.mean(0), 1e-6)
      spreads.append(lengths.std(0) / mean)
      differences.append(2 * np.abs(mean[_LEFT] - mean[_RIGHT]) / (mean[_LEFT] + mean[_RIGHT]))
  return {
      "reprojection_percent": 100 * float(values["reprojection"][valid].mean()),
      "views_mm": 1000 * float(values["views"][valid].mean()),
      "bones_percent": 100 * float(np.mean(spreads)), "symmetry_percent": 100 * float(np.mean(differences)),
  }


def doubt(found: dict[str, float]) -> float:
  """What the guard makes smallest: the squared disagreement of views times the reprojection error.

  Views alone choose too much of an adapter, which also learns to agree with itself. The exponent was chosen on HDM05.
  """
  return found["views_mm"] ** 2 * found["reprojection_percent"]


def misfit(found: dict[str, float]) -> float:
  """How badly 2D and intrinsics fit: the doubt, times the difference of left and right bones to the SYMMETRY_POWER.

  Doubt alone misses a focal length that is too long. An image with more perspective than the intrinsics explain shows
  the nearer limb as a longer one.
  """
  return doubt(found) * found["symmetry_percent"] ** SYMMETRY_POWER


def why_refused(base: dict[str, float], otherwise: dict[str, dict[str, float]], num_clips: int) -> str | None:
  """Why no adaptation to a target can be judged, by the base's account of it; None where it can.

  `otherwise` holds the base's accounts of the 2D with a mistake mended. `num_clips`: of the target; few tell nothing.
  """
  if base["reprojection_percent"] > REPROJECTION_LIMIT:
    return (f"the base's poses reproject {base['reprojection_percent']:.1f}% of a person's box from the 2D, expected "
            f"at most {REPROJECTION_LIMIT:g}%: check joint order, intrinsics and resolution")
  if num_clips < LEAST_CLIPS:
    return (f"{num_clips} clips are too few to tell whether it helps, expected {LEAST_CLIPS}: give a longer video; "
            "--noguard keeps the adapter all the same")
  mended = min(otherwise, key=lambda name: misfit(otherwise[name]), default=None)
  if mended and misfit(otherwise[mended]) < FITS_BETTER * misfit(base):
    return f"the 2D fits better with {mended}: check sides, axes and intrinsics"
  return None


def decide(
    accounts: dict[float, dict[str, float]], otherwise: dict[str, dict[str, float]], num_clips: int = LEAST_CLIPS
) -> Decision:
  """The largest share of an adapter that lowers the doubt by KEPT_GAIN of what the best share does.

  It is 0 where none lowers the doubt, or where the target is refused.
  """
  if reason := why_refused(accounts[0.0], otherwise, num_clips):
    return Decision(0.0, reason, accounts)
  gains = {share: doubt(accounts[0.0]) - doubt(found) for share, found in accounts.items()}
  best = max(gains.values())
  if best <= 0:
    return Decision(0.0, "at no share are its poses more consistent than the base's", accounts)
  share = max(share for share, gain in gains.items() if gain >= KEPT_GAIN * best)
  reason = "as a whole" if share == 1 else f"at {share:g}, above which its poses are less consistent"
  return Decision(share, reason, accounts)


def accounts_by_share(
    weights: bases.Weights, target: clips.ClipSource, config: scoring.SamplingConfig,
    shares: Sequence[float] = (*STEPS, 0.0),
) -> tuple[dict[float, dict[str, float]], dict[str, dict[str, float]]]:
  """(accounts of each share of an adapter, accounts of the base with each mistake mended). One program serves all."""
  observe = make_observer(weights.make_denoiser, config)

  def take(share, change=lambda clip: {}):
    part = dataclasses.replace(weights, adapter=shrink(weights.adapter, share))
    return take_account(observe, part.params, weights.measured, target, config.batch_size, change)

  mended = {name: take(0.0, change) for name, change in mistakes_of(weights.base).items()}
  return {share: take(share) for share in shares}, mended
