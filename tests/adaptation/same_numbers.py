"""Sixty updates of every recipe on two pairs, and how far their numbers are from the recorded ones.

    python -m tests.adaptation.same_numbers             # compares with same_numbers.json; ten minutes on two cores
    python -m tests.adaptation.same_numbers --record    # writes it anew: only if a change means to change numbers

Both pairs start from the base `cmu_h36m`, which ships. The numbers hold on the kind of CPU that recorded them:
elsewhere rounding differs, and sixty updates make a difference of it that can be seen. HDM05 and CMU archives are
read from POSYNDA_MOCAP.
"""

import json
import os
import pathlib
import sys

import jax
import numpy as np

from posynda_jax.adaptation import job, recipes, sources
from tests import ROOT

PATH = pathlib.Path(__file__).with_suffix(".json")
MOCAP = os.environ.get("POSYNDA_MOCAP", str(ROOT.parent / "shared" / "mocap"))
TOLERANCE_MM = 1e-3
PAIRS = {
    "embedded": {"source": "synthetic_motion/source", "target": "synthetic_motion/target_gt"},
    "hdm05_wild": {"source": "cmu_mocap/h36m_rig", "target": "hdm05_mocap/wild_rig_gt"},
}
PAPER = ("posynda", "f")  # at the compact bases' rate, so that sixty updates move them
RECIPES = {
    name: recipes.get(name, **(recipes.COMPACT if name in PAPER else {}) | {"updates": 60}) for name in recipes.RECIPES
}


def measure(pair: str, name: str) -> dict[str, float]:
  """Scores on a quarter of the test split (mm), and the norm of the adapter."""
  where, recipe = PAIRS[pair], RECIPES[name]
  result = job.run(job.Job(
      recipe, where["target"], "cmu_h36m", where["source"] if recipe.needs_source else None,
      test_split="test[:25%]", guard=False, folders=sources.Folders(manual_dir=MOCAP)), report=lambda line: None)
  scores = {
      f"{row}_{metric}": its[metric] for row, its in result.scores.items() for metric in ("mpjpe_mm", "p_mpjpe_mm")}
  squares = [float((np.asarray(leaf, np.float64) ** 2).sum()) for leaf in jax.tree.leaves(result.adapted.adapter)]
  return scores | {"adapter_norm": float(np.sqrt(sum(squares)))}


def differences(found: dict, recorded: dict) -> dict[str, float]:
  """Largest difference of each pair and recipe, in mm, and in a hundredth of the adapter's norm."""
  return {
      key: max(abs(value - recorded[key][name]) * (100 if name == "adapter_norm" else 1) for name, value in its.items())
      for key, its in found.items()
  }


def main(arguments: list[str]) -> None:
  only = [argument for argument in arguments if not argument.startswith("--")]
  found = {}
  recorded = json.loads(PATH.read_text()) if PATH.exists() else {}
  for pair in PAIRS:
    for name in RECIPES:
      key = f"{pair}/{name}"
      if only and not any(part in key for part in only):
        continue
      found[key] = measure(pair, name)
      apart = differences({key: found[key]}, recorded)[key] if key in recorded else float("nan")
      print(f"{key:24} apart {apart:.2e}  " + "  ".join(f"{k} {v:.4f}" for k, v in found[key].items()), flush=True)
  if "--record" in arguments:
    PATH.write_text(json.dumps(recorded | found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
  main(sys.argv[1:])
