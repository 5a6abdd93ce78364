"""3DPW: checks a download, gathers what the builder reads, and counts it.

    python -m data_prep.threedpw --path=downloads/3DPW --output=manual [--smpl=models/smpl]

`--path` holds sequenceFiles.zip or the folder sequenceFiles/ that it unpacks to. The builder reads either as it is: nothing is
converted, the sequence files are only checked and laid into `--output`, with the SMPL files where `--smpl` gives them. Files
that are there already are left alone. A fault stops it before anything is written. SMPL's own pkl files are never opened here:
the dataset's README.md tells how to make the npz files of them.
"""

import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import tqdm
from absl import app, flags

from data_prep import geometry_checks
from data_prep.findings import Finding
from posynda_jax.datasets.mocap import archives
from posynda_jax.datasets.threedpw import joints, published, sequence_file, smpl
from posynda_jax.datasets.threedpw.threedpw_dataset_builder import (
  ARCHIVE,
  MODEL_FILES,
  REGRESSOR_FILE,
  members_by_split,
)
from posynda_jax.geometry import camera

REPROJECTION = 0.1  # of a person's size in the image: generous, as OpenPose and SMPL name different points and OpenPose errs
SEEN = 0.3  # OpenPose confidence from which a point counts as seen
AGAIN = "unpack sequenceFiles.zip again, or fetch it again"
REPAIR = "fetch the file again, or leave it out"


def inspect(path: pathlib.Path) -> Iterator[Finding]:
  """What is wrong with the download in `path`, which holds sequenceFiles.zip or sequenceFiles/, and perhaps smpl/."""
  yield from _inspect_sequences(_home(path))
  if (folder := _home(path) / "smpl").is_dir():
    yield from _inspect_smpl(folder)


def count(path: pathlib.Path) -> str:
  """A table of sequences, actors and frames by split; frames are counted once for every actor."""
  rows = [("split", "sequences", "actors", "frames", "valid", "detected")]
  with archives.open_archive(_home(path), ARCHIVE) as archive:
    for split, members in members_by_split(archive).items():
      actors = [actor for m in members for actor in sequence_file.parse(archive.read(m), archive.label(m)).actors]
      masks = [np.stack([np.ones_like(a.valid), a.valid, a.valid & (a.detections[..., 2] > 0).any(1)]) for a in actors]
      rows.append((split, len(members), len(actors), *np.concatenate(masks, 1).sum(1).tolist()))
  lines = ["".join(f"{cell:>12,}" if isinstance(cell, int) else f"{cell:>12}" for cell in row) for row in rows]
  return "\n".join(lines + ["frames: of all actors; valid: campose_valid; detected: valid, with at least one OpenPose point"])


def gather(path: pathlib.Path, output: pathlib.Path, smpl_dir: pathlib.Path | None = None) -> tuple[int, int]:
  """Lays the sequence files, and the SMPL files of `smpl_dir`, into `output`: (files written, files already there).

  Raises ValueError for an archive whose members lead outside it, FileNotFoundError for missing files.
  """
  written = []
  with archives.open_archive(_home(path), ARCHIVE) as archive:
    members = [member for names in members_by_split(archive).values() for member in names]
    in_place = output.resolve() == _home(path).resolve()
    for member in tqdm.tqdm(members, "gathering", unit="file", disable=None):
      written.append(not in_place and _write(output / ARCHIVE / member, archive.read(member)))
  if smpl_dir is not None:
    for name in (REGRESSOR_FILE, *MODEL_FILES.values()):
      written.append(_write(output / name, (smpl_dir / pathlib.Path(name).name).read_bytes()))
  return sum(written), len(written) - sum(written)


def _write(path: pathlib.Path, content: bytes) -> bool:
  """Whether `path` had to be written; it appears whole or not at all."""
  if path.exists() and path.read_bytes() == content:
    return False
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{path.name}.partial")
  partial.write_bytes(content)
  partial.replace(path)
  return True


def _home(path: pathlib.Path) -> pathlib.Path:
  """The folder that holds the archive, of a path to it or to the archive itself."""
  return path.parent if path.name in (ARCHIVE, f"{ARCHIVE}.zip") else path


def _inspect_sequences(home: pathlib.Path) -> Iterator[Finding]:
  try:
    with archives.open_archive(home, ARCHIVE) as archive:
      members = [(split, m) for split, names in members_by_split(archive).items() for m in names]
      yield from _inspect_names(archive, members)
      for split, member in tqdm.tqdm(members, "inspecting", unit="file", disable=None):
        try:
          yield from _inspect_sequence(split, pathlib.PurePath(member).stem, sequence_file.parse(archive.read(member), member))
        except ValueError as error:
          yield Finding("fault", member, str(error).removeprefix(member).lstrip(": "), "or leave the sequence out")
  except (FileNotFoundError, ValueError) as error:
    yield Finding("fault", str(home), str(error), AGAIN)


