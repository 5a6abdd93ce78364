"""Checks an MPI-INF-3DHP download and gathers the few files that lifting needs into the folder that the builder reads.

    python -m data_prep.mpi_inf_3dhp --path=DOWNLOAD --output=FOLDER

`DOWNLOAD` is where get_dataset.sh and get_testset.sh wrote, or holds the shared npz files. Videos, masks and images are not read.
Every annotation is read and judged first; nothing is gathered while one has a fault. Files become hard links, or copies where
the output lies on another disk. A second run on the same files changes nothing.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator

import tqdm
from absl import app, flags

from data_prep import geometry_checks
from data_prep.findings import Finding
from posynda_jax.datasets.mpi_inf_3dhp import processed, raw, tables, views

DONE = "prepared.json"  # written last: the files that were gathered, by size and time, and their counts


@dataclasses.dataclass(frozen=True)
class Count:
  """What one sequence of one source holds; `readme` is the published count of valid frames, 0 where there is none."""

  sequence: str
  source: str
  cameras: int
  frames: int
  valid: int
  readme: int
  annotation: str
  reprojection_px: float


def inspect(path) -> Iterator[Finding]:
  """Findings of a download, or of a folder prepared from one, in plain words."""
  for _, findings in survey(pathlib.Path(path)):
    yield from findings


def survey(path: pathlib.Path) -> Iterator[tuple[Count | None, list[Finding]]]:
  """Every sequence's count, or None, and findings; the last sequence is followed by what concerns the whole."""
  sources = _sources(path)
  for source, open_source in sources.items():
    try:
      sequences = open_source()
    except ValueError as error:  # a Fault, or a pickle that is no plain data
      yield None, [_finding(error, path / source)]
      continue
    for sequence, read in tqdm.tqdm(sequences.items(), desc=f"reading {source}", unit=" sequences", disable=None):
      yield _survey_sequence(source, sequence, read)
    yield None, _missing(path / source, list(sequences))
  if not sources:
    what = "holds neither S1/Seq1/annot.mat ... TS6/annot_data.mat nor data_{train,test}_3dhp[_ori].npz"
    yield None, [Finding("fault", str(path), what, "give the folder that get_dataset.sh wrote S1 ... S8 into")]


def _sources(path: pathlib.Path) -> dict:
  """Source -> how to open it, for those that are there: "." the official files, and the npz variants by name."""
  sources = {".": lambda: raw.sequences(path, tables.CAMERAS["all"])} if raw.files(path) else {}
  for suffix in ("", "_ori"):
    if processed.files(path, suffix):
      sources[f"data_*_3dhp{suffix}.npz"] = lambda suffix=suffix: processed.sequences(path, suffix)
  return sources


def _finding(error: ValueError, where) -> Finding:
  fault = error if isinstance(error, views.Fault) else views.Fault(where, str(error), "get the file from its owner")
  return Finding("fault", fault.where, fault.what, fault.fix)


def _survey_sequence(source: str, sequence: str, read) -> tuple[Count | None, list[Finding]]:
  findings, seen = [], {}
  where = sequence if source == "." else f"{source}, {sequence}"
  try:
    for camera, view in read():
      if not seen:
        findings += geometry_checks.check_skeleton(view["poses_camera_m"][view["valid"]], "camera", where)
      if view["annotation"] == "unrelated" and "unrelated" not in (x["annotation"] for x in seen.values()):
        arguments = (view[name] for name in ("poses_camera_m", "keypoints_px", "intrinsics", "valid"))
        findings += geometry_checks.check_reprojection(*arguments, f"{where}, camera {camera}", views.ANNOT3_BELOW_PX)
      seen[camera] = {name: view[name] for name in ("annotation", "reprojection_px", "valid")}
  except views.Fault as fault:
    return None, [*findings, _finding(fault, where)]
  first, readme = next(iter(seen.values())), tables.TEST.get(sequence, (0, 0))[1]
  kinds = sorted({one["annotation"] for one in seen.values()})
  error = float(sum(one["reprojection_px"] for one in seen.values()) / len(seen))
  univ = [camera for camera, one in seen.items() if one["annotation"] == "univ_annot3"]
  if univ:
    what = f"univ_annot3, not annot3: its 3D projects {error:.1f} px from its 2D (cameras {', '.join(map(str, univ))})"
    findings.append(Finding("warning", where, what, "fine as labels; for absolute poses or reprojection take annot3"))
  count = Count(sequence, source, len(seen), len(first["valid"]), int(first["valid"].sum()), readme, "+".join(kinds), error)
  if readme not in (0, count.valid):
    what = f"{count.valid} valid frames, the readme counts {readme}"
    findings.append(Finding("warning", where, what, "another release: print the count beside every score"))
  return count, findings


