"""A run's folder: its config, commands, versions and code state before step one, logged numbers, and its results.

Numbers are logged as JSON lines, which this project reads, and as TensorBoard events.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from posynda_jax.runtime import files, locks, processes, text

SCALARS = "scalars.jsonl"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "tensorflow-datasets")


class Run:
  """A folder for one config, which this process owns until it ends. Process 0 locks and writes; the others read.

  Raises ValueError, and changes nothing, if another process owns the folder or its config differs; the message names
  the differences.
  """

  def __init__(self, folder, config: dict[str, Any]):
    self.folder = pathlib.Path(folder).expanduser()
    self.config = json.loads(json.dumps(config))
    self._events = None
    path = self.folder / "config.json"
    with processes.main_first():
      if processes.is_main():
        self.folder.mkdir(parents=True, exist_ok=True)
        locks.take(self.folder)
      if path.exists():
        check_same(self.folder, json.loads(path.read_text()), self.config)
      else:
        files.write_json(path, self.config)
    if not processes.is_main():
      return
    (self.folder / "figures").mkdir(exist_ok=True)
    record = {"command": sys.argv, "started": datetime.datetime.now().isoformat(timespec="seconds"), **_provenance()}
    commands = self.folder / "commands.jsonl"
    files.write_text(commands, (commands.read_text() if commands.exists() else "") + json.dumps(record) + "\n")

  def write_scalars(self, training: str) -> Callable[[int, dict[str, float]], None]:
    """A function `(step, scalars)` that logs under `training`. It does nothing in processes other than 0.

    Removes an unfinished last line of a killed run.
    """
    if not processes.is_main():
      return lambda step, scalars: None
    path = self.folder / SCALARS
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
    """Adds the run's figures and a table, head first, to the TensorBoard events."""
    if not processes.is_main():
      return
    import matplotlib.image

    events = self._open_events()
    for path in sorted((self.folder / "figures").glob("*.png")):
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

      folder = self.folder / "events"
      number = len(list(folder.glob("*")))  # tensorboardX names files by second, so a second may have several
      self._events = tensorboardX.SummaryWriter(str(folder), filename_suffix=f".{number}")
    return self._events


def read_config(folder) -> dict[str, Any]:
  """The config of a run folder. Raises FileNotFoundError if the folder has none."""
  path = pathlib.Path(folder).expanduser() / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
  return json.loads(path.read_text())


def read_metrics(folder) -> dict[str, Any]:
  """The results in a run's metrics.json; empty if there is none yet."""
  path = pathlib.Path(folder).expanduser() / "metrics.json"
  return json.loads(path.read_text()) if path.exists() else {}


def read_scalars(folder) -> dict[str, dict[int, float]]:
  """Values by step for each name `<training>/<scalar>`. If a resumed run logged a step again, the later value counts.

  The last line may be unfinished. Raises ValueError for any other damaged line.
  """
  path = pathlib.Path(folder).expanduser() / SCALARS
  lines = path.read_text().split("\n")[:-1] if path.exists() else []
  found: dict[str, dict[int, float]] = {}
  for number, line in enumerate(lines, 1):
    try:
      row = json.loads(line)
    except json.JSONDecodeError as error:
      raise ValueError(f"{path} is damaged in line {number} ({error}): remove that line to go on without it") from error
    training, step = row.pop("training"), row.pop("step")
    for name, value in row.items():
      found.setdefault(f"{training}/{name}", {})[step] = value
  return found


def check_same(folder, old: dict[str, Any], new: dict[str, Any]) -> None:
  """Raises ValueError that names the differences between the config `old` of `folder` and the config `new`."""
  differences = _differences(old, new)
  if differences:
    more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
    raise ValueError(
        f"{folder} belongs to a run with another config ({'; '.join(differences[:5])}{more}): choose another --workdir "
        "or remove it"
    )


def _differences(old: dict, new: dict, prefix: str = "") -> list[str]:
  found = []
  for key in sorted(set(old) | set(new)):
    a, b = old.get(key), new.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      found += _differences(a, b, f"{prefix}{key}.")
    elif a != b:
      found.append(f"{prefix}{key}: {a} there, {b} now")
  return found


def _provenance() -> dict[str, Any]:
  """Library versions, and in a git checkout the commit and the uncommitted diff."""
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  here = pathlib.Path(__file__)

  def git(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *args], cwd=here.parent, capture_output=True, text=True)

  if not shutil.which("git") or git("ls-files", "--error-unmatch", here.name).returncode:  # installed by pip
    return {"versions": versions}
  commit, diff = git("rev-parse", "HEAD").stdout.strip(), git("diff", "HEAD").stdout
  return {"versions": versions, "commit": commit, "uncommitted_diff": diff}
