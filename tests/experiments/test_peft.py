"""The study of adapters end to end in its smallest form, and the page about it."""

import json
import re

from tests import ROOT
from tests.scripts import SMOKE, error_of, run_well

PAGE = (ROOT / "docs" / "peft.md").read_text()


def test_a_study_sweeps_adds_and_measures_adapters(data, smoke_base, tmp_path):
  flags = (SMOKE, data, smoke_base, f"--workdir={tmp_path}/peft", "--rules=attention", "--ranks=1,2", "--rates=1e-3")
  run_well("peft", *flags)
  results = json.loads((tmp_path / "peft" / "peft.json").read_text())
  (rule, rows), = results["rules"].items()
  assert rule == "attention" and len(rows) == 2
  trainable = {row["rank"]: row["trainable"] for row in rows}
  assert trainable[2] - 51 == 2 * (trainable[1] - 51) > 0
  sums = results["arithmetic"]
  assert abs(sums["share_of_one"]["0.0"] - results["source_only"]) < 1e-2
  assert abs(sums["share_of_one"]["1.0"] - sums["between_seeds"]["0.0"]) < 1e-2
  assert sums["share_of_one"]["1.0"] != results["source_only"]
  member = json.loads((tmp_path / "peft" / "seeds" / "seed_1" / "metrics.json").read_text())["adapted"]
  assert abs(sums["between_seeds"]["1.0"] - member["mpjpe_mm"]) < 1e-2
  assert results["merge"]["merged_against_factorised_mm"] < 1 and results["merge"]["unmerged_against_base"] < 1e-5
  assert set(results["relative_norms"]) and (tmp_path / "peft" / "peft.png").stat().st_size > 5000


def test_an_unknown_rule_is_one_line(tmp_path):
  line = error_of("peft", SMOKE, "--rules=heads", f"--workdir={tmp_path}")
  assert "rules heads are unknown; choose of attention" in line


def test_the_code_of_the_page_on_adapters_runs():
  exec(re.search(r"```python\n(.+?)```", PAGE, re.S)[1], {"__name__": "page"})


def test_the_page_on_adapters_shows_its_committed_results():
  results = json.loads((ROOT / "docs" / "results" / "peft.json").read_text())
  for rule, rows in results["rules"].items():
    for rank in {row["rank"] for row in rows}:
      mine = sorted((row for row in rows if row["rank"] == rank), key=lambda row: row["rate"])
      cells = " | ".join(f"{row['mpjpe_mm']:.1f}" for row in mine)
      assert f"| {rule} | {rank} | {mine[0]['trainable']:,} | {cells} |" in PAGE
  for numbers in (results["arithmetic"]["share_of_one"], results["arithmetic"]["between_seeds"]):
    cells = (f"{value:.1f}" for _, value in sorted(numbers.items(), key=lambda item: float(item[0])))
    assert f"| {' | '.join(cells)} |" in PAGE
  assert f"{results['source_only']:.1f}" in PAGE and f"{results['arithmetic']['mean_of_factors']:.1f}" in PAGE
  assert (ROOT / "docs" / "peft.png").stat().st_size > 5000
