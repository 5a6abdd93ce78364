"""Keypoint files that are damaged, foreign, huge or hostile: each ends in one line and does no harm."""

import contextlib
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from posynda_jax.data import safe_pickle
from posynda_jax.interop.keypoints import cleaning, detections, folders, formats, json_stream
from tests.data.test_safe_pickle import Payload, object_array
from tests.interop import detector_files as files
from tests.interop.detector_files import COCO17, detect, pick
from tests.interop.keypoint_formats import FORMATS, read, read_one, write

META = {"keypoints_symmetry": [[4, 5, 6, 11, 12, 13], []]}
ALIKE = {"openpose_old", "openpose_coco", "halpe136", "wholebody", "zip"}  # as another


@pytest.mark.parametrize("name", sorted(set(FORMATS) - ALIKE))
def test_a_truncated_file_is_an_error_that_names_it(name, tmp_path):
  path = write(name, tmp_path / name, detect(3))
  whole = path if path.is_file() else sorted(path.iterdir())[0]
  raw = whole.read_bytes()
  for length in (0, 1, len(raw) // 2, len(raw) - 3):
    whole.write_bytes(raw[:length])
    if whole.suffix == ".txt" and length == 0 or whole.suffix in (".txt", ".csv") and length == len(raw) - 3:
      continue  # an empty file is a frame without people; a number that lost digits is still a number
    with pytest.raises(ValueError) as error:
      read(path)
    assert name.partition("_")[0] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_people_says_so(name, tmp_path):
  path = FORMATS[name].write(tmp_path / name, [[], []])
  with pytest.raises(ValueError, match=r"no person|no \.(json|txt) file|no known format") as error:
    read(path)
  assert name in str(error.value) and "\n" not in str(error.value)


def test_a_folder_or_file_of_nothing_known_says_what_is(tmp_path):
  for name, raw, message in (
      ("a.json", b"", "of no known format .*; known formats are videopose3d, "),
      ("b.json", b'{"a": 1}', "of no known format"), ("c.json", b"[1, 2]", "of no known format"),
      ("d.mp4", b"\x00\x00\x00 ftypisom", "of no known format"), ("e.json", b'[{"image_id": "1.jpg"', "breaks off"),
      ("f.json", b"[" * 100_000, "nested too deeply"), ("g.json", b'{"a": "\xff\xff"}', "not text"),
      ("h.json", b'{"version": 1.3, "people": []}{"version": 1.3, "people": []}', "goes on after its end"),
  ):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=message):
      read(tmp_path / name)
  with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
    read(tmp_path / "nowhere")
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="no .json file"):
    read(tmp_path / "empty")
  with pytest.raises(ValueError, match="is a folder, alphapose is a file"):
    read(tmp_path / "empty", format="alphapose")
  write("alphapose", tmp_path / "empty" / "alphapose-results.json", detect(2))
  for words in ("0a1b2c3d", "e4f5a6b7", "9c8d7e6f"):
    (tmp_path / "random").mkdir(exist_ok=True)
    (tmp_path / "random" / f"frame_{words}.json").write_text('{"people": []}')
  with pytest.raises(ValueError, match="whose names hold no frame number .*: rename them as frame_0001.json"):
    read(tmp_path / "random")
  whole = "alphapose-results.json in it is a whole video's alphapose output: give the file itself"
  with pytest.raises(ValueError, match=whole):
    read(tmp_path / "empty")
  (tmp_path / "two").mkdir()
  for video in "ab":
    write("inferencer", tmp_path / "two" / f"{video}.json", detect(2))
  with pytest.raises(ValueError, match="a.json in it is a whole video: give the file itself"):
    read(tmp_path / "two")


