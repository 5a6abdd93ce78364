"""Untrusted files: plain data is read as written, a program inside never runs, damage is an error of one line."""

import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from posynda_jax.data import safe_pickle

NESTED = {
    "S1": {"Directions 1": [np.arange(6, dtype=np.float32).reshape(1, 2, 3), None]},
    "plain": (True, 50, 1.5, "a", b"b"),
}
LOADERS = {"a.npz": safe_pickle.load_npz, "a.npy": safe_pickle.load_npy}
OBJECT_STATE = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"  # what follows dtype("O8") in a pickle


class Payload:
  """Creates a file when it is unpickled by anything that runs what it reads."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def object_array(value):
  array = np.empty((), object)
  array[()] = value
  return array


def short(raw: bytes) -> bytes:
  return b"U" + bytes([len(raw)]) + raw  # SHORT_BINSTRING


def text(name: str) -> bytes:
  return b"\x8c" + bytes([len(name)]) + name.encode()  # SHORT_BINUNICODE


def py2_pickle(array: np.ndarray, dtype_state: bytes | None = None, spec: str | None = None) -> bytes:
  """The protocol 2 pickle that Python 2's numpy writes for a small array, whose bytes are a Python 2 string."""
  shape = b"(" + b"".join(b"K" + bytes([n]) for n in array.shape) + b"t"
  spec = (spec or array.dtype.str[1:]).encode()
  dtype_state = dtype_state or b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
  return (
      b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01"
      + shape
      + b"cnumpy\ndtype\nq\x04" + short(spec) + b"K\x00K\x01\x87Rq\x05" + dtype_state
      + b"\x89" + short(array.tobytes()) + b"tb."
  )


def load_bytes(raw: bytes, **options):
  return safe_pickle.load(io.BytesIO(raw), "file", **options)


def assert_equal(a, b):
  assert type(a) is type(b)
  if isinstance(a, dict):
    assert list(a) == list(b)
    a, b = list(a.values()), list(b.values())
  if isinstance(a, (list, tuple)):
    assert len(a) == len(b)
    for x, y in zip(a, b):
      assert_equal(x, y)
  else:
    np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back_whatever_the_protocol(protocol):
  rng = np.random.default_rng(0)
  value = {
      **NESTED, "big": rng.normal(size=(50, 7)), "swapped": np.arange(3, dtype=">i4"), "empty": np.zeros((0, 17, 2)),
      "columns": np.asfortranarray(rng.normal(size=(2, 3))), "words": np.array(["a", "bcd"]),
      "bools": np.array([True, False]), "scalar": np.float64(2.5), "name": np.str_("ab"), "nothing": b"", "set": {1, 2},
      "z": 1j, "bytes": bytearray(b"x"), "ordered": collections.OrderedDict(a=1),
      "default": collections.defaultdict(list, a=[1]), "object": object_array([None]),
  }
  raw = pickle.dumps(value, protocol)
  assert_equal(load_bytes(raw), pickle.loads(raw))
  assert np.dtype("f8").isnative and np.dtype("i4").isnative


def test_a_python_2_pickle_is_read_as_latin_1():
  array = np.array([[1.5, -2e300, np.pi]])
  np.testing.assert_array_equal(load_bytes(py2_pickle(array), encoding="latin1"), array, strict=True)
  with pytest.raises(ValueError, match=r"file is not a whole pickle \(UnicodeDecodeError"):
    load_bytes(py2_pickle(array))
  assert load_bytes(b"\x80\x02}U\x08sequenceU\x04caf\xe9s.", encoding="latin1") == {"sequence": "caf\xe9"}


def test_attributes_of_a_dict_are_dropped():
  weights = collections.OrderedDict(w=np.ones(2))
  weights._metadata = {"version": 1}  # as in every PyTorch state_dict
  assert_equal(load_bytes(pickle.dumps(weights)), collections.OrderedDict(w=np.ones(2)))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_and_npy_give_back_nested_objects_and_both_memory_orders(tmp_path, save):
  c, f = np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))
  many = np.array([np.zeros(2), "x", None], object)
  save(tmp_path / "a.npz", positions_3d=NESTED, c=c, f=f, many=many, number=np.float32(3), text="name")
  got = safe_pickle.load_npz(tmp_path / "a.npz")
  assert list(got) == ["positions_3d", "c", "f", "many", "number", "text"]
  assert_equal(got["positions_3d"], NESTED)
  for name, expected in {"c": c, "f": c, "number": np.array(3, np.float32), "text": np.array("name")}.items():
    np.testing.assert_array_equal(got[name], expected, strict=True)
  assert got["many"].shape == (3,) and got["many"][1:].tolist() == ["x", None]
  for array in (c, f, many):
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(safe_pickle.load_npy(tmp_path / "a.npy")[1:], array[1:], strict=True)
  got["c"][0, 0] = 7  # what is read may be written to


