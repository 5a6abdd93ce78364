"""Logged numbers of a run: JSON lines that this project reads, and the same numbers as TensorBoard events."""

import json
import os
import pathlib
from collections.abc import Callable

from posynda_jax.runtime import text

NAME = "scalars.jsonl"


class Writer:
  """Appends to FOLDER/scalars.jsonl, one line a step, and to TensorBoard events in FOLDER/events."""

  def __init__(self, folder):
    self._folder, self._events = pathlib.Path(folder), None

  def write_for(self, training: str) -> Callable[[int, dict[str, float]], None]:
    """A function `(step, scalars)` that logs under `training`. Removes an unfinished last line of a killed run."""
    path = self._folder / NAME
    if path.exists():
      os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

    def write(step: int, scalars: dict[str, float]) -> None:
      with path.open("a") as file:
        file.write(json.dumps({"training": training, "step": step, **scalars}) + "\n")
      events = self._open_events()
      for name, value in scalars.items():
        events.add_scalar(f"{training}/{name}", value, step)
      events.flush()

    return write

  def write_results(self, table: list[list[str]], step: int) -> None:
    """Adds FOLDER/figures as images, and a table with its head first as text, to the TensorBoard events."""
    import matplotlib.image

    events = self._open_events()
    for path in sorted((self._folder / "figures").glob("*.png")):
      pixels = (255 * matplotlib.image.imread(path)[..., :3]).round().astype("uint8")
      events.add_image(f"figures/{path.stem}", pixels, step, dataformats="HWC")
    events.add_text("results", text.markdown_table(table[0], table[1:]), step)
    self.close()

  def close(self) -> None:
    """Waits until every event is in its file. tensorboardX writes from a thread, and its `flush` does not wait."""
    if self._events is not None:
      self._events.close()
      self._events = None

  def _open_events(self):
    if self._events is None:
      import tensorboardX

      folder = self._folder / "events"
      number = len(list(folder.glob("*")))  # tensorboardX names files by second, so a second may have several
      self._events = tensorboardX.SummaryWriter(str(folder), filename_suffix=f".{number}")
    return self._events


def read_rows(folder, training: str) -> list[dict[str, float]]:
  """Logged rows of one training, sorted by step. If a resumed run logged a step again, the later row counts."""
  rows = {row["step"]: row for row in _read(folder) if row.pop("training") == training}
  return [rows[step] for step in sorted(rows)]


def read_scalars(folder) -> dict[str, dict[int, float]]:
  """Values by step for each name `<training>/<scalar>`; the later value counts, as in `read_rows`."""
  found: dict[str, dict[int, float]] = {}
  for row in _read(folder):
    training, step = row.pop("training"), row.pop("step")
    for name, value in row.items():
      found.setdefault(f"{training}/{name}", {})[step] = value
  return found


def _read(folder) -> list[dict]:
  """All finished lines; the last line may be unfinished. Raises ValueError for a damaged line."""
  path = pathlib.Path(folder).expanduser() / NAME
  lines = path.read_text().split("\n")[:-1] if path.exists() else []
  rows = []
  for number, line in enumerate(lines, 1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      raise ValueError(f"{path} is damaged in line {number} ({error}): remove that line to go on without it") from error
  return rows
