"""Keypoint files whose keys, columns and names of frames nobody laid down: read right, refused, or with a warning."""

import datetime
import json

import numpy as np
import pytest

from tests.interop import detector_files as files
from tests.interop.detector_files import H, W, expected
from tests.interop.keypoint_formats import read, read_one
from tests.interop.test_odd_forms import ALL, COCO, MIXED, NAMES, SCORES, SEEN, THERE, check, points

COLUMNS = [f"{name}_{axis}" for name in NAMES for axis in "xyc"]
OTHER = COCO + [300, 0, 0]  # a second person, or a second video


def write_table(path, head, rows):
  path.write_text("\n".join(",".join(map(str, row)) for row in [head, *rows]))
  return path


@pytest.mark.parametrize("key", [
    "frame_no", "frameNum", "Frame", "frameID", "FRAME-NUMBER", "frame_count", "img_id", "imageIndex", "ts", "t",
    "time_s", "timeSec"])
def test_a_frame_is_found_under_any_name(key, tmp_path):
  step = 0.04 if key.startswith("t") else 1
  document = [{key: step * t, "people": [{"keypoints": COCO[t].tolist()}]} for t in THERE]
  check(files.write_json(tmp_path / "a.json", document), THERE)


@pytest.mark.parametrize("beside", [
    {"frame_count": 12}, {"frame_num": 12}, {"ms": 20.5}, {"time": "2024-05-01T10:00:00.040"}, {"frame": None}])
def test_totals_and_durations_are_no_frames(beside, tmp_path):
  document = [beside | {"frame_id": t, "people": [{"keypoints": COCO[t].tolist()}]} for t in THERE]
  check(files.write_json(tmp_path / "a.json", document), THERE)


PLACES = [5, 0, 7, 2, 1, 6]  # THERE, not in order


@pytest.mark.parametrize("key, name", [
    ("img_path", "frames/{:06}.png"), ("path", "frames/{:06}.png"), ("image", "{:06}"), ("image", "a/frame_{}"),
    ("frame_path", "{}.jpg"), ("img_id", "{}.jpg")])
def test_a_name_of_an_image_is_found_under_any_name_and_sorted_by_its_number(key, name, tmp_path):
  people = [{"name": "Ann", key: name.format(t), "keypoints": COCO[t].tolist()} for t in PLACES]
  found = read_one(files.write_json(tmp_path / "a.json", people))
  np.testing.assert_allclose(found.record["keypoints_px"][THERE], expected(SEEN, "simple")[0][THERE], atol=1e-3)


def test_the_frame_goes_before_the_id_of_the_image(tmp_path):
  people = [{"image_id": 7 - t, "frame": t, "keypoints": COCO[t].ravel().tolist()} for t in THERE]
  check(files.write_json(tmp_path / "a.json", people), THERE)


@pytest.mark.parametrize("form", ["{}", "1 days {}", "2024-05-01T1{}", "2024-05-01 1{}+02:00"])
@pytest.mark.parametrize("kind", ["entries", "keys", "table", "array"])
def test_times_as_text_are_frames_with_their_rate(form, kind, tmp_path):
  times = [datetime.timedelta(microseconds=40_000 * (t + 20)) for t in THERE]  # the full second has no decimals
  times, rows = [form.format(time) for time in times], COCO[THERE]
  if kind == "table":
    path = write_table(tmp_path / "a.csv", ["time", *COLUMNS], [[time, *row.ravel()] for time, row in zip(times, rows)])
  elif kind == "array":
    np.savez(path := tmp_path / "a.npz", keypoints=rows[..., :2], scores=rows[..., 2], timestamps=np.array(times))
  else:
    entries = [{"keypoints": row.tolist()} for row in rows]
    path = files.write_json(tmp_path / "a.json", dict(zip(times, entries)) if kind == "keys" else [
        {"time": time} | entry for time, entry in zip(times, entries)])
  assert check(path, THERE, fps=None).record["fps"] == pytest.approx(25, rel=1e-5)


