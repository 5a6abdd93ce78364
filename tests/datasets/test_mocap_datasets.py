"""Motion capture datasets, built from tiny archives in the true formats and read by `load`."""

import pickle
import sys
import zipfile

import numpy as np
import pytest

from posynda_jax.datasets import load, record
from posynda_jax.datasets.mocap import archives, h36m_map, views
from posynda_jax.geometry import camera, rigs
from tests import tolerance
from tests.datasets.test_mocap import amc, asf

ALL = "rx ry rz"
BODY = (  # (bone, parent, direction, length, degrees of freedom) of a body with the bones that the map needs
    ("lhipjoint", "root", (0.7, -0.7, 0), 2.5, ""), ("rhipjoint", "root", (-0.7, -0.7, 0), 2.5, ""),
    ("lfemur", "lhipjoint", (0, -1, 0), 7.5, ALL), ("ltibia", "lfemur", (0, -1, 0), 7.3, "rx"),
    ("rfemur", "rhipjoint", (0, -1, 0), 7.5, ALL), ("rtibia", "rfemur", (0, -1, 0), 7.3, "rx"),
    ("lowerback", "root", (0, 1, 0), 2, ALL), ("thorax", "lowerback", (0, 1, 0), 4, ALL),
    ("lowerneck", "thorax", (0, 1, 0), 1.5, ALL), ("upperneck", "lowerneck", (0, 1, 0), 1.5, ALL),
    ("head", "upperneck", (0, 1, 0), 1.6, ALL),
    ("lclavicle", "thorax", (1, 0, 0), 3, ""), ("rclavicle", "thorax", (-1, 0, 0), 3, ""),
    ("lhumerus", "lclavicle", (1, 0, 0), 5, ALL), ("lwrist", "lhumerus", (1, 0, 0), 5, ""),
    ("rhumerus", "rclavicle", (-1, 0, 0), 5, ALL), ("rwrist", "rhumerus", (-1, 0, 0), 5, ""),
)


ASF = asf(BODY, {})


def walk(num_frames: int, seed: int) -> str:
  """AMC text of a person who walks on and swings every joint."""
  rng = np.random.default_rng(seed)
  phases = {bone: rng.uniform(0, 6, len(dof.split())) for bone, _, _, _, dof in BODY if dof}
  frames = [
      [(0, 18, f / 20, 0, f / 10, 0), *(20 * np.sin(phase + f / 40) for phase in phases.values())]
      for f in range(num_frames)
  ]
  return amc(frames, ["root", *phases]).replace("\n", "\r\n")


def bvh(num_frames: int, table=h36m_map.BANDAI) -> str:
  """Every joint that the map needs, below one root: the true format without a true body."""
  names = sorted({joint for row in table for joint in row if not joint.endswith("_End")})
  channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
  lines = ["HIERARCHY", "ROOT joint_Root { OFFSET 0 0 0", channels]
  for i, name in enumerate(names):
    lines += [f"JOINT {name} {{ OFFSET 0 {i} 0", channels, "End Site { OFFSET 0 0 0 } }"]
  lines += ["}", "MOTION", f"Frames: {num_frames}", "Frame Time: 0.033333"]
  for f in range(num_frames):
    lines.append(" ".join(["0 0 0 0 0 0"] + [f"{10 * i} {5 * i} {f} 0 0 {f}" for i in range(len(names))]))
  return "\n".join(lines + [""])


CMU = {
    "cmu/01/01.asf": ASF,
    "cmu/01/01_02.amc": walk(1500, 0),  # 750 kept frames: three shots
    "cmu/02/02.asf": ASF,
    "cmu/02/02_01.AMC": walk(61, 1),
    "cmu/02/02_03.amc": walk(130, 2),
}


def write_zip(path, files):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    for name, text in files.items():
      file.writestr(name, text)
  return path


