"""Frame numbers of names and of numbers that a detector wrote."""

import uuid

import numpy as np
import pytest

from posynda_jax.interop.keypoints import numbering

UUIDS = [str(uuid.UUID(bytes=np.random.default_rng(i).bytes(16))) for i in range(30)]


@pytest.mark.parametrize("names, frames", [
    ([f"clip.v2_{i}.txt" for i in (1, 2, 10)], [1, 2, 10]),  # not padded, a dot before
    ([f"cam1.{i:04}.json" for i in (440, 441, 450)], [440, 441, 450]),
    ([f"walk_{i}_cam2.png" for i in range(3)], [0, 1, 2]),
    ([f"2024-01-02_{i:05}_keypoints.json" for i in (7, 8)], [7, 8]),
    ([f"img_{i:04}_t{i / 30:.2f}.png" for i in range(40)], list(range(40))),  # a time beside the frame
    (["0.jpg", "1.jpg", "10.jpg"], [0, 1, 10]),
    ([f"walk_{i:04}_jpg.rf.{i * 7919:032x}.jpg" for i in (3, 4, 9)], [3, 4, 9]),  # Roboflow
    ([f"data/{word[:8]}-frame_{i:04}.jpg" for i, word in enumerate(UUIDS)], list(range(30))),  # Label Studio
    *(([form.format(word, i) for i, word in enumerate(UUIDS)], list(range(30))) for form in (
        "{}_{}.jpg", "frame{1}-{0}.png")),
    ([f"face{i:04}.jpg" for i in range(3, 9)], list(range(3, 9))),  # hex digits, but not random
    ([f"frame_{i:04x}.jpg" for i in range(150, 180)], list(range(150, 180))),  # counts in base 16
    ([f"frame{i:x}.jpg" for i in range(5, 40)], list(range(5, 40))),
])
def test_the_number_that_varies_is_the_frame(names, frames):
  assert numbering.videos(names[::-1]) == {"": dict(zip(names, frames))}


def test_names_without_a_number_of_their_own_follow_their_order():
  for names in (["b.jpg", "a.jpg", "c.jpg"], ["clip_2.jpg", f"{10**30}.jpg"], [f"{word}.jpg" for word in UUIDS],
                [word.replace("-", "") for word in UUIDS], [f"frame_{word[:8]}.png" for word in UUIDS]):
    assert numbering.videos(names) == {"": {name: i for i, name in enumerate(names)}}
    assert numbering.have_numbers(names) == (names[0] == "clip_2.jpg")
  names = [f"{i:04}_{word[:5]}.jpg" for i, word in enumerate(UUIDS)]
  assert numbering.videos(names[::-1])[""] == {name: i for i, name in enumerate(names)}  # these have one


@pytest.mark.parametrize("names, videos", [
    ([f"{v}_{i:012}_keypoints.json" for v in "ab" for i in range(3)], ["a", "b"]),
    ([f"{v}{i}.jpg" for v in "ab" for i in range(10)], ["a", "b"]),  # not in base 16
    ([f"v{v}_{i:03}_cam2.json" for v in (1, 2) for i in range(3)], ["v1__cam2", "v2__cam2"]),
    ([f"cam{v}/{i:03}.png" for v in (1, 2) for i in range(3)], ["cam1", "cam2"]),
    ([f"{v}/{i:03}.jpg" for v in ("run", "walk") for i in range(3)], ["run", "walk"]),
    ([f"part{i // 3}/{i:03}.png" for i in range(6)], [""]),  # one video in two folders
])
def test_names_that_differ_elsewhere_are_of_several_videos(names, videos):
  found = numbering.videos(names)
  assert list(found) == videos
  assert sorted(name for frames in found.values() for name in frames) == sorted(names)


@pytest.mark.parametrize("names", [
    [f"2023-05-01_12-30-{s:02}.{ms:03}_keypoints.json" for s, ms in ((45, 933), (45, 966), (45, 999), (46, 32))],
    [f"frame_{t / 30:.2f}s.json" for t in range(20, 50)],
    [str(t / 25) for t in range(40)], [f"frame_{round(t / 30, 3)}.json" for t in range(40)],  # 0.2 before 0.04
    [f"A001_01_00_{t // 25:02}_{t % 25:02}.json" for t in range(20, 60)],  # time code
    [f"{t // 50}.{t % 50 * 20:03}.json" for t in range(120)],  # from 0.000 s
    [f"{59 + t // 25:02}-{t % 25 * 40:03}.jpg" for t in range(5, 60)],
    [f"{s // 3600}-{s // 60 % 60:02}-{s % 60:02}_{ms:03}.jpg" for s in range(3590, 3620) for ms in range(5, 1000, 40)],
])
def test_a_time_in_names_runs_on_over_its_seconds(names):
  assert numbering.videos(names[::-1]) == {"": {name: i for i, name in enumerate(names)}}


