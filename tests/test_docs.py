"""README and docs: their files, commands and flags exist, their numbers are committed results, and they are short."""

import ast
import functools
import json
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest

from experiments.bench import report
from posynda_jax.adaptation import bases, job, recipes, sources, tensors_file
from tests import ROOT, scene, tiny

DOCS = {path.name: path for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = {name: path.read_text() for name, path in {"README.md": ROOT / "README.md", **DOCS}.items()}
FOLDER = ROOT / "docs/results"
RESULTS = {path.relative_to(FOLDER).with_suffix("").as_posix(): json.loads(path.read_text())
           for path in sorted(FOLDER.rglob("*.json"))}
EACH_PAGE = pytest.mark.parametrize("name", PAGES)


def test_readme_and_docs_are_short():
  assert len(PAGES["README.md"].encode()) <= 10_240
  assert sum(path.stat().st_size for path in DOCS.values()) <= 67_236


@EACH_PAGE
def test_a_page_says_for_whom_it_is_and_its_files_exist_and_its_python_parses(name):
  page, folder = PAGES[name], ROOT if name == "README.md" else ROOT / "docs"
  assert name == "README.md" or re.match(r"# .+\n\nFor ", page)
  files = {ROOT / path for path in re.findall(
      r"(?:experiments|posynda_jax|docs|tests)/[\w/.-]+\.(?:py|flags|md|json|png)", page)}
  files |= {folder / link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page) if "://" not in link}
  assert not [str(path) for path in files if not path.exists()]
  for block in re.findall(r"```python\n(.+?)```", page, re.S):
    ast.parse(block)


def test_ci_runs_exactly_the_test_command_of_readme():
  block = re.search(r"<!-- test command -->\n```\n(.+?)\n```", PAGES["README.md"], re.S)[1]
  assert "\n" not in block and "pytest" in block and "requirements.txt" in block
  extract = re.search(r"command=\$\((.+)\)\n", (ROOT / ".ci" / "run").read_text())[1]
  done = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True)
  assert done.stdout.strip() == block


def flags_of(path: pathlib.Path, seen: set) -> set[str]:
  """Names of the flags, of absl or argparse, that a script and the modules beside it that it imports define."""
  if path in seen or not path.is_file():
    return set()
  seen.add(path)
  found = {"flagfile", "help"}
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("DEFINE_"):
      found |= {node.args[0].value, f"no{node.args[0].value}"}
    elif isinstance(node, ast.Call) and node.args and str(getattr(node.args[0], "value", "")).startswith("--"):
      found.add(node.args[0].value.removeprefix("--"))
    elif isinstance(node, ast.ImportFrom) and (node.level or node.module == path.parent.name):
      found = found.union(*(flags_of(path.with_name(f"{alias.name}.py"), seen) for alias in node.names))
  return found


@EACH_PAGE
def test_commands_of_a_page_name_scripts_and_flags_that_exist(name):
  blocks = "\n".join(re.findall(r"^```\n(.+?)^```", PAGES[name], re.S | re.M)).replace("\\\n", " ")
  for package, script, rest in re.findall(r"-m (experiments|data_prep)\.(\w+)([^\n#;&|)]*)", blocks):
    unknown = set(re.findall(r"(?<=\s)--(\w+)", rest)) - flags_of(ROOT / package / f"{script}.py", set())
    assert (ROOT / package / f"{script}.py").exists() and not unknown, f"{script}: {unknown}"


def cell(score: dict) -> str:
  return f"{score['mpjpe_mm']:.1f} ({score['p_mpjpe_mm']:.1f})"


def cells(value):
  """Every `MPJPE (P-MPJPE)` of results as pages write it."""
  if isinstance(value, dict):
    if all(isinstance(value.get(metric), float) for metric in ("mpjpe_mm", "p_mpjpe_mm")):
      yield cell(value)
    value = list(value.values())
  for part in value if isinstance(value, list) else ():
    yield from cells(part)