def test_a_program_in_a_file_does_not_run(tmp_path):
  planted = tmp_path / "planted"
  nested = {"S1": {"Directions": [np.zeros(2), Payload(planted)]}}
  np.savez(tmp_path / "a.npz", good=np.zeros(3), positions_3d=nested)
  np.save(tmp_path / "a.npy", object_array(nested))
  for name, load in LOADERS.items():
    message = rf"{name}.* names (posix|nt)\.mkdir, which is not plain data"
    with pytest.raises(safe_pickle.Refused, match=message) as error:
      load(tmp_path / name)
    assert "\n" not in str(error.value)
    assert not planted.exists()
  np.load(tmp_path / "a.npz", allow_pickle=True)["positions_3d"]
  assert planted.exists()  # the payload is real


@pytest.mark.parametrize("name", [
    "os.system", "builtins.eval", "__builtin__.eval", "builtins.getattr", "numpy.load",
    "numpy.core.multiarray.fromfile", "numpy.testing._private.utils.runstring", "copyreg._reconstructor",
    "functools.partial", "torch._utils._rebuild_tensor_v2",
])
def test_names_outside_the_list_are_refused_by_name(name):
  module, _, attribute = name.rpartition(".")
  stack_global = b"\x80\x04" + text(module) + text(attribute) + b"\x93."
  for raw in (f"c{module}\n{attribute}\n(S'1'\ntR.".encode(), stack_global):
    with pytest.raises(safe_pickle.Refused, match=f"names {name}"):
      load_bytes(raw)
  with pytest.raises(safe_pickle.Refused, match="names builtins.dict.fromkeys"):
    load_bytes(b"\x80\x04\x8c\x08builtins\x8c\x0ddict.fromkeys\x93.")


def test_further_names_and_references_are_allowed_only_when_asked_for():
  raw = pickle.dumps(Payload("unused")).replace(b"posix", b"torch").replace(b"mkdir", b"build")
  assert load_bytes(raw, extra={("torch", "build"): lambda x: [x]}) == ["unused"]
  with pytest.raises(safe_pickle.Refused, match="names torch.build"):
    load_bytes(raw)
  with pytest.raises(safe_pickle.Refused, match="persistent reference"):
    load_bytes(b"Pkey\n.")
  assert load_bytes(b"Pkey\n.", persistent=str.upper) == "KEY"


RAW = py2_pickle(np.zeros(1), OBJECT_STATE, spec="O8")  # eight bytes as an object, which is a made-up address
STRIPPED = py2_pickle(np.zeros(1), OBJECT_STATE.replace(b"K?", b"K\x00"), spec="O8")  # the flag of objects is 0
RECONSTRUCT = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
SCALAR = b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
FROM_BUFFER = b"\x80\x04cnumpy._core.numeric\n_frombuffer\n(C\x08AAAAAAAAcnumpy\ndtype\n"


