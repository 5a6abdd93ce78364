"""MPI-INF-3DHP from files written as its owners write them, shorter because the tables are made so; faults planted in them."""

import os
import pathlib
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io

from data_prep import mpi_inf_3dhp as prep
from posynda_jax.data import pipeline
from posynda_jax.datasets import load, record
from posynda_jax.datasets.mpi_inf_3dhp import dummy_data, mpi_inf_3dhp_dataset_builder, processed, raw, tables, views
from posynda_jax.geometry import camera_tables

TRUE_TEST = dict(tables.TEST)
NAMES = dummy_data.NAMES
EXTRA = {"activity", "annotation", "reprojection_px", "intrinsics_from"}


@pytest.fixture(scope="module", autouse=True)
def short_sequences():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tables, "TRAIN", {name: (40 + i, fps) for i, (name, (_, fps)) in enumerate(tables.TRAIN.items())})
    patch.setattr(tables, "TEST", {name: (50 + i, 40 + i) for i, name in enumerate(tables.TEST)})
    yield


@pytest.fixture(scope="module")
def official(tmp_path_factory):
  """(folder as the owners' scripts leave it, truth): two subjects and the whole test set."""
  folder, truth = tmp_path_factory.mktemp("official"), {}
  for sequence in ("S1/Seq1", "S1/Seq2", "S8/Seq1", "S8/Seq2"):
    truth |= dummy_data.write_train(folder, sequence)
  for sequence in tables.TEST:
    truth |= dummy_data.write_test(folder / raw.TEST_FOLDERS[2], sequence)
  return folder, truth


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
  """(folder, {config: truth}) with both variants of the shared npz files."""
  folder, truth = tmp_path_factory.mktemp("shared"), {}
  for config, suffix, annotation in (("processed", "", "univ_annot3"), ("processed_ori", "_ori", "annot3")):
    truth[config] = dummy_data.write_processed_train(
        folder / f"data_train_3dhp{suffix}.npz", ["S3/Seq2", "S3/Seq1"], annotation
    ) | dummy_data.write_processed_test(folder / f"data_test_3dhp{suffix}.npz", ["TS6", "TS2"], annotation)
  return folder, truth


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("data")


def check(got, truth):
  """A record holds the truth to float32 rounding."""
  for name in ("keypoints_px", "poses_camera_m", "valid", "activity"):
    np.testing.assert_array_equal(got[name], truth[name])
  np.testing.assert_array_equal(got["confidence"], 1)


def test_official_files_come_back_in_h36m_order_metres_and_pixels(official, data_dir, capsys):
  folder, truth = official
  records = load.load("mpi_inf_3dhp/vnect", "S1+S8+test", data_dir=data_dir, manual_dir=folder)
  told = capsys.readouterr().err
  assert "not splits of this build: S2, S3, S4, S5, S6, S7." in told
  assert "S8/Seq1: 54 frames, 54 valid\n" in told and "TS6: 55 frames, 45 valid (readme: 45)" in told
  cameras = (0, 1, 2, 4, 5, 6, 7, 8)
  keys = [(s, c) for s in ("S1/Seq1", "S1/Seq2", "S8/Seq1", "S8/Seq2") for c in cameras] + [(s, 0) for s in tables.TEST]
  assert [(r["sequence"], int(r["camera"])) for r in records] == keys
  for got, key in zip(records, keys, strict=True):
    assert set(got) == set(record.view_features()) | EXTRA
    check(got, truth[key])
    np.testing.assert_allclose(got["intrinsics"][:4], truth[key]["intrinsics"], atol=1e-3)
    assert got["annotation"] == "annot3" and got["reprojection_px"] < 1e-3 and not got["intrinsics"][4:].any()
  first, fast, test = records[0], records[8], records[-2]
  assert (first["subject"], first["action"], first["fps"], first["intrinsics_from"]) == ("S1", "Seq1", 25, "calibration")
  assert fast["fps"] == 50 and first["resolution"].tolist() == [2048, 2048]
  assert (test["subject"], test["action"], test["intrinsics_from"]) == ("TS5", "TS5", "table")
  assert test["resolution"].tolist() == [1920, 1080]
  assert 0 < test["valid"].mean() < 1 and set(test["activity"]) == set(range(1, 8))
  tracks = pipeline.make_tracks(records[-2:], pipeline.LABELLED, 50)
  assert [track.arrays["valid"].sum() for track in tracks] == [r["valid"].sum() for r in records[-2:]]


