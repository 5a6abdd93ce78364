"""The interactive page: it holds the given arrays, and unknown texts stay texts."""

import base64
import json
import re

import numpy as np
import pytest

from posynda_jax.geometry import camera
from posynda_jax.visuals import page
from posynda_jax.visuals.pose_sequence import CHOSEN, PALETTE, PoseSequence
from tests.visuals.sequences import K, Reader, swaying


def read(path) -> tuple[dict, Reader]:
  """(Data of a page with unpacked arrays, elements of the page)."""
  reader = Reader(path.read_text(encoding="utf-8"))
  data = json.loads(reader.scripts["data"])

  def unpack(packed, axes):
    q = np.frombuffer(base64.b64decode(packed["values"]), "<i2").astype(np.float64)
    return np.where(q == -32768, np.nan, q * packed["step"] + packed["middle"]).reshape(-1, *axes)

  data["keypoints"] = unpack(data["keypoints"], (17, 2))
  for one in data["series"]:
    for name, axes in (("pose", (17, 3)), ("projection", (17, 2)), ("root", (3,))):
      one[name] = unpack(one[name], axes)
  return data, reader


def test_the_page_holds_every_pose_to_a_tenth_of_a_millimetre(walk):
  given, path = walk
  data, _ = read(path)
  want = [*given.poses.values(), *given.hypotheses, given.truth]
  assert [one["kind"] for one in data["series"]] == ["pose"] * 2 + ["hypothesis"] * 5 + ["truth"]
  for one, pose in zip(data["series"], want, strict=True):
    pose = pose - pose[:, :1]
    error = np.abs(one["pose"] - pose).max()
    assert error < page.MAX_ERROR_M
    assert 0 < error < 1.01 * np.ptp(pose) / 65534 / 2 + 1e-6  # half a step, and float32
  np.testing.assert_allclose(data["keypoints"], given.keypoints_px, atol=0.02)
  assert (data["fps"], data["width"], data["height"]) == (50, 1920, 1080)
  assert [one["colour"] for one in data["series"]].count(CHOSEN) == 1


def test_the_projection_shown_is_that_of_the_pose_shown(walk):
  given, path = walk
  data, _ = read(path)
  for one in data["series"]:
    want = camera.project((one["pose"] + one["root"][:, None]).astype(np.float32), K)
    np.testing.assert_allclose(one["projection"], want, atol=0.1)
  truth = data["series"][-1]
  np.testing.assert_allclose(truth["root"], given.truth[:, 0], atol=2e-3)  # exact keypoints give the true root
  np.testing.assert_allclose(truth["projection"], data["keypoints"], atol=0.3)


def test_the_page_holds_pictures_of_the_video_and_what_is_not_trusted(tmp_path):
  given = PoseSequence(**swaying(6), pictures=[(0, b"jpeg"), (4, b"more")], doubts=[(2, 3, "the <head> is below")])
  page.save_page(tmp_path / "a.html", given)
  data, _ = read(tmp_path / "a.html")
  assert [(frame, base64.b64decode(code)) for frame, code in data["pictures"]] == given.pictures
  assert data["doubts"] == [[2, 3, "the <head> is below"]]


def test_absent_values_stay_absent(tmp_path):
  given = swaying(4, 2)
  given["truth"][1] = np.nan
  given["keypoints_px"][2] = np.nan
  given |= {"hypotheses": None, "valid": np.array([True, True, False, True]), "confidence": np.zeros((4, 17))}
  page.save_page(tmp_path / "a.html", PoseSequence(**given))
  data, _ = read(tmp_path / "a.html")
  chosen, truth = data["series"][0], data["series"][-1]
  assert np.isnan(truth["pose"]).all((1, 2)).tolist() == [False, True, False, False] and data["valid"] == [1, 1, 0, 1]
  for values in (data["keypoints"], chosen["projection"]):
    assert np.isnan(values).all((1, 2)).tolist() == [False, False, True, False]
  assert np.isfinite(chosen["pose"]).all() and "hypothesis" not in [one["kind"] for one in data["series"]]


def test_unknown_texts_stay_texts_and_the_page_requests_nothing_from_a_network(tmp_path):
  evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">{{data}}&amp;\u2028'
  given = swaying(4, 2) | {"title": evil, "notes": {evil: evil}}
  given["poses"] = {evil: given["poses"]["chosen"]}
  page.save_page(tmp_path / "a.html", PoseSequence(**given))
  data, reader = read(tmp_path / "a.html")
  assert data["series"][0]["name"] == evil
  assert reader.text.count(evil) == 4  # title, heading, and both sides of the note
  assert reader.tags().count("script") == 2 and "img" not in reader.tags()
  code = reader.scripts["script"] + reader.scripts["style"]
  assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|WebSocket|import\(", code)
  addresses = [attrs[name] for _, attrs in reader.elements for name in ("src", "href") if name in attrs]
  assert addresses == ["data:,"]
  policies = [attrs["content"] for _, attrs in reader.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
  assert policies[0].startswith("default-src 'none'") and "http" not in policies[0]


@pytest.mark.parametrize("scheme", [0, 1])
def test_texts_and_poses_have_contrast_in_light_and_dark_schemes(scheme):
  css = (page._PARTS / "page.html").read_text().split("prefers-color-scheme: dark")[scheme]
  colours = dict(re.findall(r"(--\w+): (#\w{6})", css))

  def luminance(colour):
    c = np.array([*bytes.fromhex(colour[1:])]) / 255
    return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

  def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)

  assert (luminance(colours["--page"]) < 0.1) == scheme
  for text in ("--text", "--quiet", "--accent"):
    assert min(contrast(colours[text], colours[ground]) for ground in ("--page", "--panel")) > 4.5  # WCAG AA
  assert min(contrast(colour, colours["--panel"]) for colour in (CHOSEN, *PALETTE)) > 3


def test_a_sequence_that_cannot_be_shown_is_refused_in_one_line(tmp_path):
  given = swaying(4, 2)
  infinite = given["truth"].copy()
  infinite[0, 0, 0] = np.inf
  for change, message in (
      ({"poses": {}}, "no poses"), ({"truth": given["truth"][:2]}, r"ground truth of shape \(2, 17, 3\)"),
      ({"hypotheses": given["hypotheses"][:, :, :16]}, r"hypothesis 1 of shape \(4, 16, 3\)"), ({"fps": 0}, "fps 0"),
      ({"keypoints_px": given["keypoints_px"][0]}, "keypoints of shape"), ({"intrinsics": K[:4]}, r"expected \(9,\)"),
      ({"truth": infinite}, "infinite values"), ({"truth": 1000 * given["truth"]}, "divide millimetres by 1000"),
  ):
    with pytest.raises(ValueError, match=message) as error:
      page.save_page(tmp_path / "a.html", PoseSequence(**given | change))
    assert "\n" not in str(error.value)
  assert not list(tmp_path.iterdir())
