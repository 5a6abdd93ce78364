"""A run's folder: who it is before step one (config, command, versions, code state), and what it found."""

import datetime
import importlib.metadata
import json
import pathlib
import subprocess
import sys
from typing import Any

import tensorboardX


class Run:
  """A folder that belongs to one config. Opening it with another config is refused; nothing in it is touched then."""

  def __init__(self, folder, config: dict[str, Any]):
    self.folder = pathlib.Path(folder).expanduser()
    self.config = json.loads(json.dumps(config))
    path = self.folder / "config.json"
    if path.exists():
      differences = _differences(json.loads(path.read_text()), self.config)
      if differences:
        raise ValueError(
            f"{self.folder} belongs to a run with another config ({'; '.join(differences[:5])}): choose another --workdir or "
            "remove it"
        )
    else:
      self.folder.mkdir(parents=True, exist_ok=True)
      write_json(path, self.config)
    (self.folder / "figures").mkdir(exist_ok=True)
    record = {"command": sys.argv, "started": datetime.datetime.now().isoformat(timespec="seconds"), **_provenance()}
    with (self.folder / "commands.jsonl").open("a") as file:
      file.write(json.dumps(record) + "\n")
    self._events = None

  def write_scalars(self, prefix: str):
    """A function `(step, scalars)` that appends TensorBoard events under `prefix`."""
    if self._events is None:
      self._events = tensorboardX.SummaryWriter(str(self.folder / "events"))

    def write(step, scalars):
      for name, value in scalars.items():
        self._events.add_scalar(f"{prefix}/{name}", value, step)
      self._events.flush()

    return write


def read_config(folder) -> dict[str, Any]:
  """The config of a run folder. Raises FileNotFoundError where the folder is none."""
  path = pathlib.Path(folder).expanduser() / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
  return json.loads(path.read_text())


def write_json(path, value) -> None:
  """Writes beside its place, then renames: a reader sees the old file or the new one."""
  path = pathlib.Path(path)
  beside = path.with_suffix(path.suffix + ".part")
  beside.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
  beside.replace(path)


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
  """Library versions, and the commit with the size of the uncommitted diff where git knows them."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "tensorflow-datasets")
  versions = {name: importlib.metadata.version(name) for name in packages}
  here = pathlib.Path(__file__).parent
  git = lambda *args: subprocess.run(["git", *args], cwd=here, capture_output=True, text=True)
  commit = git("rev-parse", "HEAD")
  if commit.returncode:
    return {"versions": versions}
  return {"versions": versions, "commit": commit.stdout.strip(), "uncommitted_diff": git("diff", "HEAD").stdout}
