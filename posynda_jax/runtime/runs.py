"""A run's folder: who it is before step one (config, command, versions, code state), and what it found."""

import datetime
import importlib.metadata
import json
import pathlib
import shutil
import struct
import subprocess
import sys
from typing import Any

import matplotlib.image
import numpy as np
import tensorboardX
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from posynda_jax.runtime import locks, parallel

HEADINGS = {
    "mpjpe_mm": "MPJPE mm", "p_mpjpe_mm": "P-MPJPE mm", "n_mpjpe_mm": "N-MPJPE mm", "reprojection_px": "reprojection px",
    "closure": "closure %", "frames": "frames", "trainable": "trainable", "seconds": "seconds",
}


class Run:
  """A folder that belongs to one config, and to this process until it ends.

  Raises ValueError where another process has it, and for another config, whose differences it names; nothing is changed then.
  With several processes the first one locks and writes, and the others read.
  """

  def __init__(self, folder, config: dict[str, Any]):
    self.folder = pathlib.Path(folder).expanduser()
    self.config = json.loads(json.dumps(config))
    self._events = None
    path = self.folder / "config.json"
    with parallel.main_first():
      if parallel.is_main():
        self.folder.mkdir(parents=True, exist_ok=True)
        locks.take(self.folder)
      if path.exists():
        check_same(self.folder, json.loads(path.read_text()), self.config)
      else:
        write_json(path, self.config)
    if not parallel.is_main():
      return
    (self.folder / "figures").mkdir(exist_ok=True)
    record = {"command": sys.argv, "started": datetime.datetime.now().isoformat(timespec="seconds"), **_provenance()}
    commands = self.folder / "commands.jsonl"
    write_text(commands, (commands.read_text() if commands.exists() else "") + json.dumps(record) + "\n")

  def write_scalars(self, prefix: str):
    """A function `(step, scalars)` that appends TensorBoard events under `prefix`; does nothing but in the first process."""
    if not parallel.is_main():
      return lambda step, scalars: None
    events = self._open_events()

    def write(step, scalars):
      for name, value in scalars.items():
        events.add_scalar(f"{prefix}/{name}", value, step)
      events.flush()

    return write

  def write_results(self, results: dict[str, Any], step: int) -> None:
    """Appends the run's figures, as images, and its results, as a table, to the TensorBoard events."""
    if not parallel.is_main():
      return
    events = self._open_events()
    for path in sorted((self.folder / "figures").glob("*.png")):
      pixels = np.rint(255 * matplotlib.image.imread(path)[..., :3]).astype(np.uint8)
      events.add_image(f"figures/{path.stem}", pixels, step, dataformats="HWC")
    head, *rows = result_table(results)
    lines = [head, ["---"] * len(head), *rows]
    events.add_text("results", "\n".join(f"| {' | '.join(line)} |" for line in lines), step)
    self.close()

  def close(self) -> None:
    """Waits until every event is in the file: tensorboardX writes from a thread, which its `flush` does not wait for."""
    if self._events is not None:
      self._events.close()
      self._events = None

  def _open_events(self) -> tensorboardX.SummaryWriter:
    if self._events is None:
      folder = self.folder / "events"
      earlier = len(list(folder.glob("*")))  # a file's name has only the second in it: two in one second would be one
      self._events = tensorboardX.SummaryWriter(str(folder), filename_suffix=f".{earlier}")
    return self._events


def read_config(folder) -> dict[str, Any]:
  """The config of a run folder. Raises FileNotFoundError where the folder is none."""
  path = pathlib.Path(folder).expanduser() / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
  return json.loads(path.read_text())


def read_metrics(folder) -> dict[str, Any]:
  """What the run found: its `components.json` or `metrics.json`; empty where it has neither yet."""
  paths = [pathlib.Path(folder).expanduser() / name for name in ("components.json", "metrics.json")]
  return next((json.loads(path.read_text()) for path in paths if path.exists()), {})


def read_scalars(folder) -> dict[str, dict[int, float]]:
  """What the run logged: step -> value for each tag `<training>/<name>`; of a step logged twice (a resumed run), the later.

  Raises ValueError for a damaged event file; the unfinished record at the end of a running one is left out.
  """
  scalars: dict[str, dict[int, float]] = {}
  for path in sorted((pathlib.Path(folder).expanduser() / "events").glob("events.out.tfevents.*")):
    for event in read_events(path):
      for value in event.summary.value:
        if value.HasField("simple_value"):
          scalars.setdefault(value.tag, {})[event.step] = value.simple_value
  return scalars


