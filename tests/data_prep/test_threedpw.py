"""3DPW's downloads: planted faults are found and refused, and good files are gathered and counted."""

import pathlib
import pickle
import re
import shutil
import zipfile

import numpy as np
import pytest

from data_prep import threedpw
from posynda_jax.datasets import load
from posynda_jax.datasets.threedpw import published
from tests.data.test_safe_pickle import Payload
from tests.datasets import dummy
from tests.datasets import dummy_threedpw as dummy_data
from tests.datasets.planted import listed, run_module

SPEC = dummy_data.SPECS[3]


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("manual")
  dummy_data.write_smpl(folder)
  dummy_data.write(folder)
  return folder


@pytest.fixture
def copied(manual_dir, tmp_path):
  return pathlib.Path(shutil.copytree(manual_dir, tmp_path / "manual"))


def faults(folder):
  return [f for f in threedpw.inspect(folder) if f.level == "fault"]


@pytest.mark.parametrize("name, config", [
    ("sequenceFiles/train/outdoors_slalom_00.pkl", "approx"),
    ("smpl/SMPL_MALE.npz", "regressor"),
    ("smpl/J_regressor_h36m.npy", "regressor"),
])  # fmt: skip
def test_a_pickle_that_would_run_code_is_refused_by_name(copied, name, config):
  path, mark = copied / name, copied / "ran"
  value = np.array([[Payload(mark)]], dtype=object)
  if path.suffix == ".pkl":
    path.write_bytes(pickle.dumps({"sequence": Payload(mark)}, protocol=2))
  elif path.suffix == ".npz":
    np.savez(path, v_template=value)
  else:
    np.save(path, value)
  message = rf"{path.name}.*names \S*mkdir, which is not plain data.* nothing of it was run"
  with pytest.raises(ValueError, match=message):
    load.load(f"threedpw/{config}", "train", data_dir=copied / "data", manual_dir=copied)
  (fault,) = faults(copied)
  assert "not plain data" in fault.what and not mark.exists()


def test_a_truncated_file_stops_the_build_by_name(copied):
  path = copied / "sequenceFiles/test/flat_guitar_01.pkl"
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(ValueError, match="flat_guitar_01.pkl is not a whole pickle"):
    load.load("threedpw/approx", "test", data_dir=copied / "data", manual_dir=copied)
  assert ["test/flat_guitar_01.pkl"] == [f.where for f in faults(copied)]


def test_a_zip_that_leads_outside_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "sequenceFiles.zip", "w") as file:
    file.writestr("sequenceFiles/train/../../../x.pkl", b"")
  assert ["leads outside" in f.what for f in threedpw.inspect(tmp_path)] == [True]


def test_the_clean_files_have_no_fault_and_their_gaps_are_named(manual_dir):
  findings = list(threedpw.inspect(manual_dir))
  warnings = listed(findings, "warning")
  assert not listed(findings) and len(warnings) == 3 + len(dummy_data.SPECS)
  missing = "11 of 12 sequences are missing: courtyard_basketball_01, courtyard_dancing_00"
  for what in (missing, "2 actors and 14 frames, published are 2 and 1387"):
    assert what in "".join(warnings)


def test_the_whole_set_has_no_findings(tmp_path, monkeypatch):
  monkeypatch.setattr(published, "SEQUENCES", {split: {} for split in published.SEQUENCES})
  for spec in dummy_data.SPECS:
    published.SEQUENCES[spec.split][spec.name] = spec.actors, spec.frames
  dummy_data.write(tmp_path)
  assert not list(threedpw.inspect(tmp_path))


def test_published_counts_are_the_papers():
  counts = {split: (len(names), sum(a for a, _ in names.values())) for split, names in published.SEQUENCES.items()}
  assert counts == {"train": (24, 34), "validation": (12, 16), "test": (24, 37)}
  assert sum(frames for names in published.SEQUENCES.values() for _, frames in names.values()) == 52_653
  assert len({name for names in published.SEQUENCES.values() for name in names}) == 60


def change(key, function):
  """Applies `function` to a sequence's value of `key`."""
  return lambda content: content.update({key: function(content[key])})


def reorder(order):
  return change("jointPositions", lambda people: [a.reshape(-1, 24, 3)[:, order].reshape(a.shape) for a in people])


