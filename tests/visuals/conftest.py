import pytest

from posynda_jax.visuals import page
from posynda_jax.visuals.pose_sequence import PoseSequence
from tests.visuals.sequences import swaying


@pytest.fixture(scope="session")
def walk(tmp_path_factory):
  """(PoseSequence of ten seconds with five hypotheses and the ground truth, path of its page)."""
  given, path = PoseSequence(**swaying(500, 5)), tmp_path_factory.mktemp("page") / "walk.html"
  assert page.save_page(path, given) == path.stat().st_size < 1_300_000
  return given, path