def read_rows(folder, prefix: str) -> list[dict[str, float]]:
  """What one training logged in all starts of its run, by step: rows of its scalars, those that were written whole."""
  curves = {tag.partition("/")[2]: values for tag, values in read_scalars(folder).items() if tag.startswith(f"{prefix}/")}
  steps = set.intersection(*map(set, curves.values())) if curves else set()
  return [{"step": step, **{name: values[step] for name, values in curves.items()}} for step in sorted(steps)]


def read_events(path) -> list[Event]:
  """The whole records of a TensorBoard event file: length (8 bytes), event, a checksum (4) after each. Raises ValueError."""
  data, at, events = pathlib.Path(path).read_bytes(), 0, []

  def checked(start: int, end: int) -> bytes:
    if struct.unpack_from("<I", data, end)[0] != masked_crc32c(data[start:end]):
      raise ValueError(f"{path} is damaged at byte {start}: its checksum is another; remove the file to do without it")
    return data[start:end]

  while len(data) - at >= 12:
    end = at + 12 + struct.unpack("<Q", checked(at, at + 8))[0]
    if end + 4 > len(data):
      break
    events.append(Event.FromString(checked(at + 12, end)))
    at = end + 4
  return events


def result_table(results: dict[str, Any]) -> list[list[str]]:
  """Results as text, the head first: one row for each result and test, its columns as HEADINGS orders them.

  `results` is a run's metrics, {row: scores}, or that of `components`, {"rows": {row: {"scores": {test: scores}}}}. The share of
  the gap that a row closes stands beside it where `source_only` and `ceiling` are there.
  """
  rows = [
      (name, test, {**row, **score})
      for name, row in results.get("rows", results).items() if isinstance(row, dict) and name != "protocol"
      for test, score in row.get("scores", {"": row}).items()
  ]
  mpjpe = {(name, test): row["mpjpe_mm"] for name, test, row in rows if "mpjpe_mm" in row}
  for name, test, row in rows:
    ends = [mpjpe.get((end, test)) for end in ("source_only", "ceiling")]
    if None not in ends and ends[0] != ends[1] and name not in ("source_only", "ceiling"):
      row["closure"] = 100 * (ends[0] - row["mpjpe_mm"]) / (ends[0] - ends[1])
  columns = [name for name in HEADINGS if any(name in row for _, _, row in rows)]
  tests = list(dict.fromkeys(test for _, test, _ in rows))
  rows.sort(key=lambda row: (tests.index(row[1]), {"source_only": 0, "ceiling": 2}.get(row[0], 1)))
  cell = lambda value: "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
  return [
      ["", *(HEADINGS[name] for name in columns), *(["on"] if any(tests) else [])],
      *([name, *(cell(row.get(column)) for column in columns), *([test] if test else [])] for name, test, row in rows),
  ]


def adapter_settings(folder, name: str) -> dict[str, Any]:
  """AdaptConfig of a run's adapter `name`, as a dict; its `body` is that of the people it was trained on, where training found it."""
  found = pathlib.Path(folder).expanduser() / f"{name}_body.json"
  return read_config(folder)["adapt"] | (json.loads(found.read_text()) if found.exists() else {})


def write_json(path, value) -> None:
  """Writes as `write_text` does."""
  write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path, text: str) -> None:
  """Writes beside its place, then renames: a reader sees the old file or the new one."""
  if not parallel.is_main():
    return
  path = pathlib.Path(path)
  beside = path.with_suffix(path.suffix + ".part")
  beside.write_text(text)
  beside.replace(path)


def check_same(folder, old: dict[str, Any], new: dict[str, Any]) -> None:
  """Raises ValueError that names what differs between what `folder` belongs to and what is asked for now."""
  differences = _differences(old, new)
  if differences:
    more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
    raise ValueError(
        f"{folder} belongs to a run with another config ({'; '.join(differences[:5])}{more}): choose another --workdir or "
        "remove it"
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
  """Library versions, and the commit with the size of the uncommitted diff where git knows them."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "tensorflow-datasets")
  versions = {name: importlib.metadata.version(name) for name in packages}
  here = pathlib.Path(__file__)
  git = lambda *args: subprocess.run(["git", *args], cwd=here.parent, capture_output=True, text=True)
  if not shutil.which("git") or git("ls-files", "--error-unmatch", here.name).returncode:  # installed, not a checkout
    return {"versions": versions}
  return {"versions": versions, "commit": git("rev-parse", "HEAD").stdout.strip(), "uncommitted_diff": git("diff", "HEAD").stdout}
