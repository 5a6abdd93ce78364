"""Parsers of motion capture files: laws on tiny files written here, check values on the true ones where they are."""

import os
import pathlib

import numpy as np
import pytest

from posynda_jax.datasets.mocap import archives, asf_amc, bvh, h36m_map, rotations, views
from posynda_jax.geometry import skeleton as h36m

MOCAP = pathlib.Path(os.environ.get("POSYNDA_MOCAP", "../shared/mocap"))
UNIT = 0.0254 / 0.45  # metres of one file unit

ASF = """# a leg and a rigid arm
:version 1.10
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
  made for a test
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name thigh
     direction 0 -1 0
     length 4
     axis 0 0 90 XYZ
     dof rx ry rz
     limits (-160.0 20.0)
            (-70.0 70.0)
            (-60.0 70.0)
  end
  begin
     id 2
     name shin
     direction 0 -1 0
     length 3
     axis 0 0 0 XYZ
     dof rx
     limits (-10.0 170.0)
  end
  begin
     id 3
     name arm
     direction 1 0 0
     length 2
     axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root thigh arm
    thigh shin
  end
"""
HEADER = "#!OML:ASF made by hand\n:FULLY-SPECIFIED\n:DEGREES\n"


def amc(frames) -> str:
  """AMC text of [(root six values, thigh three, shin one)]."""
  lines = [HEADER]
  for number, frame in enumerate(frames, 1):
    lines.append(f"{number}\n")
    lines += [f"{bone} {' '.join(map(str, values))}\n" for bone, values in zip(("root", "thigh", "shin"), frame)]
  return "".join(lines)


def ends(frames, **kwargs):
  skeleton = asf_amc.parse_asf(ASF)
  return asf_amc.joint_ends(skeleton, asf_amc.parse_amc(amc(frames), skeleton, **kwargs))


REST = ((1, 10, 0, 0, 0, 0), (0, 0, 0), (0,))


def test_at_rest_bones_follow_their_directions():
  got = ends([REST])
  np.testing.assert_allclose(got["root"][0], UNIT * np.array([1, 10, 0]))
  np.testing.assert_allclose(got["shin"][0], UNIT * np.array([1, 3, 0]), atol=1e-12)
  np.testing.assert_allclose(got["arm"][0], UNIT * np.array([3, 10, 0]), atol=1e-12)


def test_a_bone_turns_about_its_own_axes():
  # The thigh's axes are turned by 90 degrees about Z: its own X is the room's Y, its own Y the room's -X.
  about_y = ends([((0,) * 6, (0, 90, 0), (0,))])["thigh"][0]
  np.testing.assert_allclose(about_y, UNIT * np.array([0, 0, 4]), atol=1e-12)  # -Y turned by -90 about X gives +Z
  about_x = ends([((0,) * 6, (90, 0, 0), (0,))])["thigh"][0]
  np.testing.assert_allclose(about_x, UNIT * np.array([0, -4, 0]), atol=1e-12)  # -Y turned about Y stays


def test_children_turn_with_their_parents_and_rigid_bones_with_the_root():
  got = ends([((0, 0, 0, 0, 90, 0), (0, 90, 0), (90,))])
  # Root about Y: +X goes to -Z, +Z to +X. The thigh, turned by -90 about X, points to +Z before that; the shin's +90
  # about X undoes the thigh's turn, so it hangs down.
  np.testing.assert_allclose(got["arm"][0], UNIT * np.array([0, 0, -2]), atol=1e-12)
  np.testing.assert_allclose(got["thigh"][0], UNIT * np.array([4, 0, 0]), atol=1e-12)
  np.testing.assert_allclose(got["shin"][0], UNIT * np.array([4, -3, 0]), atol=1e-12)


def test_angles_are_applied_about_x_then_y_then_z():
  got = ends([((0, 0, 0, 90, 0, 90), (0, 0, 0), (0,))])
  # X first: -Y goes to -Z and stays there under Z. The other order would give +X.
  np.testing.assert_allclose(got["thigh"][0], UNIT * np.array([0, 0, -4]), atol=1e-12)


def random_frames(n):
  rng = np.random.default_rng(0)
  return [tuple(tuple(rng.uniform(-180, 180, k).round(4)) for k in (6, 3, 1)) for _ in range(n)]


def test_bone_lengths_are_constant_whatever_the_motion():
  got = ends(random_frames(50))
  for bone, parent, length in (("thigh", "root", 4), ("shin", "thigh", 3), ("arm", "root", 2)):
    np.testing.assert_allclose(np.linalg.norm(got[bone] - got[parent], axis=-1), UNIT * length)


def test_a_stride_keeps_every_nth_frame():
  frames = random_frames(7)
  np.testing.assert_array_equal(ends(frames, stride=3)["shin"], ends(frames)["shin"][::3])


def test_only_asked_bones_are_computed():
  skeleton = asf_amc.parse_asf(ASF)
  motion = asf_amc.parse_amc(amc([REST]), skeleton)
  assert set(asf_amc.joint_ends(skeleton, motion, ["shin"])) == {"root", "thigh", "shin"}
  with pytest.raises(ValueError, match="no bone tail"):
    asf_amc.joint_ends(skeleton, motion, ["tail"])


