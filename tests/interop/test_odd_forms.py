"""Keypoint files in forms that users' own scripts write: each gives its person's joints, or is refused in a line."""

import gzip
import json

import numpy as np
import pytest

from posynda_jax.geometry import layouts
from tests.interop import detector_files as files
from tests.interop.detector_files import COCO17, MEDIAPIPE, H, W, detect, expected, pick
from tests.interop.keypoint_formats import read, read_one

ALL = range(T := 8)
THERE = [0, 1, 2, 5, 6, 7]  # frames of files that number them
NAMES = ["nose", *(f"{side}_{part}" for part in "eye ear shoulder elbow wrist hip knee ankle".split()
                   for side in ("left", "right"))]
MIXED = [16, 3, 5, 0, 12, 9, 14, 1, 8, 2, 15, 4, 10, 7, 13, 6, 11]  # an order of joints
SEEN = detect(T)
COCO = pick(SEEN, COCO17)
SHARES = COCO / [W, H, 1]
MARKS = pick(SEEN, MEDIAPIPE) / [W, H, 1]
POINTS, SCORES = expected(SEEN, "simple")


def check(path, frames=range(T), scores=SCORES, **options):
  """Asserts that the file shows the person in `frames`, in order and place."""
  frames, recording = list(frames), read_one(path, **options)
  assert recording.frames.tolist() == list(ALL) and np.flatnonzero(recording.record["valid"]).tolist() == frames
  np.testing.assert_allclose(recording.record["keypoints_px"][frames], POINTS[frames], atol=1e-3)
  np.testing.assert_allclose(recording.record["confidence"][frames], scores[frames], atol=1e-5)
  return recording


def instance(t):
  return {"keypoints": COCO[t, :, :2].tolist(), "keypoint_scores": COCO[t, :, 2].tolist()}


def points(t, score="score", order=range(17)):
  return [{"x": COCO[t, j, 0], "y": COCO[t, j, 1], score: COCO[t, j, 2], "name": NAMES[j]} for j in order]


def posenet(t):
  parts = [{"part": one["name"], "score": one["score"], "position": one | {"name": 0}} for one in points(t)]
  return {"score": 0.9, "keypoints": parts}


def marks(t, score="visibility"):
  return [{"x": x, "y": y, "z": -0.1, score: s} for x, y, s in MARKS[t].tolist()]


def boxed(t):
  return files.boxed(SEEN[t])