@pytest.mark.parametrize("raw, message", [
    (RAW, "items or bytes are not those of shape"),
    (STRIPPED, "changes the type object"),
    (py2_pickle(np.zeros(1), b"(K\x03U\x01<NNNK\x08K\x08K\x00tb"), "changes the type float64"),
    (py2_pickle(np.zeros(1), spec="f8,O"), "structured type"),
    (py2_pickle(np.zeros(2)).replace(b"(K\x02t", b"(K\x03t"), "16 items or bytes are not those of shape"),
    (py2_pickle(np.zeros(2)).replace(b"(K\x02t", b"(J\xff\xff\xff\xffJ\xfe\xff\xff\xfft"), "not those of shape"),
    (b"\x80\x02cnumpy\nndarray\nK\x01\x85R.", "not a whole pickle"),
    (RECONSTRUCT + b"J\xff\xff\xff\x7f\x85U\x01b\x87R.", "unusual way"),
    (SCALAR + b"U\x02O8\x85RU\x08AAAAAAAA\x86R.", "scalar of type object"),
    (SCALAR + b"U\x02f8\x85RU\x04AAAA\x86R.", "scalar whose bytes are not those of type float64"),
    (SCALAR + b"U\x02f8\x85RN\x86R.", "scalar whose bytes are not those of type float64"),
    (FROM_BUFFER + b"\x8c\x01O\x85RK\x01\x85\x8c\x01CtR.", "OBJECT"),
    (FROM_BUFFER + b"\x8c\x02f8\x85RK\x02\x85\x8c\x01CtR.", "cannot reshape"),
    (b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R.", "fills bytearray by count"),
    (b"\x80\x02c__builtin__\nbytes\nM\xff\xff\x85R.", "fills bytes by count"),
    (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "asks for the codec 'rot13'"),
    (b"\x80\x02c__builtin__\nset\n}b.", "sets the state of a type"),
    (b"\x80\x02cnumpy\ndtype\n}b.", "sets the state of a function"),
    (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "not a whole pickle"),
])
def test_data_that_does_not_fit_its_type_is_refused(raw, message):
  with pytest.raises(ValueError, match=message):
    load_bytes(raw, encoding="latin1")


def test_truncated_and_flipped_files_are_named(tmp_path):
  np.savez_compressed(tmp_path / "a.npz", positions_3d=NESTED, noise=np.random.default_rng(0).normal(size=500))
  np.save(tmp_path / "a.npy", np.zeros((4, 17, 2)))
  np.savez(tmp_path / "stored.npz", positions_3d=NESTED)
  for name, load in {**LOADERS, "stored.npz": safe_pickle.load_npz}.items():
    whole = (tmp_path / name).read_bytes()
    flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    parts = [whole[:length] for length in (0, 3, 30, len(whole) // 2, len(whole) - 1)]
    for damaged in parts + [flipped] * name.endswith("npz"):  # an npz has checksums
      (tmp_path / name).write_bytes(damaged)
      with pytest.raises(ValueError, match=rf"{name}.* fetch it again") as error:
        load(tmp_path / name)
      assert "\n" not in str(error.value)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match="does not exist"):
      load(tmp_path / name)
  with pytest.raises(FileNotFoundError, match="is a folder"):
    safe_pickle.load_npz(tmp_path)


def npy(header: str, data: bytes = b"") -> bytes:
  text = header.encode() + b"\n"
  return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize("header, message", [
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)}", "ends after 24 of 48 bytes"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "more than .* refused"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}", "announces shape"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3}", "not a whole npy array"),
    ("{'descr': '<f4', 'fortran_order': False}", "not a whole npy array"),
    ("{'descr': 'nothing', 'fortran_order': False, 'shape': (2,)}", "not a whole npy array"),
    ("__import__('os').mkdir('planted')", "not a whole npy array"),
])
def test_headers_that_do_not_fit_their_data_are_refused(tmp_path, header, message):
  (tmp_path / "a.npy").write_bytes(npy(header, bytes(24)))
  with pytest.raises(ValueError, match=message):
    safe_pickle.load_npy(tmp_path / "a.npy")
  with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
    archive.write(tmp_path / "a.npy", "poses.npy")
  with pytest.raises(ValueError, match=rf"a\.npz: poses.*{message}"):
    safe_pickle.load_npz(tmp_path / "a.npz")


def test_a_python_2_header_and_object_array_of_another_shape(tmp_path):
  numbers = np.arange(6, dtype="<f4")
  header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2L, 3L), }"
  (tmp_path / "a.npy").write_bytes(npy(header, numbers.tobytes()))
  with pytest.warns(UserWarning, match="created on Python 2"):
    np.testing.assert_array_equal(safe_pickle.load_npy(tmp_path / "a.npy"), numbers.reshape(3, 2).T, strict=True)
  body = pickle.dumps(np.array([1, None], object), 2)
  (tmp_path / "a.npy").write_bytes(npy("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", body))
  with pytest.raises(ValueError, match="does not hold the array its header announces"):
    safe_pickle.load_npy(tmp_path / "a.npy")


def test_files_beyond_the_limit_are_refused_unread(tmp_path, monkeypatch):
  np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(10**6, np.uint8))
  np.save(tmp_path / "a.npy", np.zeros(10**4))
  assert (tmp_path / "a.npz").stat().st_size < 5000
  monkeypatch.setattr(safe_pickle, "MAX_BYTES", 5000)
  for (name, load), size in zip(LOADERS.items(), ("1,000,", "80,")):
    with pytest.raises(ValueError, match=rf"{name} .* {size}\d+ bytes, more than 5,000: it is refused"):
      load(tmp_path / name)
