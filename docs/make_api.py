"""Writes docs/api/*.md from the docstrings of posynda_jax, one page a room: python docs/make_api.py

Reads the source as text, so nothing is imported. A page lists what is public: functions with their signatures, classes with
their fields and methods, each with the first paragraph of its docstring.
"""

import ast
import inspect
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "posynda_jax"
ROOMS = {
    "ground": ("skeleton", "camera", "camera_tables", "diffusion", "clips", "metrics", "rigs"),
    "parts": ("denoisers", "sampler", "lora", "tuning", "hypotheses", "synthesis", "virtual_camera", "adversarial"),
    "idea": ("adapt", "labels", "pretrain", "sweep"),
    "interop": ("interop",),
    "ring": (),  # every other file, and of the datasets the loader alone: each builder has a README of its own
}


def files(room: str) -> list[pathlib.Path]:
  """The room's source files in the order of ROOMS, then by name."""
  named = {name: room for room, names in ROOMS.items() for name in names}
  home = lambda path: path.relative_to(PACKAGE).parts[0].removesuffix(".py")
  chosen = [path for path in sorted(PACKAGE.rglob("*.py")) if named.get(home(path), "ring") == room]
  chosen = [path for path in chosen if home(path) != "datasets" or path == PACKAGE / "datasets" / "load.py"]
  return sorted(chosen, key=lambda path: ROOMS[room].index(home(path)) if ROOMS[room] else 0)


def page(room: str) -> str:
  """The page of a room in Markdown."""
  sections = [section for path in files(room) if (section := describe(path))]
  note = "Written by `python docs/make_api.py` from the docstrings; a test holds it to them."
  return f"# posynda_jax: {room}\n\n{note}\n\n" + "\n".join(sections)


def describe(path: pathlib.Path) -> str:
  """A module's section; empty where it has nothing public."""
  tree = ast.parse(path.read_text())
  entries = [entry for node in tree.body if is_public(node) for entry in describe_node(node)]
  if not entries:
    return ""
  name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
  return f"## `{name}`\n\n{first_paragraph(tree)}\n\n" + "\n".join(entries) + "\n"


def is_public(node: ast.AST) -> bool:
  return isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")


def describe_node(node: ast.FunctionDef | ast.ClassDef, owner: str = "") -> list[str]:
  """List entries of a function, or of a class with its public methods under it."""
  indent, name = "  " if owner else "", f"{owner}{node.name}"
  if isinstance(node, ast.ClassDef):
    fields = [ast.unparse(item) for item in node.body if isinstance(item, ast.AnnAssign)]
    methods = [entry for item in node.body if is_public(item) for entry in describe_node(item, f"{node.name}.")]
    return [entry(indent, f"class {name}({', '.join(fields)})", node), *methods]
  is_property = any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list)
  arguments = "" if is_property else f"({ast.unparse(node.args)})"
  returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
  return [entry(indent, name + arguments + returns, node)]


def entry(indent: str, signature: str, node: ast.AST) -> str:
  text = first_paragraph(node)
  return f"{indent}- `{signature}`" + (f"  \n{indent}  {text}" if text else "")


def first_paragraph(node: ast.AST) -> str:
  """The first paragraph of a docstring on one line."""
  return " ".join(inspect.cleandoc(ast.get_docstring(node) or "").split("\n\n")[0].split())


def main() -> None:
  folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "api"
  folder.mkdir(exist_ok=True)
  for room in ROOMS:
    (folder / f"{room}.md").write_text(page(room))
  print(f"{len(ROOMS)} pages in {folder}")


if __name__ == "__main__":
  main()
