"""Videos: frames upright and on time, BlazePose's geometry, people tracked. Drawings stand in for the networks."""

import fractions
import sys
import types

import numpy as np
import pytest

from posynda_jax.geometry import layouts
from posynda_jax.interop.keypoints import recordings
from posynda_jax.interop.video import blazepose, detection, models, reader
from posynda_jax.interop.video.blazepose import Found, Region

av = pytest.importorskip("av", reason="av is not installed: pip install -r requirements.txt")
SIZE, RATE, FRAMES = (160, 120), 30, 40  # width and height
BASE = 15360


def centre(t: float) -> np.ndarray:
  """Where the bright square of the videos stands (px) at frame t."""
  return np.array([40 + 1.5 * t, 60 + 10 * np.sin(t / 6)])


def picture(t: float, size=SIZE) -> np.ndarray:
  x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
  away = np.maximum(np.abs(x - centre(t)[0]), np.abs(y - centre(t)[1]))
  return np.repeat((235 * np.clip(9 - away, 0, 1))[..., None], 3, -1).astype(np.uint8)


def write(path, times, rotation: int = 0):
  """An mp4 of the pictures at the given frame times; turned by `rotation` degrees, with metadata that turn it back."""
  with av.open(str(path), "w") as container:
    stream = container.add_stream("mpeg4", rate=RATE, options={"qscale": "2"})
    turned = rotation % 180 != 0
    stream.width, stream.height = SIZE[::-1] if turned else SIZE
    stream.pix_fmt, stream.codec_context.time_base = "yuv420p", fractions.Fraction(1, BASE)
    if rotation:
      stream.set_display_rotation(rotation) if hasattr(stream, "set_display_rotation") else pytest.skip(
          "this PyAV cannot write a rotation")
    for t in times:
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture(t), -rotation // 90)), format="rgb24")
      frame.pts, frame.time_base = round(t / RATE * BASE), fractions.Fraction(1, BASE)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return path


class Drawn:
  """Stands in for BlazePose: one person, whose joints surround the bright square."""

  def find(self, image):
    found = self.locate(image, None)
    return [found.region] if found else []

  def locate(self, image, region):
    y, x = np.nonzero(image[..., 0] > 128)
    if not len(x):
      return None
    middle = np.array([x.mean(), y.mean()]) + 0.5
    joints = np.concatenate([middle + np.linspace(-20, 20, 33)[:, None] * [0.3, 1], np.full((33, 1), 0.9)], -1)
    return Found(joints, np.zeros((33, 3)), Region.around(middle, middle - [0, 25]))


def middles(found) -> np.ndarray:
  return found.points.mean(1)


def test_a_video_is_read_with_its_size_rate_and_times(tmp_path):
  path = write(tmp_path / "a.mp4", range(FRAMES))
  info = reader.probe(path)
  assert info.resolution == SIZE and info.fps == pytest.approx(RATE) and info.num_frames == FRAMES
  times, images = zip(*reader.frames(path))
  np.testing.assert_allclose(times, np.arange(FRAMES) / RATE, atol=1e-3)
  assert all(image.shape == (SIZE[1], SIZE[0], 3) for image in images)
  for shown, t in zip(reader.pictures(path, [5 / RATE, 31 / RATE]), (5, 31)):
    np.testing.assert_array_equal(shown, images[t])


def test_the_person_of_a_video_is_detected_in_every_frame_and_read_again_as_keypoints(tmp_path):
  found = detection.detect(write(tmp_path / "a.mp4", range(FRAMES)), Drawn())
  np.testing.assert_allclose(middles(found), [centre(t) for t in range(FRAMES)], atol=1)
  assert found.fps == pytest.approx(RATE) and found.resolution == SIZE and set(found.person) == {0}
  detection.save(tmp_path / "a_2d.npz", found)
  (recording,) = recordings.read(tmp_path / "a_2d.npz", recordings.Options())
  assert recording.report["format"] == "keypoints_scores" and recording.report["layout"] == "mediapipe33"
  assert recording.record["fps"] == pytest.approx(RATE) and recording.record["resolution"].tolist() == list(SIZE)
  assert recording.record["valid"].all() and len(recording.frames) == FRAMES


def test_a_variable_rate_gives_the_same_motion(tmp_path):
  times = [t for t in range(FRAMES) if t % 7 not in (3, 4)]  # a phone that drops frames
  found = detection.detect(write(tmp_path / "a.mp4", times), Drawn())
  assert found.fps == pytest.approx(RATE, rel=1e-3)
  assert found.frame.tolist() == list(range(found.frame[-1] + 1)) and len(found.frame) >= FRAMES - 2
  np.testing.assert_allclose(middles(found), [centre(t) for t in found.frame], atol=1.5)


