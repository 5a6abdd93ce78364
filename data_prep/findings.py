"""What an inspection of a download reports: one line a finding, in plain words, with what to do about it."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Finding:
  """`fault` stops a build, `warning` changes numbers, `note` only informs. `fix` says what to do."""

  level: Literal["fault", "warning", "note"]
  where: str  # file, then what inside it: "annot.mat, camera 3"
  what: str
  fix: str = ""

  def __str__(self) -> str:
    return f"{self.level:8}{self.where}: {self.what}" + (f" -> {self.fix}" if self.fix else "")