@pytest.mark.parametrize("document, form, message", [
    ([{"image_id": "0.jpg", "keypoints": [1.0] * 49}], None, r"frame 0.jpg: keypoints of the wrong form"),
    ([{"image_id": "0.jpg", "keypoints": [1.0] * 27}], None, r"0.jpg has 9 joints, expected 17 \(coco17\), "),
    ([{"image_id": "0.jpg", "keypoints": [1.0] * n} for n in (51, 78)], None, "has 26 joints, expected 17"),
    ([{"image_id": "0.jpg", "keypoints": ["a"] * 51}], None, "keypoints of the wrong form"),
    ([{"image_id": "0.jpg"}], None, "has no 'keypoints'"),
    ([{"image_id": name, "keypoints": [1.0] * 51} for name in ("0.jpg", 3)], None, "or images' names throughout"),
    ([{"image_id": -1, "keypoints": [1.0] * 51}], None, "expected frame numbers from 0"),
    ([{"image_id": i, "keypoints": [9.0] * 51} for i in (0, 5_000_000)], None, "to 5,000,000, at irregular steps: ids"),
    ([{"frame_id": [1], "instances": []}], None, r"frame \[1\]: expected frame numbers from 0"),
    ([{"frame_id": 0, "instances": {}}], None, "has no 'keypoints' but nothing"),
    ([{"frame_id": 0, "instances": [{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1] * 16}]}], None, "wrong form"),
    ({"meta_info": {}}, None, "shows no person"),
    ({"meta_info": {"num_keypoints": 17, "dataset_name": "ap10k"}, "instance_info": []}, None, "17 joints of 'ap10k'"),
    ({"instance_info": [{"frame_id": 0, "instances": []}]}, None, "frame -1: expected frame numbers from 0"),
    ({"version": 1.3, "people": 3}, None, "is a int, expected a list of people"),
    ([[{"x": 0.5}] * 33], None, "has no 'keypoints' but 'x'"),
    ([[{"x": 0.5, "y": 0.5}] * 32], None, "has 32 joints, expected 17"),
    ([{"image_id": "0.jpg", "box": [300.0]}], "openpose", "frame 0.jpg has no 'keypoints' but 'image_id', 'box'"),
])
def test_wrong_shapes_in_json_are_one_line(document, form, message, tmp_path):
  path = tmp_path / "results.json"
  path.write_text(json.dumps(document))
  with pytest.raises(ValueError, match=message) as error:
    read(path, format=form)
  assert "results.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("arrays, options, message", [
    ({"kpts": np.ones((5, 16, 2))}, {}, "has 16 joints, expected 17 \\(coco17\\)"),
    ({"kpts": np.ones((5, 17))}, {}, "frame 0: keypoints of the wrong form"),
    ({"reconstruction": np.ones((5, 17, 3))}, {}, "3D output; give its 2D input"),
    ({"reconstruction": np.ones((0, 5, 17, 2))}, {}, "no person"),
    ({"a": np.ones((5, 17, 2)), "b": np.ones((5, 17, 2))}, {}, "has 2 arrays of keypoints"),
    ({"a": np.ones((5, 17, 2))}, {"layout": None}, r"name its joint order with --layout=coco17\|"),
    ({"a": np.ones((5, 17, 3)) - 3}, {"layout": "coco17"}, "negative numbers where scores are expected: 3D poses"),
    ({"a": np.ones((5, 33, 5))}, {"format": "mediapipe"}, r"expected MediaPipe's \(T, 33, 3 or 4\)"),
    ({"positions_2d": 3, "metadata": {}}, {}, "not VideoPose3D's 2D format"),
    ({"positions_2d": {}, "metadata": {"keypoints_symmetry": [[1], [2]]}}, {}, "do not tell the joint order"),
    ({"boxes": np.zeros(3), "keypoints": np.zeros(2), "metadata": {}}, {}, "not nested as detectron writes it"),
    ({"boxes": np.zeros((2, 1)), "keypoints": np.zeros((2, 1)), "metadata": {}}, {}, "not a Detectron dump of persons"),
    ({"boxes": np.ones((1, 2, 5)), "keypoints": np.ones((1, 2, 17, 4)), "metadata": {}}, {}, r"people \(n, 4, 17"),
    ({"boxes": np.ones(3), "keypoints": np.ones(3)}, {}, "has 0 arrays of keypoints"),
    ({"positions_2d": {"v": {"custom": 3}}, "metadata": META}, {}, "is not nested as videopose3d writes it"),
    ({"positions_2d": {"v": {"custom": [[[1], [2, 3]]]}}, "metadata": META}, {}, "v, frame 0: keypoints of"),
])
def test_wrong_shapes_in_npz_are_one_line(arrays, options, message, tmp_path):
  np.savez(tmp_path / "a.npz", **arrays)
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path / "a.npz", **options)
  assert "\n" not in str(error.value)