def test_line_endings_and_latin_1_bytes_do_not_matter():
  skeleton = asf_amc.parse_asf(ASF)
  text = amc(random_frames(4)).replace("made by hand", "f\xfcr \x85 Bonn")
  lines = text.split("\n")
  mixed = "".join(line + ("\r\n" if i % 2 else "\n") for i, line in enumerate(lines[:-1]))
  expected = asf_amc.parse_amc(text, skeleton)
  for variant in (mixed, text.replace("\n", "\r\n")):
    got = asf_amc.parse_amc(variant.encode("latin-1").decode("latin-1"), skeleton)
    for bone, values in expected.items():
      np.testing.assert_array_equal(got[bone], values)
  crlf = asf_amc.parse_asf(ASF.replace("\n", "\r\n"))
  np.testing.assert_array_equal(crlf.bones["shin"].offset, skeleton.bones["shin"].offset)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: text[: text.rindex("shin")], "frame 3 ends or breaks off at bone 'shin'"),
        (lambda text: text.replace("\n2\n", "\n5\n"), "'5' where|frame 1"),
        (lambda text: text.replace("3\nroot", "3\nroto"), "frame 3 .* bone 'root'"),
        (lambda text: text.replace("root", "tail", 1), "'tail' where a bone"),
        (lambda text: text.replace(":DEGREES", ""), "no ':DEGREES' header"),
        (lambda text: text[: text.index("thigh")], "frame 1 is incomplete .*thigh, shin"),
        (lambda text: text.replace("10", "1O", 1), "could not convert"),
        (lambda text: text.replace("10", "nan", 1), "not a finite number"),
        (lambda text: "", "not an AMC"),
    ],
)
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
  positions, turns = bvh.forward(motion)
  assert motion.fps == pytest.approx(50)
  np.testing.assert_allclose(positions["knee"][0], [0, 50, 0])
  # Second frame, R = Rz(90) Rx(90): -Y goes to -Z and stays; +X goes to +Y.
  np.testing.assert_allclose(positions["knee"][1], [1, 90, -40], atol=1e-12)
  np.testing.assert_allclose(positions["hand"][1], [1, 110, 0], atol=1e-12)
  np.testing.assert_allclose(turns["hand"][1][:, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t[:-6],
        lambda t: t[:200],
        lambda t: t.replace("Frames: 2", "Frames: 3"),
        lambda t: t.replace("90", "x"),
        lambda t: "",
    ],
)
def test_a_damaged_bvh_is_refused_with_its_name(damage):
  with pytest.raises(ValueError, match=r"^x\.bvh: "):
    bvh.parse_bvh(damage(BVH), "x.bvh")


@pytest.mark.parametrize("axis", "XYZ")
def test_axis_rotations_are_right_handed(axis):
  i = "XYZ".index(axis)
  turn = rotations.axis_rotation(axis, 90.0)
  np.testing.assert_allclose(turn @ np.eye(3)[(i + 1) % 3], np.eye(3)[(i + 2) % 3], atol=1e-12)
  np.testing.assert_allclose(turn @ np.eye(3)[i], np.eye(3)[i])


def test_the_kept_rate_is_the_nearest_to_50_by_ratio():
  assert [fps / views.stride_to(fps) for fps in (120, 30, 50, 100, 25, 60)] == [60, 30, 50, 50, 25, 60]


@pytest.mark.parametrize("num_frames", [1, 28, 360, 361, 719, 1376, 2712])
def test_shots_cover_every_frame_once_in_equal_lengths(num_frames):
  shots = views.shots(num_frames, 360)
  lengths = [s.stop - s.start for s in shots]
  np.testing.assert_array_equal(np.concatenate([np.arange(num_frames)[s] for s in shots]), np.arange(num_frames))
  assert max(lengths) <= 360 and max(lengths) - min(lengths) <= 1
  assert min(lengths) >= min(num_frames, 180)


CHECKS = [  # archive, file, frame, positions (m) of Hip, RFoot, Head, LWrist
    (
        "cmu",
        "02/02_01.amc",
        0,
        "0.5774 0.8432 -1.6597 0.6133 0.0654 -1.9256 0.5675 1.5574 -1.6877 0.7955 0.8150 -1.7680",
    ),
    (
        "cmu",
        "02/02_01.amc",
        100,
        "0.5311 0.8676 -0.6906 0.5151 0.0733 -0.6764 0.5206 1.5780 -0.7773 0.7502 0.8329 -0.6719",
    ),
    (
        "hdm05",
        "HDM_bk_squat1Reps_014_120.amc",
        100,
        "0.0123 0.3736 0.1383 0.1446 0.1327 0.1360 0.0773 1.1392 -0.0921 -0.1236 0.6677 -0.6328",
    ),
    (
        "bandai_namco",
        "dataset-2_walk_active_001.bvh",
        20,
        "-0.0056 0.8333 -4.1301 -0.1048 0.2565 -4.4424 -0.0188 1.4931 -4.0485 0.0805 1.0356 -3.8600",
    ),
]
SKELETONS = {"cmu": "02/02.asf", "hdm05": "HDM_bk.asf"}


@pytest.mark.parametrize("name, file, frame, expected", CHECKS)
def test_true_motions_have_their_published_positions(name, file, frame, expected):
  if not (MOCAP / f"{name}.zip").is_file():
    pytest.skip(f"no {name}.zip in {MOCAP}; set POSYNDA_MOCAP to the folder that holds it")
  with archives.open_archive(MOCAP, name) as archive:
    if name in SKELETONS:
      poses = h36m_map.poses_from_amc(archive.read(SKELETONS[name]), archive.read(file))
    else:
      poses, _ = h36m_map.poses_from_bvh(archive.read(file))
  got = poses[frame, [0, 3, 10, 13]].ravel()
  np.testing.assert_allclose(got, np.array(expected.split(), float), atol=1e-4)
  lengths = np.asarray(h36m.bone_lengths(poses))
  limbs = [0, 1, 2, 3, 4, 5, 11, 12, 14, 15]  # bones that no midpoint or moving joint makes longer
  assert lengths[:, limbs].std(0).max() < 1e-4
