"""MPI-INF-3DHP records from small files in the owners' formats."""

import re

import numpy as np
import pytest

from data_prep import mpi_inf_3dhp as prep
from posynda_jax.data import tracks
from posynda_jax.datasets import load, record
from posynda_jax.datasets.licensed import Fault
from posynda_jax.datasets.mpi_inf_3dhp import mpi_inf_3dhp_dataset_builder, processed, raw, tables
from posynda_jax.geometry import camera_tables
from tests.datasets import dummy_mpi_inf_3dhp as dummy_data
from tests.datasets.planted import short_sequences

TRUE_TEST = dict(tables.TEST)
EXTRA = {"activity", "annotation", "reprojection_px", "intrinsics_from"}
SOME = ("S1/Seq1", "S1/Seq2", "S8/Seq1", "S8/Seq2")


@pytest.fixture(scope="module", autouse=True)
def shortened():
  with short_sequences():
    yield


@pytest.fixture(scope="module")
def official(tmp_path_factory):
  """(folder as the owners' scripts write it, truth): two subjects and the whole test set."""
  folder, truth = tmp_path_factory.mktemp("official"), {}
  for sequence in SOME:
    truth |= dummy_data.write_train(folder, sequence)
  for sequence in tables.TEST:
    truth |= dummy_data.write_test(folder / raw.TEST_FOLDERS[2], sequence)
  return folder, truth


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("data")


def check(got, truth):
  """Asserts that a record holds the truth, which is read and not computed."""
  for name in ("keypoints_px", "poses_camera_m", "valid", "activity"):
    np.testing.assert_array_equal(got[name], truth[name])
  np.testing.assert_array_equal(got["confidence"], 1)


def test_official_files_come_back_in_h36m_order_metres_and_pixels(official, data_dir, capsys):
  folder, truth = official
  records = load.load("mpi_inf_3dhp/vnect", "S1+S8+test", data_dir=data_dir, manual_dir=folder)
  printed = capsys.readouterr().err
  assert "not splits of this build: S2, S3, S4, S5, S6, S7." in printed
  assert "S8/Seq1: 54 frames, 54 valid\n" in printed and "TS6: 55 frames, 45 valid (readme: 45)" in printed
  keys = [(s, c) for s in SOME for c in (0, 1, 2, 4, 5, 6, 7, 8)] + [(s, 0) for s in tables.TEST]
  assert [(r["sequence"], int(r["camera"])) for r in records] == keys
  for got, key in zip(records, keys, strict=True):
    assert set(got) == set(record.view_features()) | EXTRA
    check(got, truth[key])
    np.testing.assert_allclose(got["intrinsics"][:4], truth[key]["intrinsics"], atol=1e-3)
    assert got["annotation"] == "annot3" and got["reprojection_px"] < 1e-3 and not got["intrinsics"][4:].any()
  first, fast, test = records[0], records[8], records[-2]
  assert (first["subject"], first["action"], first["fps"]) == ("S1", "Seq1", 25)
  assert first["intrinsics_from"] == "calibration"
  assert fast["fps"] == 50 and first["resolution"].tolist() == [2048, 2048]
  assert (test["subject"], test["action"], test["intrinsics_from"]) == ("TS5", "TS5", "table")
  assert test["resolution"].tolist() == [1920, 1080]
  assert 0 < test["valid"].mean() < 1 and set(test["activity"]) == set(range(1, 8))
  made = tracks.make_tracks(records[-2:], tracks.LABELLED, 50)
  assert [track.arrays["valid"].sum() for track in made] == [r["valid"].sum() for r in records[-2:]]


@pytest.mark.parametrize("config, cameras", [("chest", [0, 2, 4, 7, 8]), ("all", list(range(14)))])
def test_a_config_is_a_set_of_cameras(official, data_dir, config, cameras):
  records = load.load(f"mpi_inf_3dhp/{config}", "S8", data_dir=data_dir, manual_dir=official[0])
  assert [int(r["camera"]) for r in records] == 2 * cameras


@pytest.mark.parametrize("suffix, annotation", [("", "univ_annot3"), ("_ori", "annot3")])
def test_processed_npz_come_back_and_reprojection_names_their_annotation(tmp_path, suffix, annotation):
  truth = dummy_data.write_processed(tmp_path, suffix, ["S3/Seq2", "S3/Seq1", "TS6", "TS2"], annotation)
  records = load.load(f"mpi_inf_3dhp/processed{suffix}", "TS2+TS6+S3", data_dir=tmp_path / "data", manual_dir=tmp_path)
  assert [r["sequence"] for r in records] == ["TS2", "TS6"] + 8 * ["S3/Seq1"] + 8 * ["S3/Seq2"]
  for got in records:
    key = got["sequence"], int(got["camera"])
    check(got, truth[key])
    np.testing.assert_allclose(got["intrinsics"][:4], truth[key]["intrinsics"], atol=1e-3)
    assert got["annotation"] == annotation and (got["reprojection_px"] < 1e-3) == (annotation == "annot3")
    assert got["intrinsics_from"] == ("fit" if "/" in key[0] else "table")
  findings = list(prep.inspect(tmp_path))
  assert findings and {f.level for f in findings} == {"warning"}
  missing = [f.what for f in findings if "univ_annot3" not in f.what]
  assert missing == ["S1, S2, S4, S5, S6, S7, S8, TS1, TS3, TS4, TS5 missing"]


