"""Checks an MPI-INF-3DHP download and gathers the files that the `mpi_inf_3dhp` builder reads.

    python -m data_prep.mpi_inf_3dhp --path=DOWNLOADS --output=MANUAL_DIR

DOWNLOADS is the folder that get_dataset.sh and get_testset.sh wrote, or holds the processed npz files. Videos, masks
and images are not read. All annotations are checked first, and a fault in one stops the command before it writes. The
gathered files are hard links, or copies on another disk. A second run on the same files changes nothing.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import tqdm

from posynda_jax.datasets.licensed import Fault
from posynda_jax.datasets.mpi_inf_3dhp import processed, raw, tables, views

from . import command, geometry_checks
from .findings import Finding, of_error, stop_at_faults


class Count(NamedTuple):
  """Counts of one sequence of one source; `readme` is the published count of valid frames, 0 if there is none."""

  sequence: str
  cameras: int
  frames: int
  valid: int
  readme: int
  annotation: str
  reprojection_px: float
  source: str


def inspect(path: pathlib.Path) -> Iterator[Finding]:
  """Findings of a download, or of a folder that was gathered from one."""
  return (item for item in survey(path) if isinstance(item, Finding))


def survey(path: pathlib.Path) -> Iterator[Count | Finding]:
  """Counts and findings of every sequence, and the findings of the whole."""
  sources = {}  # "." for the official files, and the npz variants by name
  if raw.files(path):
    sources["."] = functools.partial(raw.sequences, path, tables.CAMERAS["all"])
  for suffix in ("", "_ori"):
    if processed.files(path, suffix):
      sources[f"data_*_3dhp{suffix}.npz"] = functools.partial(processed.sequences, path, suffix)
  for source, open_source in sources.items():
    try:
      sequences = open_source()
    except ValueError as error:
      yield of_error(error, path / source)
      continue
    for sequence, read in tqdm.tqdm(sequences.items(), desc=f"reading {source}", unit=" sequences", disable=None):
      try:
        yield from _survey_sequence(source, sequence, read)
      except Fault as fault:
        yield of_error(fault, sequence)
    yield from _missing(str(path / source), list(sequences))
  if not sources:
    what = "holds neither S1/Seq1/annot.mat ... TS6/annot_data.mat nor data_{train,test}_3dhp[_ori].npz"
    yield Finding("fault", str(path), what, "give the folder that get_dataset.sh wrote S1 ... S8 into")


def _survey_sequence(source: str, sequence: str, read) -> Iterator[Count | Finding]:
  where, annotations, errors = sequence if source == "." else f"{source}, {sequence}", {}, []
  for camera, view in read():
    if not annotations:
      yield from geometry_checks.check_skeleton(view["poses_camera_m"][view["valid"]], "camera", where)
    if view["annotation"] == "unrelated" and "unrelated" not in annotations.values():
      arguments = (view[name] for name in ("poses_camera_m", "keypoints_px", "intrinsics", "valid"))
      yield from geometry_checks.check_reprojection(*arguments, f"{where}, camera {camera}", views.ANNOT3_BELOW_PX)
    annotations[camera] = view["annotation"]
    errors.append(float(view["reprojection_px"]))
    valid = view["valid"]
  error, readme = sum(errors) / len(errors), tables.TEST.get(sequence, (0, 0))[1]
  if univ := [str(camera) for camera, name in annotations.items() if name == "univ_annot3"]:
    what = f"univ_annot3, not annot3: its 3D projects {error:.1f} px from its 2D (cameras {', '.join(univ)})"
    yield Finding("warning", where, what, "use it as labels only; absolute poses and reprojection need annot3")
  if readme not in (0, valid.sum()):
    what = f"{valid.sum()} valid frames, the readme counts {readme}"
    yield Finding("warning", where, what, "this is another release: print the count beside every score")
  counts = len(annotations), len(valid), int(valid.sum()), readme
  yield Count(sequence, *counts, "+".join(sorted(set(annotations.values()))), round(error, 3), source)


def _missing(where: str, present: list[str]) -> Iterator[Finding]:
  """Faults of subjects with one of two sequences, and a warning for absent subjects and test sequences."""
  halves = [name for sequence in present for name in tables.other_half(present, sequence)]
  for half in halves:
    yield Finding("fault", where, f"{half} is missing", f"fetch it, or remove {tables.subject(half)}")
  absent = {tables.subject(name) for name in (*tables.TRAIN, *tables.TEST) if name not in (*present, *halves)}
  if absent := sorted(absent - set(map(tables.subject, halves))):
    fix = "a build has the other splits; `train` and `test` need every part"
    yield Finding("warning", where, f"{', '.join(absent)} missing", fix)


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


def prepare(path: pathlib.Path, output: pathlib.Path) -> str:
  """Gathers, and returns the counts to print. Raises ValueError for a download with faults, after printing them."""
  surveyed = list(survey(path))
  stop_at_faults(item for item in surveyed if isinstance(item, Finding))
  counts = [item for item in surveyed if isinstance(item, Count)]
  frames = sum(count.frames * count.cameras for count in counts)
  total = f"{len(counts)} sequences, {frames:,} frames of single views"
  return "\n".join([command.table([Count._fields, *counts]), total, command.gather(members(path), output)])


if __name__ == "__main__":
  command.run(
      prepare,
      path="Folder of the download: holds S1 ... S8, the test set, or the npz files.",
      output="Folder to gather into: the builder's manual_dir.",
  )
