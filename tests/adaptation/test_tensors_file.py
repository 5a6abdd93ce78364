"""Single files: the saved tree is read in float32, rounded once; damaged, foreign and mismatched files are reported."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from posynda_jax.adaptation import tensors_file
from posynda_jax.peft import lora
from posynda_jax.runtime import checkpoint
from tests import scene

CONFIG = {"model": {"width": 16}, "pretrain": {"diffusion_steps": 1000}, "clip_fps": 50.0, "body": [0.25, 0.5]}
SETTINGS = {"rank": 4, "scale": 1.0, "bias": True}


def make_adapter(base) -> dict:
  factors = lora.init(jax.random.key(0), base, rank=4)
  return {"lora": factors, "bias": 0.01 * jax.random.normal(jax.random.key(9), (17, 3))}


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
def test_base_and_adapter_are_read_rounded_once(tmp_path, dtype):
  def round_once(tree):  # by NumPy, because XLA has no float16 on a CPU limited to SSE 4.2
    on_disk = tensors_file.DTYPES[dtype or "float32"]
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(on_disk).astype(np.float32), tree)

  _, base = scene.tiny_model()
  base = {**base, "batch_stats": {"expand_bn": {"mean": jnp.arange(4.0) / 3, "var": jnp.ones(4)}}}
  digest = tensors_file.save_base(tmp_path / "base.safetensors", base, CONFIG, dtype)
  read, config = tensors_file.load_base(tmp_path / "base.safetensors")
  assert config == CONFIG and digest == checkpoint.digest(read) == checkpoint.digest(round_once(base))
  assert tensors_file.save_base(tmp_path / "again.safetensors", read, CONFIG, dtype) == digest
  assert (tmp_path / "base.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()

  adapter = make_adapter(base)
  tensors_file.save_adapter(tmp_path / "a.safetensors", adapter, digest, SETTINGS, dtype)
  read, settings = tensors_file.load_adapter(tmp_path / "a.safetensors", digest)
  assert jax.tree.structure(read) == jax.tree.structure(adapter)
  assert settings == SETTINGS and checkpoint.digest(read) == checkpoint.digest(round_once(adapter))
  assert not list(tmp_path.glob("*.part"))


def test_an_adapter_on_another_base_is_refused_by_digest(tmp_path):
  _, base = scene.tiny_model()
  digest = checkpoint.digest(base)
  tensors_file.save_adapter(tmp_path / "a.safetensors", make_adapter(base), digest, SETTINGS)
  error = f"adapter of base {digest}, not of {'f' * 16}: give the base it was trained on$"
  with pytest.raises(ValueError, match=error):
    tensors_file.load_adapter(tmp_path / "a.safetensors", "f" * 16)
  with pytest.raises(ValueError, match="holds an adapter, expected a base"):
    tensors_file.load_base(tmp_path / "a.safetensors")
  tensors_file.save_base(tmp_path / "b.safetensors", base, CONFIG)
  with pytest.raises(ValueError, match="holds a base, expected an adapter"):
    tensors_file.load_adapter(tmp_path / "b.safetensors", digest)


def test_damaged_and_foreign_files_are_reported(tmp_path):
  _, base = scene.tiny_model()
  path = tmp_path / "base.safetensors"
  for absent, error in ((path, "base.safetensors does not exist"), (tmp_path, "is a folder")):
    with pytest.raises(FileNotFoundError, match=error):
      tensors_file.load_base(absent)
  tensors_file.save_base(path, base, CONFIG)
  whole = path.read_bytes()
  broken = [(whole[:length], "no whole safetensors file.*fetch it again")
            for length in (0, 7, 100, len(whole) // 2, len(whole) - 1)]
  broken.append((whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:], "is damaged: its numbers have digest"))  # one bit
  headers = ("[1]", "{}", '{"kind": "other"}', "{", '{"kind": "base"}')
  for metadata, error in (
      ({"format": "pt"}, "of another program"),
      *(({"posynda_jax": header}, "no whole safetensors file of ours") for header in headers),
  ):
    broken.append((safetensors.numpy.save({"x": np.ones(3), "x/y": np.ones(3)}, metadata), error))
  header = {"posynda_jax": json.dumps({"kind": "base", "config": {}, "digest": "?"})}
  broken.append((safetensors.numpy.save({"x": np.ones(3)}, header), "damaged"))
  for content, error in broken:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=error):
      tensors_file.load_base(path)


@pytest.mark.parametrize("dtype, error", [
    ("float16", "params/w .*float16 on disk cannot"),
    ("int8", "type 'int8' on disk is unknown; choose one of float32, float16, bfloat16"),
])
def test_values_that_a_type_cannot_hold_are_refused_and_no_file_is_left(tmp_path, dtype, error):
  with pytest.raises(ValueError, match=error):
    tensors_file.save_base(tmp_path / "base.safetensors", {"params": {"w": jnp.array([1e6])}}, CONFIG, dtype)
  assert not list(tmp_path.iterdir())