def test_a_config_is_a_set_of_cameras(official, data_dir):
  cameras = lambda config: [
      int(r["camera"]) for r in load.load(f"mpi_inf_3dhp/{config}", "S8", data_dir=data_dir, manual_dir=official[0])
  ]
  assert cameras("chest") == 2 * [0, 2, 4, 7, 8]
  assert cameras("all") == 2 * list(range(14))


def test_the_written_files_have_the_formats_of_matlab(official):
  folder, _ = official
  assert (folder / "S1/Seq1/annot.mat").read_bytes()[:19] == b"MATLAB 5.0 MAT-file"
  content = scipy.io.loadmat(folder / "S1/Seq1/annot.mat")
  cells = content["univ_annot3"]
  assert cells.shape == (14, 1) and cells.dtype == object and cells[0, 0].shape == (43, 84) and cells[0, 0].dtype == float
  assert content["annot2"][13, 0].shape == (43, 56) and content["cameras"].shape == (1, 14) and content["frames"].shape == (43, 1)
  test = folder / raw.TEST_FOLDERS[2] / "TS5/annot_data.mat"
  with pytest.raises(NotImplementedError, match="HDF"):
    scipy.io.loadmat(test)
  with h5py.File(test) as file:
    shapes = {name: file[name].shape for name in file if name != "#refs#"}
    assert file[file["bb_crop"][3, 0]].shape == (34, 1)
  assert shapes == {
      "annot2": (54, 1, 17, 2), "annot3": (54, 1, 17, 3), "univ_annot3": (54, 1, 17, 3),
      "valid_frame": (54, 1), "activity_annotation": (54, 1), "bb_crop": (54, 1),
  }


@pytest.mark.parametrize("config, annotation", [("processed", "univ_annot3"), ("processed_ori", "annot3")])
def test_shared_npz_come_back_and_are_told_apart_by_reprojection(shared, data_dir, config, annotation):
  folder, truth = shared
  records = load.load(f"mpi_inf_3dhp/{config}", "TS2+TS6+S3", data_dir=data_dir, manual_dir=folder)
  assert [r["sequence"] for r in records] == ["TS2", "TS6"] + 8 * ["S3/Seq1"] + 8 * ["S3/Seq2"]
  for got in records:
    key = got["sequence"], int(got["camera"])
    check(got, truth[config][key])
    np.testing.assert_allclose(got["intrinsics"][:4], truth[config][key]["intrinsics"], atol=1e-3)
    assert got["annotation"] == annotation and (got["reprojection_px"] < 1e-3) == (annotation == "annot3")
    assert got["intrinsics_from"] == ("fit" if "/" in key[0] else "table")


def test_a_missing_part_of_train_is_told(official, shared, data_dir, tmp_path):
  load.load("mpi_inf_3dhp/chest", "S1", data_dir=data_dir, manual_dir=official[0])
  with pytest.raises(ValueError, match="'train' of mpi_inf_3dhp/chest needs S2, S3, S4, S5, S6, S7, absent when it was built"):
    load.load("mpi_inf_3dhp/chest", "train", data_dir=data_dir)
  with pytest.raises(FileNotFoundError, match="holds no file of mpi_inf_3dhp/all. Put S1..S8/Seq1,Seq2"):
    load.load("mpi_inf_3dhp/all", "train", data_dir=tmp_path, manual_dir=shared[0])
  dummy_data.write_train(tmp_path / "half", "S4/Seq2")
  assert [f.level for f in prep.inspect(tmp_path / "half") if f.what == "S4/Seq1 is missing"] == ["fault"]
  with pytest.raises(ValueError, match="S4/Seq1 is missing while the other sequence of S4 is there; fetch the whole subject"):
    load.load("mpi_inf_3dhp/vnect", "S4", data_dir=tmp_path / "data", manual_dir=tmp_path / "half")


