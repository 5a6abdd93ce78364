"""The finding of an inspection: one line with a place, what is wrong there, and its fix."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from posynda_jax.datasets.licensed import Fault


@dataclasses.dataclass(frozen=True)
class Finding:
  """A `fault` stops a build, a `warning` changes numbers, a `note` only informs."""

  level: Literal["fault", "warning", "note"]
  where: str  # file, then place in it: "annot.mat, camera 3"
  what: str
  fix: str = ""

  def __str__(self) -> str:
    return f"{self.level:8}{self.where}: {self.what}" + (f" -> {self.fix}" if self.fix else "")


def of_error(error: Exception, where, fix: str = "get the file from its owner") -> Finding:
  """The fault that an exception reports. `where` and `fix` are used unless it is a Fault, which has its own."""
  fault = error if isinstance(error, Fault) else Fault(where, str(error), fix)
  return Finding("fault", fault.where, fault.what, fault.fix)


def stop_at_faults(findings: Iterable[Finding]) -> None:
  """Prints all findings as they come. Raises ValueError at the end if there were faults."""
  num_faults = 0
  for finding in findings:
    print(finding, flush=True)
    num_faults += finding.level == "fault"
  if num_faults:
    raise ValueError(f"nothing was written because of {num_faults} faults, listed above: repair them first")