def test_frames_may_lack_between_two_seconds_of_names_in_milliseconds():
  names = {f"frame_00-00-{t // 30:02}-{t % 30 * 1000 // 30:03}.json": t - 20 for t in [*range(20, 28), *range(32, 44)]}
  assert numbering.videos([*names][::-1]) == {"": names}


@pytest.mark.parametrize("names", [
    [f"{i:04}_{n}_people.json" for i, n in enumerate((1, 1, 2, 2, 1, 1, 0, 1))],
    [f"v{1 + i // 8}_{i}" for i in range(16)],
])
def test_a_number_beside_frames_that_run_on_is_no_video(names):
  assert numbering.videos(names) == {"": {name: i for i, name in enumerate(names)}}


@pytest.mark.parametrize("numbers, frames, fps, every", [
    ([0, 1, 2, 50, 51], [0, 1, 2, 50, 51], None, 1),  # the person is away
    ([2, 3, 7, 9], [2, 3, 7, 9], None, 1),
    ([5, 7, 9, 11], [2, 3, 4, 5], None, 2),  # every other frame
    ([0, 10, 20, 40], [0, 1, 2, 4], None, 10),
    ([0, 33, 67, 100, 133], [0, 1, 2, 3, 4], 30, 1),  # ms
    ([80, 0, 40, 40, 160], [2, 0, 1, 1, 4], None, 40),
    ([0, 33333, 66667, 133333], [0, 1, 2, 4], 30, 1),  # µs
    ([0, 50], [0, 50], None, 1),
])
def test_numbers_are_frames_or_time_stamps(numbers, frames, fps, every):
  found, rate, step = numbering.count(np.array(numbers), "file", 2)
  assert found.tolist() == frames and step == every
  assert rate is None if fps is None else abs(rate / fps - 1) < 0.01


def test_even_steps_between_listed_frames_are_gaps():
  assert numbering.count(np.array([2, 4, 6, 8]), "file", 20)[0].tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
def test_times_of_any_unit_become_frames(unit):
  times = unit * np.array([5, 5 + 1 / 30, 5 + 2.02 / 30, 5 + 7 / 30])
  frames, rate = numbering.from_times(times[::-1], "file")
  assert frames.tolist() == [7, 2, 1, 0] and abs(rate / 30 - 1) < 0.1


@pytest.mark.parametrize("numbers", [[139, 285, 632, 581781], [0, 5_000_000], [10, 500, 7000, 7100, 90000]])
def test_ids_of_images_are_no_frames(numbers):
  with pytest.raises(ValueError, match="file has .* frames numbered from .*: ids of images"):
    numbering.count(np.array(numbers), "file")


@pytest.mark.parametrize("before, at, after", [
    ("0:00:00.960000", "0:00:01", "0:00:01.040000"), ("00:00:00,960", "00:00:01,000", "00:00:01,040"),
    ("23:59:59.96", "1 day, 0:00:00", "1 day, 0:00:00.04"), ("0 days 00:59:59.96", "0 days 01:00:00", "1:00:00.04"),
    ("2024-02-29T23:59:59.960", "2024-03-01T00:00:00", "2024-03-01T00:00:00.040"),
    ("2024-05-01 10:00:00.96Z", "2024-05-01 10:00:01+00:00", "2024-05-01 10:00:01.04 UTC")])
def test_a_time_as_text_is_seconds(before, at, after):
  assert np.diff([*map(numbering.as_time, (before, at, after))]).tolist() == pytest.approx([0.04, 0.04], abs=1e-4)


@pytest.mark.parametrize("text", ["00:00:01:05", "1:2:3", "12:30", "2024-13-45T10:00:00", "a 0:00:01", "0001.jpg", ""])
def test_other_text_is_no_time(text):
  assert numbering.as_time(text) is None


def test_times_of_a_known_unit_are_not_guessed():
  assert numbering.from_times([0, 2, 4, 6], "file", 1) == (pytest.approx([0, 1, 2, 3]), None)