def test_the_tables_are_the_published_ones():
  """The sums of the training frames, of the readme's valid frames, and the focal lengths the calibration text gives."""
  true = dict(mpi_inf_3dhp_dataset_builder.MpiInf3dhp.SPLIT_ALIASES)
  assert true == {"train": "S1+S2+S3+S4+S5+S6+S7+S8", "test": "TS1+TS2+TS3+TS4+TS5+TS6"}
  assert sum(valid for _, valid in TRUE_TEST.values()) == 2929
  (_, studio), (_, outdoor) = (camera_tables.DHP_TEST_INTRINSICS[s] for s in ("TS1", "TS6"))
  aspects = [intrinsics[1] / intrinsics[0] for intrinsics in (studio, outdoor)]
  assert aspects == pytest.approx([1.00044, 0.993236423], abs=1e-6)


# Planted faults ------------------------------------------------------------------------------------------------------------


def reorder(order, *which):
  return lambda content: content.update({name: [x[:, order] for x in content[name]] for name in which})


def each(name, change):
  """Applies `change` to the array of every camera."""
  return lambda content: content.update({name: [change(x) for x in content[name]]})


def one(name, change):
  """Applies `change` to one array."""
  return lambda content: content.update({name: change(content[name])})


def text(old, new):
  return one("calibration", lambda calibration: calibration.replace(old, new))


def upside_down(content):
  content["annot3"] = [x * [1, -1, 1] for x in content["annot3"]]
  content["annot2"] = [x * [1, -1] + [0, 2048] for x in content["annot2"]]


def drop_camera_4(text):
  lines = text.splitlines()
  return "\n".join(lines[: 1 + 7 * 4] + lines[1 + 7 * 5 :])


def a_gap(x):
  x = x.copy()
  x[7, 5] = np.nan
  return x


BOTH = ("annot2", "annot3")
SIDES = [NAMES.index(n.replace("left", "x").replace("right", "left").replace("x", "right")) for n in NAMES]
UNRELATED = "in no size nearer than 10"
# What is done to S1/Seq1, what `inspect` says, and what the build says: ANATOMY it does not look at.
ANATOMY = None
TRAIN_FAULTS = {
    "sides exchanged": (reorder(SIDES, *BOTH), "left and right are exchanged", ANATOMY),
    "sides of the 3D exchanged": (reorder(SIDES, "annot3"), "exchanged between 2D and 3D", UNRELATED),
    "another joint order": (reorder(range(27, -1, -1), *BOTH), "not in Human3.6M order", ANATOMY),
    "upside down": (upside_down, "head is below the pelvis", ANATOMY),
    "metres": (each("annot3", lambda x: x / 1000), "0.449 mm from the pelvis, expected 200 to 800", "give its 3D in millimetres"),
    "micrometres": (each("annot3", lambda x: x * 1000), "mm from the pelvis, expected 200 to 800", "give its 3D in millimetres"),
    "images made smaller": (each("annot2", lambda x: x * 768 / 2048), "image 0.375 times as wide", UNRELATED),
    "other frames": (each("annot2", lambda x: x[::-1]), "3D misses the 2D by", UNRELATED),
    "calibration of another size": (text("2048 2048", "1024 1024"), "for 1024x1024, expected 2048x2048", "1024x1024"),
    "distorting lens": (text("radial      0", "radial      -0.2"), "radial -0.2, expected 0", "radial -0.2"),
    "no camera 4": (one("calibration", drop_camera_4), "camera 4 is missing", "camera 4"),
    "half a calibration": (one("calibration", lambda t: t[:-400]), "one of its 13 camera blocks is not whole", "not whole"),
    "no calibration": (one("calibration", lambda t: ""), "expected Skeletool Camera Calibration File", "Skeletool"),
    "13 cells": (lambda c: c["annot2"].pop(), r"object\(13, 1\), expected a cell array \(14, 1\)", "cell array"),
    "rows": (each("annot3", lambda x: x[:39]), "39 rows, S1/Seq1 has 40 frames: frame-count mismatch", "frame-count mismatch"),
    "17 joints": (each("annot2", lambda x: x[:, :17]), r"\(43, 34\), expected floats \(40, 56\)", "expected floats"),
    "not a number": (each("annot3", a_gap), "frame 7 is valid and holds numbers that are not finite", "frame 7"),
}


