"""What is installed: the wheel's content, its commands in a folder that is no checkout, and the texts that describe it."""

import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml  # Flax and Orbax ask for it

import posynda_jax
from experiments import console
from tests import LIGHT

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("posynda_jax", "experiments", "data_prep")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> pathlib.Path:
  """A folder into which the wheel, built from a copy of the sources without the network, is installed."""
  folder = tmp_path_factory.mktemp("package")
  for name in PACKAGES:
    shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
  for name in ("pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, folder / "source")
  pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
  run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir=.", "./source", cwd=folder)
  (wheel,) = folder.glob("*.whl")
  run(*pip, "install", "--no-deps", "--no-index", "--target=site", wheel.name, cwd=folder)
  return folder


def run(*command: str, cwd, env=None, returncode=0) -> str:
  """Output of a command that ends with `returncode`."""
  done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
  assert done.returncode == returncode, done.stdout[-2000:] + done.stderr[-2000:]
  return done.stdout + done.stderr


def test_the_wheel_holds_every_source_preset_and_text(installed):
  (wheel,) = installed.glob("*.whl")
  names = set(zipfile.ZipFile(wheel).namelist())
  kinds = (".py", ".flags", ".md", ".bib", ".txt", ".html", ".js", ".css", ".safetensors", ".typed")
  wanted = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in kinds}
  assert "posynda_jax/py.typed" in wanted and "experiments/presets/recipe.flags" in wanted
  assert not wanted - names
  assert {name.partition("/")[0] for name in names} == {*PACKAGES, f"posynda_jax-{posynda_jax.__version__}.dist-info"}
  assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
  information = zipfile.ZipFile(wheel).read(f"posynda_jax-{posynda_jax.__version__}.dist-info/METADATA").decode()
  assert f"Version: {posynda_jax.__version__}\n" in information and "License-Expression: MIT" in information
  assert "pytest" not in re.sub(r".*extra == .*", "", information.partition("\n\n")[0])


def test_installed_commands_run_where_there_is_no_checkout(installed, tmp_path):
  site = installed / "site"
  environment = os.environ | {"XLA_FLAGS": LIGHT, "PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu"}
  refused = lambda name, *flags: run(
      sys.executable, str(site / "bin" / name), *flags, cwd=tmp_path, env=environment, returncode=1
  ).strip().splitlines()[-1]
  line = refused("posynda-pretrain", "--flagfile=smoke_base.flags")
  assert line == "error: --workdir is not given: name a folder for this run"  # the preset was found
  assert "is not a folder" in refused("posynda-check", "--dataset=threedpw", "--path=nowhere")


def test_every_command_is_a_script_that_exists():
  assert PROJECT["scripts"] == dict.fromkeys(console.COMMANDS, "experiments.console:main")
  scripts = {path.stem for path in (ROOT / "experiments").glob("*.py") if 'if __name__ == "__main__"' in path.read_text()}
  assert {f"posynda-{name}" for name in scripts} <= set(console.COMMANDS)
  files = {name: module.split()[0].replace(".", "/") for name, module in console.COMMANDS.items()}
  missing = [name for name, file in files.items() if not any((ROOT / f"{file}{end}").exists() for end in (".py", "/__main__.py"))]
  assert not missing


def test_a_command_runs_its_module_with_the_users_arguments(monkeypatch):
  called = []
  monkeypatch.setattr(runpy, "run_module", lambda module, **kw: called.append((module, sys.argv[1:], kw["run_name"])))
  for name in ("posynda-lift", "posynda-convert.exe"):
    monkeypatch.setattr(sys, "argv", [f"/somewhere/{name}", "--a=b"])
    console.main()
  assert called == [("experiments.lift", ["--a=b"], "__main__"), ("posynda_jax.interop", ["convert", "--a=b"], "__main__")]


def test_presets_are_read_by_name_in_every_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  smoke = console.read_presets(["--rank=1", "--flagfile=smoke.flags", "--clips=4"])
  assert smoke[0] == "--rank=1" and smoke[-1] == "--clips=4" and "--width=16" in smoke and "--rank=2" in smoke
  assert all(flag.startswith("--") and "flagfile" not in flag for flag in smoke)
  assert console.read_presets(["--flagfile=experiments/presets/smoke.flags"]) == smoke[1:-1]
  (tmp_path / "smoke.flags").write_text("# mine\n\n--rank=9\n--flagfile=smoke.flags\n")  # one's own comes first
  assert console.read_presets(["--flagfile=smoke.flags"]) == ["--rank=9", "--flagfile=smoke.flags"]
  long = f"--only={'|'.join(['a row'] * 60)}"  # no file can have such a name
  assert console.read_presets([long]) == [long]
  assert console.read_presets(["--flagfile=other/smoke.flags", "--flagfile="]) == ["--flagfile=other/smoke.flags", "--flagfile="]


def test_the_package_needs_what_the_requirements_pin_but_the_tests_tools():
  lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
  pinned = {line.replace("==", ">=") for line in lines if line}
  tools = set(PROJECT["optional-dependencies"]["test"])
  assert {re.match(r"[\w-]+", tool)[0] for tool in tools} == {"pytest", "pytest-xdist", "setuptools"}
  assert set(PROJECT["dependencies"]) | tools == pinned and not set(PROJECT["dependencies"]) & tools


def test_the_citation_follows_its_schema():
  """Citation File Format 1.2.0: its required keys, and ours that must agree with the package."""
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  paper = citation["preferred-citation"]
  assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["message"]
  assert citation["version"] == posynda_jax.__version__ and citation["license"] == PROJECT["license"]
  assert citation["authors"] == PROJECT["authors"] and paper["type"] == "conference-paper"
  assert all({"family-names", "given-names"} == set(author) for author in paper["authors"])
  readme = " ".join((ROOT / "README.md").read_text().split())
  assert f"title = {{{paper['title']}}}" in readme and f"year = {{{paper['year']}}}" in readme
  assert " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]) in readme


def test_the_program_in_the_docs_is_the_one_that_is_tested():
  code = (ROOT / "experiments" / "exported_example.py").read_text()
  assert f"```python\n{code[code.index('import json'):]}```" in (ROOT / "docs" / "serving.md").read_text()


def test_the_api_pages_are_what_the_docstrings_say(tmp_path):
  run(sys.executable, "docs/make_api.py", str(tmp_path), cwd=ROOT)
  pages = {path.name: path.read_text() for path in tmp_path.iterdir()}
  assert sorted(pages) == sorted(path.name for path in (ROOT / "docs" / "api").iterdir())
  assert sorted(pages) == ["ground.md", "idea.md", "interop.md", "parts.md", "ring.md"]
  stale = [name for name, text in pages.items() if (ROOT / "docs" / "api" / name).read_text() != text]
  assert not stale, "run: python docs/make_api.py"
  assert "- `class AdaptConfig(num_hypotheses: int = 3, " in pages["idea.md"]
  signature = "mpjpe(pred: Float[Array, '*#b j 3'], target: Float[Array, '*#b j 3']) -> Float[Array, '*#b']"
  assert f"- `{signature}`  \n  Mean distance over joints" in pages["ground.md"]
