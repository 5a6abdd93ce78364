"""Sources and targets by name: records, tracks and clips, and how source clips of world motion are rendered."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from posynda_jax.data import clips, tracks
from posynda_jax.datasets import load
from posynda_jax.geometry import camera, detector, rigs, virtual_camera
from posynda_jax.runtime import processes

FIXED_ENDINGS = ("_gt", "_detected", "_in_image")  # how names of fixed views end
VIEW_CLIPS, VIEW_FRAMES = 2000, 9  # how many clips of how many frames a source's view is measured on


@dataclasses.dataclass(frozen=True)
class Folders:
  """Where datasets are: `data_dir` holds built ones, `manual_dir` the owners' archives."""

  data_dir: str = "~/.cache/posynda_jax/datasets"
  manual_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Source:
  """A labelled source: its tracks, and the rig that renders them at every step; None for recorded views."""

  tracks: list[tracks.Track]
  rig: rigs.Rig | rigs.Mixture | None = None

  @functools.cached_property
  def body(self) -> tuple[float, ...]:
    """Mean bone lengths [16] (m) of its people."""
    return tracks.mean_bones(self.tracks)

  def measure_view(self) -> tuple[float, ...]:
    """View of people in the source's cameras (`virtual_camera.measure_view`), over up to VIEW_CLIPS of its clips."""
    source = clips.ClipSource(self.tracks, VIEW_FRAMES)
    batch = source.take(np.unique(np.linspace(0, len(source) - 1, VIEW_CLIPS).astype(int)))
    keys = jax.random.split(jax.random.key(0), len(batch["valid"]))
    rendered = jax.jit(render_source, static_argnums=2)(keys, batch, self.rig)
    return virtual_camera.measure_view(rendered["keypoints"], rendered["poses"], batch["valid"])


@dataclasses.dataclass(frozen=True)
class Unlabelled:
  """A target without 3D, for a job: records in the record form of `datasets.record`, without poses.

  `identity` (JSON) is what makes another target another run; `protocol` is printed beside its numbers.
  """

  name: str
  records: tuple[dict, ...]
  identity: dict = dataclasses.field(default_factory=dict)
  protocol: dict = dataclasses.field(default_factory=dict)


def render_source(
    keys: Array, batch: dict, rig: rigs.Rig | rigs.Mixture | None, detected_share: float = 0.0,
    errors: detector.Errors = detector.SIMULATED,
) -> dict[str, Float[Array, "b f ..."]]:
  """Source clips with `keypoints` and `intrinsics` (screen-normalised), `confidence`, absolute camera-frame `poses` (m)
  and `valid`.

  World motion (`motion` [b f j 3]) is rendered by the rig, with a view drawn from each clip's key; `detected_share`
  of these clips get a detector's `errors` in 2D. Recorded views are returned as they are.
  """
  if "motion" not in batch:
    return {name: batch[name] for name in tracks.LABELLED}
  view = jax.vmap(lambda key, motion: rigs.draw_view(key, motion, rig))(keys, batch["motion"])
  keypoints_px, confidence = view.keypoints_px, jnp.ones(view.keypoints_px.shape[:-1])
  if detected_share:
    detect_keys, share_keys = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in range(2))
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, detected_share))(share_keys)
    detected, trust = jax.vmap(lambda *it: detector.detect(*it, errors))(detect_keys, keypoints_px)
    keypoints_px = jnp.where(chosen[:, None, None, None], detected, keypoints_px)
    confidence = jnp.where(chosen[:, None, None], trust, confidence)
  return {
      "keypoints": camera.normalise_screen(keypoints_px, view.resolution),
      "intrinsics": camera.normalise_intrinsics(view.intrinsics, view.resolution),
      "confidence": confidence, "poses": view.poses_camera, "valid": batch["valid"],
  }


def load_records(name: str, split: str, folders: Folders):
  """Records of `dataset/config`, built first where they are not yet. Raises as the builder does."""
  with processes.main_first():
    return load.load(name, split, data_dir=folders.data_dir, manual_dir=folders.manual_dir)


def load_source(name: str, split: str, clip_fps: float, folders: Folders) -> Source:
  """A source by name: world motion under a rig or several, or recorded views.

  `dataset/rig` or `dataset/rig+rig` (and `synthetic_motion/domain`) is world motion that the rigs render afresh at
  every step. A name that ends in one of FIXED_ENDINGS, and any dataset of real cameras, is its recorded views.
  `dataset/rig+N*dataset/rig` is the motion of both under one mixture of rigs, where clips of the second count N times.
  Raises ValueError for rigs of different motion and for datasets under different rigs.
  """
  if is_fixed(name):
    return Source(tracks.make_tracks(load_records(name, split, folders), tracks.LABELLED, clip_fps))
  found, rig_names = [], set()
  for times, dataset, views in split_source(name):
    worlds, names = zip(*(load.world_config(f"{dataset}/{view}") for view in views), strict=True)
    if len(set(worlds)) > 1:
      mixed = ", ".join(sorted(set(worlds)))
      raise ValueError(f"{name} mixes different motion ({mixed}): give rigs that render the same motion")
    records = load_records(f"{dataset}/{worlds[0]}", split, folders)
    found += times * tracks.make_tracks(records, tracks.WORLD, clip_fps)
    rig_names.add("+".join(names))
  if len(rig_names) > 1:
    raise ValueError(f"{name} gives its datasets different rigs ({', '.join(sorted(rig_names))}): give all the same")
  return Source(found, rigs.get_rig(rig_names.pop()))


def split_source(name: str) -> list[tuple[int, str, list[str]]]:
  """(times that a clip counts, dataset, views) of each dataset that a source's name mixes."""
  found: list[tuple[int, str, list[str]]] = []
  for part in name.split("+"):
    if "/" in part or not found:
      match = re.fullmatch(r"(?:(\d+)\*)?([^/]*)/?(.*)", part)
      found.append((int(match[1] or 1), match[2], [match[3]]))
    else:  # one more rig of the last dataset
      found[-1][2].append(part)
  return found


def open_clips(name: str, split: str, fields: tuple[str, ...], clip_fps: float, num_frames: int, folders: Folders):
  """A `clips.ClipSource` of `dataset/config`, with the given fields alone."""
  records = load_records(name, split, folders)
  return clips.ClipSource(tracks.make_tracks(records, fields, clip_fps), num_frames)


def fixed_views(name: str) -> str:
  """The fixed, exact-2D views that score a source given by rig or domain. Raises ValueError for several rigs."""
  if "+" in name:
    raise ValueError(f"{name} names several rigs: say with --eval_on=DATASET/CONFIG which views score the base")
  return name if is_fixed(name) else f"{name}_gt"


def is_fixed(name: str) -> bool:
  """Whether a source's name means recorded or fixed views, and not world motion that a rig renders."""
  return name.endswith(FIXED_ENDINGS) or not load.has_world(split_source(name)[0][1])