def check_found(findings, level, what):
  """One finding says so, and nothing worse is found."""
  assert [f.level for f in findings if re.search(what, f"{f.what} {f.fix}")] == [level], "\n".join(map(str, findings))
  assert all(f.fix and "\n" not in str(f) for f in findings)
  assert level == "fault" or all(f.level != "fault" for f in findings)


def check_refused(folder, config, split, what):
  with pytest.raises(ValueError, match=what):
    load.load(f"mpi_inf_3dhp/{config}", split, data_dir=folder / "data", manual_dir=folder)
  assert not (folder / f"data/mpi_inf_3dhp/{config}/1.0.0").exists()


@pytest.mark.parametrize("plant", TRAIN_FAULTS)
def test_faults_planted_in_training_files_are_found(tmp_path, plant):
  spoil, what, built = TRAIN_FAULTS[plant]
  dummy_data.write_train(tmp_path, "S1/Seq1", spoil=spoil)
  dummy_data.write_train(tmp_path, "S1/Seq2")
  check_found(list(prep.inspect(tmp_path)), "fault", what)
  if built is not ANATOMY:
    check_refused(tmp_path, "vnect", "S1", built)


def test_clean_downloads_have_no_fault(official, shared):
  for folder in (official[0], shared[0]):
    findings = list(prep.inspect(folder))
    assert findings and {f.level for f in findings} == {"warning"}
    told = [f.what for f in findings if "univ_annot3" not in f.what]
    if folder == official[0]:
      assert told == ["S2, S3, S4, S5, S6, S7 missing"]
    else:
      assert told == 2 * ["S1, S2, S4, S5, S6, S7, S8, TS1, TS3, TS4, TS5 missing"]


def test_univ_annot3_is_told_whatever_its_name(tmp_path):
  dummy_data.write_train(tmp_path, "S1/Seq1", spoil=lambda c: c.update(annot3=c["univ_annot3"]))
  dummy_data.write_train(tmp_path, "S1/Seq2")
  dummy_data.write_test(tmp_path, "TS6", spoil=lambda c: c.update(annot3=c["univ_annot3"]))  # two sizes in turn
  findings = list(prep.inspect(tmp_path))
  check_found([f for f in findings if f.where == "S1/Seq1"], "warning", r"univ_annot3, not annot3: its 3D projects \d\.\d px")
  check_found([f for f in findings if f.where == "TS6"], "warning", "univ_annot3, not annot3")
  records = load.load("mpi_inf_3dhp/vnect", "S1+TS6", data_dir=tmp_path / "data", manual_dir=tmp_path)
  assert [r["annotation"] for r in records] == 8 * ["univ_annot3"] + 8 * ["annot3"] + ["univ_annot3"]


