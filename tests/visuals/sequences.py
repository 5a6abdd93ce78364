"""Sequences and readers that the tests of this folder share."""

import html.parser

import jax
import numpy as np

from posynda_jax.geometry import camera, skeleton
from tests import scene

K = np.array([1150, 1140, 960, 540, -0.2, 0.24, -0.002, -0.001, -0.0014], np.float32)


def swaying(num_frames: int, num_hypotheses: int = 3) -> dict:
  """Fields of a PoseSequence of a swaying person: exact keypoints, noisy hypotheses; the last hypothesis is chosen."""
  rng = np.random.default_rng(0)
  absolute = (scene.motion(num_frames) * [1, -1, -1] + [0.3, 0.95, 4]).astype(np.float32)
  noise = 0.1 * rng.standard_normal((num_hypotheses, 1, 17, 3))
  noise = noise + 0.01 * rng.standard_normal((num_hypotheses, num_frames, 17, 3))
  truth = skeleton.root_centre(absolute)
  hypotheses = skeleton.root_centre(truth + noise).astype(np.float32)
  return {
      "poses": {"chosen": hypotheses[-1], "source only": 1.3 * truth}, "hypotheses": hypotheses, "truth": absolute,
      "keypoints_px": np.array(jax.jit(camera.project)(absolute, K)), "intrinsics": K, "resolution": (1920, 1080),
      "fps": 50.0, "title": "Walk", "notes": {"dataset": "synthetic"},
  }


class Reader(html.parser.HTMLParser):
  """An HTML page: (tag, attributes) of its elements, its text, its scripts by id, and the rows of its tables.

  Raises AssertionError for an end tag of another element than the last open one.
  """

  def __init__(self, text: str):
    super().__init__()
    self.elements, self.open, self.text, self.scripts, self.rows = [], [], "", {}, []
    self.feed(text)
    self.close()

  def tags(self) -> list[str]:
    return [tag for tag, _ in self.elements]

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in ("meta", "img", "input", "link"):
      self.open.append(self.elements[-1])
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append("")

  def handle_endtag(self, tag):
    assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

  def handle_data(self, data):
    tag, attrs = self.open[-1] if self.open else ("", {})
    if tag in ("script", "style"):
      name = attrs.get("id", tag)
      self.scripts[name] = self.scripts.get(name, "") + data
      return
    self.text += data
    if tag in ("td", "th"):
      self.rows[-1][-1] += data