def test_a_frame_between_exchanged_sides_is_one_of_the_two():
  """A person walks to the right; from frame 10 on left and right are exchanged, and every fourth frame is dropped."""
  coco = layouts.COCO["coco17"]
  mirrored = np.array([0, *np.arange(1, 17).reshape(-1, 2)[:, ::-1].ravel()])
  standing = np.stack([np.where(np.arange(17) % 2, 20.0, -20.0), np.arange(17.0)], -1)
  walk = np.concatenate([standing + [[[t, 0]] for t in range(16)], np.full((16, 17, 1), 0.9)], -1)
  seen = np.array([t for t in range(16) if t % 4 != 2])
  joints = np.stack([walk[t][mirrored] if t >= 10 else walk[t] for t in seen])
  frame, _, found, fps = detection.even(seen / 30, np.arange(len(seen)), np.zeros(len(seen), int), joints, coco)
  assert fps == pytest.approx(30) and frame.tolist() == list(range(16))
  either = np.stack([walk, walk[:, mirrored]])
  off = np.abs(found - either)[..., 0].max(-1)  # labelling, frame
  assert off.min(0).max() <= 1 and off[0, :10].max() < 1e-6 and off[1, 11:].max() < 1e-6


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_is_turned_upright(rotation, tmp_path):
  path = write(tmp_path / "a.mp4", range(6), rotation)
  assert reader.probe(path).resolution == SIZE
  found = detection.detect(path, Drawn())
  np.testing.assert_allclose(middles(found), [centre(t) for t in range(6)], atol=1)


def test_people_come_and_go_and_keep_their_numbers():
  class Crowd(Drawn):
    """Two people: a red square and a green one."""

    def everybody(self, image):
      found = [super(Crowd, self).locate(image[..., channel:], None) for channel in (0, 1)]
      return [one for one in found if one]

    def find(self, image):
      return [one.region for one in self.everybody(image)]

    def locate(self, image, region):
      near = [one for one in self.everybody(image) if np.linalg.norm(one.region.centre - region.centre) < 20]
      return near[0] if near else None

  images = []
  for t in range(50):
    image = np.zeros((120, 300, 3), np.uint8)
    image[40:80, 20 + t : 40 + t, 0] = 255 * (t < 30)
    image[40:80, 250 - t : 270 - t, 1] = 255 * (t >= 12)
    images.append((t / 30, image))
  _, rows = detection.track(images, Crowd())
  frames = {number: [t for t, who, _ in rows if who == number] for number in {who for _, who, _ in rows}}
  assert frames == {0: list(range(30)), 1: list(range(20, 50))}  # new people are looked for every ten frames


def test_a_region_and_its_crop_are_the_persons_own_frame():
  image = np.zeros((100, 200, 3), np.uint8)
  image[30:50, 120:160] = 200  # hips at its left end, head at its right: a person who lies
  region = Region.around(np.array([120.0, 40.0]), np.array([160.0, 40.0]))
  assert region.side == pytest.approx(100) and np.degrees(region.angle) == pytest.approx(90)
  upright = blazepose.crop(image, region, 50)
  y, x = np.nonzero(upright[..., 0] > 0.4)
  assert (x.min(), x.max()) == (20, 29) and (y.min(), y.max()) == (5, 24)  # above the middle: the head is up
  np.testing.assert_allclose(region.to_image(np.array([[0.5, 0.5], [0.5, 0.1]])), [[120, 40], [160, 40]], atol=1e-6)
  assert not blazepose.crop(image, Region(np.array([-500.0, 0.0]), 50.0, 0.3), 8).any()
  image[:, ::2], image[:, 1::2] = 255, 0
  np.testing.assert_allclose(blazepose.crop(image, Region(np.array([100.3, 50.1]), 60.0, 0.2), 15), 0.5, atol=0.01)


def test_regions_that_nearly_coincide_are_one_on_the_grid_and_none_moves_far():
  def numbers(region):
    return np.array([*region.centre, region.side, region.angle])

  rng, same = np.random.default_rng(0), []
  for centre, side in zip(rng.uniform(0, 2000, (500, 2)), np.exp(rng.uniform(4, 7, 500))):
    angle = rng.uniform(-3, 3)
    grid = Region(centre, side, angle).on_grid()
    assert np.abs(grid.centre - centre).max() < 0.06 * side and 0.95 < grid.side / side < 1.05
    assert abs(grid.angle - angle) < 0.1
    np.testing.assert_allclose(numbers(grid.on_grid()), numbers(grid))
    near = Region(centre + 0.003 * side, 1.003 * side, angle + 0.003).on_grid()
    same.append((numbers(near) == numbers(grid)).all())
  assert np.mean(same) > 0.75
  assert Region(np.zeros(2), 0.0, 0.0).on_grid().side == 1


def test_the_anchors_and_the_merging_of_boxes():
  anchors = blazepose._anchors()
  assert anchors.shape == (2254, 2)
  np.testing.assert_allclose([anchors.min(), anchors.max()], [4 / 224, 220 / 224])
  values = np.tile([[0.5, 0.5], [0.2, 0.4], *[[0.5, 0.5]] * 4], (3, 1, 1))
  values[1, :, 0] += 0.02
  values[2, 0] = 0.1
  one, other = blazepose._merge(values, np.array([0.9, 0.3, 0.6]))
  np.testing.assert_allclose(one[0], [0.505, 0.5])  # weighted by score
  np.testing.assert_allclose(other[0], [0.1, 0.1])


