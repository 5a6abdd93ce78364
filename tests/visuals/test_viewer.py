"""The interactive page: what it holds is what was given, strangers' texts stay texts, and a browser shows and obeys it."""

import base64
import html.parser
import json
import re
import shutil
import time

import jax
import numpy as np
import pytest

from posynda_jax.geometry import camera
from posynda_jax.visuals import render, viewer
from tests import scene

K = np.array([1150, 1140, 960, 540, -0.2, 0.24, -0.002, -0.001, -0.0014], np.float32)
FPS = 50.0


def sequence(num_frames: int = 500, num_hypotheses: int = 5) -> dict:
  """What `save_page` takes of a swaying person: exact keypoints, hypotheses that stray, of which the last is chosen."""
  rng = np.random.default_rng(0)
  truth = (scene.motion(num_frames) * [1, -1, -1] + [0.3, 0.95, 4]).astype(np.float32)
  stray = 0.1 * rng.standard_normal((num_hypotheses, 1, 17, 3)) + 0.01 * rng.standard_normal((num_hypotheses, num_frames, 17, 3))
  hypotheses = (truth - truth[:, :1] + stray).astype(np.float32)
  hypotheses -= hypotheses[:, :, :1]
  return {
      "poses": {"chosen": hypotheses[-1], "source only": (1.3 * (truth - truth[:, :1])).astype(np.float32)},
      "hypotheses": hypotheses, "truth": truth, "keypoints_px": np.array(jax.jit(camera.project)(truth, K)), "intrinsics": K,
      "resolution": (1920, 1080), "fps": FPS, "title": "Walk", "notes": {"dataset": "synthetic"},
  }


class Reader(html.parser.HTMLParser):
  """Elements, attributes and texts of a page."""

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.text, self.scripts, self._in = [], "", {}, None
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self._in = dict(attrs).get("id", "code") if tag == "script" else None if tag != "style" else "style"

  def handle_endtag(self, tag):
    self._in = None

  def handle_data(self, data):
    if self._in is None:
      self.text += data
    else:
      self.scripts[self._in] = self.scripts.get(self._in, "") + data


def read(path) -> tuple[dict, Reader]:
  """(The page's data with its arrays unpacked by the format's own words, its elements)."""
  page = Reader(path.read_text(encoding="utf-8"))
  data = json.loads(page.scripts["data"])

  def unpack(packed, axes):
    q = np.frombuffer(base64.b64decode(packed["values"]), "<i2").astype(np.float64)
    return np.where(q == -32768, np.nan, q * packed["step"] + packed["middle"]).reshape(-1, *axes)

  data["keypoints"] = unpack(data["keypoints"], (17, 2))
  for one in data["series"]:
    one["pose"], one["projection"] = unpack(one["pose"], (17, 3)), unpack(one["projection"], (17, 2))
    one["root"] = unpack(one["root"], (3,))
  return data, page


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
  """(What was given, the page's path) of ten seconds with five hypotheses and the truth."""
  given, path = sequence(), tmp_path_factory.mktemp("page") / "walk.html"
  assert viewer.save_page(path, **given) == path.stat().st_size < 1_300_000
  return given, path


def test_the_page_holds_every_pose_to_a_tenth_of_a_millimetre(walk):
  given, path = walk
  data, _ = read(path)
  want = [*given["poses"].values(), *given["hypotheses"], given["truth"]]
  assert [one["kind"] for one in data["series"]] == ["pose"] * 2 + ["hypothesis"] * 5 + ["truth"]
  for one, pose in zip(data["series"], want, strict=True):
    pose = pose - pose[:, :1]
    error = np.abs(one["pose"] - pose).max()
    assert error < viewer.MAX_ERROR_M
    assert 0 < error < 1.01 * np.ptp(pose) / 65534 / 2 + 1e-7  # half a step, and float32
  np.testing.assert_allclose(data["keypoints"], given["keypoints_px"], atol=0.02)
  assert (data["fps"], data["width"], data["height"]) == (50, 1920, 1080)
  assert [one["colour"] for one in data["series"] if one["kind"] != "truth"].count(render.CHOSEN) == 1


def test_the_projection_shown_is_the_cameras_of_the_pose_shown(walk):
  given, path = walk
  data, _ = read(path)
  for one in data["series"]:
    want = camera.project((one["pose"] + one["root"][:, None]).astype(np.float32), K)
    np.testing.assert_allclose(one["projection"], want, atol=0.1)
  truth = data["series"][-1]
  np.testing.assert_allclose(truth["root"], given["truth"][:, 0], atol=2e-3)  # exact keypoints place the truth where it stands
  np.testing.assert_allclose(truth["projection"], data["keypoints"], atol=0.3)