def _inspect_names(archive: archives.Archive, members: list[tuple[str, str]]) -> Iterator[Finding]:
  """Sequences that are missing, unknown, or in another split than published."""
  split_of = {name: split for split, names in published.SEQUENCES.items() for name in names}
  found = {}
  for split, member in members:
    name = pathlib.PurePath(member).stem
    found[name] = split
    if name not in split_of:
      yield Finding("note", member, "is no published sequence", "leave it out of comparisons")
    elif split_of[name] != split:
      yield Finding("fault", member, f"belongs to the split {split_of[name]}", f"move it to {split_of[name]}/")
  for split, names in published.SEQUENCES.items():
    if missing := [name for name in names if name not in found]:
      what = f"{len(missing)} of {len(names)} sequences are missing: {', '.join(missing)}"
      yield Finding("warning", f"{archive.path.name}, {split}", what, AGAIN)


def _inspect_sequence(split: str, name: str, sequence: sequence_file.Sequence) -> Iterator[Finding]:
  where = f"{split}/{name}.pkl"
  frames, actors = len(sequence.world_to_camera), len(sequence.actors)
  if sequence.name != name:
    yield Finding("fault", where, f"says it is the sequence {sequence.name!r}", "give the file its name back")
  expected = published.SEQUENCES[split].get(name)
  if expected and expected != (actors, frames):
    what = f"{actors} actors and {frames} frames, published are {expected[0]} and {expected[1]}"
    yield Finding("warning", where, what, AGAIN)
  turns = sequence.world_to_camera[:, :3, :3]
  if not np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-3):
    yield Finding("fault", where, "cam_poses are no rigid motions", REPAIR)
  for number in range(actors):
    yield from _inspect_actor(f"{where}, actor {number}", sequence, number)


def _inspect_actor(where: str, sequence: sequence_file.Sequence, number: int) -> Iterator[Finding]:
  actor = sequence.actors[number]
  if not actor.valid.any():
    yield Finding("warning", where, "no frame is valid (campose_valid)", "leave the sequence out: nothing of it can be scored")
    return
  poses = joints.to_camera(joints.from_smpl24(actor.joints_world_m), sequence.world_to_camera)
  if not np.isfinite(poses[actor.valid]).all():
    yield Finding("fault", where, "a valid frame has a joint that is not a finite number", REPAIR)
    return
  yield from geometry_checks.check_skeleton(poses[actor.valid], "camera", where)
  missed = _compare_2d(poses, sequence, number, number, where)
  for other in range(len(sequence.actors)):
    if missed and missed[0].level == "fault" and not _compare_2d(poses, sequence, number, other, where):
      missed = [dataclasses.replace(missed[0], fix=f"they fit actor {other}: exchange the actors in poses2d")]
  yield from missed


def _compare_2d(poses, sequence: sequence_file.Sequence, number: int, other: int, where: str) -> list[Finding]:
  """What is wrong between the 3D of actor `number` and the detections of actor `other`, in frames that show all points."""
  keypoints, confidence = joints.from_coco18(sequence.actors[other].detections)
  seen = sequence.actors[number].valid & (confidence > SEEN).all(1) & (poses[..., 2] > 0).all(1)
  if not seen.any():
    return [Finding("note", where, "no frame has all points detected: 2D and 3D are not compared")]
  image = np.asarray(camera.project_linear(poses[seen], sequence.intrinsics))
  limit = round(REPROJECTION * float(np.median(np.ptp(image, axis=1).max(1))), 1)
  return geometry_checks.check_reprojection(poses, keypoints, sequence.intrinsics, seen, where, limit)


def _inspect_smpl(folder: pathlib.Path) -> Iterator[Finding]:
  """Faults of the files that the `regressor` configurations need."""
  for name in (REGRESSOR_FILE, *MODEL_FILES.values()):
    path = folder / pathlib.Path(name).name
    try:
      (smpl.load_regressor if name == REGRESSOR_FILE else smpl.load_model)(path)
    except (FileNotFoundError, ValueError) as error:
      yield Finding("fault", path.name, str(error), "see the dataset's README.md, or leave out smpl/: only regressor_* needs it")


def prepare(path: pathlib.Path, output: pathlib.Path, smpl_dir: pathlib.Path | None = None) -> None:
  """Inspects, gathers and counts, and prints what it finds. Raises ValueError for a fault, before anything is written."""
  faults = 0
  for finding in itertools.chain(inspect(path), _inspect_smpl(smpl_dir) if smpl_dir else ()):
    faults += finding.level == "fault"
    print(finding, flush=True)
  if faults:
    raise ValueError(f"{faults} faults in {path}, nothing was written: mend them first")
  written, kept = gather(path, output, smpl_dir)
  print(f"{output}: {written} files written, {kept} already there and left alone")
  print(count(output))


def main(argv) -> None:
  del argv
  values = flags.FLAGS.path, flags.FLAGS.output, flags.FLAGS.smpl
  try:
    prepare(*(pathlib.Path(value).expanduser() if value else None for value in values))
  except (ValueError, OSError) as error:
    sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
  flags.DEFINE_string("path", None, "Folder with sequenceFiles.zip or sequenceFiles/, as published.", required=True)
  flags.DEFINE_string("output", None, "Folder to gather into: the manual_dir of threedpw; may be --path itself.", required=True)
  flags.DEFINE_string("smpl", None, "Folder with SMPL_MALE.npz, SMPL_FEMALE.npz and J_regressor_h36m.npy, for regressor_*.")
  app.run(main)