WHOLE = {
    "instances in lists": [[instance(t)] for t in ALL], "predictions": {"predictions": [[instance(t)] for t in ALL]},
    "dump of the inferencer": [{"visualization": [], "predictions": [[instance(t)]]} for t in ALL],
    "an array": COCO.tolist(), "an array with people": COCO[:, None].tolist(),
    "two arrays": {"keypoints": COCO[..., :2].tolist(), "scores": COCO[..., 2].tolist()},
    "two arrays with people": {"scores": COCO[:, None, :, 2].tolist(), "keypoints": COCO[:, None, :, :2].tolist()},
    "numbers as keys": {str(t): [boxed(t)] for t in ALL}, "names as keys": {f"frame_{t}": [instance(t)] for t in ALL},
    "scores of boxes": [{"boxes": [[1, 2, 3, 4]], "scores": [0.9], "keypoints": [COCO[t].tolist()]} for t in ALL],
    "poses": [{"score": 0.9, "keypoints": points(t)} for t in ALL], "landmark": [{"landmark": marks(t)} for t in ALL],
    "lists of poses": [[{"score": 0.9, "keypoints": points(t, order=MIXED)}] for t in ALL],
    "posenet": [posenet(t) for t in ALL], "ml5": [[{"pose": posenet(t), "skeleton": []}] for t in ALL],
    "likelihoods": [points(t, "inFrameLikelihood") for t in ALL], "BlazePose": [marks(t, "score") for t in ALL],
    "landmarks by name": [{one["name"]: one for one in points(t, order=MIXED)} for t in ALL],
    **{f"MediaPipe of {axes}, scores apart": [
        {"landmarks": one[:, :axes].tolist(), "visibility": one[:, 3].tolist()} for one in np.insert(MARKS, 2, -0.1, 2)]
       for axes in (2, 3)},
    "numbers from 0": [[{"part": j} | one | {"name": ""} for j, one in enumerate(points(t))] for t in ALL],
    "words and flags": [[one | {"visible": 2, "c": "red"} for one in points(t, "confidence")] for t in ALL],
    "x and y apart": [
        [{"keypoints": dict(zip(("x", "y", "conf"), COCO[t].T.tolist())), "confidence": 0.9}] for t in ALL],
    "images": [{"image": f"a_{t:03}.jpg", "keypoints": COCO[t].tolist()} for t in ALL],
    "arrays of MediaPipe": [np.insert(MARKS[t], 2, -0.1, 1).tolist() for t in ALL],
    "confidence": {"keypoints": COCO[..., :2].tolist(), "confidence": COCO[..., 2].tolist()},
    "a word in capitals": [points(t, "Confidence", MIXED) for t in ALL],
    "numbers in text": [[{key: str(value) for key, value in one.items()} for one in points(t)] for t in ALL],
    "boxes with x and y": [{"predictions": [{"x": 9, "y": 9, "width": 5, "keypoints": points(t)}]} for t in ALL],
    "a data frame": {"columns": [[NAMES[j], axis] for j in MIXED for axis in ("x", "y", "score")], "index": [*ALL],
                     "data": COCO[:, MIXED].reshape(T, -1).tolist()},
    "a size named columns": {"columns": W, "rows": H, "frames": [[instance(t)] for t in ALL]},
    "a name beside frames": {"p": ["Anna"], "frames": [[instance(t)] for t in ALL]},
    "MediaPipe in percent": [(MARKS[t] * [1, 1, 100]).tolist() for t in ALL],
}
NUMBERED = {
    **{key: [{key: t, "landmarks": marks(t)} for t in THERE] for key in ("frameIndex", "frame_idx", "frame")},
    **{f"{key} {step:g}": [{key: step * t, "pose_landmarks": [marks(t)]} for t in THERE] for key, step in (
        ("timestamp_ms", 40), ("timestamp", 40.04), ("time", 0.04), ("timestamp", 40e3), ("frame", 1.0))},
    "people": [{"frame": t, "people": [{"pose_keypoints_2d": COCO[t].ravel().tolist()}]} for t in THERE],
    "frames": {"frames": [{"frame_id": t, "people": [instance(t)]} for t in THERE], "fps": 25, "width": W, "height": H},
    "persons": [{"frame": t, **boxed(t)} for t in THERE], "instances": [{"frame_id": t} | instance(t) for t in THERE],
    **{f"{name} of people": [
        {"frame": t, "keypoints": both[..., :2].tolist(), name: both[..., 2].tolist()}
        for t in THERE for both in [np.stack([COCO[t], COCO[t] + [600, 0, -0.3]])]] for name in ("scores", "visible")},
    "numbers": [{"frame": t, "keypoints": COCO[t].ravel().tolist()} for t in THERE],
    **{f"{name} beside scores in {joints.ndim}": [
        {"frame": t, "keypoints": joints[t].tolist(), name: beside} for t in THERE]
       for joints in (COCO, COCO.reshape(T, -1)) for name, beside in (
           ("conf", [0.9]), ("visibility", [2] * 17), ("c", ["red"]), ("p", [0]))},
    "a depth camera": [{"frame": t, "keypoints": [one | {"z": 4.3} for one in points(t)]} for t in THERE],
    "a frame of reference": [{"image_id": t, "frame_id": "camera_link"} | instance(t) for t in THERE],
    "a sequence that counts": [{"frame": t, "sequence": t + 7} | instance(t) for t in THERE],
    "time beside the video's image": [{"image": 1, "time": 0.04 * t} | instance(t) for t in THERE],
    "COCO and a neck": [{"frame": t, "keypoints": [*COCO[t].tolist(), COCO[t, 5:7].mean(0).tolist()]} for t in THERE],
    "scores by name": [
        {"frame": t, "keypoints": dict(zip(NAMES, COCO[t, :, :2].tolist())),
         "scores": dict(zip(NAMES, COCO[t, :, 2].tolist()))}
        for t in THERE],
    "torchvision": [
        {"frame": t, "keypoints": np.insert(COCO[t], 2, 1, 1)[:, :3].tolist(),
         "keypoints_scores": COCO[t, :, 2].tolist()} for t in THERE],
    "scores twice": [
        {"frame": t, "keypoints": COCO[t].ravel().tolist(), "scores": COCO[t, :, 2].tolist()} for t in THERE],
    "joints": [{"frame": t} | {NAMES[j]: COCO[t, j].tolist() for j in MIXED} for t in THERE],
    "tf.js": [{"frame": t, "timestamp": 33 * t, "poses": [{"keypoints": points(t)}]} for t in THERE],
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_frame_is_where_it_stands(name, tmp_path):
  check(files.write_json(tmp_path / "a.json", WHOLE[name]))


@pytest.mark.parametrize("name", NUMBERED)
def test_a_frame_is_where_its_number_or_time_says(name, tmp_path):
  path = files.write_json(tmp_path / "a.json", NUMBERED[name])
  found = check(path, THERE, fps=None)
  says = name.startswith("time") or "fps" in NUMBERED[name]
  assert (found.report["fps"], round(float(found.record["fps"]))) == (("read", 25) if says else ("guessed: 30", 30))
  if isinstance(NUMBERED[name], list):
    path.write_text("\n".join(map(json.dumps, NUMBERED[name])) + "\n")  # JSON lines
    check(path, THERE)


@pytest.mark.parametrize("order", [range(17), [0, *(j + 1 if j % 2 else j - 1 for j in range(1, 17))], MIXED])
def test_the_names_in_coco_categories_order_the_joints(order, tmp_path):
  path = files.write_coco_annotations(tmp_path / "a.json", [[person] for person in SEEN])
  document = json.loads(path.read_text())
  for one in document["annotations"]:
    one["keypoints"] = np.reshape(one["keypoints"], (17, 3))[list(order)].ravel().tolist()
  document["categories"] = [{"id": 1, "name": "person", "keypoints": [NAMES[j] for j in order]}]  # after annotations
  check(files.write_json(path, document))


def test_folders_of_ultralytics(tmp_path):
  files.write_yolo(tmp_path / "labels", [[person] for person in SEEN])
  np.testing.assert_allclose(read_one(tmp_path).record["keypoints_px"], POINTS, atol=3e-3)
  (tmp_path / "json").mkdir()
  for t in ALL:
    files.write_json(tmp_path / "json" / f"frame_{t:04}.json", [boxed(t)], indent=2)
  check(tmp_path / "json")


@pytest.mark.parametrize("name", [
    "clip_{t:05}0.json", "IMG_20230501_1230{s:02}_{ms:03}.json", "frame_{s}.{ms:03}s.json", "{t:04}_1_people.json"])
def test_names_with_times_are_one_video_and_even_steps_are_counted(name, tmp_path):
  for t in ALL:
    s, ms = divmod(30_840 + 40 * t, 1000)
    document = {"people": [{"pose_keypoints_2d": COCO[t].ravel().tolist()}]}
    files.write_json(tmp_path / name.format(t=t, s=s, ms=ms), document)
  found = check(tmp_path)
  assert found.record["fps"] == (2.5 if "0.json" in name else 25)
  assert any("frame numbers go up by 10" in one for one in found.report["warnings"]) == ("0.json" in name)


def objects(values) -> np.ndarray:
  found = np.empty(len(values), object)
  found[:] = values
  return found


MARKS4 = np.insert(MARKS, 2, -0.1, 2)
PLAIN = {  # arrays whose layout must be given
    "one person": COCO[:, None], "people first": COCO[None], "MoveNet": SHARES[:, None, None][..., [1, 0, 2]],
    "y, x": SHARES[..., [1, 0, 2]], "shares": SHARES, "flat": COCO.reshape(T, 51),
    "missing frames": objects([COCO[t] if t in THERE else None for t in ALL]),
}
KNOWN = {
    "MotionAGFormer": {"reconstruction": np.concatenate([POINTS, SCORES[..., None]], -1)[None]},
    "MediaPipe, px": {"a": MARKS * [W, H, 1]}, "with z": {"a": MARKS4}, "with z, flat": {"a": MARKS4.reshape(T, 132)},
    "boxes": {"keypoints": COCO[..., :2], "scores": COCO[..., 2], "boxes": np.ones((T, 4))},
    "confidence": {"keypoints": SHARES[..., :2], "confidence": COCO[..., 2]},
    "scores of people": {"keypoints": COCO[..., :2], "keypoint_scores": COCO[..., 2], "scores": np.ones(T)},
    "flags": {"keypoints": COCO[..., :2], "visibility": np.ones((T, 17), bool), "confidence": COCO[..., 2]},
    "scores twice": {"keypoints": COCO[THERE], "scores": COCO[THERE, :, 2], "frames": THERE},
    "numbers": {"keypoints": COCO[THERE, :, :2], "scores": COCO[THERE, :, 2], "frame_ids": np.array(THERE, float)},
    "people come": {"frame_numbers": THERE, **{
        name: objects([np.stack([COCO[t], COCO[t] + [600, 0, -0.3]][: 1 + t % 2])[..., axes] for t in THERE])
        for name, axes in (("keypoints", [0, 1]), ("scores", 2))}},
}


@pytest.mark.parametrize("name", [*PLAIN, *KNOWN])
def test_arrays_of_other_axes_and_names(name, tmp_path):
  np.savez(tmp_path / "a.npz", **KNOWN.get(name, {"a": PLAIN.get(name)}))
  frames = THERE if name in ("missing frames", "scores twice", "numbers", "people come") else ALL
  found = check(tmp_path / "a.npz", frames, layout="coco17" if name in PLAIN else None)
  assert any("as MoveNet" in one for one in found.report["warnings"]) == (name in ("MoveNet", "y, x"))


@pytest.mark.parametrize("beside", [
    {"score": 0.9}, {"score": np.ones(T)}, {"visible": np.ones((T, 17))}, {"c": np.array("coco")}])
def test_arrays_beside_scored_keypoints_are_no_scores(beside, tmp_path):
  np.savez(tmp_path / "a.npz", keypoints=COCO, **beside)
  check(tmp_path / "a.npz", layout="coco17")


@pytest.mark.parametrize("points, is_turned", [
    (np.insert(SHARES[..., [1, 0]], 2, 1, 2), True),
    (np.where(COCO[..., 2:] < 0.4, np.nan, SHARES)[..., 1::-1], False)])
def test_shares_of_two_numbers_are_not_turned(points, is_turned, tmp_path):
  np.save(tmp_path / "a.npy", points)
  warnings = read_one(tmp_path / "a.npy", layout="coco17").report["warnings"]
  assert any("as MoveNet" in one for one in warnings) == is_turned


@pytest.mark.parametrize("arrays", [
    {"kpts": SHARES[..., :2]}, {"reconstruction": POINTS[None] / [W, H]},
    {"positions_2d": {"a": {"custom": [SHARES[..., :2]]}}, "metadata": {"keypoints_symmetry": [[*range(1, 17, 2)]]}}])
def test_px_formats_are_no_shares(arrays, tmp_path):
  np.savez(tmp_path / "a.npz", **arrays)  # from -1 to 1 they would be a person elsewhere
  with pytest.raises(ValueError, match="shares of the image, expected px"):
    read(tmp_path / "a.npz")


@pytest.mark.parametrize("lost", ["neck", "mid_hip"])
def test_a_frame_may_lack_a_joint_by_which_the_layout_is_known(lost, tmp_path):
  frames = [dict(zip(files.BODY25, pick(one, files.BODY25).tolist())) for one in SEEN]
  del frames[1][lost]
  recording = read_one(files.write_json(tmp_path / "a.json", frames))
  np.testing.assert_allclose(recording.record["keypoints_px"][[0, 2]], expected(SEEN, "body25")[0][[0, 2]], atol=1e-3)


@pytest.mark.parametrize("low, high", [(0.5, 5.1), (1.5, 7), (2, 28), (21, 99)])
def test_raw_scores_above_one_are_sure_and_percentages_shares(low, high, tmp_path):
  seen = SEEN.copy()
  seen[..., 2] = np.linspace(low, high, seen.shape[1])
  scores = expected(seen, "simple")[1] / (100 if high == 99 else 1)
  check(files.write_alphapose(tmp_path / "a.json", [[person] for person in seen]), scores=scores.clip(0, 1))


def test_joints_in_another_order_are_refused_and_body25b_is_found():
  body25 = pick(SEEN, files.BODY25)[..., :2]
  body25b = pick(SEEN, [*COCO17, "neck", "head", *files.FEET])[..., :2]
  assert layouts.told_apart(body25, "body25") == "body25" and layouts.told_apart(body25b, "body25") == "body25b"
  kinect = pick(SEEN, ["mid_hip", "neck", "nose", "head", *COCO17[5:11:2], "z1", *COCO17[6:12:2], "z2", *COCO17[11::2],
                       "l_toe", *COCO17[12::2], "r_toe", "neck", "z3", "z4", "z5", "z6"])[..., :2]
  for layout, points in (("body25", kinect), ("coco17", POINTS)):
    with pytest.raises(ValueError, match="a.json has .* joints that lie .* --layout"):
      layouts.told_apart(points, layout, "a.json")
  background = np.concatenate([body25, np.full((T, 1, 2), np.nan)], 1)
  for layout, points, message in (
      ("halpe26", background, "26 joints that lie other"), ("coco18", body25[:, 17::-1], "18 joints that lie other"),
      ("coco17", POINTS[:, [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]], "the left leg comes first")):
    with pytest.raises(ValueError, match=message):
      layouts.told_apart(points, layout)


@pytest.mark.parametrize("document, message", [
    ({"video": "a.mp4", "fps": 3}, r"of no known format \(it begins with '{\"video\": \"a.mp4\".*; known"),
    ([{"box": 3}], "box.*; known"), ([[], "a"], "; known"),
    ([{"frame": t, "keypoints": points(t)[:9] + points(t)[:8]} for t in ALL], "two joints are named"),
    ({"keypoints": [[1, 2], [[1]]]}, "a.json"),
    ([{"time": time, "landmarks": marks(0)} for time in (0, 1, 2, 1e300)], r"time stamps from 0 to 1e\+300"),
    ([{"image_id": t, "keypoints": [500, 500, 0.1] * 17} for t in ALL],
     "no joint .* is seen .*: every score is below 0.2"),
    ((COCO * [1, 1, 4500]).tolist(), "where scores are expected, after x and y: 3D poses"),
    ([[one | {"z": 900 + 20 * j} for j, one in enumerate(points(t, "c"))] for t in ALL], "z of 900 .* 3D poses"),
    (COCO[..., [2, 0, 1]].tolist(), "scores before x and y. put them last"),
    ([{"keypoints": [t, *COCO[t].ravel().tolist()]} for t in ALL], "52 numbers, one more than"),
    (COCO[:, 5:].tolist(), "has 12 joints, expected 17"),
    ([{"sequence": s, "frame": t, "keypoints": COCO[t].tolist()} for t in ALL for s in "ab"], "2 videos .a, b.: keep"),
    ({f"{name}.mp4": [{"keypoints": COCO[t].tolist()} for t in ALL] for name in "ab"}, "2 videos .a.mp4, b.mp4.: keep"),
    (gzip.compress(b"[]"), "a.json is packed by gzip: unpack it"),
])
def test_what_cannot_be_read_says_what_came(document, message, tmp_path):
  (tmp_path / "a.json").write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path / "a.json")
  assert "\n" not in str(error.value) and "a.json" in str(error.value)