@pytest.mark.parametrize("names", [np.array, lambda names: np.array(names, "S"), lambda names: np.array(names, object)])
def test_names_of_images_in_an_array_number_its_rows(names, tmp_path):
  order = sorted(ALL, key=lambda t: f"{t + 8}.jpg")  # 10.jpg before 8.jpg
  imgname = names([f"walk/{t + 8}.jpg" for t in order])
  np.savez(tmp_path / "a.npz", keypoints=COCO[order][..., :2], scores=COCO[order][..., 2], imgname=imgname)
  found = read_one(tmp_path / "a.npz")
  np.testing.assert_allclose(found.record["keypoints_px"], expected(SEEN, "simple")[0], atol=1e-3)
  np.savez(tmp_path / "b.npz", keypoints=COCO, imgname=np.array([f"{v}/{t}.jpg" for v in "ab" for t in range(4)]))
  assert [one.report["sequence"] for one in read(tmp_path / "b.npz", layout="coco17")] == ["a", "b"]


def test_names_without_a_frame_number_follow_the_list_or_the_ids_and_are_said(tmp_path):
  names = [f"{word}.jpg" for word in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")]
  people = [{"image": name, "keypoints": COCO[t].tolist()} for t, name in enumerate(names)]
  found = check(files.write_json(tmp_path / "a.json", people))
  assert any("hold no frame number" in one for one in found.report["warnings"])
  path = files.write_coco_annotations(tmp_path / "b.json", [[person] for person in SEEN])
  document = json.loads(path.read_text())
  for image, name in zip(sorted(document["images"], key=lambda image: image["id"]), names, strict=True):
    image["file_name"] = name
  document["images"] = document["images"][::-1]
  found = read_one(files.write_json(path, document))
  np.testing.assert_allclose(found.record["keypoints_px"], expected(SEEN, "simple")[0], atol=1e-3)


@pytest.mark.parametrize("times", [[0.03, 0.02, 0.025] * 3, [0] * 9, [20, 21, 20] * 3])
def test_times_that_do_not_go_up_are_durations(times, tmp_path):
  np.savez(tmp_path / "a.npz", keypoints=COCO[..., :2], scores=COCO[..., 2], times=np.array(times)[: len(COCO)])
  check(tmp_path / "a.npz")


@pytest.mark.parametrize("numbers", [
    {"timestamps": np.array(THERE) / 25}, {"time": np.array(THERE) * 40}, {"frame_nums": THERE}, {"image_ids": THERE}])
def test_an_array_of_frames_or_times_is_found_under_any_name(numbers, tmp_path):
  np.savez(tmp_path / "a.npz", keypoints=COCO[THERE][..., :2], scores=COCO[THERE][..., 2], **numbers)
  found = check(tmp_path / "a.npz", THERE, fps=None)
  assert found.record["fps"] == pytest.approx(25 if "time" in next(iter(numbers)) else 30)


@pytest.mark.parametrize("key", ["track_id", "id", "id_", "instance_id", "trackId", "personID", "tid", "attributes"])
def test_a_persons_number_is_found_under_any_name(key, tmp_path):
  places = [(COCO[t], OTHER[t]) for t in ALL]
  if key == "attributes":
    document = {
        "images": [{"id": t, "width": W, "height": H, "file_name": f"{t:06}.png"} for t in ALL],
        "annotations": [{"id": 2 * t + i, "image_id": t, key: {"track_id": i}, "keypoints": one.ravel().tolist()}
                        for t in ALL for i, one in enumerate(places[t])]}
  else:
    document = [[{key: i, "keypoints": one.tolist()} for i, one in enumerate(places[t])] for t in ALL]
  found = read_one(files.write_json(tmp_path / "a.json", document), person="0")
  assert found.report["person_id"] in (0, 1) and found.report["num_people"] == 2


@pytest.mark.parametrize("key", ["label", "joint", "id", "type"])
def test_a_joint_is_found_under_any_name(key, tmp_path):
  people = [[{key: f"PoseLandmark.{one['name'].upper()}"} | {axis: one[axis] for axis in ("x", "y", "score")}
             for one in points(t, order=MIXED)] for t in ALL]
  check(files.write_json(tmp_path / "a.json", [{"frame": t, "keypoints": people[t]} for t in ALL]))


@pytest.mark.parametrize("name", ["{side}.{part}", "{part}.{S}", "Skeleton.{side}_{part}", "{side}{Part}"])
def test_dots_and_prefixes_in_names_of_joints_are_understood(name, tmp_path):
  def spelt(full):
    side, _, part = full.rpartition("_")
    return name.format(side=side, part=part, Part=part.title(), S=side[:1].upper()) if side else full

  people = [[one | {"name": spelt(one["name"]), "label": "person"} for one in points(t, order=MIXED)] for t in ALL]
  if name.startswith("Skeleton"):
    people = [[one | {"name": f"Skeleton.{one['name'].split('.')[-1]}"} for one in its] for its in people]
  check(files.write_json(tmp_path / "a.json", [{"frame": t, "keypoints": people[t]} for t in ALL]))


MIXED_NAMES = [NAMES[j] for j in MIXED]
MIXED_COCO = [{"frame": t, "keypoints": COCO[t, MIXED].tolist()} for t in ALL]
LISTED = {  # people whose joints' names are listed once
    "before": {"keypoint_names": MIXED_NAMES, "frames": MIXED_COCO},
    "after": {"frames": MIXED_COCO, "joint_names": [], "keypoint_names": MIXED_NAMES},
    "flat": {"joint_names": MIXED_NAMES, "frames": [
        {"frame": t, "keypoints": COCO[t, MIXED].ravel().tolist()} for t in ALL]},
    "scores apart": {"keypoint_names": MIXED_NAMES, "frames": [
        {"frame": t, "keypoints": COCO[t, MIXED, :2].tolist(), "scores": COCO[t, MIXED, 2].tolist()} for t in ALL]},
    "in each frame": {"frames": [one | {"keypoint_names": MIXED_NAMES} for one in MIXED_COCO]},
}


@pytest.mark.parametrize("name", LISTED)
def test_names_of_joints_that_are_listed_once_order_them(name, tmp_path):
  check(files.write_json(tmp_path / "a.json", LISTED[name]))


def test_names_of_joints_in_an_array_order_them_and_3d_is_still_refused(tmp_path):
  np.savez(tmp_path / "a.npz", keypoints=COCO[:, MIXED, :2], scores=COCO[:, MIXED, 2], keypoint_names=MIXED_NAMES)
  check(tmp_path / "a.npz")
  deep = np.insert(COCO[..., :2], 2, -0.1, 2)
  np.savez(tmp_path / "a.npz", keypoints=deep, scores=COCO[..., 2], keypoint_names=NAMES)
  with pytest.raises(ValueError, match="3D poses"):
    read_one(tmp_path / "a.npz")


@pytest.mark.parametrize("pattern", ["pose_{}_{}", "{}_pos_{}", "skel.{}_2d_{}"])
def test_words_that_all_columns_share_are_no_part_of_a_joints_name(pattern, tmp_path):
  head = ["frame", *(pattern.format(NAMES[j], axis) for j in MIXED for axis in "xyc")]
  check(write_table(tmp_path / "a.csv", head, [[t, *COCO[t, MIXED].ravel()] for t in ALL]))


def test_unknown_names_of_joints_are_said(tmp_path):
  people = [{"frame": t, "keypoints": [
      one | {"name": "abcdefghijklmnopq"[j]} for j, one in enumerate(points(t))]} for t in ALL]
  found = check(files.write_json(tmp_path / "a.json", people))
  assert any("unknown names ('a', 'b', 'c', 'd', ...): their order counts" in one for one in found.report["warnings"])


def test_a_box_beside_numbered_joints_is_no_joint(tmp_path):
  joints = [f"kpt{j}_{axis}" for j in range(17) for axis in ("x", "y", "conf")]
  head = ["frame", "track_id", "x1", "y1", "x2", "y2", *joints]
  check(write_table(tmp_path / "a.csv", head, [[t, 1, 10, 10, 90, 90, *COCO[t].ravel()] for t in ALL]))


def test_a_first_number_that_counts_the_joints_is_none_of_theirs(tmp_path):
  rows = [[[j, *COCO[t, j, :2].tolist()] for j in range(17)] for t in ALL]
  seen = np.ones_like(SCORES)
  check(files.write_json(tmp_path / "a.json", rows), scores=seen)
  scored = [[[j, *COCO[t, j].tolist()] for j in range(17)] for t in ALL]
  check(files.write_json(tmp_path / "a.json", scored))
  np.save(tmp_path / "a.npy", scored)
  check(tmp_path / "a.npy", layout="coco17")
  np.save(tmp_path / "a.npy", rows)
  check(tmp_path / "a.npy", scores=seen, layout="coco17")


SMALL = (COCO * [1 / 3, 1 / 3, 1]).tolist()


@pytest.mark.parametrize("document", [
    [{"frame": t, "width": W / 3, "height": H / 3, "people": [{"keypoints": SMALL[t]}]} for t in ALL],
    {"video_info": {"width": W / 3, "height": H / 3}, "frames": [{"people": [{"keypoints": one}]} for one in SMALL]},
    {"image_width": W / 3, "image_height": H / 3, "frames": [{"people": [{"keypoints": one}]} for one in SMALL]},
])
def test_the_size_that_a_file_states_counts(document, tmp_path):
  with pytest.raises(ValueError, match="by its own metadata"):
    read(files.write_json(tmp_path / "a.json", document))


def test_a_networks_input_is_not_the_videos_size(tmp_path):
  document = [{"frame": t, "width": W / 4, "height": H / 4, "people": [{"keypoints": COCO[t].tolist()}]} for t in ALL]
  check(files.write_json(tmp_path / "a.json", document))


def test_facts_beside_the_people_are_not_theirs(tmp_path):
  document = {"metadata": {"joints": 17, "frame_count": 300, "id": 4, "fps": 25}, "frames": [
      {"people": [{"keypoints": COCO[t].tolist()}]} for t in ALL]}
  assert check(files.write_json(tmp_path / "a.json", document)).report["person_id"] is None


def test_videos_that_names_of_images_tell_apart_are_two(tmp_path):
  document = [{"image_id": f"{v}_{t:03}.jpg", "video": v, "keypoints": one[t].ravel().tolist(), "score": 1.0}
              for v, one in (("run", COCO), ("walk", OTHER)) for t in ALL]
  assert len(read(files.write_json(tmp_path / "a.json", document))) == 2


@pytest.mark.parametrize("rows, message", [
    ([[f"{v}.mp4", t, *one[t].ravel()] for v, one in (("a", COCO), ("b", OTHER)) for t in ALL], "keep the rows of one"),
    ([["a.mp4", t, *(COCO[t] * [100 / W, 100 / H, 1]).ravel()] for t in ALL], "percentages of the image"),
    ([[v, f"{t}.jpg", *one[t].ravel()] for v, one in (("a", COCO), ("b", OTHER)) for t in ALL], "keep the rows of one"),
    ([["a.mp4", 0, *COCO[t].ravel()] for t in ALL], "8 people at one place in frame 0: are they frames"),
])
def test_a_table_of_videos_of_percentages_and_of_one_time_is_refused(rows, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    read(write_table(tmp_path / "a.csv", ["video", "frame", *COLUMNS], rows))


@pytest.mark.parametrize("document", [
    [{"video": v, "frame": t, "keypoints": one[t].tolist()} for v, one in (("a", COCO), ("b", OTHER)) for t in ALL],
    {"1": COCO.tolist(), "2": OTHER.tolist()}, [{"track_id": i, "keypoints": COCO.tolist()} for i in (1, 2)],
])
def test_frames_that_stand_where_people_are_expected_are_refused(document, tmp_path):
  with pytest.raises(ValueError, match="names 2 videos|people at one place"):
    read(files.write_json(tmp_path / "a.json", document))


def test_frames_that_start_again_and_a_person_in_one_corner_are_said(tmp_path):
  twice = [[t, *one[t].ravel()] for one in (COCO, OTHER) for t in ALL]
  (first, *_) = read(write_table(tmp_path / "a.csv", ["frame", *COLUMNS], twice))
  assert any("start again at 0" in one for one in first.report["warnings"])
  np.savez(tmp_path / "a.npz", keypoints=COCO[..., :2] / 4, scores=COCO[..., 2])
  assert any("upper left quarter" in one for one in read_one(tmp_path / "a.npz").report["warnings"])
  np.savez(tmp_path / "a.npz", keypoints=COCO[..., :2] / [W, H], scores=COCO[..., 2])
  assert any("read as shares" in one for one in check(tmp_path / "a.npz").report["warnings"])
