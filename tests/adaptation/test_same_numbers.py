"""Sixty updates of every recipe on two pairs give the recorded numbers: ten minutes on two cores.

    python -m pytest -m long tests/adaptation/test_same_numbers.py
    python -m tests.adaptation.test_same_numbers    # records them anew: only if a change means to change numbers

Both pairs start from the base `cmu_h36m`, which ships. The numbers hold on the kind of CPU that recorded them:
elsewhere rounding differs, and sixty updates make a difference of it that can be seen. HDM05 and CMU archives are
read from POSYNDA_MOCAP.
"""

import json
import os
import pathlib

import jax
import numpy as np
import pytest

from posynda_jax.adaptation import job, recipes, sources
from tests import ROOT

RECORDED = pathlib.Path(__file__).with_name("same_numbers.json")
MOCAP = os.environ.get("POSYNDA_MOCAP", str(ROOT.parent / "shared" / "mocap"))
TOLERANCE_MM = 1e-3  # and 1e-5 of the adapter norm
PAIRS = {
    "embedded": ("synthetic_motion/source", "synthetic_motion/target_gt"),
    "hdm05_wild": ("cmu_mocap/h36m_rig", "hdm05_mocap/wild_rig_gt"),
}
PAPER = ("posynda", "f")  # at the compact bases' rate, so that sixty updates move them


def measure(pair: str, name: str) -> dict[str, float]:
  """Scores on a quarter of the test split (mm), and the norm of the adapter."""
  recipe = recipes.get(name, **(recipes.COMPACT if name in PAPER else {}) | {"updates": 60})
  source, target = PAIRS[pair]
  result = job.run(job.Job(
      recipe, target, "cmu_h36m", source if recipe.needs_source else None, test_split="test[:25%]", guard=False,
      folders=sources.Folders(manual_dir=MOCAP)))
  scores = {
      f"{row}_{metric}": its[metric] for row, its in result.scores.items() for metric in ("mpjpe_mm", "p_mpjpe_mm")}
  squares = [float((np.asarray(leaf, np.float64) ** 2).sum()) for leaf in jax.tree.leaves(result.adapted.adapter)]
  return scores | {"adapter_norm": float(np.sqrt(sum(squares)))}


@pytest.mark.long
@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_recipe_gives_the_recorded_numbers(pair, name):
  if pair == "hdm05_wild" and not pathlib.Path(MOCAP).is_dir():
    pytest.skip(f"motion capture archives not found at {MOCAP}: set POSYNDA_MOCAP to their folder")
  found, recorded = measure(pair, name), json.loads(RECORDED.read_text())[f"{pair}/{name}"]
  apart = {key: abs(value - recorded[key]) * (100 if key == "adapter_norm" else 1) for key, value in found.items()}
  assert max(apart.values()) < TOLERANCE_MM, (
      f"recorded {recorded}, found {found}: on the CPU that recorded them numbers agree; if this change means to "
      "change them, record them anew")


if __name__ == "__main__":
  found = {f"{pair}/{name}": measure(pair, name) for pair in PAIRS for name in recipes.RECIPES}
  RECORDED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
