"""What a training logs: JSON lines that the project reads, and TensorBoard events of the same numbers."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

NAME = "scalars.jsonl"


class Writer:
  """Appends to FOLDER/scalars.jsonl and to TensorBoard events in FOLDER/events."""

  def __init__(self, folder):
    self._folder, self._events = pathlib.Path(folder), None

  def write_for(self, prefix: str) -> Callable[[int, dict[str, float]], None]:
    """A function `(step, scalars)` that logs `<prefix>/<name>`. A line that a killed run left unfinished is cut off."""
    path = self._folder / NAME
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
      path.write_bytes(text[: text.rfind(b"\n") + 1])

    def write(step: int, scalars: dict[str, float]) -> None:
      with open(path, "a") as file:
        file.write(json.dumps({"training": prefix, "step": step, **scalars}) + "\n")
      events = self._open()
      for name, value in scalars.items():
        events.add_scalar(f"{prefix}/{name}", value, step)
      events.flush()

    return write

  def write_results(self, table: list[list[str]], step: int) -> None:
    """Adds the run's figures as images, and a table (head first) as text, to the TensorBoard events."""
    import matplotlib.image
    import numpy as np

    events = self._open()
    for path in sorted((self._folder / "figures").glob("*.png")):
      pixels = np.rint(255 * matplotlib.image.imread(path)[..., :3]).astype(np.uint8)
      events.add_image(f"figures/{path.stem}", pixels, step, dataformats="HWC")
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    events.add_text("results", "\n".join(f"| {' | '.join(line)} |" for line in lines), step)
    self.close()

  def close(self) -> None:
    """Waits until every event is in its file: tensorboardX writes from a thread, which `flush` does not wait for."""
    if self._events is not None:
      self._events.close()
      self._events = None

  def _open(self) -> Any:
    import tensorboardX

    if self._events is None:
      folder = self._folder / "events"
      earlier = len(list(folder.glob("*")))  # file names hold the second, so two files of one second would be one
      self._events = tensorboardX.SummaryWriter(str(folder), filename_suffix=f".{earlier}")
    return self._events


def read_rows(folder, training: str) -> list[dict[str, float]]:
  """Logged rows of one training by step. Of a step that was logged twice, by a resumed run, the later row counts."""
  rows = {row["step"]: row for row in _read(folder) if row["training"] == training}
  return [{name: value for name, value in rows[step].items() if name != "training"} for step in sorted(rows)]


def read_scalars(folder) -> dict[str, dict[int, float]]:
  """Step -> value for each tag `<training>/<name>`."""
  found: dict[str, dict[int, float]] = {}
  for row in _read(folder):
    for name in row.keys() - {"training", "step"}:
      found.setdefault(f"{row['training']}/{name}", {})[row["step"]] = row[name]
  return found


def _read(folder) -> list[dict]:
  """All whole lines; the unfinished last line of a running or killed run is left out. Raises ValueError for another damage."""
  path = pathlib.Path(folder).expanduser() / NAME
  lines = path.read_text().splitlines(keepends=True) if path.exists() else []
  rows = []
  for number, line in enumerate(lines, 1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      if number == len(lines) and not line.endswith("\n"):
        break
      raise ValueError(f"{path} is damaged in line {number} ({error}): remove that line to go on without it") from error
  return rows