def test_yolo_folders_of_mixed_or_foreign_files_are_refused(tmp_path):
  seen = detect(2)
  path = files.write_yolo(tmp_path / "yolo", [[seen[0]], []])
  (path / "walk_2.txt").write_text("0 " + "0.5 " * 56 + "\n")
  with pytest.raises(ValueError, match="has lines of 56 and 57 numbers, expected 5, 17"):
    read(path)
  (path / "walk_1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
  (path / "walk_2.txt").write_text("")
  with pytest.raises(ValueError, match="lines of 5 numbers"):
    read(path)
  (path / "walk_1.txt").write_text("person 0.5\n")
  with pytest.raises(ValueError, match="not lines of numbers"):
    read(path)
  recording = read_one(files.write_yolo(tmp_path / "yolo_2d", [[person] for person in seen], visible=False))
  np.testing.assert_array_equal(recording.record["confidence"], 1)
  untracked = files.write_yolo(tmp_path / "yolo_conf", [[person] for person in seen], conf=True)
  assert read_one(untracked).report["person_id"] is None


@contextlib.contextmanager
def memory():
  """Yields a function that returns the peak of bytes allocated inside."""
  tracemalloc.start()
  yield lambda: tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()


def test_long_files_are_read_in_bounded_memory(tmp_path):
  """The parsed JSON would need 6 MB. The arrays need 0.5 MB, and some copies of them are made."""
  person, length = pick(detect(1)[0], COCO17).round(1), 2_500
  entry = f'"keypoints": {person.ravel().tolist()}, "score": 2.9'
  entries = (f'{{"image_id": "{t}.jpg", {entry}}}' for t in range(length))
  (tmp_path / "long.json").write_text(f"[{','.join(entries)}]")
  np.save(tmp_path / "plain.npy", np.broadcast_to(person.astype(np.float32), (length, 17, 3)))
  for name in ("long.json", "plain.npy"):
    with memory() as peak:
      recording = read_one(tmp_path / name)
    assert recording.record["keypoints_px"].shape == (length, 17, 2) and recording.record["valid"].all()
    assert peak() < 4e6


def test_long_folders_hold_one_file_at_a_time(tmp_path):
  path = write("openpose", tmp_path / "openpose", detect(150))
  with memory() as peak:
    _, found = formats.read(path)
  assert len(found[0].frame) == 150 and peak() < 1.2e6


def test_sizes_are_bounded(tmp_path, monkeypatch):
  path = write("alphapose", tmp_path / "a.json", detect(3))
  folder = write("openpose", tmp_path / "openpose", detect(3))
  wide = tmp_path / "wide.json"
  wide.write_text('[{"image_id": "0.jpg", "keypoints": [' + "1.0, " * 2**19 + "1.0]}]")
  for place, target, name, value, message in (
      (path, json_stream, "MAX_BYTES", 1000, "bytes, more than 1,000: it is refused"),
      (path, json_stream, "MAX_ELEMENTS", 2, "a.json lists more than 2 elements"),
      (path, detections, "MAX_DETECTIONS", 2, "more than 2 detections"),
      (path, cleaning, "MAX_FRAMES", 2, "frames 0 to 2, more than 2"),
      (folder, folders, "MAX_FILES", 2, "more than 2 .json files"),
      (wide, json_stream, "MAX_ELEMENT", 2**20, "one element of more than 1,048,576 bytes"),
  ):
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
      patch.setattr(target, name, value)
      read(place)


def test_an_archive_in_an_archive_is_refused(tmp_path):
  inner = write("zip", tmp_path / "inner.zip", detect(2))
  with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
    archive.write(inner, "inner.zip")
  with pytest.raises(ValueError, match="outer.zip holds another archive, inner.zip: unpack it"):
    read(tmp_path / "outer.zip")


@pytest.mark.parametrize("names, message", [
    (["[Content_Types].xml", "xl/workbook.xml"], "a.zip is a spreadsheet or another office document: save its"),
    (["walk/README.md", "walk/keypoints.csv"], "a.zip has no .json file but README.md, keypoints.csv: give the"),
    ([f"frame_{t}.npz" for t in range(5)], "no .json file but frame_0.npz, .* and 2 more: give one file with"),
])
def test_an_archive_of_other_files_says_what_it_holds_and_what_to_give(names, message, tmp_path):
  with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
    for name in names:
      archive.writestr(name, "a")
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path / "a.zip")
  assert "\n" not in str(error.value)


def test_a_program_in_an_npz_or_npy_does_not_run(tmp_path):
  program = object_array({"a": [Payload(tmp_path / "planted")]})
  np.savez(tmp_path / "a.npz", positions_2d=program, metadata=META)
  np.save(tmp_path / "a.npy", program)
  for name in ("a.npz", "a.npy"):
    with pytest.raises(safe_pickle.Refused, match=rf"{name}.* names (posix|nt)\.mkdir, which is not plain data"):
      read(tmp_path / name)
  assert not (tmp_path / "planted").exists()


def test_json_streams_are_json_whatever_the_chunks(tmp_path, monkeypatch):
  value = [{"a": [1, -2.5e-3, "x,]}\\\"é"], "b": None}, [], 123456789012, True, {"n": {"deep": [[{}]]}}, "\U0001f600"]
  for indent in (None, 1):
    (tmp_path / "a.json").write_text(json.dumps(value, indent=indent), encoding="utf-8-sig")
    for chunk in (1, 2, 7, 1000):
      monkeypatch.setattr(json_stream, "CHUNK", chunk)
      assert list(json_stream.Reader(tmp_path / "a.json").elements()) == value
      assert json_stream.load(tmp_path / "a.json") == value
  (tmp_path / "o.json").write_text(json.dumps({"x": value, "y": 1, "z": {}}))
  reader = json_stream.Reader(tmp_path / "o.json")
  got = {key: list(reader.elements()) if key == "x" else reader.value() for key in reader.members()}
  assert got == {"x": value, "y": 1, "z": {}}


def test_json_numbers_that_are_not_finite_are_null_in_every_chunk_and_text_stays(tmp_path, monkeypatch):
  value = [float("nan"), 1.5, -float("inf"), {"NaNs": "Infinity_NaN1", "b": [float("nan")]}, float("inf")]
  (tmp_path / "a.json").write_text(json.dumps(value))
  for chunk in (1, 2, 3, 5, 1000):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    assert json_stream.load(tmp_path / "a.json") == [None, 1.5, None, {"NaNs": "Infinity_NaN1", "b": [None]}, None]