@EACH_PAGE
def test_scores_of_a_page_are_in_the_committed_results(name):
  by_hand = re.sub(r"<!-- results: .*?<!-- end -->", "", PAGES[name], flags=re.S)  # the next test has generated tables
  assert not set(re.findall(r"\d+\.\d \(\d+\.\d\)", " ".join(by_hand.split()))) - set(cells(RESULTS))


def test_generated_tables_equal_the_committed_results(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["make_results.py", str(tmp_path)])
  runpy.run_path(str(ROOT / "docs" / "make_results.py"), run_name="__main__")
  made = {path.name: path.read_text() for path in tmp_path.rglob("*.md")}
  assert made and not [name for name in made if made[name] != PAGES[name]], "run: python docs/make_results.py"
  shown = re.findall(r"<!-- results: (?:table|again) (\w+) -->", "".join(made.values()))
  assert sorted(f"tables/{name}" for name in shown) == sorted(name for name in RESULTS if name.startswith("tables/"))


def table_rows(text: str) -> set[str]:
  """Rows of Markdown tables without the padding of their cells."""
  return {re.sub(" +", " ", line) for line in text.splitlines() if line.startswith("| ") and set(line) - set("|:- ")}


def test_the_speed_tables_equal_the_committed_results():
  results, page = RESULTS["benchmark"], PAGES["performance.md"]
  for table in (report.markdown(results["cases"]), report.growth(results["cases"])):
    assert table_rows(table) <= table_rows(page)
  assert results["machine"]["processor"] in page
  for name in ("adapt_step", "compact_gradient"):
    assert f"time: {results['cases'][name]['ratio_to_torch_eager']:.2f}" in page
  assert f"costs {results['cases']['sweep']['ratio_to_separate_steps']:.2f} of" in PAGES["sweep.md"]


@pytest.mark.parametrize("name", ["base", "small", "cmu_h36m"])
def test_the_model_card_of_a_shipped_base_equals_its_committed_results(name):
  card, base = bases.SHIPPED[name].with_suffix(".md").read_text(), bases.load(name)
  plain, fitted = RESULTS[name]["evaluations"], RESULTS.get(f"{name}_body", {"evaluations": []})["evaluations"]
  assert len(plain) >= 4 and {row["base"] for row in plain + fitted} == {base.digest}
  assert all(row["protocol"]["refine"] == "body" for row in fitted)
  for i, row in enumerate(plain):
    scores = " | ".join(cell(both[i]) for both in (plain, fitted) if both)
    assert f"| {row['protocol']['dataset']} | {scores} | {row['frames']:,} |" in card
  assert RESULTS[f"{name}_training"]["digest"] in card


def test_the_readmes_python_adapts_lifts_saves_and_loads_again(data, tmp_path, monkeypatch):
  """With few updates of a tiny base, and the embedded data of the tests."""
  (code,) = re.findall(r"```python\n(.+?)```", PAGES["README.md"], re.S)
  get, Job, base = recipes.get, job.Job, tmp_path / "base.safetensors"
  folders = sources.Folders(data_dir=data.removeprefix("--data_dir="))
  tensors_file.save_base(base, tiny.base().params, tiny.CONFIG)
  monkeypatch.setitem(bases.SHIPPED, bases.DEFAULT, base)
  monkeypatch.setattr(recipes, "get", functools.partial(get, updates=2, clips=8))
  monkeypatch.setattr(job, "Job", functools.partial(Job, folders=folders))
  monkeypatch.chdir(tmp_path)
  poses = scene.poses((45,))
  keypoints_px = 1450 * poses[..., :2] / poses[..., 2:] + np.array([960, 540])
  names = {"keypoints_px": keypoints_px}
  exec(code, names)
  assert names["free"].scores["adapted"]["frames"] == names["novel"].scores["adapted"]["frames"] == 45
  assert names["lifted"].pose.shape == (45, 17, 3)
  np.testing.assert_array_equal(names["lift"](keypoints_px, **names["video"]).pose, names["lifted"].pose)