TEST_FAULTS = {
    "rows": (one("annot3", lambda x: x[:-1]), "53 rows, TS5 has 54 frames: frame-count mismatch"),
    "more rows": (one("annot2", lambda x: np.concatenate([x, x])), "108 rows, TS5 has 54 frames: frame-count mismatch"),
    "axes put back": (one("annot2", lambda x: x.T), r"annot2 is \(2, 17, 1, 54\), expected \(54, 1, 17, 2\)"),
    "no valid flags": (lambda c: c.pop("activity_annotation"), "holds no activity_annotation"),
    "valid flags": (one("valid_frame", lambda x: x * 2), "valid_frame holds .*, expected 0 and 1"),
    "nothing valid": (one("valid_frame", lambda x: x * 0), "none of 54 frames is valid"),
    "activity": (one("activity_annotation", lambda x: x + 7), "activity_annotation holds .*, expected 1 to 7"),
    "image of another size": (one("annot2", lambda x: x / 2), "0.5 times as wide|" + UNRELATED),
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
  """Root-relative but for the pelvis, and screen-normalised, in place: what the published loaders do to their arrays."""
  for arrays in cameras(data).values():
    arrays["data_3d"][:, [j for j in range(17) if j != 14]] -= arrays["data_3d"][:, 14:15]
    arrays["data_2d"][:] = arrays["data_2d"] / 1024 - 1


PROCESSED_FAULTS = {
    "one camera less": (lambda d: cameras(d).pop("7"), "has the cameras 0, 1, 2, 4, 5, 6, 8, expected"),
    "frames a second": (lambda d: d["S3 Seq1"].__setitem__(1, 25), "says 25 frames a second, S3/Seq1 has 50"),
    "frames": (lambda d: cameras(d)["2"].update(data_2d=cameras(d)["2"]["data_2d"][1:]), "43 frames, expected 44: frame-count"),
    "no 3D": (lambda d: cameras(d)["2"].pop("data_3d"), r"data_3d has the shape \(\), expected \(44, 17, 3\)"),
    "unknown sequence": (lambda d: d.update({"S9 Seq1": d["S3 Seq1"]}), "'S9 Seq1' is unknown, expected one of S1/Seq1"),
    "half a subject": (lambda d: d.pop("S3 Seq2"), "S3/Seq2 is missing"),
    "as loaders leave it": (as_loaders_leave_it, "joints are .* from the pelvis, expected 200 to 800"),
}


@pytest.mark.parametrize("plant", PROCESSED_FAULTS)
def test_faults_planted_in_shared_npz_are_found(tmp_path, plant):
  spoil, what = PROCESSED_FAULTS[plant]
  dummy_data.write_processed_train(tmp_path / "data_train_3dhp.npz", ["S3/Seq1", "S3/Seq2"], spoil=spoil)
  check_found([f for f in prep.inspect(tmp_path) if "TS1" not in f.what and "univ" not in f.what], "fault", what)
  check_refused(tmp_path, "processed", "S3", what)


def test_files_that_broke_off_are_named(tmp_path):
  dummy_data.write_train(tmp_path, "S1/Seq1")
  dummy_data.write_train(tmp_path, "S1/Seq2")
  dummy_data.write_test(tmp_path, "TS5")
  dummy_data.write_processed_test(tmp_path / "data_test_3dhp.npz", ["TS5"])
  for name in ("S1/Seq1/annot.mat", "TS5/annot_data.mat", "data_test_3dhp.npz"):
    whole = (tmp_path / name).read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 40):
      (tmp_path / name).write_bytes(whole[:length])
      faults = [f for f in prep.inspect(tmp_path) if f.level == "fault" and "S1/Seq1 is missing" not in f.what]
      assert len(faults) == 1 and name in faults[0].where + faults[0].what, (name, length, faults)
      config, split = ("processed", "TS5") if name.endswith("npz") else ("vnect", "S1")
      check_refused(tmp_path, config, split, name)
    (tmp_path / name).write_bytes(whole)
  (tmp_path / "S1/Seq1/annot.mat").write_bytes((tmp_path / "TS5/annot_data.mat").read_bytes())
  check_refused(tmp_path, "vnect", "S1", "is a MATLAB v7.3 file, expected the published v5 one")
  assert [f.level for f in prep.inspect(tmp_path / "S1")] == ["fault"]  # a folder without any of the files


class Payload:
  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.mark.parametrize("place", ["as the array", "deep inside"])
def test_an_npz_that_would_run_code_is_refused_by_the_name_of_what_it_calls(tmp_path, place):
  ran = tmp_path / "ran"
  data = Payload(ran) if place == "as the array" else {"TS5": {"data_2d": Payload(ran)}}
  np.savez_compressed(tmp_path / "data_test_3dhp.npz", data=np.array(data, object))
  check_refused(tmp_path, "processed", "TS5", r"data_test_3dhp\.npz.*posix\.mkdir.*refused")
  check_found([f for f in prep.inspect(tmp_path)], "fault", r"names posix\.mkdir")
  assert not ran.exists()


def test_a_camera_is_found_from_a_track_that_moves():
  rng = np.random.default_rng(0)
  track = rng.uniform([-800, -500, 3000], [800, 900, 6000], (200, 3))
  truth = np.array([1500, 1490, 1010, 1050.0])
  px = truth[:2] * track[:, :2] / track[:, 2:] + truth[2:]
  np.testing.assert_allclose(processed.fit_intrinsics("", px, track), truth, rtol=1e-9)
  noisy = processed.fit_intrinsics("", px + rng.normal(0, 0.3, px.shape), track)
  np.testing.assert_allclose(noisy, truth, atol=1)
  with pytest.raises(views.Fault, match="stays in its place"):
    processed.fit_intrinsics("", px[:1].repeat(99, 0), track[:1].repeat(99, 0))
  with pytest.raises(views.Fault, match="no camera projects the pelvis"):
    processed.fit_intrinsics("", px[::-1], track)


