"""Files that are made to do harm, through every reader of strangers' files: nothing of them runs, memory stays bounded.

    python -m tests.interop.hostile --json=docs/results/hostile.json

Each file is written to a folder of its own and read in the worker of `fuzz`. A right end is one line that refuses it,
or, where the harm lies in a part that is not used, an answer. CANARY is what a program inside a file would create.
"""

import argparse
import io
import json
import pathlib
import pickle
import pickletools
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator

import h5py
import numpy as np

from tests.interop import fuzz

CANARY = "canary"
GIB = 2**30


def calling_pickles(canary: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  """(opcode, a pickle that calls os.mkdir(canary) by it), for every opcode that can call or find a function."""
  where = str(canary).encode()
  word = b"X" + struct.pack("<I", len(where)) + where  # BINUNICODE
  mkdir, name = b"cos\nmkdir\n", {"os": b"\x8c\x02os", "mkdir": b"\x8c\x05mkdir"}
  yield "GLOBAL, REDUCE", b"\x80\x02" + mkdir + word + b"\x85R."
  yield "STACK_GLOBAL, REDUCE", b"\x80\x04" + name["os"] + name["mkdir"] + b"\x93" + word + b"\x85R."
  yield "INST", b"(" + word + b"ios\nmkdir\n."
  yield "OBJ", b"(" + mkdir + word + b"o."
  yield "NEWOBJ", b"\x80\x02" + mkdir + word + b"\x85\x81."
  yield "NEWOBJ_EX", b"\x80\x04" + mkdir + word + b"\x85}\x92."
  yield "BUILD", b"\x80\x02cos\nenviron\n}X\x04\x00\x00\x00_new" + word + b"sb."
  yield "EXT1", b"\x80\x02\x82\x01" + word + b"\x85R."
  yield "EXT2", b"\x80\x02\x83\x01\x00" + word + b"\x85R."
  yield "EXT4", b"\x80\x02\x84\x01\x00\x00\x00" + word + b"\x85R."
  yield "PERSID", b"Pos.mkdir\n."
  yield "BINPERSID", b"\x80\x02" + word + b"Q."
  yield "a name with dots", b"\x80\x04\x8c\x05numpy\x8c\x0fos.system.mkdir\x93" + word + b"\x85R."
  yield "REDUCE of a method", pickle.dumps(_Getter(), 4).replace(b"CANARY", where)
  yield "a long memo", b"\x80\x04" + b"]\x94" * 200_000 + b"."
  yield "a depth of 100,000", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
  yield "a length of 2^62", b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"."


class _Getter:
  def __reduce__(self):
    return getattr, (pathlib.Path("CANARY"), "mkdir")


def npy(header: str | bytes, body: bytes = b"", version: int = 1) -> bytes:
  """An npy file with the given header."""
  header = header.encode() if isinstance(header, str) else header
  length = struct.pack("<H" if version == 1 else "<I", len(header))
  return b"\x93NUMPY" + bytes([version, 0]) + length + header + body


def zipped(members: dict[str, bytes], claimed: int | None = None) -> bytes:
  """A zip archive; `claimed` stands as the unpacked size of every member."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  data = bytearray(file.getvalue())
  if claimed is not None:
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
      place = data.find(magic)
      while place >= 0:
        data[place + at : place + at + 4] = struct.pack("<I", claimed)
        place = data.find(magic, place + 4)
  return bytes(data)


def bomb(name: str, gib: float = 3.0) -> bytes:
  """A zip archive of a few MB whose one member unpacks to `gib` GiB of blanks."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as member:
    for _ in range(int(gib * 64)):
      member.write(b" " * (GIB // 64))
  return file.getvalue()


def safetensors_file(header: dict, body: bytes = bytes(64), length: int | None = None) -> bytes:
  """A safetensors file with the given header, and perhaps a length of it that lies."""
  text = json.dumps(header).encode()
  return struct.pack("<Q", len(text) if length is None else length) + text + body


def matlab(kind: int, size: int, body: bytes = b"") -> bytes:
  """A MATLAB v5 file with one element of the given kind and size."""
  return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", kind, size) + body


def hdf5(folder: pathlib.Path) -> bytes:
  """An HDF5 file whose arrays announce 2^50 numbers that no byte holds."""
  path = folder / "absurd.h5"
  with h5py.File(path, "w", userblock_size=512) as file:
    for name, shape in {"annot2": (1, 17, 2), "annot3": (1, 17, 3), "valid_frame": (1,)}.items():
      file.create_dataset(name, (2**40, *shape), chunks=(1, *shape), dtype="f8")
    file["activity_annotation"] = np.ones((3, 1))
  with path.open("r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
  return path.read_bytes()


def corpus(folder: pathlib.Path, canary: pathlib.Path) -> Iterator[tuple[str, str, pathlib.Path]]:
  """(what it is, its reader of fuzz.READERS, the file or folder), each written when it is asked for."""
  number = 0

  def write(name: str, content: bytes) -> pathlib.Path:
    nonlocal number
    number += 1
    path = folder / str(number) / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path

  for opcode, content in calling_pickles(canary):
    yield f"pickle: {opcode}", "3dpw", write("walk.pkl", content)
    yield f"PyTorch file: {opcode}", "torch", write("model.bin", zipped({"m/data.pkl": content, "m/version": b"3"}))
    yield f"old PyTorch file: {opcode}", "torch", write("model.bin", content)
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }\n"
    for reader, name in (("keypoints", "a.npz"), ("h36m_3d", "positions_3d.npz"), ("lifted", "lifted.npz")):
      member = {"keypoints": "keypoints", "h36m_3d": "positions_3d", "lifted": "metadata"}[reader]
      yield f"npz for {reader}: {opcode}", reader, write(name, zipped({f"{member}.npy": npy(header, content)}))
    yield f"npy: {opcode}", "keypoints", write("a.npy", npy(header, content))
  shapes = "(1000000000000, 17, 3)", "(-1, 17, 3)", f"({2**62}, {2**62})", "(3,) * 10**9", "(" * 5000, "()" * 9000
  for shape in shapes:
    for kind in ("<f8", "|O", "|V1000000000"):
      header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"
      yield f"npy header: {kind} {shape[:30]}", "keypoints", write("a.npy", npy(header))
      yield f"npy header in npz: {kind} {shape[:30]}", "smpl", write("a.npz", zipped({"v_template.npy": npy(header)}))
  yield "npy header of 4 GiB", "keypoints", write("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'")
  blanks = {"keypoints": ("a.npz", "keypoints.npy"), "torch": ("model.bin", "m/data.pkl"),
            "lifted": ("a.npz", "pose.npy"), "models": ("m.whl", "x/pose_detection.tflite")}
  for reader, (name, member) in blanks.items():
    yield f"zip bomb for {reader}", reader, write(name, bomb(member))
    lying = zipped({member: bytes(2**20)}, claimed=10)
    yield f"zip for {reader} whose sizes lie", reader, write(name, lying)
  yield "zip bomb of frames", "keypoints", write("frames.zip", bomb("a_keypoints_000000000000.json"))
  yield "zip bomb of motion", "mocap_zip", write("cmu.zip", bomb("cmu/01/01.asf")).parent
  inner = zipped({"a.npz": bomb("keypoints.npy", 1.0)})
  yield "archive in an archive", "keypoints", write("frames.zip", zipped({"inner.zip": inner}))
  yield "zip of 200,000 members", "keypoints", write("frames.zip", zipped({f"{i}.json": b"{}" for i in range(200_000)}))
  for escape in ("../" * 8 + CANARY, "/tmp/" + CANARY, "..\\..\\" + CANARY, "C:\\" + CANARY):
    yield f"motion that climbs: {escape[:12]}", "mocap_zip", write("cmu.zip", zipped({f"cmu/{escape}": b"x"})).parent
    yield f"frames that climb: {escape[:12]}", "keypoints", write("frames.zip", zipped({escape + ".json": b"{}"}))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
      archive.addfile(tarfile.TarInfo(f"S1/MyPoseFeatures/D3_Positions/{escape}.cdf"), io.BytesIO())
    yield f"tar that climbs: {escape[:12]}", "h36m_cdf", write("Poses_D3_Positions_S1.tgz", file.getvalue())
  for kind, size in ((14, 2**32 - 1), (15, 2**31), (99, 8), (14, 0)):
    path = write("annot.mat", matlab(kind, size, bytes(64))).parent
    (path / "camera.calibration").write_text("Skeletool Camera Calibration File V1.0\n")
    yield f"MATLAB v5: element {kind} of {size:,} bytes", "3dhp_matlab", path
  yield "MATLAB v4 with absurd sizes", "3dhp_matlab", write(
      "annot.mat", struct.pack("<5I", 0, 2**31, 2**31, 0, 2**31).ljust(124, b"\0") + b"\x00\x01IM").parent
  yield "HDF5 of 2^50 numbers", "3dhp_hdf5", write("annot_data.mat", hdf5(folder))
  whole = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
  overlapping = whole | {"b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}
  huge = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
  negative = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}
  for what, header, length in (
      ("overlapping ranges", overlapping, None), ("a tensor of 2^42 bytes", huge, None),
      ("ranges backwards", negative, None), ("a header of 2^60 bytes", whole, 2**60), ("no tensor", {}, None)):
    for reader in ("base", "adapter"):
      yield f"safetensors for {reader}: {what}", reader, write("a.safetensors", safetensors_file(header, length=length))
  deep = {"lists": b"[" * 10_000 + b"]" * 10_000, "objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000}
  for what, content in deep.items():
    yield f"JSON: {what} of depth 10,000", "keypoints", write("a.json", content)
    yield f"JSON: {what} of depth 10,000 in people", "keypoints", write("a.json", b'{"people": [' + content + b"]}")
  yield "JSON: a number of a million digits", "keypoints", write("a.json", b'{"people": [' + b"9" * 10**6 + b"]}")
  yield "JSON: a key of 64 MB", "keypoints", write("a.json", b'{"' + b"k" * 2**26 + b'": 1}')
  yield "JSON: 10 million empty lists", "keypoints", write("a.json", b"[" + b"[]," * 10**7 + b"[]]")
  yield "BVH: a million joints", "bvh", write("a.bvh", b"HIERARCHY\nROOT a\n{\n" + b"JOINT b\n{\n" * 10**6)
  yield "BVH: 10^12 frames", "bvh", write("a.bvh", fuzz.BVH.encode().replace(b"Frames: ", b"Frames: 9999999999", 1))
  right = {"video": fuzz.test_video.write(folder / "clip.mp4", range(6)).read_bytes()}
  for share in (0.1, 0.5, 0.9):
    content = right["video"]
    yield f"video cut at {share:.0%}", "video", write("clip.mp4", content[: int(share * len(content))])
  yield "video of zeros", "video", write("clip.mp4", bytes(10**6))
  yield "playlist that names another file", "video", write("clip.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
  yield "concatenation that names another file", "video", write("clip.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n")
  for size in (0, 8, 10**6):
    content = b"\x1c\x00\x00\x00TFL3"[:size] + bytes(size)
    yield f"TFLite model of {size:,} bytes", "tflite", write("pose_detection.tflite", content)


def run() -> dict:
  """`fuzz.count` of the corpus, and "executed": whether a program in it ran or a file left its folder."""
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    found = fuzz.count(corpus(folder, folder / CANARY), fuzz.Worker().read)
    executed = [folder / CANARY, pathlib.Path("/tmp", CANARY), *folder.parent.glob(CANARY)]
  return found | {"executed": any(path.exists() for path in executed)}


def callable_opcodes() -> set[str]:
  """Opcodes of pickle whose documentation says that they call, find or build something."""
  words = ("callable", "class", "global", "persistent", "extension", "__setstate__", "object's")
  return {code.name for code in pickletools.opcodes if any(word in code.doc for word in words)}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--json", type=pathlib.Path)
  given, found = parser.parse_args(), run()
  print(f"{found['files']} files: {found['ends']}, slowest {found['slowest_seconds']} s, executed: {found['executed']}")
  if given.json:
    given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