def test_what_is_absent_stays_absent(tmp_path):
  given = sequence(4, 2)
  given["truth"][1] = np.nan
  given["keypoints_px"][2] = np.nan
  given |= {"hypotheses": None, "valid": np.array([True, True, False, True])}
  viewer.save_page(tmp_path / "a.html", **given, confidence=np.zeros((4, 17), np.float32))
  data, _ = read(tmp_path / "a.html")
  absent = lambda values: np.isnan(values).all(tuple(range(1, values.ndim))).tolist()
  assert absent(data["series"][-1]["pose"]) == [False, True, False, False] and data["valid"] == [1, 1, 0, 1]
  assert absent(data["keypoints"]) == absent(data["series"][0]["projection"]) == [False, False, True, False]
  assert np.isfinite(data["series"][0]["pose"]).all() and "hypothesis" not in [one["kind"] for one in data["series"]]


def test_texts_of_strangers_stay_texts_and_nothing_is_asked_of_a_network(tmp_path):
  evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">{{data}}&amp;\u2028'
  given = sequence(4, 2) | {"title": evil, "notes": {evil: evil}}
  given["poses"] = {evil: given["poses"]["chosen"]}
  viewer.save_page(tmp_path / "a.html", **given)
  data, page = read(tmp_path / "a.html")
  assert data["series"][0]["name"] == evil and page.text.count(evil) == 4  # title, heading, and both sides of the note
  tags = [tag for tag, _ in page.tags]
  assert tags.count("script") == 2 and "img" not in tags
  code = page.scripts["code"] + page.scripts["style"]
  assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|WebSocket|import\(", code)
  asked = [attrs.get(name, "") for _, attrs in page.tags for name in ("src", "href")]
  assert [one for one in asked if one] == ["data:,"]
  policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
  assert policy.startswith("default-src 'none'") and "http" not in policy


def test_what_cannot_be_shown_is_refused_in_one_line(tmp_path):
  given = sequence(4, 2)
  infinite = given["truth"].copy()
  infinite[0, 0, 0] = np.inf
  for change, message in (
      ({"poses": {}}, "no poses"), ({"truth": given["truth"][:2]}, r"ground truth of shape \(2, 17, 3\)"),
      ({"hypotheses": given["hypotheses"][:, :, :16]}, r"hypothesis 1 of shape \(4, 16, 3\)"), ({"fps": 0}, "fps 0"),
      ({"keypoints_px": given["keypoints_px"][0]}, "keypoints of shape"), ({"intrinsics": K[:4]}, "nine numbers"),
      ({"truth": infinite}, "infinite values"), ({"truth": 1000 * given["truth"]}, "divide millimetres by 1000"),
  ):
    with pytest.raises(ValueError, match=message) as error:
      viewer.save_page(tmp_path / "a.html", **given | change)
    assert "\n" not in str(error.value)
  assert not list(tmp_path.iterdir())


# ---- in a browser ----


@pytest.fixture(scope="module")
def browser():
  """Headless Chromium of a laptop's size, or a skip that says what is missing."""
  webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
  binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
  driver = shutil.which("chromedriver")
  if not binary or not driver:
    pytest.skip("no Chromium with chromedriver on this machine: apt-get install chromium chromium-driver")
  options = webdriver.ChromeOptions()
  options.binary_location = binary
  for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-device-scale-factor=1"):
    options.add_argument(argument)
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
  yield browser
  browser.quit()


def show(browser, path, width: int = 1366, height: int = 768, phone: bool = False, dark: bool = False) -> float:
  """Opens a page on a screen of that size; seconds until it was loaded and drawn."""
  metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
  browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
  browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
  scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
  browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
  browser.get(path.as_uri())
  return browser.execute_async_script(
      "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() / 1000)))"
  )


def complaints(browser) -> list[dict]:
  """What the console says since it was last asked; that canvases are read often is these tests' own doing."""
  return [entry for entry in browser.get_log("browser") if "willReadFrequently" not in entry["message"]]


def settle(browser):
  browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))")


def picture(browser, which: str = "space") -> str:
  settle(browser)
  return browser.execute_script(f"return document.querySelector('#{which} canvas').toDataURL()")


def pixels(browser, colour: str, which: str = "space") -> int:
  """How many pixels of a canvas have just that colour."""
  settle(browser)
  red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
  return browser.execute_script(
      f"const c = document.querySelector('#{which} canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
      f"let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] === {red} && d[i + 1] === {green} && d[i + 2] === {blue};"
      "return n")