def load_from(folder, split, name="cmu_mocap/world"):
  """Records of a dataset built from the archives in `folder`."""
  return load.load(name, split, data_dir=folder / "data", manual_dir=folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  """A folder with the tiny CMU archive."""
  return write_zip(tmp_path_factory.mktemp("tiny") / "cmu.zip", CMU).parent


def test_world_records_hold_the_motion_itself(tiny):
  train, test = load_from(tiny, "train"), load_from(tiny, "test")
  assert [r["sequence"] for r in train] == ["01_02"]
  assert [r["sequence"] for r in test] == ["02_01", "02_03"]
  first = test[0]
  assert set(first) == set(record.world_features())
  assert (first["subject"], first["action"], first["fps"]) == ("02", "02_01", 60)
  expected = h36m_map.poses_from_amc(CMU["cmu/02/02.asf"].encode(), CMU["cmu/02/02_01.AMC"].encode(), stride=2)
  assert expected.shape == (31, 17, 3)
  np.testing.assert_array_equal(first["poses_world_m"], expected.astype(np.float32))


def test_view_records_hold_every_view_of_every_shot_and_its_exact_projection(tiny):
  records, world = load_from(tiny, "train+test", "cmu_mocap/wild_rig"), load_from(tiny, "train+test")
  assert len(records) == 4 * (3 + 1 + 1) and "tensorflow" not in sys.modules
  assert [r["camera"] for r in records[:4]] == [f"wild_rig/{view}" for view in range(4)]
  shots = ["01_02/shot00", "01_02/shot01", "01_02/shot02", "02_01/shot00", "02_03/shot00"]
  assert [r["sequence"] for r in records[::4]] == shots
  assert sum(len(r["valid"]) for r in records[:12:4]) == 750
  for r in records:
    assert set(r) == set(record.view_features())
    assert r["keypoints_px"].shape == r["poses_camera_m"].shape[:2] + (2,)
    assert r["valid"].dtype == bool and r["valid"].all() and (r["confidence"] == 1).all()
    assert r["poses_camera_m"][..., 2].min() > rigs.NEAR_M - 1e-3
  projected = camera.project(records[-1]["poses_camera_m"], records[-1]["intrinsics"])
  np.testing.assert_allclose(projected, records[-1]["keypoints_px"], atol=1e-2)
  for r in records[-4:]:  # a view is a rigid motion of the world
    pair = world[-1]["poses_world_m"], r["poses_camera_m"]
    np.testing.assert_allclose(*[np.linalg.norm(x[:, :, None] - x[:, None], axis=-1) for x in pair], atol=1e-4)
    np.testing.assert_allclose(*[np.linalg.norm(x[1:] - x[:-1], axis=-1) for x in pair], atol=1e-4)


def test_detected_keypoints_differ_but_their_views_do_not(tiny):
  exact, detected = (load_from(tiny, "test", f"cmu_mocap/wild_rig_{kind}") for kind in ("gt", "detected"))
  for a, b in zip(exact, detected, strict=True):
    assert (a["sequence"], a["camera"]) == (b["sequence"], b["camera"])
    fields = ("poses_camera_m", "intrinsics", "resolution")
    tolerance.assert_close({name: a[name] for name in fields}, {name: b[name] for name in fields})
    assert np.abs(a["keypoints_px"] - b["keypoints_px"]).max() > 1
    assert 0 <= b["confidence"].min() < b["confidence"].max() <= 1


def test_spans_in_which_people_are_inside_the_image_are_records_of_their_own(tmp_path):
  bones = {bone: [0] * len(dof.split()) for bone, _, _, _, dof in BODY if dof}
  run = amc([((0, 18, 0.6 * f, 0, 0, 0), *bones.values()) for f in range(360)], ["root", *bones])  # 12 m in 3 s
  write_zip(tmp_path / "cmu.zip", {**CMU, "cmu/02/02_01.AMC": run})
  exact, spans = (load_from(tmp_path, "train+test", f"cmu_mocap/wild_rig_{kind}") for kind in ("gt", "in_image"))
  spans, shorter = iter(spans), 0
  for r in exact:
    inside = (((r["keypoints_px"] >= 0) & (r["keypoints_px"] < r["resolution"])).all(-1).sum(-1)) >= 9  # of 17
    edges = [0, *(np.flatnonzero(inside[1:] != inside[:-1]) + 1), len(inside)]
    runs = [slice(*edge) for edge in zip(edges, edges[1:]) if inside[edge[0]] and edge[1] - edge[0] >= 0.6 * r["fps"]]
    for one, its in zip(runs, spans):
      assert (its["sequence"], its["camera"]) == (r["sequence"], r["camera"])
      for name in ("keypoints_px", "poses_camera_m", "confidence", "valid"):
        np.testing.assert_array_equal(its[name], r[name][one])
      np.testing.assert_array_equal(its["intrinsics"], r["intrinsics"])
      shorter += len(its["valid"]) < len(r["valid"])
  assert next(spans, None) is None and shorter


def test_a_view_is_cut_where_half_of_the_joints_leave_the_image_and_short_spans_are_left_out():
  px = np.full((40, 17, 2), 5.0)
  px[10, :8], px[12, :9, 0] = -1, 11  # nine joints are inside in frame 10, eight in frame 12
  px[18], px[33] = 10, 20
  assert views.spans_in_image({"keypoints_px": px, "resolution": np.array([10, 10])}, 10.0) == [
      slice(0, 12), slice(19, 33), slice(34, 40)]
  short = {"keypoints_px": np.full((3, 17, 2), 5.0), "resolution": np.array([10, 10])}
  assert views.spans_in_image(short, 10.0) == [slice(0, 3)]  # a shot that is shorter as a whole


def test_views_depend_on_shot_view_and_sequence_alone():
  motion = np.random.default_rng(0).normal([0, 1, 0], [0.5, 0.3, 0.5], (40, 17, 3)).astype(np.float32)

  def keypoints(sequence, max_frames, num_frames=20):
    """By shot and view."""
    rendered = views.render_shots(
        motion[:num_frames], "wild_rig", max_frames, detected=False, dataset="d", sequence=sequence)
    return {(shot, view): fields["keypoints_px"] for shot, view, fields in rendered}

  first, padded, other = keypoints("a", 20, 40), keypoints("a", 360), keypoints("b", 360)
  np.testing.assert_array_equal(first[0, 0], keypoints("a", 20)[0, 0])
  tolerance.assert_close({view: first[view] for view in padded}, padded)  # at any length of the compiled program
  for different in (first[0, 2], first[1, 0], other[0, 0]):  # camera 2 has the lens of camera 0
    assert np.abs(first[0, 0] - different).max() > 1


def test_records_are_sliced_counted_from_the_end_and_pickled(tiny):
  records = load_from(tiny, "test")
  assert [r["sequence"] for r in records[1:]] == [records[-1]["sequence"]] == ["02_03"]
  assert len(list(records)) == 2
  with pytest.raises(IndexError, match="record 2 of 2"):
    records[2]
  assert pickle.loads(pickle.dumps(records))[0]["sequence"] == "02_01"
  assert len(load.load("cmu_mocap/world", "train", data_dir=tiny / "data")) == 1, "it is read without its source"


@pytest.mark.parametrize("name, split, message", [
    ("cmu", "train", "'cmu' is unknown; choose one of cmu_mocap, hdm05_mocap"),
    ("cmu_mocap", "train", "cmu_mocap/world, cmu_mocap/h36m_rig_gt"),
    ("cmu_mocap/toy_rig", "train", "'toy_rig' .* choose one of cmu_mocap/world"),
    ("cmu_mocap/world", "val", "'val' .* choose among train, test"),
])
def test_unknown_names_are_answered_with_the_choices(tiny, name, split, message):
  load_from(tiny, "train")
  with pytest.raises(ValueError, match=message):
    load.load(name, split, data_dir=tiny / "data")


def test_missing_files_are_named_with_what_to_do(tmp_path, tiny):
  with pytest.raises(FileNotFoundError, match="no manual_dir is given. Put hdm05.zip"):
    load.load("hdm05_mocap/world", "train", data_dir=tmp_path)
  with pytest.raises(FileNotFoundError, match="expected .*hdm05.zip or the folder .*hdm05, found neither"):
    load_from(tiny, "train", "hdm05_mocap/world")


def test_a_build_that_breaks_off_does_not_count(tmp_path):
  last = "cmu/02/02_03.amc"  # the last take of the last split
  write_zip(tmp_path / "cmu.zip", CMU | {last: CMU[last][:-200]})
  with pytest.raises(ValueError, match=r"cmu\.zip: 02/02_03\.amc: frame 130 .*\(truncated file\?\)"):
    load_from(tmp_path, "train")
  folder = tmp_path / "data/cmu_mocap/world/1.0.0"
  assert not folder.exists()
  folder.mkdir()
  with pytest.raises(ValueError, match="not a whole dataset; remove the folder"):
    load_from(tmp_path, "train")
  folder.rmdir()
  write_zip(tmp_path / "cmu.zip", CMU)
  assert len(load_from(tmp_path, "train")) == 1


def test_an_unpacked_folder_serves_as_well(tmp_path, tiny):
  for name, text in CMU.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text, newline="")
  records = load_from(tmp_path, "test")
  np.testing.assert_array_equal(records[1]["poses_world_m"], load_from(tiny, "test")[1]["poses_world_m"])