# Gathering -----------------------------------------------------------------------------------------------------------------


def test_a_gathered_folder_builds_the_same_and_is_left_alone(official, tmp_path):
  folder, truth = official
  (folder / "S1/Seq1/imageSequence").mkdir(exist_ok=True)
  (folder / "S1/Seq1/imageSequence/video_0.avi").write_bytes(b"RIFF")
  counts, is_new = prep.prepare(folder, tmp_path / "out")
  assert is_new and [c.sequence for c in counts] == ["S1/Seq1", "S1/Seq2", "S8/Seq1", "S8/Seq2", *tables.TEST]
  assert all(c.frames == len(truth[c.sequence, 0]["valid"]) and c.valid == truth[c.sequence, 0]["valid"].sum() for c in counts)
  assert [c.cameras for c in counts] == 4 * [14] + 6 * [1] and {c.annotation for c in counts} == {"annot3"}
  gathered = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
  train = {f"{s}/{name}" for s in ("S1/Seq1", "S1/Seq2", "S8/Seq1", "S8/Seq2") for name in ("annot.mat", "camera.calibration")}
  assert gathered == train | {f"{s}/annot_data.mat" for s in tables.TEST} | {prep.DONE}
  assert os.path.samefile(folder / "S1/Seq1/annot.mat", tmp_path / "out/S1/Seq1/annot.mat")
  again, is_new = prep.prepare(folder, tmp_path / "out")
  assert not is_new and again == counts
  records = load.load("mpi_inf_3dhp/chest", "S1+TS6", data_dir=tmp_path / "data", manual_dir=tmp_path / "out")
  check(records[0], truth["S1/Seq1", 0])
  check(records[-1], truth["TS6", 0])


def test_a_changed_or_lost_file_is_gathered_again(tmp_path):
  path, output = tmp_path / "in", tmp_path / "out"
  dummy_data.write_test(path, "TS5")
  assert prep.prepare(path, output)[1]
  (output / "TS5/annot_data.mat").unlink()
  assert prep.prepare(path, output)[1] and not prep.prepare(path, output)[1]
  (path / "TS5/annot_data.mat").unlink()
  truth = dummy_data.write_test(path, "TS5", seed=1)
  assert prep.prepare(path, output)[1]
  (_, view), = raw.read_test(output / "TS5/annot_data.mat", "TS5")
  check(view, truth["TS5", 0])


def test_nothing_is_gathered_from_a_faulty_download(tmp_path, capsys):
  dummy_data.write_test(tmp_path / "in", "TS5", spoil=one("annot3", lambda x: x / 1000))
  with pytest.raises(ValueError, match="1 faults, listed above: nothing was gathered"):
    prep.prepare(tmp_path / "in", tmp_path / "out")
  assert "expected 200 to 800 -> give its 3D in millimetres" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()
  with pytest.raises(ValueError, match="--output is the download itself"):
    prep.prepare(tmp_path / "in", tmp_path / "in")


def test_the_command_gathers_files_of_the_published_length(tmp_path, monkeypatch):
  monkeypatch.setattr(tables, "TEST", TRUE_TEST)
  dummy_data.write_test(tmp_path / "in", "TS5")
  dummy_data.write_test(tmp_path / "in", "TS6", spoil=one("valid_frame", lambda x: x * (x.cumsum() <= 392)[:, None]))
  command = [sys.executable, "-m", "data_prep.mpi_inf_3dhp", f"--path={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]
  done = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2])
  assert done.returncode == 0, done.stderr
  assert re.search(r"TS5 +1 +320 +276 +276 +annot3 +0\.\d+ ", done.stdout)
  assert re.search(r"TS6 +1 +492 +392 +452 +annot3", done.stdout)
  assert "TS6: 392 valid frames, the readme counts 452" in done.stderr and "TS5" not in done.stderr
  assert "2 sequences, 812 frames" in done.stdout and "manual_dir" in done.stdout
