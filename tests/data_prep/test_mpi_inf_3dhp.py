"""MPI-INF-3DHP's downloads: planted faults are found and refused, and good files are gathered."""

import os
import re
import shutil
from unittest import mock

import numpy as np
import pytest

from data_prep import mpi_inf_3dhp as prep
from posynda_jax.datasets import load
from posynda_jax.datasets.mpi_inf_3dhp import tables
from tests.data.test_safe_pickle import Payload
from tests.datasets import dummy
from tests.datasets import dummy_mpi_inf_3dhp as dummy_data
from tests.datasets.planted import run_module, short_sequences

TRUE_TEST = dict(tables.TEST)


@pytest.fixture(scope="module", autouse=True)
def shortened():
  with short_sequences():
    yield


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
  """(a folder with one subject and one test sequence, their truth)."""
  folder, truth = tmp_path_factory.mktemp("subject"), {}
  for sequence in ("S1/Seq1", "S1/Seq2"):
    truth |= dummy_data.write_train(folder, sequence)
  return folder, truth | dummy_data.write_test(folder, "TS5")


def check_found(findings, level, what):
  """Asserts that one finding says `what`, and that all others are less severe."""
  assert [f.level for f in findings if re.search(what, f"{f.what} {f.fix}")] == [level], "\n".join(map(str, findings))
  assert all(f.fix and "\n" not in str(f) for f in findings)
  assert level == "fault" or all(f.level != "fault" for f in findings)


def check_refused(folder, config, split, what):
  with pytest.raises(ValueError, match=what):
    load.load(f"mpi_inf_3dhp/{config}", split, data_dir=folder / "data", manual_dir=folder)
  assert not (folder / f"data/mpi_inf_3dhp/{config}/1.0.0").exists()


def one(name, change):
  """Applies `change` to one array."""
  return lambda content: content.update({name: change(content[name])})


def each(change, *names):
  """Applies `change` to the arrays of every camera."""
  return lambda content: content.update({name: [change(x) for x in content[name]] for name in names})


def reorder(order, *names):
  return each(lambda x: x[:, order], *names)


def text(old, new):
  return one("calibration", lambda calibration: calibration.replace(old, new))


def drop_camera_4(text):
  lines = text.splitlines()
  return "\n".join(lines[: 1 + 7 * 4] + lines[1 + 7 * 5 :])


def a_gap(x):
  x = x.copy()
  x[7, 5] = np.nan
  return x


BOTH = ("annot2", "annot3")
SIDES = dummy.mirrored(dummy_data.NAMES)
UNRELATED = "at no scale nearer than 10"
ANATOMY = None  # the build does not check it
# The change of S1/Seq1, the finding, and the error of the build.
TRAIN_FAULTS = {
    "sides exchanged": (reorder(SIDES, *BOTH), "left and right are exchanged", ANATOMY),
    "sides of the 3D exchanged": (reorder(SIDES, "annot3"), "exchanged between 2D and 3D", UNRELATED),
    "metres": (each(lambda x: x / 1000, "annot3"), r"0\.\d+ mm from the pelvis, expected 200", "in millimetres"),
    "other frames": (each(lambda x: x[::-1], "annot2"), "3D misses the 2D by", UNRELATED),
    "calibration of another size": (text("2048 2048", "1024 1024"), "for 1024x1024, expected 2048x2048", "1024x1024"),
    "distorting lens": (text("radial      0", "radial      -0.2"), "radial -0.2, expected 0", "radial -0.2"),
    "no camera 4": (one("calibration", drop_camera_4), "camera 4 is missing", "camera 4"),
    "half a calibration": (one("calibration", lambda t: t[:-400]), "one of its 13 camera blocks is not whole", "whole"),
    "no calibration": (one("calibration", lambda t: ""), "expected Skeletool Camera Calibration File", "Skeletool"),
    "13 cells": (lambda c: c["annot2"].pop(), r"object\(13, 1\), expected a cell array \(14, 1\)", "cell array"),
    "rows": (each(lambda x: x[:39], "annot3"), "39 rows, expected 40 frames: frame-count mismatch", "mismatch"),
    "17 joints": (each(lambda x: x[:, :17], "annot2"), r"\(43, 34\), expected floats \(40, 56\)", "expected floats"),
    "not a number": (each(a_gap, "annot3"), "frame 7 is valid and holds numbers that are not finite", "frame 7"),
}


