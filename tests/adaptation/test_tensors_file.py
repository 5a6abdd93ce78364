"""Single files: what was saved comes back in float32, rounded once; a damaged, foreign or mismatched file is told."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from posynda_jax.adaptation import adapt, tensors_file
from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.peft import lora
from posynda_jax.runtime import checkpoint
from tests import scene

CONFIG = {"model": {"width": 16}, "pretrain": {"diffusion_steps": 1000}, "clip_fps": 50.0, "body": [0.25, 0.5]}
SETTINGS = dataclasses.asdict(adapt.AdaptConfig())


def make_adapter(base, seed=0):
  adapter = adapt.init_adapter(jax.random.key(seed), base, adapt.AdaptConfig())
  return {"lora": adapter["lora"], "bias": 0.01 * jax.random.normal(jax.random.key(9), (17, 3))}


def assert_trees_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y), strict=True), a, b)


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
def test_base_and_adapter_come_back_rounded_once(tmp_path, dtype):
  _, base = scene.tiny_model()
  base = {**base, "batch_stats": {"expand_bn": {"mean": jnp.arange(4.0) / 3, "var": jnp.ones(4)}}}
  rounded = jax.tree.map(lambda x: x.astype(dtype or "float32").astype(jnp.float32), base)
  digest = tensors_file.save_base(tmp_path / "base.safetensors", base, CONFIG, dtype)
  read, config = tensors_file.load_base(tmp_path / "base.safetensors")
  assert_trees_equal(read, rounded)
  assert config == CONFIG and digest == checkpoint.digest(rounded)
  assert tensors_file.save_base(tmp_path / "again.safetensors", read, CONFIG, dtype) == digest
  assert (tmp_path / "base.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()

  adapter = make_adapter(base)
  tensors_file.save_adapter(tmp_path / "a.safetensors", adapter, digest, SETTINGS, dtype)
  read, settings = tensors_file.load_adapter(tmp_path / "a.safetensors", digest)
  assert_trees_equal(read, jax.tree.map(lambda x: x.astype(dtype or "float32").astype(jnp.float32), adapter))
  assert adapt.AdaptConfig(**settings) == adapt.AdaptConfig()
  assert not list(tmp_path.glob("*.part"))


def test_the_default_models_adapter_takes_less_than_a_megabyte(tmp_path):
  model = MixSTE(num_frames=243)
  inputs = jnp.zeros((1, 243, 17, 2)), jnp.zeros((1, 243, 17, 3)), jnp.zeros(1, jnp.int32)
  key = jax.random.key(0)
  shapes = jax.eval_shape(lambda: adapt.init_adapter(key, model.init(key, *inputs), adapt.AdaptConfig()))
  adapter = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
  assert lora.count(adapter) == 196_659
  tensors_file.save_adapter(tmp_path / "a.safetensors", adapter, "0" * 16, SETTINGS)
  assert 4 * 196_659 < (tmp_path / "a.safetensors").stat().st_size < 800_000


def test_an_adapter_on_another_base_is_refused_by_digest(tmp_path):
  _, base = scene.tiny_model()
  digest = checkpoint.digest(base)
  tensors_file.save_adapter(tmp_path / "a.safetensors", make_adapter(base), digest, SETTINGS)
  with pytest.raises(ValueError, match=f"adapter of base {digest}, the base here is {'f' * 16}: give the base") as error:
    tensors_file.load_adapter(tmp_path / "a.safetensors", "f" * 16)
  assert "\n" not in str(error.value)
  with pytest.raises(ValueError, match="holds an adapter, expected a base"):
    tensors_file.load_base(tmp_path / "a.safetensors")
  tensors_file.save_base(tmp_path / "b.safetensors", base, CONFIG)
  with pytest.raises(ValueError, match="holds a base, expected an adapter"):
    tensors_file.load_adapter(tmp_path / "b.safetensors", digest)


def test_damaged_and_foreign_files_are_told(tmp_path):
  _, base = scene.tiny_model()
  path = tmp_path / "base.safetensors"
  with pytest.raises(FileNotFoundError, match="base.safetensors does not exist"):
    tensors_file.load_base(path)
  with pytest.raises(FileNotFoundError, match="is a folder"):
    tensors_file.load_base(tmp_path)
  tensors_file.save_base(path, base, CONFIG)
  whole = path.read_bytes()
  for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match="no whole safetensors file.*fetch it anew"):
      tensors_file.load_base(path)
  path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])  # one bit of one number
  with pytest.raises(ValueError, match="is damaged: its numbers have digest"):
    tensors_file.load_base(path)
  safetensors.numpy.save_file({"x": np.ones(3)}, path, {"format": "pt"})
  with pytest.raises(ValueError, match="of another program"):
    tensors_file.load_base(path)
  for header in ("[1]", "{}", '{"kind": "other"}', "{", '{"kind": "base"}'):
    safetensors.numpy.save_file({"x": np.ones(3), "x/y": np.ones(3)}, path, {"posynda_jax": header})
    with pytest.raises(ValueError, match="no whole safetensors file of ours"):
      tensors_file.load_base(path)
  safetensors.numpy.save_file({"x": np.ones(3)}, path, {"posynda_jax": json.dumps({"kind": "base", "config": {}, "digest": "?"})})
  with pytest.raises(ValueError, match="damaged"):
    tensors_file.load_base(path)


def test_what_a_type_cannot_hold_is_refused_and_nothing_is_left(tmp_path):
  tree = {"params": {"w": jnp.array([1e6])}}
  path = tmp_path / "base.safetensors"
  with pytest.raises(ValueError, match="params/w .*float16 on disk cannot"):
    tensors_file.save_base(path, tree, CONFIG, "float16")
  with pytest.raises(ValueError, match="type 'int8' on disk is unknown; choose one of float32, float16, bfloat16"):
    tensors_file.save_base(path, tree, CONFIG, "int8")
  assert not list(tmp_path.iterdir())