def _missing(where: pathlib.Path, present: list[str]) -> list[Finding]:
  """Half subjects (which stop a build) and absent ones (which are then no splits of it)."""
  findings, absent = [], [name for name in tables.TEST if name not in present]
  for subject in dict.fromkeys(sequence.partition("/")[0] for sequence in tables.TRAIN):
    both = [sequence for sequence in tables.TRAIN if sequence.startswith(f"{subject}/")]
    lost = [sequence for sequence in both if sequence not in present]
    if len(lost) == len(both):
      absent.append(subject)
    else:
      findings += [Finding("fault", str(where), f"{sequence} is missing", f"fetch it, or remove {subject}") for sequence in lost]
  if absent:
    what = f"{', '.join(sorted(absent))} missing"
    findings.append(Finding("warning", str(where), what, "a build has the other splits; `train` and `test` need every part"))
  return findings


def members(path: pathlib.Path) -> dict[str, pathlib.Path]:
  """The files to gather: place below the output -> file of the download."""
  found = {}
  for sequence, file in raw.files(path).items():
    found[f"{sequence}/{file.name}"] = file
    if sequence in tables.TRAIN:
      found[f"{sequence}/camera.calibration"] = file.with_name("camera.calibration")
  for suffix in ("", "_ori"):
    found |= {file.name: file for file in processed.files(path, suffix).values()}
  return found


def prepare(path: pathlib.Path, output: pathlib.Path) -> tuple[list[Count], bool]:
  """(counts, whether anything was done). Raises ValueError where the download has faults, after printing them."""
  if output.resolve() == path.resolve():
    raise ValueError(f"--output is the download itself: give another folder, or {path} to the builder as it is")
  files = members(path)
  stamps = {place: [file.stat().st_size, file.stat().st_mtime_ns] for place, file in files.items() if file.is_file()}
  done = output / DONE
  if files and done.is_file():
    state = json.loads(done.read_text())
    there = {place: (output / place).stat().st_size for place in files if (output / place).is_file()}
    if state["files"] == stamps and there == {place: size for place, (size, _) in stamps.items()}:
      return [Count(**count) for count in state["counts"]], False
  counts, num_faults = [], 0
  for count, findings in survey(path):
    counts += [count] if count else []
    num_faults += sum(finding.level == "fault" for finding in findings)
    for finding in findings:
      tqdm.tqdm.write(str(finding), file=sys.stderr)
  if num_faults:
    raise ValueError(f"{path} has {num_faults} faults, listed above: nothing was gathered")
  for place, file in files.items():
    _gather(file, output / place)
  _write(done, json.dumps({"files": stamps, "counts": [dataclasses.asdict(count) for count in counts]}, indent=1))
  return counts, True


def _gather(file: pathlib.Path, place: pathlib.Path) -> None:
  """A hard link or copy, that appears whole."""
  place.parent.mkdir(parents=True, exist_ok=True)
  part = place.with_name(f"{place.name}.part")
  part.unlink(missing_ok=True)
  try:
    os.link(file, part)
  except OSError:  # another disk, or one without hard links
    shutil.copy2(file, part)
  os.replace(part, place)
  part.unlink(missing_ok=True)  # os.replace does nothing where both names are one file already


def _write(path: pathlib.Path, text: str) -> None:
  part = path.with_name(f"{path.name}.part")
  part.write_text(text)
  os.replace(part, path)


def table(counts: list[Count]) -> str:
  """The counts as text, one sequence a line, and their sum."""
  head = f"{'sequence':10}{'cameras':>8}{'frames':>8}{'valid':>8}{'readme':>8}  {'annotation':12}{'px':>7}  source"
  rows = [
      f"{c.sequence:10}{c.cameras:8}{c.frames:8}{c.valid:8}{c.readme or '':>8}  "
      f"{c.annotation:12}{c.reprojection_px:7.3f}  {c.source}"
      for c in counts
  ]
  total = f"{len(counts)} sequences, {sum(c.frames * c.cameras for c in counts):,} frames of single views"
  return "\n".join([head, *rows, total])


def main(argv) -> None:
  del argv
  path, output = (pathlib.Path(value).expanduser() for value in (flags.FLAGS.path, flags.FLAGS.output))
  try:
    counts, is_new = prepare(path, output)
  except (ValueError, OSError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(1)
  print(table(counts))
  state = "ready, give it to the builder as manual_dir" if is_new else "finished before from the same files, left alone"
  print(f"{output}: {state}")


if __name__ == "__main__":
  flags.DEFINE_string("path", None, "Folder of the download: holds S1 ... S8, the test set, or the npz files.", required=True)
  flags.DEFINE_string("output", None, "Folder to gather into: the manual_dir of mpi_inf_3dhp.", required=True)
  app.run(main)