@pytest.mark.parametrize("plant", TRAIN_FAULTS)
def test_faults_planted_in_training_files_are_found(tmp_path, subject, plant):
  spoil, what, built = TRAIN_FAULTS[plant]
  shutil.copytree(subject[0] / "S1/Seq2", tmp_path / "S1/Seq2")
  dummy_data.write_train(tmp_path, "S1/Seq1", spoil=spoil)
  check_found(list(prep.inspect(tmp_path)), "fault", what)
  if built is not ANATOMY:
    check_refused(tmp_path, "vnect", "S1", built)


TEST_FAULTS = {
    "rows": (one("annot3", lambda x: x[:-1]), r"annot3 is \(53, 1, 17, 3\), expected \(54, .* of 54 frames"),
    "axes put back": (one("annot2", lambda x: x.T), r"annot2 is \(2, 17, 1, 54\), expected \(54, 1, 17, 2\)"),
    "no valid flags": (lambda c: c.pop("activity_annotation"), "holds no activity_annotation"),
    "valid flags": (one("valid_frame", lambda x: x * 2), "valid_frame holds .*, expected 0 and 1"),
    "nothing valid": (one("valid_frame", lambda x: x * 0), "none of 54 frames is valid"),
    "activity": (one("activity_annotation", lambda x: x + 7), "activity_annotation holds .*, expected 1 to 7"),
    "image of another size": (one("annot2", lambda x: x / 2), r"0\.5\d* times as wide|" + UNRELATED),
    "pixel aspect": (one("annot3", lambda x: x * [1, -1, -1]), "2D and 3D do not belong together|" + UNRELATED),
}


@pytest.mark.parametrize("plant", TEST_FAULTS)
def test_faults_planted_in_the_test_set_are_found(tmp_path, plant):
  spoil, what = TEST_FAULTS[plant]
  dummy_data.write_test(tmp_path, "TS5", spoil=spoil)
  check_found([f for f in prep.inspect(tmp_path) if "belo" not in f.what], "fault", what)
  check_refused(tmp_path, "vnect", "TS5", what)


def cameras(data):
  return data["S3 Seq1"][0]


def as_loaders_leave_it(data):
  """Root-relative but for the pelvis, and screen-normalised, in place, as published loaders change their arrays."""
  for arrays in cameras(data).values():
    arrays["data_3d"][:, [j for j in range(17) if j != 14]] -= arrays["data_3d"][:, 14:15]
    arrays["data_2d"][:] = arrays["data_2d"] / 1024 - 1


PROCESSED_FAULTS = {
    "one camera less": (lambda d: cameras(d).pop("7"), "has the cameras 0, 1, 2, 4, 5, 6, 8, expected"),
    "frames a second": (lambda d: d["S3 Seq1"].__setitem__(1, 25), "says 25 frames a second, S3/Seq1 has 50"),
    "frames": (lambda d: cameras(d)["2"].update(data_2d=np.zeros((43, 17, 2))), r"data_2d has the shape \(43, 17, 2\)"),
    "no 3D": (lambda d: cameras(d)["2"].pop("data_3d"), r"data_3d has the shape \(\), expected \(44, 17, 3\)"),
    "unknown sequence": (lambda d: d.update({"S9 Seq1": d["S3 Seq1"]}), "'S9 Seq1' is unknown, expected one of S1"),
    "half a subject": (lambda d: d.pop("S3 Seq2"), "S3/Seq2 is missing"),
    "as loaders leave it": (as_loaders_leave_it, "joints are .* from the pelvis, expected 200 to 800"),
    "a program": (lambda d: d.update({"S3 Seq1": Payload("planted")}), r"npz.* names (posix|nt)\.mkdir.* refused"),
}


@pytest.mark.parametrize("plant", PROCESSED_FAULTS)
def test_faults_planted_in_processed_npz_are_found(tmp_path, plant):
  spoil, what = PROCESSED_FAULTS[plant]
  dummy_data.write_processed(tmp_path, "", ["S3/Seq1", "S3/Seq2"], spoil=spoil)
  check_found([f for f in prep.inspect(tmp_path) if "TS1" not in f.what and "univ" not in f.what], "fault", what)
  check_refused(tmp_path, "processed", "S3", what)