def test_a_landmark_moves_to_its_heat():
  heat = np.full((64, 64, 39), -9.0)
  heat[20:23, 30:33, 0] = 5.0
  heat[20:23, 30:33, 1] = -1.0  # unsure
  points = np.full((39, 2), [31.9 / 64, 22.5 / 64])
  refined = blazepose._refine(points, heat)
  np.testing.assert_allclose(refined[0], [31 / 64, 21 / 64], atol=1e-3)
  np.testing.assert_array_equal(refined[1:], points[1:])


def test_what_is_no_video_or_shows_nobody_is_one_line(tmp_path):
  (tmp_path / "text.mp4").write_text("no video")
  whole = write(tmp_path / "a.mp4", range(20)).read_bytes()
  (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
  for name in ("text.mp4", "cut.mp4"):
    with pytest.raises(ValueError, match=f"{name} .*") as error:
      reader.probe(tmp_path / name)
    assert "\n" not in str(error.value)
  with pytest.raises(FileNotFoundError, match="none.mp4 does not exist"):
    reader.probe(tmp_path / "none.mp4")
  with pytest.raises(ValueError, match="empty.mp4 shows nobody in any of 5 frames"):
    detection.detect(write(tmp_path / "empty.mp4", [900 + t for t in range(5)]), Drawn())
  with pytest.raises(ValueError, match="pose_detection.tflite does not exist: python -m data_prep.detector"):
    blazepose.BlazePose(tmp_path)


def test_models_are_taken_from_a_folder_or_wheel_that_has_them(tmp_path):
  for name in ("pose_detection.tflite", "pose_landmark_lite.tflite", "other.tflite"):
    (tmp_path / "deep").mkdir(exist_ok=True)
    (tmp_path / "deep" / name).write_bytes(name.encode())
  assert sorted(models.read_models(tmp_path)) == ["pose_detection.tflite", "pose_landmark_lite.tflite"]
  (tmp_path / "deep" / "pose_landmark_lite.tflite").unlink()
  with pytest.raises(ValueError, match=r"has pose_detection.tflite, expected pose_detection.tflite and pose_landmark"):
    models.read_models(tmp_path)
  (tmp_path / "more" / "package").mkdir(parents=True)
  (tmp_path / "more" / "package" / "pose_landmark_heavy.tflite").write_bytes(b"heavy")
  assert sorted(models.read_models(tmp_path / "deep", tmp_path / "more")) == [
      "pose_detection.tflite", "pose_landmark_heavy.tflite"]
  with pytest.raises(ValueError, match="pose_detection.tflite has SHA-256 .*, expected 9ba9dd3d"):
    models.check("pose_detection.tflite", b"any")
  (tmp_path / "a.whl").write_bytes(b"PK")
  with pytest.raises(ValueError, match="a.whl is no wheel"):
    models.read_models(tmp_path / "a.whl")


def test_rtmlib_sees_each_image_and_people_are_tracked(tmp_path, monkeypatch):
  """A module of rtmlib's interface (0.0.16) stands in for it: boxes [n 4], then joints [n 17 2] and scores [n 17]."""

  class Body:
    def __init__(self, mode="balanced"):
      self.mode = mode

    def det_model(self, image):
      y, x = np.nonzero(image[..., 2] > 128)  # red is last
      return np.array([[x.min(), y.min(), x.max(), y.max()]] if len(x) else []).reshape(-1, 4)

    def pose_model(self, image, bboxes):
      assert len(bboxes), "rtmlib takes the whole image where no box is given"
      middle = (bboxes[:, None, :2] + bboxes[:, None, 2:]) / 2 + 0.5
      return middle + np.linspace(-20, 20, 17)[:, None] * [0.3, 1], np.full((len(bboxes), 17), 0.9)

  monkeypatch.setitem(sys.modules, "rtmlib", types.SimpleNamespace(Body=Body))
  found = detection.detect(write(tmp_path / "a.mp4", range(FRAMES)), detection.load("rtmlib"))
  np.testing.assert_allclose(middles(found), [centre(t) for t in range(FRAMES)], atol=1)
  assert found.layout == "coco17" and set(found.person) == {0}
  with pytest.raises(ValueError, match="shows nobody"):
    detection.detect(write(tmp_path / "empty.mp4", [900 + t for t in range(5)]), detection.load("rtmlib:lightweight"))
  with pytest.raises(ValueError, match="none has no yolox.*expected one yolox.*or one of rtmlib's modes: lightweight"):
    detection.load(f"rtmlib:{tmp_path / 'none'}")
  monkeypatch.setitem(sys.modules, "rtmlib", None)
  with pytest.raises(ValueError, match="needs rtmlib, which cannot be imported .*: pip install rtmlib"):
    detection.load("rtmlib")
