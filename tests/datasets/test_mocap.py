"""Parsers of motion capture files: laws on tiny files, published positions of true files if these are present."""

import os
import pathlib

import numpy as np
import pytest

from posynda_jax.datasets.mocap import archives, asf_amc, bvh, h36m_map, views
from posynda_jax.geometry import skeleton as h36m
from tests import tolerance

MOCAP = pathlib.Path(os.environ.get("POSYNDA_MOCAP", "../shared/mocap"))
UNIT = 0.0254 / 0.45  # metres of one file unit



def asf(body, axes: dict[str, str]) -> str:
  """ASF text of a body [(bone, parent, direction, length, degrees of freedom)], parents first."""
  lines = ["# made for a test", ":units", "length 0.45", "angle deg", ":documentation", "  made for a test", ":root"]
  lines += ["order TX TY TZ RX RY RZ", "axis XYZ", "position 0 0 0", "orientation 0 0 0", ":bonedata"]
  children: dict[str, str] = {}
  for bone, parent, direction, length, dof in body:
    children[parent] = f"{children.get(parent, parent)} {bone}"
    lines += ["begin", f"name {bone}", "direction %g %g %g" % direction, f"  length {length}"]
    lines.append(f"axis {axes.get(bone, '0 0 0')} XYZ")
    lines += [f"dof {dof}", "limits (-160.0 20.0)", "(-70.0 70.0)", "end"] if dof else ["end"]
  return "\n".join(lines + [":hierarchy", "begin", *children.values(), "end", ""])


def amc(frames, bones=("root", "thigh", "shin")) -> str:
  """AMC text of [(values of the root, values of the first bone, ...)]."""
  lines = ["#!OML:ASF made by hand", ":FULLY-SPECIFIED", ":DEGREES"]
  for number, frame in enumerate(frames, 1):
    lines += [str(number), *(f"{bone} {' '.join(f'{x:.9g}' for x in values)}" for bone, values in zip(bones, frame))]
  return "\n".join(lines + [""])


LEG = (("thigh", "root", (0, -1, 0), 4, "rx ry rz"), ("shin", "thigh", (0, -1, 0), 3, "rx"))
ASF = asf((*LEG, ("arm", "root", (1, 0, 0), 2, "")), {"thigh": "0 0 90"})
REST = ((1, 10, 0, 0, 0, 0), (0, 0, 0), (0,))


def ends(frames, **kwargs):
  skeleton = asf_amc.parse_asf(ASF)
  return asf_amc.joint_ends(skeleton, asf_amc.parse_amc(amc(frames), skeleton, **kwargs))


def random_frames(n):
  rng = np.random.default_rng(0)
  return [tuple(tuple(rng.uniform(-180, 180, k).round(4)) for k in (6, 3, 1)) for _ in range(n)]


def assert_close(actual, desired):
  tolerance.assert_close(actual, np.asarray(desired, float), dtype=np.float64)


@pytest.mark.parametrize("frame, expected", [
    # Bones at rest have their directions.
    (REST, {"root": (1, 10, 0), "shin": (1, 3, 0), "arm": (3, 10, 0)}),
    # The thigh's axes are turned by 90 degrees about Z: its own X is the room's Y, its own Y the room's -X.
    (((0,) * 6, (0, 90, 0), (0,)), {"thigh": (0, 0, 4)}),  # -Y turned by -90 about X is +Z
    (((0,) * 6, (90, 0, 0), (0,)), {"thigh": (0, -4, 0)}),  # -Y turned about Y stays
    # The thigh points to +Z, then the root's turn about Y takes +Z to +X. The shin's +90 undoes the thigh's turn.
    (((0, 0, 0, 0, 90, 0), (0, 90, 0), (90,)), {"arm": (0, 0, -2), "thigh": (4, 0, 0), "shin": (4, -3, 0)}),
    # Angles apply about X, then Y, then Z: -Y goes to -Z and stays there under Z. The other order gives +X.
    (((0, 0, 0, 90, 0, 90), (0, 0, 0), (0,)), {"thigh": (0, 0, -4)}),
])
def test_bones_turn_about_their_own_axes_after_their_parents(frame, expected):
  got = ends([frame])
  for bone, position in expected.items():
    assert_close(got[bone][0], UNIT * np.array(position))


