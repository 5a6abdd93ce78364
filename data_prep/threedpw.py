"""Checks a 3DPW download, gathers the files that the `threedpw` builder reads, and counts them.

    python -m data_prep.threedpw --path=DOWNLOADS --output=MANUAL_DIR [--smpl=FOLDER]

DOWNLOADS holds sequenceFiles.zip or the folder sequenceFiles/ that it unpacks to. The builder reads both, so nothing is
converted. `--smpl` adds the SMPL files for the `regressor` configs; the dataset's README.md says how to make them.
Files that are there already are left unchanged. A fault stops the command before it writes.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
import tqdm

from posynda_jax.datasets.mocap import archives
from posynda_jax.datasets.threedpw import joints, published, sequence_file, smpl
from posynda_jax.datasets.threedpw import threedpw_dataset_builder as builder
from posynda_jax.geometry import camera

from . import command, geometry_checks
from .findings import Finding, of_error, stop_at_faults

REPROJECTION = 0.1  # of a person's size in the image: OpenPose and SMPL name different points, and OpenPose errs
DETECTED = 0.3  # OpenPose confidence from which a point counts as detected
AGAIN = "unpack sequenceFiles.zip again, or fetch it again"
REPAIR = "fetch the file again, or leave it out"
SMPL_FILES = (builder.REGRESSOR_FILE, *builder.MODEL_FILES.values())


def inspect(path: pathlib.Path) -> Iterator[Finding]:
  """Findings of the download in `path`, which holds sequenceFiles.zip or sequenceFiles/, and perhaps smpl/."""
  try:
    with archives.open_archive(path, builder.ARCHIVE) as archive:
      members = [(split, m) for split, names in builder.members_by_split(archive).items() for m in names]
      yield from _inspect_names(archive, members)
      for split, member in tqdm.tqdm(members, "inspecting", unit="file", disable=None):
        try:
          sequence = sequence_file.parse(archive.read(member), member)
          yield from _inspect_sequence(split, pathlib.PurePath(member).stem, sequence)
        except ValueError as error:
          yield of_error(error, member, "get the file from its owner, or leave the sequence out")
  except (FileNotFoundError, ValueError) as error:
    yield of_error(error, path, AGAIN)
  if (path / "smpl").is_dir():
    yield from _inspect_smpl(path / "smpl")


def count(path: pathlib.Path) -> str:
  """A table of sequences, actors and frames by split; frames are counted once for every actor."""
  rows = [("split", "sequences", "actors", "frames", "valid", "detected")]
  with archives.open_archive(path, builder.ARCHIVE) as archive:
    for split, members in builder.members_by_split(archive).items():
      actors = [actor for m in members for actor in sequence_file.parse(archive.read(m), archive.label(m)).actors]
      valid = np.concatenate([actor.valid for actor in actors])
      detected = valid & np.concatenate([(actor.detections[..., 2] > 0).any(1) for actor in actors])
      rows.append((split, len(members), len(actors), len(valid), int(valid.sum()), int(detected.sum())))
  legend = "frames: of all actors; valid: campose_valid; detected: valid, with at least one OpenPose point"
  return f"{command.table(rows)}\n{legend}"


def members(path: pathlib.Path, smpl_dir: pathlib.Path | None = None) -> dict[str, pathlib.Path]:
  """The files to gather: place below the output -> file of the download or of `smpl_dir`."""
  with archives.open_archive(path, builder.ARCHIVE) as archive:
    names = [name for of_split in builder.members_by_split(archive).values() for name in of_split]
  if archive.path.is_file():
    found = {archive.path.name: archive.path}
  else:
    found = {f"{builder.ARCHIVE}/{name}": archive.path / name for name in names}
  return found | {name: smpl_dir / pathlib.Path(name).name for name in SMPL_FILES if smpl_dir}


def _inspect_names(archive: archives.Archive, members: list[tuple[str, str]]) -> Iterator[Finding]:
  """Findings of sequences that are missing, unknown, or in another split than published."""
  split_of = {name: split for split, names in published.SEQUENCES.items() for name in names}
  found = {pathlib.PurePath(member).stem: (split, member) for split, member in members}
  for name, (split, member) in found.items():
    if name not in split_of:
      yield Finding("note", member, "is no published sequence", "leave it out of comparisons")
    elif split_of[name] != split:
      yield Finding("fault", member, f"belongs to the split {split_of[name]}", f"move it to {split_of[name]}/")
  for split, names in published.SEQUENCES.items():
    if missing := [name for name in names if name not in found]:
      what = f"{len(missing)} of {len(names)} sequences are missing: {', '.join(missing)}"
      yield Finding("warning", f"{archive.path.name}, {split}", what, AGAIN)


def _inspect_sequence(split: str, name: str, sequence: sequence_file.Sequence) -> Iterator[Finding]:
  where, counts = f"{split}/{name}.pkl", (len(sequence.actors), len(sequence.world_to_camera))
  if sequence.name != name:
    yield Finding("fault", where, f"says it is the sequence {sequence.name!r}", "give the file its name back")
  expected = published.SEQUENCES[split].get(name, counts)
  if expected != counts:
    what = "{} actors and {} frames, published are {} and {}".format(*counts, *expected)
    yield Finding("warning", where, what, AGAIN)
  rotations = sequence.world_to_camera[:, :3, :3]
  if not np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-3):
    yield Finding("fault", where, "cam_poses are no rigid motions", REPAIR)
  for number in range(len(sequence.actors)):
    yield from _inspect_actor(f"{where}, actor {number}", sequence, number)


def _inspect_actor(where: str, sequence: sequence_file.Sequence, number: int) -> Iterator[Finding]:
  actor = sequence.actors[number]
  if not actor.valid.any():
    yield Finding("warning", where, "no frame is valid (campose_valid)", "leave the sequence out: it cannot be scored")
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
  """Findings of the 3D of actor `number` against the detections of actor `other`, in frames with all points."""
  keypoints, confidence = joints.from_coco18(sequence.actors[other].detections)
  compared = sequence.actors[number].valid & (confidence > DETECTED).all(1) & (poses[..., 2] > 0).all(1)
  if not compared.any():
    return [Finding("note", where, "no frame has all points detected: 2D and 3D are not compared")]
  image = np.asarray(camera.project_linear(poses[compared], sequence.intrinsics))
  limit = round(REPROJECTION * float(np.median(np.ptp(image, axis=1).max(1))), 1)
  return geometry_checks.check_reprojection(poses, keypoints, sequence.intrinsics, compared, where, limit)


def _inspect_smpl(folder: pathlib.Path) -> Iterator[Finding]:
  """Faults of the files that the `regressor` configs need."""
  for name in SMPL_FILES:
    path = folder / pathlib.Path(name).name
    try:
      (smpl.load_regressor if name == builder.REGRESSOR_FILE else smpl.load_model)(path)
    except (FileNotFoundError, ValueError) as error:
      yield of_error(error, path.name, "see the dataset's README.md, or leave out smpl/: only regressor_* needs it")


def prepare(path: pathlib.Path, output: pathlib.Path, smpl_dir: pathlib.Path | None = None) -> str:
  """Inspects and gathers, and returns the counts to print. Raises ValueError for a fault, before it writes."""
  stop_at_faults(itertools.chain(inspect(path), _inspect_smpl(smpl_dir) if smpl_dir else ()))
  return f"{command.gather(members(path, smpl_dir), output)}\n{count(output)}"


if __name__ == "__main__":
  command.run(
      prepare,
      path="Folder with sequenceFiles.zip or sequenceFiles/, as published.",
      output="Folder to gather into: the builder's manual_dir; may be --path itself.",
      smpl="Folder with SMPL_MALE.npz, SMPL_FEMALE.npz and J_regressor_h36m.npy, for regressor_*.",
  )
