"""A few of the mutated files of `fuzz`: each ends in an answer or in one line."""

import zipfile

import numpy as np
import pytest

from posynda_jax.visuals import pose_sequence
from tests.interop import fuzz
from tests.interop.detector_files import detect
from tests.interop.keypoint_formats import read, write


def test_mutated_files_end_in_an_answer_or_in_one_line(tmp_path):
  found = fuzz.count(fuzz.mutated(80, 7, tmp_path), fuzz.read)
  assert found["wrong"] == [] and set(found["ends"]) <= {"read", "refused"} and sum(found["ends"].values()) == 80


def test_an_archive_whose_offsets_lie_is_refused_by_name(tmp_path):
  path = write("keypoints_scores", tmp_path / "a", detect(3))
  data = bytearray(path.read_bytes())
  entry = data.rindex(b"PK\x01\x02")
  data[entry + 42 : entry + 46] = b"\xff\xff\xff\x7f"  # of the member's header
  path.write_bytes(data)
  with pytest.raises(ValueError, match=f"{path.name}.*fetch it again"):
    read(path)
  data = bytearray(path.read_bytes())
  data[entry : entry + 4] = b"none"  # of the central directory
  path.write_bytes(data)
  with pytest.raises(ValueError, match="damaged zip archive"):
    read(path)


def test_a_locked_npz_of_poses_is_refused_by_name(tmp_path):
  path = tmp_path / "lifted.npz"
  np.savez(path, pose_root_m=np.zeros((3, 17, 3)))
  data = bytearray(path.read_bytes())
  for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    data[data.index(header) + flags] |= 0x41  # strong encryption
  path.write_bytes(data)
  with pytest.raises(ValueError, match="lifted.npz cannot be read"):
    pose_sequence.read_lifted(path)


def test_a_zip_whose_member_has_no_name_is_refused_by_name(tmp_path):
  path = tmp_path / "frames.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a", b"{}")
  data = bytearray(path.read_bytes())
  for header, length in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
    data[data.index(header) + length] = 0
  path.write_bytes(data)
  with pytest.raises(ValueError, match="frames.zip"):
    read(path)
