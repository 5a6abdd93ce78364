"""ACCAD Open Motion Project (BVH, 30 and 120 fps): 3 people, crawling, lying, boxing and kicks too. Split by take."""

import re

from posynda_jax.datasets.mocap import builder, h36m_map, views

# About a fifth of the takes, of all three people and all kinds of motion.
TEST_TAKES = frozenset("""
    Female1_A02_SwayT2 Female1_A06_LiftBox Female1_A11_CrawlForward Female1_B01_StandToWalk Female1_B05_WalkBackwards
    Female1_B10_WalkTurnLeft45 Female1_B15_WalkTurnAround180 Female1_B20_WalkWithBox Female1_B23_SideStepRight
    Female1_C02_RunToStand Female1_C07_RunBackwards Female1_C12_RunTurnLeft45 Female1_C17_RunTurnAround
    Female1_C22_RunWithBox Female1_C27_CrouchToRun1 Female1_D6_CartWheel
    Male1_A15_SkipToStand_Take_001 Male1_A8_CrouchToLie Male1_B10_WalkTurnLeft45 Male1_B15_WalkTurnAround
    Male1_B20_WalkWithBox Male1_B25_CrouchToWalk Male1_B4_StandToWalkBack Male1_B9_WalkToTurnLeft90 Male1_C05_WalkToRun
    Male1_C10_RunBackStopRunForward Male1_C15_RunTurnRight45 Male1_C20_Run2Jump2Walk Male1_C25_QuickSideStepRight
    Male2_A12_CrawlBackward Male2_A2_Sway Male2_A7_Crouch Male2_B12_WalkTurnRight90 Male2_B17_WalkToHopToWalk
    Male2_B21_PutDownBoxToWalk Male2_B26_WalkToSkip Male2_B5_WalkBackwards Male2_C10_RunBackwardsStopRunForward
    Male2_C15_RunTurnRight45 Male2_C19_RunToJumpToWalk Male2_C24_QuickSidestepLeft Male2_C3_Run
    Male2_C8_RunBackwardsToStand Male2_D13_CrouchToReady Male2_D2_WalkToReady Male2_D7_WalkToBow
    Male2_E10_SideStepRight Male2_E13_BlockRightHigh Male2_E15_BodyJabRight Male2_E1_JabLeft Male2_E2_JabRight
    Male2_E4_QuickAdvance Male2_E7_SuperFastAdvance Male2_E9_SideStepLeft Male2_G11_RoundhouseLeadingRight
    Male2_G16_DoubleKick Male2_G20_ReverseSpinCrescentRight Male2_G6_AxeKick
""".split())
JUMPS = {"Female1_B15_WalkTurnAround180": 316}  # the first frame after a joint jumps: these takes end before it


class AccadMocap(builder.MotionBuilder):
  """ACCAD motions. `action` comes from the file name. The first frame is left out: in 15 takes it is a rest pose."""

  name = "accad_mocap"
  ARCHIVE = "accad"
  FILES = "<subject>/<subject>_<letter><number>_<action>.bvh"
  SUFFIX = ".bvh"
  PATTERN = re.compile(r"(?P<subject>[a-z]+\d)/(?P<sequence>(?P=subject)_(?P<action>\w+))\.bvh", re.I)
  SKELETON = None
  TEST = "sequence", TEST_TAKES
  HOMEPAGE = "https://accad.osu.edu/research/motion-lab/mocap-system-and-data"
  LICENSE = "CC BY 3.0 Unported: name ACCAD, The Ohio State University, with the data and what is trained on it."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put accad.zip, or the folder accad/ with {FILES}, into manual_dir."

  def read(self, archive, take):
    name = archive.label(take.motion)
    poses, fps = h36m_map.poses_from_bvh(archive.read(take.motion), h36m_map.ACCAD, name)
    stride = views.stride_to(fps)
    return poses[1 : JUMPS.get(take.sequence) : stride], fps / stride
