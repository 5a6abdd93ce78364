"""What README says is what is there."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from experiments.bench import profile, report
from posynda_jax.adaptation import bases

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_file_and_preset_that_readme_names_exists():
  names = re.findall(r"(?:experiments|posynda_jax|docs|tests)/[\w/.-]+\.(?:py|flags|md|json|png)", README)
  assert names
  missing = [name for name in names if not (ROOT / name).exists()]
  assert not missing


def test_ci_runs_exactly_the_test_command_of_readme():
  block = re.search(r"<!-- test command -->\n```\n(.+?)\n```", README, re.S)[1]
  assert "\n" not in block and "pytest" in block and "requirements.txt" in block
  extract = re.search(r"command=\$\((.+)\)\n", (ROOT / ".ci" / "run").read_text())[1]
  done = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True)
  assert done.stdout.strip() == block


RESULTS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "results").glob("*.json"))}
TEXT = README + (ROOT / "docs" / "results.md").read_text()


def cell(score: dict) -> str:
  return f"{score['mpjpe_mm']:.1f} ({score['p_mpjpe_mm']:.1f})"


@pytest.mark.parametrize("name", [name for name, result in RESULTS.items() if "rows" in result])
def test_tables_equal_the_committed_results(name):
  for row, values in RESULTS[name]["rows"].items():
    for test, score in values["scores"].items():
      assert cell(score) in TEXT, f"{name}: {row} on {test}"


def test_the_base_and_the_parts_of_the_gap_equal_the_committed_results():
  base = RESULTS["base"]
  assert cell(base["base"]) in TEXT and base["digest"] in TEXT
  for parts in RESULTS["gap_hdm05_wild"]["parts"].values():
    for part in (part for part in parts if part["motion"]):  # the source's own rows have a camera part alone
      assert " | ".join(f"{part[column]:.1f}" for column in ("home", "camera", "motion", "body", "total")) in TEXT


def test_the_benchmarks_tables_equal_its_committed_results():
  results, performance = RESULTS["benchmark"], (ROOT / "docs" / "performance.md").read_text()
  shown = "\n".join(line.strip() for line in README.splitlines())
  assert report.markdown(results).strip() in shown and results["machine"]["processor"] in README
  assert report.growth(results).strip() in performance
  aims = ("forward_243", "adapt_step", "compact_gradient")
  assert profile.table({name: results["cases"][name] for name in aims}).strip() in performance
  for name in aims:
    assert f"{results['cases'][name]['ratio_to_torch_eager']:.2f}" in performance
  assert f"takes {results['cases']['sweep']['ratio_to_separate_steps']:.2f} of eight separate steps" in " ".join(performance.split())
  assert (ROOT / "docs" / "benchmark.png").stat().st_size > 5000


def test_bases_and_source_free_runs_equal_the_committed_results():
  assert cell(RESULTS["videopose_base"]["base"]) in TEXT
  for name in ("source_free_paper", "source_free_mean", "source_free_novel"):
    assert all(cell(RESULTS[name][row]) in " ".join(TEXT.split()) for row in ("source_only", "adapted")), name
  scores = {row["protocol"]["dataset"]: cell(row) for row in RESULTS["cmu_any"]["evaluations"]}
  assert all(scores[name] in README for name in (
      "cmu_mocap/h36m_rig_gt", "cmu_mocap/wild_rig_gt", "hdm05_mocap/wild_rig_gt", "hdm05_mocap/wild_rig_detected",
  ))


def test_the_model_card_of_the_shipped_base_equals_its_committed_results():
  card = bases.SHIPPED[bases.DEFAULT].with_suffix(".md").read_text()
  plain, fitted = RESULTS["cmu_any"]["evaluations"], RESULTS["cmu_any_body"]["evaluations"]
  assert len(plain) == len(fitted) >= 10
  for row, body in zip(plain, fitted, strict=True):
    assert row["base"] == body["base"] == bases.load(bases.DEFAULT).digest
    assert row["protocol"]["dataset"] == body["protocol"]["dataset"] and body["protocol"]["refine"] == "body"
    assert f"| {row['protocol']['dataset']} | {cell(row)} | {cell(body)} | {row['frames']:,} |" in card


def test_the_documents_tables_equal_the_committed_results(tmp_path):
  subprocess.run([sys.executable, "docs/make_results.py", tmp_path], cwd=ROOT, check=True)
  pages = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.md"))
  text = "".join((ROOT / page).read_text() for page in pages)
  stale = [str(page) for page in pages if (tmp_path / page).read_text() != (ROOT / page).read_text()]
  assert not stale, "run: python docs/make_results.py"
  shown = re.findall(r"<!-- results: (?:table|again) (\w+) -->", text)
  assert sorted(shown) == sorted(path.stem for path in (ROOT / "docs" / "results" / "tables").glob("*.json"))
  assert all(f"<!-- results: {name} -->" in text for name in ("benchmark", "again hdm05_dhp_choice_beyond", "gaps", "choosing", "action lieDownFloor"))


def test_the_card_of_the_benchmarks_base_equals_its_committed_results():
  card = bases.SHIPPED["cmu_h36m"].with_suffix(".md").read_text()
  rows = RESULTS["cmu_h36m"]["evaluations"]
  assert len(rows) >= 4 and all(row["base"] == bases.load("cmu_h36m").digest and row["base"] in card for row in rows)
  assert all(f"| {row['protocol']['dataset']} | {cell(row)} | {row['frames']:,} |" in card for row in rows)
  assert RESULTS["cmu_h36m_training"]["digest"] in card


@pytest.mark.parametrize("rig", ["wild", "dhp"])
def test_settings_were_chosen_on_training_actors(rig):
  found = json.loads((ROOT / "docs" / "results" / "tables" / f"hdm05_{rig}_choice_beyond.json").read_text())
  assert found["protocol"]["dataset"] == f"hdm05_mocap/{rig}_rig_gt" and found["protocol"]["split"] == "train[516:]"
  assert {row["base"] for row in found["rows"]} == {bases.load("cmu_h36m").digest}
