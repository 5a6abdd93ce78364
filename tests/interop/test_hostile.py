"""Files that are made to do harm: the corpus of `hostile` covers every way to call from a pickle, and ends in lines."""

import pickletools
import zipfile

import pytest

from posynda_jax.interop.video import models
from tests.interop import hostile


def test_the_corpus_has_a_pickle_for_every_opcode_that_can_call_or_find_a_function(tmp_path):
  used = set()
  for _, content in hostile.calling_pickles(tmp_path / hostile.CANARY):
    try:
      for opcode, _, _ in pickletools.genops(content):
        used.add(opcode.name)
    except ValueError:  # lengths that lie
      continue
  assert hostile.callable_opcodes() <= used, hostile.callable_opcodes() - used


@pytest.mark.long
def test_nothing_of_hostile_files_runs_and_each_ends_in_one_line(capsys):
  found = hostile.run()
  assert found["wrong"] == [] and not found["executed"] and found["files"] > 200


def test_a_wheel_whose_models_are_bombs_is_refused(tmp_path, monkeypatch):
  with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
    for name in models.NAMES:
      wheel.writestr(f"mediapipe/{name}", bytes(5000))
  assert len(models.read_models(tmp_path / "a.whl")) == len(models.NAMES)
  monkeypatch.setattr(models, "MAX_BYTES", 1000)
  with pytest.raises(ValueError, match="unpacks .* to more than 1,000 bytes"):
    models.read_models(tmp_path / "a.whl")
