"""What README says is what is there."""

import json
import pathlib
import re
import subprocess

import pytest

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


@pytest.mark.parametrize("path", sorted(p for p in (ROOT / "docs" / "results").glob("*.json") if p.stem != "gap"), ids=lambda p: p.stem)
def test_tables_in_readme_equal_the_committed_results(path):
  rows = json.loads(path.read_text())["rows"]
  for name, row in rows.items():
    for test, score in row["scores"].items():
      cell = f"{score['mpjpe_mm']:.1f} ({score['p_mpjpe_mm']:.1f})"
      assert cell in README + (ROOT / "docs" / "results.md").read_text(), f"{path.stem}: {name} on {test}"
