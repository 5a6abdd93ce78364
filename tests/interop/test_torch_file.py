"""PyTorch files without PyTorch: both containers give what was saved, damage is reported, nothing in them runs."""

import collections
import io
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.data import safe_pickle
from posynda_jax.interop import torch_file, torch_networks
from tests.data.test_safe_pickle import Payload
from tests.interop.torch_files import legacy, zipped

RNG = np.random.default_rng(0)
STATE = collections.OrderedDict({
    "f32": RNG.normal(size=(2, 3, 4)).astype(np.float32), "f64": RNG.normal(size=3),
    "f16": RNG.normal(size=(2, 2)).astype(np.float16), "bf16": RNG.normal(size=5).astype(jnp.bfloat16),
    "count": np.array(7), "mask": np.array([True, False]), "none": np.zeros((0, 3), np.float32),
    "bytes": np.arange(3, dtype=np.uint8),
})
VALUE = {"epoch": 3, "lr": 1e-4, "name": "\u00e9", "model_pos": STATE, "nothing": None,
         "optimizer": {"state": {0: {"step": np.array(1.0)}}, "groups": [{"betas": (0.9, 0.999)}]}}


def tensor(key="0", kind=b"FloatStorage", length=6, offset=0, size=(2, 3), stride=(3, 1)) -> bytes:
  """The pickle of one tensor."""

  def encode(*values) -> bytes:
    return b"".join(pickle.dumps(value, 2)[2:-1] for value in values)

  pid = b"(" + encode("storage") + b"ctorch\n" + kind + b"\n" + encode(key, "cpu", length) + b"tQ"
  return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + pid + encode(offset, size, stride) + b"\x89}tR."


def load(tmp_path, raw: bytes, name="a.pt"):
  (tmp_path / name).write_bytes(raw)
  return torch_file.load_torch(tmp_path / name)


def write(tmp_path, value) -> bytes:
  path = tmp_path / "written.pt"
  path.unlink(missing_ok=True)
  torch_file.save_torch(path, value)
  return path.read_bytes()


def test_both_containers_give_back_what_was_written(tmp_path):
  raw = write(tmp_path, VALUE)
  deflated = io.BytesIO()
  with zipfile.ZipFile(io.BytesIO(raw)) as archive, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as other:
    for name in archive.namelist():
      other.writestr(name.replace("written/", "deep/folder/"), archive.read(name))
    starts = [info.header_offset + 30 + len(info.filename) + len(info.extra) for info in archive.infolist()]
  assert not any(start % 64 for start in starts)
  for file in (raw, legacy(VALUE), deflated.getvalue()):
    value = load(tmp_path, file)
    np.testing.assert_equal(value, VALUE)
    assert write(tmp_path, value) == raw  # the same data and types give the same bytes


def test_views_of_one_storage_stay_views(tmp_path):
  numbers = np.arange(6, dtype=np.float32)
  two = tensor()[:-1] + tensor(offset=1, size=(2, 2), stride=(1, 2))[2:-1] + b"\x86."  # a pair
  whole, crossed = load(tmp_path, zipped(two, s0=numbers.tobytes()))
  np.testing.assert_array_equal(whole, numbers.reshape(2, 3))
  np.testing.assert_array_equal(crossed, [[1, 3], [2, 4]])
  assert np.shares_memory(whole, crossed)
  for stride, expected in (((1, 2), [[0, 2, 4], [1, 3, 5]]), ((0, 1), [[0, 1, 2]] * 2)):
    np.testing.assert_array_equal(load(tmp_path, zipped(tensor(stride=stride), s0=numbers.tobytes())), expected)
  parameter = b"\x80\x02ctorch._utils\n_rebuild_parameter\n(" + tensor()[2:-1] + b"\x88}tR."
  np.testing.assert_array_equal(load(tmp_path, zipped(parameter, s0=numbers.tobytes())), numbers.reshape(2, 3))


