"""Frame numbers of names and of numbers that a detector wrote."""

import numpy as np
import pytest

from posynda_jax.interop.keypoints import numbering


@pytest.mark.parametrize("names, frames", [
    ([f"clip.v2_{i}.txt" for i in (1, 2, 10)], [1, 2, 10]),  # not padded, a dot before
    ([f"cam1.{i:04}.json" for i in (440, 441, 450)], [440, 441, 450]),
    ([f"walk_{i}_cam2.png" for i in range(3)], [0, 1, 2]),
    ([f"2024-01-02_{i:05}_keypoints.json" for i in (7, 8)], [7, 8]),
    ([f"img_{i:04}_t{i / 30:.2f}.png" for i in range(40)], list(range(40))),  # a time beside the frame
    (["0.jpg", "1.jpg", "10.jpg"], [0, 1, 10]),
])
def test_the_number_that_varies_is_the_frame(names, frames):
  assert numbering.videos(names[::-1]) == {"": dict(zip(names, frames))}


@pytest.mark.parametrize("names, videos", [
    ([f"{v}_{i:012}_keypoints.json" for v in "ab" for i in range(3)], ["a", "b"]),
    ([f"v{v}_{i:03}_cam2.json" for v in (1, 2) for i in range(3)], ["v1__cam2", "v2__cam2"]),
    ([f"cam{v}/{i:03}.png" for v in (1, 2) for i in range(3)], [""]),  # folders do not count
])
def test_names_that_differ_elsewhere_are_of_several_videos(names, videos):
  found = numbering.videos(names)
  assert list(found) == videos
  assert sorted(name for frames in found.values() for name in frames) == sorted(names)


@pytest.mark.parametrize("numbers, frames, fps", [
    ([0, 1, 2, 50, 51], [0, 1, 2, 50, 51], None),  # the person is away
    ([2, 3, 7, 9], [2, 3, 7, 9], None),
    ([5, 7, 9, 11], [5, 7, 9, 11], None),  # every other frame
    ([0, 33, 67, 100, 133], [0, 1, 2, 3, 4], 30),  # ms
    ([0, 40, 80, 160], [0, 1, 2, 4], 25),
    ([80, 0, 40, 40], [2, 0, 1, 1], 25),
])
def test_numbers_are_frames_or_time_stamps(numbers, frames, fps):
  found, rate = numbering.count(np.array(numbers), "file")
  assert found.tolist() == frames
  assert rate is None if fps is None else abs(rate / fps - 1) < 0.01


@pytest.mark.parametrize("numbers", [[139, 285, 632, 581781], [0, 5_000_000], [10, 500, 7000, 7100, 90000]])
def test_ids_of_images_are_no_frames(numbers):
  with pytest.raises(ValueError, match="file has .* frames numbered from .*: ids of images"):
    numbering.count(np.array(numbers), "file")
