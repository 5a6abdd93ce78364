"""Bandai-Namco-Research-Motiondataset 1 and 2 (BVH, 30 fps): acted styles, one skeleton. Split by content and style."""

import re

from posynda_jax.datasets.mocap import builder, h36m_map

# content_style. Each content is also in train, in another style: the test split has new styles, not new contents.
TEST_PAIRS = frozenset((
    "bow_not-confident", "bye_childish", "dash_sad", "guide_chimpira", "raise-up-left-hand_elderly", "run_youthful",
    "walk_masculine", "walk-left_angry", "walk-turn-right_exhausted", "wave-left-hand_masculine",
))


class BandaiNamcoMocap(builder.MotionBuilder):
  """Bandai Namco motions. `action` is content_style. The files do not name their actor, one of three."""

  name = "bandai_namco_mocap"
  ARCHIVE = "bandai_namco"
  FILES = "dataset-<1|2>_<content>_<style>_<take>.bvh"
  SUFFIX = ".bvh"
  PATTERN = re.compile(r"(?P<sequence>dataset-[12]_(?P<action>[a-z-]+_[a-z-]+)_\d+)\.bvh", re.I)
  SKELETON = None
  TEST = "action", TEST_PAIRS
  SOURCE_FPS = 30.0
  HOMEPAGE = "https://github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset"
  LICENSE = "CC BY-NC 4.0: research use only, no commercial use."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put bandai_namco.zip, or the folder bandai_namco/ with {FILES}, into manual_dir."

  def read(self, archive, take):
    name = archive.label(take.motion)
    poses, fps = h36m_map.poses_from_bvh(archive.read(take.motion), h36m_map.BANDAI, name)
    if round(fps) != self.SOURCE_FPS:
      raise ValueError(f"{name}: {fps:.1f} fps, expected {self.SOURCE_FPS:.0f}; fetch the file from its owner")
    return poses, self.SOURCE_FPS