@pytest.mark.parametrize("name, config, split", [
    ("S1/Seq1/annot.mat", "vnect", "S1"),
    ("TS5/annot_data.mat", "vnect", "S1"),
    ("data_test_3dhp.npz", "processed", "TS5"),
])  # fmt: skip
def test_truncated_files_are_named(tmp_path, subject, name, config, split):
  folder = shutil.copytree(subject[0], tmp_path / "in")
  dummy_data.write_processed(folder, "", ["TS5"])
  content = (folder / name).read_bytes()
  for length in (0, 100, len(content) // 2, len(content) - 40):
    (folder / name).write_bytes(content[:length])
    faults = [f for f in prep.inspect(folder) if f.level == "fault"]
    assert len(faults) == 1 and name in faults[0].where + faults[0].what, (length, faults)
    check_refused(folder, config, split, name)


def test_a_file_of_another_format_or_no_file_is_named(tmp_path, subject):
  folder = shutil.copytree(subject[0], tmp_path / "in")
  shutil.copy(folder / "TS5/annot_data.mat", folder / "S1/Seq1/annot.mat")
  check_refused(folder, "vnect", "S1", "is a MATLAB v7.3 file, expected the published v5 one")
  assert [f.level for f in prep.inspect(folder / "S1")] == ["fault"]


def test_a_gathered_folder_holds_what_lifting_reads_and_builds_the_same(subject, tmp_path):
  folder, truth = shutil.copytree(subject[0], tmp_path / "in"), subject[1]
  (folder / "S1/Seq1/imageSequence").mkdir()
  (folder / "S1/Seq1/imageSequence/video_0.avi").write_bytes(b"RIFF")
  output = tmp_path / "out"
  assert "5 files written, 0 already there" in (text := prep.prepare(folder, output))
  assert re.search(r"S1/Seq2 +14 +41 +41 +0 +annot3 ", text) and re.search(r"TS5 +1 +54 +44 +44 +annot3 ", text)
  gathered = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
  train = {f"S1/{seq}/{name}" for seq in ("Seq1", "Seq2") for name in ("annot.mat", "camera.calibration")}
  assert gathered == train | {"TS5/annot_data.mat"}
  assert os.path.samefile(folder / "S1/Seq1/annot.mat", output / "S1/Seq1/annot.mat")
  records = load.load("mpi_inf_3dhp/chest", "S1+TS5", data_dir=tmp_path / "data", manual_dir=output)
  for got, key in ((records[0], "S1/Seq1"), (records[-1], "TS5")):
    np.testing.assert_array_equal(got["poses_camera_m"], truth[key, 0]["poses_camera_m"])


def test_a_changed_or_lost_file_is_gathered_again_and_others_are_left(tmp_path, monkeypatch):
  path, output = tmp_path / "in", tmp_path / "out"
  monkeypatch.setattr(os, "link", mock.Mock(side_effect=OSError))  # another disk: files are copied
  dummy_data.write_test(path, "TS5")
  assert "1 files written" in prep.prepare(path, output) and "0 files written" in prep.prepare(path, output)
  (output / "TS5/annot_data.mat").unlink()
  assert "1 files written" in prep.prepare(path, output)
  dummy_data.write_test(path, "TS5", seed=1)
  assert "1 files written" in prep.prepare(path, output)
  assert (output / "TS5/annot_data.mat").read_bytes() == (path / "TS5/annot_data.mat").read_bytes()


def test_nothing_is_gathered_from_a_faulty_download(tmp_path, capsys):
  dummy_data.write_test(tmp_path / "in", "TS5", spoil=one("annot3", lambda x: x / 1000))
  with pytest.raises(ValueError, match="nothing was written because of 1 faults, listed above"):
    prep.prepare(tmp_path / "in", tmp_path / "out")
  assert "expected 200 to 800 -> give its 3D in millimetres" in capsys.readouterr().out
  assert not (tmp_path / "out").exists()


def test_the_command_gathers_files_of_the_published_length(tmp_path, monkeypatch):
  monkeypatch.setattr(tables, "TEST", TRUE_TEST)
  dummy_data.write_test(tmp_path / "in", "TS5")
  dummy_data.write_test(tmp_path / "in", "TS6", spoil=one("valid_frame", lambda x: x * (x.cumsum() <= 392)[:, None]))
  done = run_module("data_prep.mpi_inf_3dhp", f"--path={tmp_path / 'in'}", f"--output={tmp_path / 'out'}").stdout
  assert re.search(r"TS5 +1 +320 +276 +276 +annot3 +0\.\d+ ", done)
  assert re.search(r"TS6 +1 +492 +392 +452 +annot3", done)
  assert "TS6: 392 valid frames, the readme counts 452" in done and "TS5: " not in done
  assert "2 sequences, 812 frames" in done and "manual_dir" in done