MILLIMETRES = change("jointPositions", lambda people: [1000 * a for a in people])
OTHER_FOCAL = np.array([[0.5, 1, 1], [1, 0.5, 1], [1, 1, 1]])
# The change of a sequence with two actors, and the finding.
FAULTS = {
    "sides exchanged": (reorder(dummy.mirrored(dummy_data.SMPL)), "left and right are exchanged|knees bend backward"),
    "millimetres": (MILLIMETRES, "looks like millimetres"),
    "y up": (change("cam_poses", lambda poses: np.diag([1.0, -1, -1, 1]) @ poses), "head is below the pelvis"),
    "actors exchanged": (change("poses2d", lambda people: people[::-1]), "they fit actor 1: exchange the actors"),
    "half resolution": (change("cam_intrinsics", lambda m: m * [[0.5], [0.5], [1]]), "centre of neither a 1920x1080"),
    "another focal length": (change("cam_intrinsics", lambda m: m * OTHER_FOCAL), "misses the 2D by"),
    "frame counts": (change("poses2d", lambda people: [a[:-1] for a in people]),
                     r"poses2d has shape \(13, 3, 18\), expected \(14, 3, 18\) \(cam_poses has the number"),
    "missing key": (lambda content: content.pop("cam_poses"), "has no cam_poses"),
    "missing actor": (lambda content: content["jointPositions"].pop(), "has not one or two actors in every key"),
    "another name": (change("sequence", lambda _: "x_00"), "says it is the sequence 'x_00'"),
    "not a number": (lambda content: content["jointPositions"][0].__setitem__((4, 7), np.nan), "not a finite number"),
    "no rigid motion": (change("cam_poses", lambda poses: poses * 1.1), "no rigid motions"),
}  # fmt: skip


@pytest.mark.parametrize("spoil, message", FAULTS.values(), ids=FAULTS)
def test_every_planted_fault_is_found(tmp_path, spoil, message):
  dummy_data.write(tmp_path, dummy_data.SPECS[:3])
  dummy_data.write(tmp_path, [SPEC], spoil=spoil)
  found = faults(tmp_path)
  assert found and {f.where.split(",")[0] for f in found} == {"test/downtown_walking_00.pkl"}
  assert re.search(message, " ".join(f"{f.what} {f.fix}" for f in found)), found
  assert all(f.fix for f in found)


def test_missing_and_misplaced_files_are_found(tmp_path):
  dummy_data.write(tmp_path, dummy_data.SPECS[:3])
  assert "no <sequence>.pkl in test" in next(iter(threedpw.inspect(tmp_path))).what
  dummy_data.write(tmp_path, [dummy_data.Spec("test", "courtyard_hug_00", 2, 14, True)])
  (fault,) = faults(tmp_path)
  assert (fault.where, fault.what) == ("test/courtyard_hug_00.pkl", "belongs to the split validation")
  assert "found neither" in next(iter(threedpw.inspect(tmp_path / "nowhere"))).what
  dummy_data.write(tmp_path, spoil=change("campose_valid", lambda people: [0 * v for v in people]))
  assert "no frame is valid (campose_valid)" in "".join(listed(threedpw.inspect(tmp_path), "warning"))


def test_the_command_gathers_counts_and_leaves_finished_files_unchanged(tmp_path, manual_dir):
  shutil.make_archive(tmp_path / "sequenceFiles", "zip", manual_dir, "sequenceFiles")
  output, smpl = tmp_path / "out", manual_dir / "smpl"
  done = run_module("data_prep.threedpw", f"--path={tmp_path}", f"--output={output}", f"--smpl={smpl}").stdout
  assert "4 files written, 0 already there and left unchanged" in done
  rows = [" ".join(line.split()) for line in done.splitlines()[-5:-1]]
  assert rows == ["split sequences actors frames valid detected", "train 2 3 33 29 26", "validation 1 1 10 9 8",
                  "test 2 3 36 32 29"]  # fmt: skip
  assert "0 files written, 1 already there and left unchanged" in threedpw.prepare(tmp_path, output)
  assert "0 files written, 5 already there" in threedpw.prepare(manual_dir, manual_dir)
  assert len(load.load("threedpw/regressor", "test", data_dir=tmp_path / "data", manual_dir=output)) == 3


def test_a_fault_stops_the_command_before_it_writes(tmp_path):
  dummy_data.write(tmp_path / "in", spoil=MILLIMETRES)
  with pytest.raises(ValueError, match="nothing was written because of .* faults, listed above: repair them first"):
    threedpw.prepare(tmp_path / "in", tmp_path / "out")
  assert not (tmp_path / "out").exists()