def test_bone_lengths_are_constant_in_any_motion_and_a_stride_keeps_every_nth_frame():
  frames = random_frames(50)
  got = ends(frames)
  for bone, parent, length in (("thigh", "root", 4), ("shin", "thigh", 3), ("arm", "root", 2)):
    assert_close(np.linalg.norm(got[bone] - got[parent], axis=-1), np.full(50, UNIT * length))
  assert_close(ends(frames, stride=3)["shin"], got["shin"][::3])


def test_line_endings_and_latin_1_bytes_do_not_matter():
  skeleton = asf_amc.parse_asf(ASF)
  text = amc(random_frames(4)).replace("made by hand", "f\xfcr \x85 Bonn")
  mixed = "".join(line + ("\r\n" if i % 2 else "\n") for i, line in enumerate(text.split("\n")[:-1]))
  expected = asf_amc.parse_amc(text, skeleton)
  for variant in (mixed, text.replace("\n", "\r\n")):
    got = asf_amc.parse_amc(variant.encode("latin-1").decode("latin-1"), skeleton)
    for bone, values in expected.items():
      np.testing.assert_array_equal(got[bone], values)
  crlf = asf_amc.parse_asf(ASF.replace("\n", "\r\n"))
  np.testing.assert_array_equal(crlf.bones["shin"].offset, skeleton.bones["shin"].offset)


@pytest.mark.parametrize("damage, message", [
    (lambda text: text[: text.rindex("shin")], "frame 3 .*truncated file"),
    (lambda text: text[: text.rindex(" ")], "frame 3 .*truncated file"),
    (lambda text: text.replace("\n2\n", "\n5\n"), "frame 2"),
    (lambda text: text.replace("\n3\n", "\n5\n"), "frame 3"),
    (lambda text: text.replace("3\nroot", "3\nroto"), "frame 3"),
    (lambda text: text.replace("root", "tail", 1), "no values for root, thigh, shin before 'tail'"),
    (lambda text: text.replace(":DEGREES", ""), "no ':DEGREES' header"),
    (lambda text: text[: text.index("thigh")], "frame 1 has no values for thigh, shin before the end"),
    (lambda text: text.replace("10", "1O", 1), "could not convert"),
    (lambda text: text.replace("10", "nan", 1), "not a finite number"),
    (lambda text: "", "not an AMC"),
])
def test_a_damaged_motion_is_refused_with_its_name_and_place(damage, message):
  with pytest.raises(ValueError, match=rf"^x\.amc: .*({message})") as caught:
    asf_amc.parse_amc(damage(amc([REST] * 3)), asf_amc.parse_asf(ASF), name="x.amc")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [lambda t: t[:300], lambda t: t[: t.rindex("end")], lambda t: t.replace("angle deg", "angle rad"), lambda t: ""],
)
def test_a_damaged_skeleton_is_refused_with_its_name(damage):
  with pytest.raises(ValueError, match=r"^x\.asf: not a complete ASF skeleton"):
    asf_amc.parse_asf(damage(ASF), "x.asf")


BVH = """HIERARCHY
ROOT hips
{
  OFFSET 9 9 9
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT knee
  {
    OFFSET 0 -40 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -5 0
    }
  }
  JOINT hand
  {
    OFFSET 20 0 0
    CHANNELS 0
  }
}
MOTION
Frames: 2
Frame Time: 0.02
0 90 0 0 0 0 0 0 0
1 90 0 90 90 0 0 0 0
"""