def test_the_whole_cmu_archive_is_read_as_its_owner_packs_it_without_takes_that_jump(tmp_path, tiny):
  lines = walk(61, 1).split("\r\n")
  lines = [line.replace("root 0 18", "root 0 28") if i > len(lines) // 2 else line for i, line in enumerate(lines)]
  files = {name.replace("cmu/", "all_asfamc/subjects/"): text for name, text in CMU.items()}
  files["all_asfamc/subjects/02/02_05.amc"] = "\r\n".join(lines)  # half a metre up between two frames
  write_zip(tmp_path / "allasfamc.zip", files | {"all_asfamc/readme.txt": "x"})
  assert [r["sequence"] for r in load_from(tmp_path, "test")] == ["02_01", "02_03"]
  np.testing.assert_array_equal(
      load_from(tmp_path, "train")[0]["poses_world_m"], load_from(tiny, "train")[0]["poses_world_m"])


def test_bandai_namco_is_split_by_content_and_style(tmp_path):
  names = ("dataset-2_walk_masculine_001", "dataset-2_walk_active_001", "dataset-1_walk-back_not-confident_001")
  write_zip(tmp_path / "bandai_namco.zip", {f"bandai_namco/{name}.bvh": bvh(9) for name in names})
  got = [load_from(tmp_path, s, "bandai_namco_mocap/world") for s in ("train", "test")]
  actions = [[r["action"] for r in split] for split in got]
  assert actions == [["walk-back_not-confident", "walk_active"], ["walk_masculine"]]
  assert got[1][0]["fps"] == 30 and got[1][0]["poses_world_m"].shape == (9, 17, 3)


def test_accad_is_split_by_take_and_leaves_out_first_frames_and_what_follows_a_jump(tmp_path):
  lengths = {"Female1_A11_CrawlForward": 9, "Female1_B15_WalkTurnAround180": 319, "Male2_A9_Lie": 9}
  files = {f"accad/{name.partition('_')[0]}/{name}.bvh": bvh(n, h36m_map.ACCAD) for name, n in lengths.items()}
  write_zip(tmp_path / "accad.zip", files)
  train, test = (load_from(tmp_path, s, "accad_mocap/world") for s in ("train", "test"))
  assert [(r["subject"], r["action"]) for r in train] == [("Male2", "A9_Lie")]
  assert [(r["sequence"], len(r["poses_world_m"])) for r in test] == [
      ("Female1_A11_CrawlForward", 8), ("Female1_B15_WalkTurnAround180", 315)]
  # The head's end site is at its joint here, so the midpoint of both is the joint: Head is number 0 by name, at z = 1.
  tolerance.assert_close(train[0]["poses_world_m"][0, 10], np.float32([0, 0, 0.01]))


def test_hdm05_is_split_by_subject(tmp_path):
  files = {f"hdm05/HDM_{subject}.asf": ASF for subject in ("bd", "mm")}
  files |= {f"hdm05/HDM_{s}_kickLFront1Reps_00{i}_120.amc": walk(8, i) for i, s in enumerate(("bd", "mm"))}
  write_zip(tmp_path / "hdm05.zip", files)
  (r,) = load_from(tmp_path, "test", "hdm05_mocap/world")
  assert (r["subject"], r["action"], r["sequence"]) == ("mm", "kickLFront1Reps", "mm_kickLFront1Reps_001")


def test_a_damaged_archive_is_refused(tmp_path):
  path = write_zip(tmp_path / "cmu.zip", CMU)
  whole = path.read_bytes()
  path.write_bytes(whole[:5000] + bytes(100) + whole[5100:])
  with archives.open_archive(tmp_path, "cmu") as archive, pytest.raises(ValueError, match="01/01_02.amc is damaged"):
    archive.read("01/01_02.amc")
  path.write_bytes(whole[:-1000])
  with pytest.raises(ValueError, match="cmu.zip: not a whole zip archive"), archives.open_archive(tmp_path, "cmu"):
    pass


@pytest.mark.parametrize("member", ["cmu/../../etc/x.amc", "/etc/x.amc", "cmu\\..\\x.amc", "C:/x.amc"])
def test_members_that_lead_outside_are_refused(tmp_path, member):
  write_zip(tmp_path / "cmu.zip", CMU | {member: "x"})
  with pytest.raises(ValueError, match="leads outside the archive"), archives.open_archive(tmp_path, "cmu"):
    pass


def test_links_out_of_a_folder_are_refused(tmp_path):
  (tmp_path / "cmu").mkdir()
  (tmp_path / "secret").write_text("x")
  (tmp_path / "cmu" / "a.asf").symlink_to(tmp_path / "secret")
  with pytest.raises(ValueError, match="links to a file outside"), archives.open_archive(tmp_path, "cmu"):
    pass


@pytest.mark.parametrize("change, message", [
    ({"cmu/02/walk.amc": "x"}, "cannot tell subject and take .*walk.amc"),
    ({"cmu/03/03_01.amc": walk(3, 0)}, "03/03_01.amc needs 03/03.asf, which is missing"),
])
def test_files_that_do_not_fit_are_refused_rather_than_left_out(tmp_path, change, message):
  write_zip(tmp_path / "cmu.zip", CMU | change)
  with pytest.raises(ValueError, match=message):
    load_from(tmp_path, "train")