def keys(browser, *pressed: str):
  from selenium.webdriver.common.action_chains import ActionChains

  chain = ActionChains(browser, duration=0)
  for key in pressed:
    chain.send_keys(key)
  chain.perform()
  settle(browser)


def drag(browser, element, by: tuple[int, int]):
  from selenium.webdriver.common.action_chains import ActionChains

  ActionChains(browser, duration=20).click_and_hold(element).move_by_offset(*by).release().perform()


def frame(browser) -> int:
  return int(browser.find_element("id", "frame").get_attribute("value"))


def test_ten_seconds_open_within_two_and_say_nothing_on_the_console(browser, walk):
  complaints(browser)
  assert min(show(browser, walk[1]) for _ in range(3)) < 2  # the best of three: other work on the machine is not the page's
  assert complaints(browser) == []
  assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
  assert browser.title == "Walk" and browser.find_element("id", "clock").text == "frame 0 · 0.00 / 10.00 s"


def test_the_browser_measures_what_we_measure(browser, walk):
  given, path = walk
  show(browser, path)
  data, _ = read(path)
  got = np.array(browser.execute_script("return Array.from(series[0].projection)")).reshape(-1, 17, 2)
  np.testing.assert_allclose(got, data["series"][0]["projection"], atol=1e-3)
  error = 1000 * np.linalg.norm(given["poses"]["chosen"] - (given["truth"] - given["truth"][:, :1]), axis=-1)
  got = np.array(browser.execute_script("return Array.from(errors)")).reshape(-1, 17)
  np.testing.assert_allclose(got, error, atol=0.2)
  assert f"chosen: MPJPE {error[0].mean():.1f} mm" in browser.find_element("id", "numbers").text
  browser.execute_script("$('measure').value = 'px'; measure()")
  got = np.array(browser.execute_script("return Array.from(errors)")).reshape(-1, 17)
  np.testing.assert_allclose(got, np.linalg.norm(data["series"][0]["projection"] - data["keypoints"], axis=-1), atol=0.01)


def test_dragging_orbits_and_dragging_back_returns(browser, walk):
  show(browser, walk[1])
  canvas, before = browser.find_element("css selector", "#space canvas"), picture(browser)
  drag(browser, canvas, (120, 30))
  turned = picture(browser)
  assert turned != before
  drag(browser, canvas, (-120, -30))
  assert picture(browser) == before
  browser.execute_script("arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -300, cancelable: true}))", canvas)
  assert pixels(browser, render.CHOSEN) and picture(browser) != before
  for button in browser.find_elements("css selector", "[data-view]"):
    button.click()
  assert browser.execute_script("return [state.yaw, state.pitch, state.zoom]") == pytest.approx([0, np.pi / 2, 1])


def test_up_is_up_and_the_cameras_view_is_the_image(browser, walk):
  show(browser, walk[1])
  browser.find_element("css selector", "[data-view=camera]").click()
  look = "return look(joint(truth, arguments[0]), 800, 400)"
  head, ankle, left, right = (browser.execute_script(look, joint) for joint in (10, 6, 13, 16))
  assert head[1] < ankle[1] - 100
  seen = walk[0]["keypoints_px"][0]
  assert np.sign(left[0] - right[0]) == np.sign(seen[13, 0] - seen[16, 0])
  drag(browser, browser.find_element("css selector", "#space canvas"), (0, 40))  # over the top: the nearer floor sinks
  floor = "const f = bounds[0].floor; return [look([0, f, -1], 800, 400), look([0, f, 1], 800, 400)]"
  near, far = browser.execute_script(floor)
  assert near[1] > far[1] and near[2] < far[2]


def test_the_slider_the_strip_and_the_keyboard_choose_the_frame(browser, walk):
  show(browser, walk[1])
  before, image = picture(browser), picture(browser, "image")
  drag(browser, browser.find_element("id", "frame"), (60, 0))
  slid = frame(browser)
  assert 230 < slid < 330 and f"frame {slid} " in browser.find_element("id", "clock").text
  assert picture(browser) != before and picture(browser, "image") != image
  assert browser.find_element("id", "frame").get_attribute("aria-valuetext") == f"frame {slid}, {slid / FPS:.2f} seconds"
  heat = browser.find_element("css selector", "#heat canvas")
  browser.execute_script("arguments[0].scrollIntoView()", heat)
  drag(browser, heat, (0, 0))
  middle = (heat.size["width"] / 2 - 72) / (heat.size["width"] - 72) * 500
  assert abs(frame(browser) - middle) <= 1 and "mm" in browser.find_element("id", "reading").text
  at = frame(browser)
  keys(browser, "\ue014", "\ue014", "\ue012")  # right, right, left
  assert frame(browser) == at + 1
  keys(browser, "\ue010", "\ue014")  # the end is the end
  assert frame(browser) == 499
  keys(browser, "\ue011")
  assert frame(browser) == 0


