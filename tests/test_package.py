"""The package: the wheel's content, its one command in a folder that is no checkout, and the texts about it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml  # a requirement of Flax and Orbax

import posynda_jax
from experiments import console
from tests import LIGHT, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = {"posynda_jax": "posynda_jax", "experiments": "posynda_jax/experiments", "data_prep": "posynda_jax/data_prep"}


def run(*command, cwd, env=None, returncode=0) -> str:
  """Output of a command that ends with `returncode`."""
  done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
  assert done.returncode == returncode, done.stdout[-2000:] + done.stderr[-2000:]
  return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> pathlib.Path:
  """A folder with the wheel, built from a copy of the sources without a network, and its installation in `site`."""
  folder = tmp_path_factory.mktemp("package")
  for name in FOLDERS:
    shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
  for name in ("pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, folder / "source")
  pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
  run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir=.", "./source", cwd=folder)
  (wheel,) = folder.glob("*.whl")
  run(*pip, "install", "--no-deps", "--no-index", "--target=site", wheel.name, cwd=folder)
  return folder


def test_the_wheel_is_one_package_that_holds_every_source_preset_weight_and_text(installed):
  (wheel,) = installed.glob("*.whl")
  names, information = set(zipfile.ZipFile(wheel).namelist()), f"posynda_jax-{posynda_jax.__version__}.dist-info"
  wanted = {
      f"{inside}/{path.relative_to(ROOT / folder)}" for folder, inside in FOLDERS.items()
      for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"
  }
  assert {"posynda_jax/py.typed", "posynda_jax/experiments/presets/smoke.flags"} <= wanted
  assert not wanted - names
  assert {name.partition("/")[0] for name in names} == {"posynda_jax", information}
  assert f"{information}/licenses/LICENSE" in names
  metadata = zipfile.ZipFile(wheel).read(f"{information}/METADATA").decode()
  assert f"Version: {posynda_jax.__version__}\n" in metadata and "License-Expression: MIT" in metadata
  assert "pytest" not in re.sub(r".*extra == .*", "", metadata.partition("\n\n")[0])


@pytest.mark.parametrize("arguments, returncode, said", [
    ("--help", 0, [f"  {name} " for name in console.COMMANDS]),
    ("adept", 1, ["error: 'adept' is no command of posynda"]),
    ("adapt --help", 1, ["--recipe: <posynda|", "Adapts a base to an unlabelled"]),  # absl's help ends with 1
    ("pretrain --flagfile=smoke_base.flags", 1, ["error: --workdir is not given: name a folder for this run"]),
    ("lift --keypoints=a.json", 1, ["error: --keypoints or --video, and --output are needed"]),
    ("convert nowhere.bin out", 1, ["error: nowhere.bin"]),
    ("check --dataset=threedpw --path=nowhere", 1, ["error: nowhere is not a folder"]),
])
def test_the_one_command_runs_every_script_where_there_is_no_checkout(installed, tmp_path, arguments, returncode, said):
  site = installed / "site"
  assert [path.name for path in (site / "bin").iterdir()] == ["posynda"]
  environment = os.environ | {"XLA_FLAGS": LIGHT, "PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu"}
  command = (sys.executable, site / "bin" / "posynda", *arguments.split())
  out = run(*command, cwd=tmp_path, env=environment, returncode=returncode)
  assert not [text for text in said if text not in out] and "Traceback" not in out
  assert not list(tmp_path.iterdir())


def test_every_script_is_a_command():
  assert PROJECT["scripts"] == {"posynda": "posynda_jax.experiments.console:main"}
  paths = [path for folder in ("experiments", "data_prep") for path in (ROOT / folder).glob("*.py")]
  scripts = {f"{path.parent.name}.{path.stem}" for path in paths if 'if __name__ == "__main__"' in path.read_text()}
  assert scripts - {"experiments.console"} == {module for module, _ in console.COMMANDS.values()}


def test_presets_are_read_by_name_in_every_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  smoke = console.read_presets(["--rank=1", "--flagfile=smoke.flags", "--clips=4"])
  assert smoke[0] == "--rank=1" and smoke[-1] == "--clips=4" and {"--base=plan:smoke", "--rank=2"} < set(smoke)
  assert all(flag.startswith("--") and "flagfile" not in flag for flag in smoke)
  assert console.read_presets(["--flagfile=experiments/presets/smoke.flags"]) == smoke[1:-1]
  (tmp_path / "smoke.flags").write_text("# mine\n\n--rank=9\n--flagfile=smoke.flags\n")  # the current folder is first
  assert console.read_presets(["--flagfile=smoke.flags"]) == ["--rank=9", "--flagfile=smoke.flags"]
  for unchanged in (f"--only={'|'.join(['a row'] * 60)}", "--flagfile=other/smoke.flags", "--flagfile="):
    assert console.read_presets([unchanged]) == [unchanged]  # the first is too long for the name of a file


def test_the_package_needs_what_the_requirements_pin_except_the_tools_of_tests():
  lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
  pinned = {line.replace("==", ">=") for line in lines if line}
  tools = set(PROJECT["optional-dependencies"]["test"])
  assert {re.match(r"[\w-]+", tool)[0] for tool in tools} == {"pytest", "pytest-xdist", "setuptools", "ruff", "av"}
  assert set(PROJECT["dependencies"]) | tools == pinned and not set(PROJECT["dependencies"]) & tools


def test_the_citation_follows_its_schema():
  """The required keys of Citation File Format 1.2.0, and those that must agree with the package."""
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  paper = citation["preferred-citation"]
  assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["message"]
  assert citation["version"] == posynda_jax.__version__ and citation["license"] == PROJECT["license"]
  assert citation["authors"] == PROJECT["authors"] and paper["type"] == "conference-paper"
  assert all({"family-names", "given-names"} == set(author) for author in paper["authors"])
  readme = " ".join((ROOT / "README.md").read_text().split())
  assert f"title = {{{paper['title']}}}" in readme and f"year = {{{paper['year']}}}" in readme
  assert " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]) in readme
