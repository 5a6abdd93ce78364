"""Procedural human motion in two domains that differ in bodies, motions and cameras. Built from a seed, no download."""

import zlib
from typing import NamedTuple

import numpy as np

from posynda_jax.datasets import record
from posynda_jax.datasets.mocap import views
from posynda_jax.datasets.synthetic_motion import families
from posynda_jax.datasets.synthetic_motion.body import BodyRange, draw_body

FPS = 50.0
NUM_FRAMES = 200  # 4 s
SUBJECTS = {"train": 60, "test": 12}
SEQUENCES = 4  # of each subject


class Domain(NamedTuple):
  """A population of bodies, the relative frequencies of the families of motion, and the rig that renders them."""

  bodies: BodyRange
  families: dict[str, float]
  rig: str


DOMAINS = {
    "source": Domain(
        BodyRange(),
        dict(locomotion=4, gesturing=3, reaching=2, turning=2, sitting=1, bending=1, squatting=1, kicking=1, jumping=1,
             lunging=1),
        "h36m_rig",
    ),
    "target": Domain(
        BodyRange(
            stature_m=(1.50, 1.90), thigh=(0.235, 0.265), shin=(0.235, 0.265), torso=(0.265, 0.305), hip=(0.062, 0.08),
            shoulder=(0.08, 0.1), upper_arm=(0.148, 0.172), forearm=(0.13, 0.153),
        ),
        dict(locomotion=3, gesturing=2, reaching=2, turning=1, sitting=1, bending=1, squatting=2, kicking=1, jumping=2,
             lunging=2),
        "phone_rig",
    ),
}


class SyntheticMotion(record.Builder):
  """Every sequence and view is a pure function of (domain, split, subject, sequence, view)."""

  name = "synthetic_motion"
  LICENSE = "MIT."
  BUILDER_CONFIGS = [
      record.RigConfig(
          name=f"{name}_{kind}", rig=None if kind == "world" else domain.rig, detected=kind == "detected")
      for name, domain in DOMAINS.items()
      for kind in ("world", "gt", "detected")
  ]

  def _split_generators(self, dl_manager):
    del dl_manager
    return {split: self._generate_examples(split) for split in SUBJECTS}

  def _generate_examples(self, split: str):
    config = self.builder_config
    domain_name = config.name.partition("_")[0]
    domain = DOMAINS[domain_name]
    chances = np.array(list(domain.families.values()), float)
    for subject in range(SUBJECTS[split]):
      # The body's random stream excludes the sequence, so a subject has one body.
      body = draw_body(_stream(domain_name, split, subject), domain.bodies)
      for number in range(SEQUENCES):
        name = f"{split}{subject:03d}_{number}"
        rng = _stream(domain_name, name)
        family = rng.choice(list(domain.families), p=chances / chances.sum())
        poses = families.draw_motion(rng, body, family, NUM_FRAMES, FPS)
        labels = {"fps": np.float32(FPS), "subject": f"{split}{subject:03d}", "action": str(family), "sequence": name}
        if not config.rig:
          yield name, {"poses_world_m": poses, **labels}
          continue
        rendered = views.render_shots(
            poses, config.rig, NUM_FRAMES, detected=config.detected,
            dataset=f"synthetic_motion/{domain_name}", sequence=name,
        )
        for _, view, fields in rendered:
          yield f"{name}/{view}", {**fields, **labels}


def _stream(*address) -> np.random.Generator:
  """The random stream of an address such as (domain, sequence)."""
  return np.random.default_rng(zlib.crc32("/".join(map(str, address)).encode()))