@pytest.mark.parametrize("text", [BVH, BVH.replace("\n", "\r\n")])
def test_bvh_positions_replace_offsets_and_rotations_multiply_as_named(text):
  motion = bvh.parse_bvh(text)
  positions, rotations = bvh.forward(motion)
  assert motion.fps == pytest.approx(50)
  # Second frame, R = Rz(90) Rx(90): -Y goes to -Z and stays; +X goes to +Y.
  assert_close(positions["knee"], [[0, 50, 0], [1, 90, -40]])
  assert_close(positions["hand"][1], [1, 110, 0])
  assert_close(rotations["hand"].apply([1, 0, 0])[1], [0, 1, 0])


@pytest.mark.parametrize("damage", [
    lambda t: t[:-6],
    lambda t: t[:200],
    lambda t: t.replace("}\nMOTION", "MOTION"),
    lambda t: t.replace("Zrotation", "Wrotation", 1),
    lambda t: t.replace("Frames: 2", "Frames: 3"),
    lambda t: t.replace("90", "x"),
    lambda t: "",
])
def test_a_damaged_bvh_is_refused_with_its_name(damage):
  with pytest.raises(ValueError, match=r"^x\.bvh: "):
    bvh.parse_bvh(damage(BVH), "x.bvh")


def test_the_kept_rate_is_the_nearest_to_50_by_ratio():
  assert [fps / views.stride_to(fps) for fps in (120, 30, 50, 100, 25, 60)] == [60, 30, 50, 50, 25, 60]


@pytest.mark.parametrize("num_frames", [1, 28, 360, 361, 719, 1376, 2712])
def test_shots_cover_every_frame_once_in_equal_lengths(num_frames):
  shots = views.shots(num_frames, 360)
  lengths = [s.stop - s.start for s in shots]
  np.testing.assert_array_equal(np.concatenate([np.arange(num_frames)[s] for s in shots]), np.arange(num_frames))
  assert max(lengths) <= 360 and max(lengths) - min(lengths) <= 1
  assert min(lengths) >= min(num_frames, 180)


@pytest.mark.parametrize("name, files, frame, expected", [  # positions (m) of Hip, RFoot, Head, LWrist
    ("cmu", ("02/02.asf", "02/02_01.amc"), 0,
     "0.5774 0.8432 -1.6597 0.6133 0.0654 -1.9256 0.5675 1.5574 -1.6877 0.7955 0.8150 -1.7680"),
    ("cmu", ("02/02.asf", "02/02_01.amc"), 100,
     "0.5311 0.8676 -0.6906 0.5151 0.0733 -0.6764 0.5206 1.5780 -0.7773 0.7502 0.8329 -0.6719"),
    ("hdm05", ("HDM_bk.asf", "HDM_bk_squat1Reps_014_120.amc"), 100,
     "0.0123 0.3736 0.1383 0.1446 0.1327 0.1360 0.0773 1.1392 -0.0921 -0.1236 0.6677 -0.6328"),
    ("bandai_namco", ("dataset-2_walk_active_001.bvh",), 20,
     "-0.0056 0.8333 -4.1301 -0.1048 0.2565 -4.4424 -0.0188 1.4931 -4.0485 0.0805 1.0356 -3.8600"),
])
def test_true_motions_have_their_published_positions(name, files, frame, expected):
  if not (MOCAP / f"{name}.zip").is_file():
    pytest.skip(f"no {name}.zip in {MOCAP}; set POSYNDA_MOCAP to the folder that holds it")
  with archives.open_archive(MOCAP, name) as archive:
    contents = [archive.read(file) for file in files]
  if len(files) == 2:
    poses = h36m_map.poses_from_amc(*contents)
  else:
    poses = h36m_map.poses_from_bvh(*contents, h36m_map.BANDAI)[0]
  np.testing.assert_allclose(poses[frame, [0, 3, 10, 13]].ravel(), np.array(expected.split(), float), atol=1e-4)
  lengths = np.asarray(h36m.bone_lengths(poses))
  limbs = [0, 1, 2, 3, 4, 5, 11, 12, 14, 15]  # bones without a midpoint or a moving joint at an end
  assert lengths[:, limbs].std(0).max() < 1e-4
