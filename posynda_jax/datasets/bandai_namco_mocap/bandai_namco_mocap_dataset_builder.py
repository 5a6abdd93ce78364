"""Bandai-Namco-Research-Motiondataset 1 and 2 (BVH, 30 fps): acted styles, one skeleton. Split by content and style."""

import re

from posynda_jax.datasets.mocap import builder, h36m_map

# Content_style pairs. Each content here is also in train in another style: test asks for new styles, not new acts.
TEST_PAIRS = (
    "bow_not-confident",
    "bye_childish",
    "dash_sad",
    "guide_chimpira",
    "raise-up-left-hand_elderly",
    "run_youthful",
    "walk_masculine",
    "walk-left_angry",
    "walk-turn-right_exhausted",
    "wave-left-hand_masculine",
)
_EXPECTED = "dataset-<1|2>_<content>_<style>_<take>.bvh"
_TAKE = re.compile(r"(dataset-[12]_([a-z-]+_[a-z-]+)_\d+)\.bvh", re.I)


class BandaiNamcoMocap(builder.MotionBuilder):
  """Bandai Namco motions; `action` is content_style. The files do not say which of three actors moves."""

  name = "bandai_namco_mocap"
  ARCHIVE = "bandai_namco"
  SOURCE_FPS = 30.0
  HOMEPAGE = "https://github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset"
  LICENSE = "CC BY-NC 4.0: research use only, no commercial use. See README.md."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put bandai_namco.zip, or the folder bandai_namco/ with {_EXPECTED}, into manual_dir."

  def takes(self, members):
    matches = builder.match_all(_TAKE, members, ".bvh", _EXPECTED)
    takes = [
        builder.Take(
            sequence=sequence,
            subject="unknown",
            action=action,
            split="test" if action in TEST_PAIRS else "train",
            motion=match.string,
        )
        for match in matches
        for sequence, action in [match.groups()]
    ]
    return builder.check_found(takes, members, _EXPECTED)

  def read(self, archive, take, stride):
    name = archive.label(take.motion)
    poses, fps = h36m_map.poses_from_bvh(archive.read(take.motion), name)
    if round(fps) != self.SOURCE_FPS:
      raise ValueError(f"{name}: {fps:.1f} fps, expected {self.SOURCE_FPS:.0f}; fetch the file from its owner")
    return poses[::stride]
