"""APIs that may change are used in one place each. `test_house` has the other rules."""

import ast
import re

import pytest

from tests import ROOT
from tests.test_house import FILES, FOLDERS

OURS = [path for path in FILES if path.parts[0] in FOLDERS]


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
