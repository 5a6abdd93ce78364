"""The house: rooms import in one direction, scripts import relatively, APIs that may change are used in one place each,
files are short, and ruff passes.
"""

import ast
import graphlib
import pathlib
import re
import subprocess
import sys

import pytest

from tests import ROOT

GROUND = {"geometry", "peft", "runtime"}
MIDDLE = GROUND | {"diffusion", "data", "datasets", "evaluation"}
MAY_IMPORT = {  # room -> the rooms that its files may import
    "geometry": set(), "peft": set(), "runtime": set(), "diffusion": {"geometry"}, "data": {"geometry", "runtime"},
    "datasets": {"geometry", "data"}, "visuals": {"geometry", "data"}, "evaluation": MIDDLE - {"evaluation"},
    "adaptation": MIDDLE | {"visuals"}, "interop": MIDDLE | {"visuals", "adaptation"},
    "lifter": MIDDLE | {"visuals", "adaptation", "interop"},
}
FOLDERS = ("posynda_jax", "experiments", "data_prep")
FILES = {path.relative_to(ROOT): ast.parse(path.read_text()) for name in (*FOLDERS, "tests", "docs")
         for path in sorted((ROOT / name).rglob("*.py"))}
OURS = [path for path in FILES if path.parts[0] in FOLDERS]


def imports(path: pathlib.Path) -> set[str]:
  """Absolute names of the modules that a file imports, of which some may be names in a module."""
  found, package = set(), path.parts[:-1]
  for node in ast.walk(FILES[path]):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      inside = package[: len(package) + 1 - node.level] if node.level else ()
      module = ".".join([*inside, *filter(None, [node.module])])
      found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
  return found


def test_rooms_import_in_one_direction_and_without_a_circle():
  modules = {".".join(path.with_suffix("").parts): path for path in FILES if path.parts[0] == "posynda_jax"}
  graph = {name: imports(path) & set(modules) for name, path in modules.items()}
  list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
  wrong = []
  for name, imported in graph.items():
    room = name.split(".")[1]
    rooms = {other.split(".")[1] for other in imported} - {room, "__init__"}
    wrong += [f"{name} imports {other}" for other in rooms - MAY_IMPORT.get(room, set())]
  assert not wrong


def test_the_library_reads_no_flag_and_the_scripts_folders_import_themselves_relatively():
  of_library = [path for path in FILES if path.parts[0] == "posynda_jax"]
  assert not [path for path in of_library if {"absl.flags", "experiments", "data_prep"} & imports(path)]
  for path in FILES.keys() - set(of_library):
    if path.parts[0] in FOLDERS:  # they become parts of posynda_jax in the wheel
      absolute = [node for node in ast.walk(FILES[path]) if isinstance(node, ast.ImportFrom) and not node.level]
      assert not [node.module for node in absolute if node.module.split(".")[0] in ("experiments", "data_prep")], path


@pytest.mark.parametrize("pattern, count", [(r"jax\.pmap\(", 1), (r"import orbax|from orbax", 1), (r"import fcntl", 0)])
def test_pmap_and_orbax_are_in_one_file_each(pattern, count):
  found = [path for path in OURS if re.search(pattern, (ROOT / path).read_text())]
  assert len(found) == count, found


@pytest.mark.parametrize("private", ["jax._src", "pickle._Unpickler", "numpy._core"])
def test_a_private_api_is_used_in_one_function(private):
  places = set()
  for path in OURS:
    used = [number for number, line in enumerate((ROOT / path).read_text().splitlines(), 1) if private in line]
    functions = [node for node in FILES[path].body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for number in used:
      places.add((path, next((it.name for it in functions if it.lineno <= number <= it.end_lineno), None)))
  assert len(places) == 1 and all(function for _, function in places), places


def test_the_init_of_a_room_is_a_docstring_alone():
  inits = [path for path in OURS if path.match("posynda_jax/*/__init__.py")]
  assert not [str(path) for path in inits if len(FILES[path].body) != 1 or not ast.get_docstring(FILES[path])]


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_short_and_functions_have_few_parameters(folder):
  for path in (path for path in FILES if path.parts[0] == folder):
    assert len((ROOT / path).read_text().splitlines()) <= 300, path
    for node in ast.walk(FILES[path]):
      if isinstance(node, ast.FunctionDef):
        names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        assert len(names) - (names[:1] in (["self"], ["cls"])) <= 7, f"{path}: {node.name}"


def test_ruff_finds_nothing():
  command = (sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", ".")
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