def test_play_keeps_real_time(browser, walk):
  show(browser, walk[1])
  keys(browser, " ")
  first, started = frame(browser), time.perf_counter()
  time.sleep(1)
  gone = (frame(browser) - first) / FPS
  assert 0.4 < gone / (time.perf_counter() - started) < 1.4
  assert browser.find_element("id", "play").get_attribute("aria-pressed") == "true"
  keys(browser, " ")
  at = frame(browser)
  time.sleep(0.2)
  assert frame(browser) == at and browser.find_element("id", "play").text == "Play"


def test_toggles_and_number_keys_show_and_hide(browser, walk):
  show(browser, walk[1])
  labels = [label.text.split("\n")[0] for label in browser.find_elements("css selector", "#shown label")]
  assert [re.sub(r"\s*\d$", "", label) for label in labels] == ["chosen", "source only", "5 hypotheses", "ground truth"]
  assert pixels(browser, render.CHOSEN) > 200 and pixels(browser, render.PALETTE[0]) > 20
  browser.find_elements("css selector", "#shown input")[2].click()
  assert pixels(browser, render.PALETTE[0]) == 0 and pixels(browser, render.CHOSEN) > 200
  keys(browser, "1")
  assert pixels(browser, render.CHOSEN) == 0 and pixels(browser, render.CHOSEN, "image") > 20
  assert not browser.find_elements("css selector", "#shown input")[0].is_selected()
  keys(browser, "1", "3")
  assert pixels(browser, render.CHOSEN) > 200 and pixels(browser, render.PALETTE[0]) > 20
  before = picture(browser), picture(browser, "image")
  keys(browser, "t", "i", "v")
  assert picture(browser) != before[0] and picture(browser, "image") != before[1]
  assert complaints(browser) == []


def test_a_phone_shows_it_without_scrolling_sideways_and_pinches(browser, walk):
  show(browser, walk[1], 390, 844, phone=True)
  assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
  sizes = "return [...document.querySelectorAll('body *')].map((e) => parseFloat(getComputedStyle(e).fontSize))"
  assert min(browser.execute_script(sizes)) >= 12
  box = browser.execute_script(
      "const b = document.querySelector('#space canvas').getBoundingClientRect();"
      "return [b.x + b.width / 2, b.y + b.height / 2]")
  touch = lambda kind, *apart: browser.execute_cdp_cmd("Input.dispatchTouchEvent", {
      "type": kind, "touchPoints": [{"x": box[0] + dx, "y": box[1], "id": i} for i, dx in enumerate(apart)]})
  touch("touchStart", -40, 40)
  touch("touchMove", -80, 80)
  touch("touchEnd")
  settle(browser)
  assert browser.execute_script("return state.zoom") == pytest.approx(2, rel=0.05)
  yaw = browser.execute_script("return state.yaw")
  touch("touchStart", 0)
  touch("touchMove", 50)
  touch("touchEnd")
  assert browser.execute_script("return state.yaw") == pytest.approx(yaw - 0.5, abs=0.02)


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_in_either_scheme(browser, walk, dark):
  show(browser, walk[1], dark=dark)
  value = lambda name: browser.execute_script("return css(arguments[0])", name).strip()

  def luminance(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

  def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)

  assert (luminance(value("--page")) < 0.1) == dark
  for text in ("--text", "--quiet", "--accent"):
    assert min(contrast(value(text), value(ground)) for ground in ("--page", "--panel")) > 4.5  # WCAG AA
  assert min(contrast(colour, value("--panel")) for colour in (render.CHOSEN, *render.PALETTE)) > 3


def test_one_frame_of_one_pose_is_a_page_too(browser, tmp_path):
  given = sequence(1, 1) | {"hypotheses": None, "truth": None, "title": '<b>"x"</b>'}
  given["poses"] = {"</script><i>": given["poses"]["chosen"]}
  viewer.save_page(tmp_path / "a.html", **given)
  complaints(browser)
  show(browser, tmp_path / "a.html")
  assert browser.title == '<b>"x"</b>' and "px or more" in browser.find_element("id", "scale").text
  assert [option.text for option in browser.find_elements("css selector", "#measure option")] == ["reprojection"]
  keys(browser, "\ue014", "1", "2", " ", "\ue010")
  assert frame(browser) == 0 and pixels(browser, render.CHOSEN) == 0 and complaints(browser) == []
