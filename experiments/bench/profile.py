"""Our side's time by kind of work, from the profiler's trace and the text of the compiled programs.

The program says which kind of work an operation is, the trace how long it took. `floor_seconds` is the time of the case's FLOPs
at the machine's matmul rate, a lower bound of the unit's time.
"""

import collections
import dataclasses
import os
import pathlib
import re
import tempfile

import numpy as np

from . import cases, child, report

UNITS = 3
_NARROW = 32  # a product with a shorter side counts as low-rank
KINDS = {
    "wide": "products with kernels", "low_rank": "products of rank r and other narrow ones",
    "attention": "products of attention", "copies": "copies and transposes",
    "passes": "passes: norms, softmax, GELU, residuals, losses, optimizer",
}
_INSTRUCTION = re.compile(r"^(?:ROOT )?%?([\w.-]+) = (.+)$")


@dataclasses.dataclass(frozen=True)
class Operation:
  """An instruction of a compiled program, with the FLOPs of one execution: 0 where it is no product."""

  kind: str
  flops: float = 0.0


def read_program(text: str) -> dict[str, Operation]:
  """Operations by name in a module's text after XLA's optimizations, without loops and calls.

  A fusion has the kind of its largest product, if it has one, and the FLOPs of all its products.
  """
  lines, members, computation = {}, collections.defaultdict(list), ""
  for line in text.splitlines():
    if found := _INSTRUCTION.match(line.strip()):
      lines[found[1]] = found[2]
      members[computation].append(found[1])
    elif line.rstrip().endswith("{"):
      computation = line.split()[0].lstrip("%")
  opcodes = {name: found[1] for name, line in lines.items() if (found := re.search(r"[\]})] ?([a-z][\w-]*)\(", line))}
  operations = {}
  for name, opcode in opcodes.items():
    if opcode in ("while", "call", "conditional"):
      continue
    inner = re.search(r"calls=%?([\w.-]+)", lines[name])
    inside = [name, *members[inner[1] if inner else ""]]
    if products := [_product(lines[other], lines) for other in inside if opcodes.get(other) == "dot"]:
      largest = max(products, key=lambda operation: operation.flops)
      operations[name] = Operation(largest.kind, sum(operation.flops for operation in products))
    else:
      copies = opcode in ("copy", "transpose") or name.startswith(("copy", "transpose"))
      operations[name] = Operation("copies" if copies else "passes")
  return operations


def _product(line: str, lines: dict[str, str]) -> Operation:
  """The operation of a `dot` instruction."""
  out = _shape(line)
  left = re.search(r"dot\((?:[a-z]\w*\[[\d,]*\](?:\{[^}]*\})? )?%?([\w.-]+)", line)[1]
  fields = {name: [int(x) for x in values.split(",") if x] for name, values in re.findall(r"(lhs_\w+)={([\d,]*)}", line)}
  contracted = int(np.prod([_shape(lines[left])[i] for i in fields.get("lhs_contracting_dims", ())]))
  narrow = min(contracted, *out) < _NARROW
  kind = "attention" if fields.get("lhs_batch_dims") else "low_rank" if narrow else "wide"
  return Operation(kind, 2.0 * float(np.prod(out)) * contracted)


def _shape(line: str) -> list[int]:
  return [int(x) for x in re.match(r"\(?[a-z]\w*\[([\d,]*)\]", line)[1].split(",") if x]


def profile(case: cases.Case, options: child.Options) -> dict:
  """Seconds, share and rate of each kind of work in a unit.

  `seconds` is the unit's time while traced, `other_seconds` the part outside all operations of compiled programs. Raises
  ValueError where the trace has no such operation.
  """
  with tempfile.TemporaryDirectory() as folder:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}/programs --xla_dump_hlo_as_text"
    with child.Child(case, options, {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"}) as side:
      seconds = side.ask("trace", (f"{folder}/trace", UNITS))
      rate = float(np.median([side.ask("matmul") for _ in range(5)]))
    texts = [path.read_text() for path in pathlib.Path(folder, "programs").glob("*after_optimizations.txt")]
    programs = {text.split(",")[0].split()[1]: read_program(text) for text in sorted(texts, key=len)}  # the largest of a name
    taken = _read_trace(next(pathlib.Path(folder, "trace").rglob("*.xplane.pb")), programs)
  kinds = {kind: {"seconds": 0.0, "flops": 0.0, "executions": 0} for kind in KINDS}
  for operation, (total, executions) in taken.items():
    row = kinds[operation.kind]
    row["seconds"] += total / UNITS
    row["executions"] += executions // UNITS
    row["flops"] += operation.flops * executions / UNITS
  for row in kinds.values():
    row["share"] = row["seconds"] / seconds
    if row["flops"]:
      row["share_of_matmul"] = row["flops"] / row["seconds"] / rate
  known = sum(row["seconds"] for row in kinds.values())
  return {"seconds": seconds, "matmul_flops_per_second": rate, "floor_seconds": cases.flops(case) / rate, "kinds": kinds,
          "other_seconds": seconds - known}


def _read_trace(path: pathlib.Path, programs: dict) -> dict[Operation, tuple[float, int]]:
  """(seconds, executions) of the operations in `programs`."""
  import jax

  taken = collections.defaultdict(lambda: (0.0, 0))
  planes = jax.profiler.ProfileData.from_file(str(path)).planes
  for event in (event for plane in planes for line in plane.lines for event in line.events):
    stats = dict(event.stats)
    if operation := programs.get(stats.get("hlo_module"), {}).get(stats.get("hlo_op")):
      total, executions = taken[operation]
      taken[operation] = total + event.duration_ns / 1e9, executions + 1
  if not taken:
    raise ValueError("the trace has no operation of a compiled program: profiles of this backend are not supported")
  return taken


def table(rows: dict) -> str:
  """Markdown: share of time and rate of each kind of work, for all profiled cases."""
  cells = []
  for row in (row for row in rows.values() if "profile" in row):
    for kind, what in KINDS.items():
      found = row["profile"]["kinds"][kind]
      rate = f"{found['share_of_matmul']:.0%}" if "share_of_matmul" in found else ""
      cells.append((row["what"], what, f"{found['share']:.1%}", rate))
  return report.markdown_table(("case", "work", "share of time", "of matmul rate"), cells)
