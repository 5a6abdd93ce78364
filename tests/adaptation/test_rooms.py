"""The house: rooms import only rooms above them, and code that a test cannot hold still is in one place."""

import ast
import collections
import functools
import graphlib
import pathlib
import re

import pytest

from tests import ROOT

PACKAGE = ROOT / "posynda_jax"
ROOMS = (  # each may import those before it; the first three import no other room
    "geometry", "peft", "runtime", "diffusion", "data", "datasets", "evaluation", "visuals", "adaptation", "interop",
    "lifter",
)
ALONE, MAX_FLOORS, MAX_LINES, MAX_PARAMETERS = ROOMS[:3], 8, 300, 7


@functools.cache
def parse(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text())


def files(*folders: str) -> list[pathlib.Path]:
  return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: pathlib.Path) -> str:
  return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in files("posynda_jax")}


def imported(path: pathlib.Path) -> set[str]:
  """Absolute names that a file imports, at its top or inside functions."""
  found = set()
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      above = name_of(path).split(".")[: -node.level] if node.level else []
      module = ".".join([*above, *filter(None, [node.module])])
      found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
  return found


def dependencies(path: pathlib.Path) -> set[str]:
  """Modules of the package that a file imports. `from room import module` means the module, not the room's `__init__`."""
  names = {name for name in imported(path) if name in MODULES}
  return {name for name in names if not any(other.startswith(f"{name}.") for other in names)} - {name_of(path)}


def room_of(module: str) -> str:
  return (module.split(".") + ["", ""])[1]


def edges() -> dict[str, set[str]]:
  """Rooms that each room imports."""
  found = collections.defaultdict(set)
  for module, path in MODULES.items():
    found[room_of(module)] |= {room_of(name) for name in dependencies(path)} - {room_of(module), ""}
  return found


def test_every_module_is_in_a_room():
  assert {room_of(module) for module in MODULES} - {""} == set(ROOMS)


def test_rooms_import_only_rooms_above_them():
  wrong = []
  for module, path in MODULES.items():
    room = room_of(module)
    allowed = {room} | (set() if room in ALONE else set(ROOMS[: ROOMS.index(room)])) if room else set()
    wrong += [f"{module} imports {name}" for name in dependencies(path) if room_of(name) not in allowed]
  assert not wrong


def test_visuals_and_diffusion_know_geometry_alone():
  assert edges()["visuals"] <= {"geometry"} and edges()["diffusion"] <= {"geometry"}
  assert edges()["data"] <= {"geometry", "runtime"} and edges()["datasets"] <= {"geometry", "data"}


def test_no_circle_among_modules_and_few_floors_of_rooms():
  list(graphlib.TopologicalSorter({name: dependencies(path) for name, path in MODULES.items()}).static_order())
  above = edges()
  floor = {}
  for room in graphlib.TopologicalSorter(above).static_order():
    floor[room] = 1 + max((floor[other] for other in above[room]), default=0)
  assert max(floor.values()) <= MAX_FLOORS, floor


def test_no_flag_is_read_below_the_package():
  assert not [name for name, path in MODULES.items() if {"absl.flags", "absl.app"} & imported(path)]


@pytest.mark.parametrize("pattern, count", [(r"jax\.pmap\(", 1), (r"import orbax|from orbax", 1), (r"^import fcntl", 0)])
def test_narrow_doors_are_in_one_file(pattern, count):
  found = [path.name for path in files("posynda_jax", "experiments") if re.search(pattern, path.read_text(), re.M)]
  assert len(found) == count, found


@pytest.mark.parametrize("private", ["jax._src", "pickle._Unpickler", "numpy._core"])
def test_a_private_api_is_used_in_one_function(private):
  places = set()
  for path in files("posynda_jax", "experiments", "data_prep"):
    for node in ast.walk(parse(path)):
      if _mentions(node, private):
        places.add((name_of(path), _scope(path, node.lineno)))
  assert len(places) == 1 and all(scope for _, scope in places), places


def _mentions(node: ast.AST, private: str) -> bool:
  """Whether a node imports the name or something below it, or is the name as an attribute or a text."""
  match node:
    case ast.Attribute():
      return ast.unparse(node) == private
    case ast.Constant():
      return node.value == private
    case ast.Import() | ast.ImportFrom():
      module = getattr(node, "module", None) or ""
      names = [module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)]
      return any(name == private or name.startswith(f"{private}.") for name in names)
  return False


def _scope(path: pathlib.Path, line: int) -> str:
  """The outermost function or class around a line."""
  kinds = ast.FunctionDef | ast.ClassDef
  return next((it.name for it in parse(path).body if isinstance(it, kinds) and it.lineno <= line <= it.end_lineno), "")


def test_files_and_signatures_are_short():
  long = []
  for path in files("posynda_jax", "experiments", "data_prep"):
    if (lines := len(path.read_text().splitlines())) > MAX_LINES:
      long.append(f"{path.relative_to(ROOT)} has {lines} lines")
    for node in ast.walk(parse(path)):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if len(set(names) - {"self", "cls"}) > MAX_PARAMETERS:
          long.append(f"{name_of(path)}.{node.name} has {len(names)} parameters")
  assert not long


def test_the_init_of_a_room_is_a_docstring_alone():
  wrong = []
  for name, path in MODULES.items():
    if path.name == "__init__.py" and name != "posynda_jax":
      body = parse(path).body
      if len(body) != 1 or not ast.get_docstring(parse(path)):
        wrong.append(name)
  assert not wrong
