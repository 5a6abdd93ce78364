"""Where a case's time goes on our side: a trace of its operations, each put under the kind of work that it is.

XLA's compiled program says what an operation is, the profiler's trace how long it took. Products are put beside the machine's
matmul rate, so that what is left to gain can be told from what is not: `floor_seconds` is what the case's FLOPs take at that
rate, with nothing else done at all.
"""

import collections
import dataclasses
import os
import pathlib
import re
import tempfile

import numpy as np

from experiments.bench import cases, child

UNITS = 3
_NARROW = 32  # a product with a shorter side than this is low-rank
KINDS = {
    "wide": "products with kernels", "low_rank": "products of rank r and other narrow ones", "attention": "products of attention",
    "copies": "copies and transposes", "passes": "passes: norms, softmax, GELU, residuals, losses, optimizer",
}
_INSTRUCTION = re.compile(r"^(?:ROOT )?%?([\w.-]+) = (.+)$")


@dataclasses.dataclass(frozen=True)
class Operation:
  """An instruction of a compiled program; `flops` of one execution, 0 where it is no product."""

  kind: str
  flops: float = 0.0


def read_program(text: str) -> dict[str, Operation]:
  """Operations by name, of a module's text after XLA's optimizations. Those that run others (loops, calls) are left out.

  A fusion is what its largest product is, if it has any, with the FLOPs of all.
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
    products = [other for other in [name, *members[inner[1] if inner else ""]] if opcodes.get(other) == "dot"]
    if products:
      found = [_product(lines[other], lines) for other in products]
      largest = max(found, key=lambda operation: operation.flops)
      operations[name] = Operation(largest.kind, sum(operation.flops for operation in found))
    else:
      copies = opcode in ("copy", "transpose") or name.startswith(("copy", "transpose"))
      operations[name] = Operation("copies" if copies else "passes")
  return operations


def _product(line: str, lines: dict[str, str]) -> Operation:
  out = _shape(line)
  left = re.search(r"dot\((?:[a-z]\w*\[[\d,]*\](?:\{[^}]*\})? )?%?([\w.-]+)", line)[1]
  numbers = lambda field: [int(x) for x in re.search(field + r"={([\d,]*)}", line)[1].split(",")] if field in line else []
  contracted = int(np.prod([_shape(lines[left])[i] for i in numbers("lhs_contracting_dims")]))
  batch = numbers("lhs_batch_dims")
  flops = 2.0 * float(np.prod(out)) * contracted
  if batch:
    return Operation("attention", flops)
  return Operation("low_rank" if min(contracted, *out) < _NARROW else "wide", flops)


def _shape(line: str) -> list[int]:
  return [int(x) for x in re.match(r"\(?[a-z]\w*\[([\d,]*)\]", line)[1].split(",") if x]


def profile(case: cases.Case, options: child.Options) -> dict:
  """Seconds a unit, by kind of work, with the rate of each kind of product.

  `seconds` is the unit's own time while traced; `other_seconds` what no operation of a compiled program accounts for. Raises
  ValueError where the profiler saw no operation.
  """
  with tempfile.TemporaryDirectory() as folder:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}/programs --xla_dump_hlo_as_text"
    with child.Child(case, options, {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"}) as side:
      seconds = side.ask("trace", (f"{folder}/trace", UNITS))
      rate = float(np.median([side.ask("matmul") for _ in range(5)]))
    texts = [path.read_text() for path in pathlib.Path(folder, "programs").glob("*after_optimizations.txt")]
    programs = {text.split(",")[0].split()[1]: read_program(text) for text in sorted(texts, key=len)}  # of one name: the largest
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
  """(seconds, executions) by operation, of those that `programs` hold."""
  import jax

  taken = collections.defaultdict(lambda: [0.0, 0])
  for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
    for line in plane.lines:
      for event in line.events:
        stats = dict(event.stats)
        operation = programs.get(stats.get("hlo_module"), {}).get(stats.get("hlo_op"))
        if operation:
          taken[operation][0] += event.duration_ns / 1e9
          taken[operation][1] += 1
  if not taken:
    raise ValueError("the profiler saw no operation of a compiled program: this backend's trace is not known here")
  return {operation: (total, executions) for operation, (total, executions) in taken.items()}


def table(rows: dict) -> str:
  """Markdown: what share of a unit's time each kind of work takes, at what rate, for all cases that were profiled."""
  lines = ["| case | work | share of time | of matmul rate |", "|---|---|---|---|"]
  for row in (row for row in rows.values() if "profile" in row):
    for kind, what in KINDS.items():
      found = row["profile"]["kinds"][kind]
      rate = f"{100 * found['share_of_matmul']:.0f}%" if "share_of_matmul" in found else ""
      lines.append(f"| {row['what']} | {what} | {100 * found['share']:.1f}% | {rate} |")
  return "\n".join(lines) + "\n"