@pytest.mark.parametrize("raw, message", [
    (zipped(tensor(length=7), s0=bytes(24)), "holds 24 bytes in storage 0, its tensors say 28"),
    (zipped(tensor(), s0=bytes(20)), "holds 20 bytes in storage 0, its tensors say 24"),
    (zipped(tensor(key="../x"), s0=bytes(24)), r"lacks the storage \.\./x"),
    (zipped(tensor(offset=1), s0=bytes(24)), r"shape \(2, 3\) that reaches outside its 6 numbers"),
    (zipped(tensor(stride=(4, 1)), s0=bytes(24)), "reaches outside"),
    (zipped(tensor(stride=(-3, 1), offset=3), s0=bytes(24)), "unusual way"),
    (zipped(tensor(size=(-2, 3)), s0=bytes(24)), "unusual way"),
    (zipped(tensor(size=(2, 3, 1)), s0=bytes(24)), "unusual way"),
    (zipped(tensor(length=-1), s0=bytes(24)), "storage '0' of length -1"),
    (zipped(tensor(kind=b"QInt8Storage"), s0=bytes(24)), "names torch.QInt8Storage"),
    (zipped(tensor()[:-1] + tensor(kind=b"IntStorage")[2:-1] + b"\x86.", s0=bytes(24)), "storage 0 in two ways"),
    (zipped(b"\x80\x02X\x03\x00\x00\x00abcQ."), "not a storage"),
    (zipped(b"\x80\x02ctorch\nFloatStorage\n}b."), "sets the state of a str"),
    (zipped(b"\x80\x02ctorch\nFloatStorage\n)R."), "not a whole pickle"),
    (zipped(b"\x80\x02" + tensor().partition(b"v2\n(")[2].partition(b"Q")[0] + b"Q}b.", s0=bytes(24)), "a _Storage"),
    (zipped(b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x00\x85R."), "torch.storage._load_from_bytes"),
    (zipped(tensor(), byteorder=b"big", s0=bytes(24)), "byte order of another kind of machine"),
    (legacy(VALUE, little=False), "byte order of another kind of machine"),
    (legacy(VALUE, length_of=lambda array: len(array) + 1), "ends early, or its storage"),
    (legacy(VALUE)[:-1], "ends early, or its storage"),
    (b"", "neither the zip container nor the older one"),
    (pickle.dumps({"a": 1}), "neither the zip container nor the older one"),
    (np.random.default_rng(0).bytes(500), "neither the zip container nor the older one"),
])
def test_damaged_and_foreign_files_are_reported(tmp_path, raw, message):
  with pytest.raises(ValueError, match=rf"a\.pt.*{message}") as error:
    load(tmp_path, raw)
  assert "\n" not in str(error.value)


def test_a_legacy_file_with_too_large_a_storage_is_refused_before_memory_is_taken(tmp_path):
  raw = legacy({}, data=tensor(length=2**31 - 1).replace(b"tQ", b"NtQ"))
  with pytest.raises(safe_pickle.Refused, match="announces more numbers than its .* bytes hold"):
    load(tmp_path, raw)


@pytest.mark.parametrize("names, message", [
    (["x/y"], "without one data.pkl"), (["a/data.pkl", "b/data.pkl"], "without one data.pkl"),
    (["a/data.pkl", "a/constants.pkl"], "TorchScript program"),
])
def test_other_zips_are_reported(tmp_path, names, message):
  with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
    for name in names:
      archive.writestr(name, pickle.dumps({}, 2))
  with pytest.raises(ValueError, match=message):
    torch_file.load_torch(tmp_path / "a.pt")
  with pytest.raises(FileNotFoundError, match="does not exist"):
    torch_file.load_torch(tmp_path / "none.pt")


def test_a_zip_with_false_sizes_is_reported(tmp_path, monkeypatch):
  numbers = RNG.normal(size=6).astype(np.float32)
  for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    raw = zipped(tensor(), compression, s0=numbers.tobytes())
    size_at = raw.rindex(b"PK\x01\x02") + 24  # in the directory's record of the storage, the last entry
    small, large, huge = (raw[:size_at] + struct.pack("<I", size) + raw[size_at + 4 :] for size in (20, 28, 2**31))
    with pytest.raises(ValueError, match=r"a\.pt"):
      load(tmp_path, small)
    for right in (raw, large, huge):  # all 24 bytes are read, which the tensor needs
      np.testing.assert_array_equal(load(tmp_path, right), numbers.reshape(2, 3))
  monkeypatch.setattr(safe_pickle, "MAX_BYTES", 10**6)
  with pytest.raises(ValueError, match="more than 1,000,000"):
    load(tmp_path, zipped(tensor(), zipfile.ZIP_DEFLATED, s0=bytes(4 * 10**6)))


def test_truncated_files_and_flipped_bits_are_reported(tmp_path):
  for raw in (write(tmp_path, VALUE), legacy(VALUE)):
    for length in (2, len(raw) // 2, len(raw) - 3):
      with pytest.raises(ValueError, match=r"a\.pt"):
        load(tmp_path, raw[:length])
  raw = bytearray(write(tmp_path, VALUE))
  raw[raw.index(STATE["f32"].tobytes())] ^= 1
  with pytest.raises(ValueError, match="CRC.*fetch it again"):
    load(tmp_path, bytes(raw))


def test_a_malicious_checkpoint_runs_nothing(tmp_path):
  planted = tmp_path / "planted"
  pickled = pickle.dumps({"epoch": 1, "model_pos": {"w": [Payload(planted)]}}, 2)
  files = [
      zipped(pickled), zipped(pickled, zipfile.ZIP_DEFLATED), legacy({}, data=pickled), pickled + legacy({}),
      legacy({}, data=pickle.dumps({}, 2) + pickled),
      pickle.dumps(torch_file.MAGIC, 2) + pickle.dumps(torch_file.VERSION, 2) + pickled,
  ]
  for raw in files:
    with pytest.raises(ValueError, match=r"a\.pt"):
      load(tmp_path, raw)
    assert not planted.exists()
  with pytest.raises(safe_pickle.Refused, match="mkdir, which is not plain data: it is refused"):
    load(tmp_path, files[0])
  pickle.loads(pickled)
  assert planted.exists()  # the payload is real


def test_random_generators_are_ignored(tmp_path):
  old = b"cnumpy.random\n__RandomState_ctor\n)R(X\x07\x00\x00\x00MT19937K\x00tb"  # as NumPy before 1.17 spells it
  new = pickle.dumps(np.random.RandomState(3), 2)[2:-1]
  for generator in (old, new):
    pickled = b"\x80\x02}(X\x0c\x00\x00\x00random_state" + generator + b"X\x05\x00\x00\x00epochK\x09u."
    for raw in (zipped(pickled), legacy({}, data=pickled)):
      value = load(tmp_path, raw)
      assert isinstance(value["random_state"], safe_pickle.Ignored) and value["epoch"] == 9


def test_a_tensor_that_repeats_its_storage_takes_no_memory_before_it_is_refused(tmp_path):
  huge = tensor(size=(2**30, 2**20), stride=(0, 0))[2:-1]
  value = load(tmp_path, zipped(b"\x80\x02}X\x17\x00\x00\x00expand_conv.weight.lora" + huge + b"s.", s0=bytes(24)))
  assert next(iter(value.values())).shape == (2**30, 2**20)
  with pytest.raises(ValueError, match="holds more than 2,147,483,648 numbers: it is refused"):
    torch_networks.recognise(value, "a.pt")


def test_the_writer_takes_plain_data_only_and_overwrites_nothing(tmp_path):
  for wrong in (print, {1, 2}, np.float64, np.zeros(2, np.complex64), Payload(tmp_path / "planted")):
    with pytest.raises(ValueError, match="plain data|cannot be a tensor"):
      torch_file.save_torch(tmp_path / "a.pt", {"x": [wrong]})
  assert not list(tmp_path.iterdir())
  torch_file.save_torch(tmp_path / "a.pt", {})
  with pytest.raises(FileExistsError):
    torch_file.save_torch(tmp_path / "a.pt", {})


def test_files_of_pytorch_itself_are_read_and_ours_are_read_by_it(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed: its own files are not compared with ours")
  tensors = {name: torch.from_numpy(value.copy()) for name, value in STATE.items() if name != "bf16"}
  tensors["bf16"] = torch.from_numpy(STATE["bf16"].astype(np.float32)).bfloat16()
  tensors["crossed"] = tensors["f32"].transpose(0, 2)
  tensors["parameter"] = torch.nn.Parameter(tensors["f32"][1])
  optimizer = torch.optim.Adam([tensors["parameter"]])
  tensors["parameter"].sum().backward()
  optimizer.step()
  value = {"random_state": np.random.RandomState(0), "loss": np.float64(0.5), "size": tensors["f32"].shape,
           "optimizer": optimizer.state_dict(), "tensors": tensors}
  for is_zip in (True, False):
    torch.save(value, tmp_path / "theirs.bin", _use_new_zipfile_serialization=is_zip)
    ours = torch_file.load_torch(tmp_path / "theirs.bin")
    assert ours["size"] == (2, 3, 4) and ours["loss"] == 0.5
    assert np.shares_memory(ours["tensors"]["crossed"], ours["tensors"]["f32"])
    moment = optimizer.state_dict()["state"][0]["exp_avg"]
    for name, theirs in (tensors | {"moment": moment}).items():
      array = ours["optimizer"]["state"][0]["exp_avg"] if name == "moment" else ours["tensors"][name]
      assert str(array.dtype) == str(theirs.dtype).removeprefix("torch.")
      np.testing.assert_array_equal(array.astype(np.float64), theirs.detach().double().numpy(), strict=True)
  torch_file.save_torch(tmp_path / "ours.pt", VALUE)
  for mapped in (False, True):
    read = torch.load(tmp_path / "ours.pt", weights_only=True, mmap=mapped)
    assert read["lr"] == 1e-4 and read["name"] == "\u00e9"
    for name, theirs in read["model_pos"].items():
      assert str(theirs.dtype).removeprefix("torch.") == str(STATE[name].dtype)
      np.testing.assert_array_equal(theirs.double().numpy(), STATE[name].astype(np.float64), strict=True)