def test_a_missing_part_of_train_is_named(official, data_dir, tmp_path):
  load.load("mpi_inf_3dhp/chest", "S1", data_dir=data_dir, manual_dir=official[0])
  with pytest.raises(ValueError, match="'train' of mpi_inf_3dhp/chest needs S2, S3, S4, S5, S6, S7, absent"):
    load.load("mpi_inf_3dhp/chest", "train", data_dir=data_dir)
  dummy_data.write_train(tmp_path, "S4/Seq2")
  with pytest.raises(FileNotFoundError, match="holds no file of mpi_inf_3dhp/processed. Put S1..S8/Seq1,Seq2"):
    load.load("mpi_inf_3dhp/processed", "train", data_dir=tmp_path / "data", manual_dir=tmp_path)
  assert [f.level for f in prep.inspect(tmp_path) if f.what == "S4/Seq1 is missing"] == ["fault"]
  with pytest.raises(ValueError, match="S4/Seq1 is missing and S4/Seq2 is there; fetch the whole subject"):
    load.load("mpi_inf_3dhp/vnect", "S4", data_dir=tmp_path / "data", manual_dir=tmp_path)


def test_the_tables_are_the_published_ones():
  """The valid frames sum to the readme's, and the intrinsics are those of the calibration text, which is in mm."""
  aliases = mpi_inf_3dhp_dataset_builder.MpiInf3dhp.SPLIT_ALIASES
  assert aliases == {"train": "S1+S2+S3+S4+S5+S6+S7+S8", "test": "TS1+TS2+TS3+TS4+TS5+TS6"}
  assert sum(valid for _, valid in TRUE_TEST.values()) == 2929
  for sequence, focal, aspect, offset, sensor in (
      ("TS1", 7.32506, 1.00044, (-0.0322884, 0.0929296), (10, 10)),
      ("TS6", 8.770747185, 0.993236423, (-0.104908645, 0.104899704), (10, 5.625)),
  ):
    size, intrinsics = camera_tables.DHP_TEST_INTRINSICS[sequence]
    px = np.array(size) / sensor  # pixels a millimetre
    expected = [focal * px[0], focal * px[0] * aspect, *(np.array(size) / 2 + offset * px)]
    assert intrinsics[:4] == pytest.approx(expected, abs=1e-3)


def test_univ_annot3_is_found_whatever_its_name(tmp_path):
  for sequence, write in (("S1/Seq1", dummy_data.write_train), ("TS6", dummy_data.write_test)):  # TS6 has two scales
    write(tmp_path, sequence, spoil=lambda c: c.update(annot3=c["univ_annot3"]))
  dummy_data.write_train(tmp_path, "S1/Seq2")
  warnings = {f.where: f.what for f in prep.inspect(tmp_path) if "univ_annot3, not annot3" in f.what}
  assert set(warnings) == {"S1/Seq1", "TS6"} and re.search(r"its 3D projects \d+\.\d px", warnings["S1/Seq1"])
  records = load.load("mpi_inf_3dhp/vnect", "S1+TS6", data_dir=tmp_path / "data", manual_dir=tmp_path)
  assert [r["annotation"] for r in records] == 8 * ["univ_annot3"] + 8 * ["annot3"] + ["univ_annot3"]


def test_a_camera_is_fitted_to_a_track_that_moves():
  rng = np.random.default_rng(0)
  track = rng.uniform([-800, -500, 3000], [800, 900, 6000], (200, 3))
  truth = np.array([1500, 1490, 1010, 1050.0])
  px = truth[:2] * track[:, :2] / track[:, 2:] + truth[2:]
  np.testing.assert_allclose(processed.fit_intrinsics("", px, track), truth, rtol=1e-8)
  noisy = processed.fit_intrinsics("", px + rng.normal(0, 0.3, px.shape), track)
  np.testing.assert_allclose(noisy, truth, atol=1)
  with pytest.raises(Fault, match="stays in its place"):
    processed.fit_intrinsics("", px[:1].repeat(99, 0), track[:1].repeat(99, 0))
  with pytest.raises(Fault, match="no camera projects the pelvis"):
    processed.fit_intrinsics("", px[::-1], track)
