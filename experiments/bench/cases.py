"""The cases of the benchmark: sizes, inputs and FLOPs. It imports NumPy alone, because both sides import it."""

import dataclasses
import zlib

import numpy as np

JOINTS = 17
MLP_RATIO = 2
RANK = 4
LEARNING_RATE = 6e-5
DIFFUSION_STEPS = 1000
INTRINSICS = (2.3, 2.3, 0.02, -0.01, -0.2, 0.24, -0.001, -0.0009, -0.0014)  # screen-normalised
_STANDING = np.array([  # metres, camera axes, root at the origin (H36M-17 order)
    [0, 0, 0], [-0.13, 0, 0], [-0.14, 0.45, 0.03], [-0.14, 0.87, 0], [0.13, 0, 0], [0.14, 0.45, 0.03],
    [0.14, 0.87, 0], [0, -0.23, 0], [0, -0.48, 0], [0, -0.58, 0.04], [0, -0.7, 0], [0.16, -0.45, 0],
    [0.2, -0.17, 0], [0.22, 0.08, 0.05], [-0.16, -0.45, 0], [-0.2, -0.17, 0], [-0.22, 0.08, 0.05],
], np.float32)


@dataclasses.dataclass(frozen=True)
class Case:
  """One unit of work. A batch has `clips` clips; adaptation takes as many source as target clips."""

  kind: str  # a name of jax_side.UNITS
  what: str
  frames: int = 27
  clips: int = 4
  width: int = 512
  depth: int = 8
  heads: int = 8
  hypotheses: int = 1
  chunk: int = 0  # hypotheses that the teacher computes at once, 0: all
  at_once: int = 0  # student's clips whose gradient is computed at once, 0: all
  steps: int = 1  # K
  length: int = 0  # frames to evaluate
  devices: int = 1  # forced on a CPU
  members: int = 1  # adaptations of a sweep
  over: tuple = ()  # (field, values): time our side at each value of the field

  def smaller(self) -> "Case":
    """The same case in a tiny size, for tests."""
    limits = dict(width=16, depth=1, heads=2, frames=5, clips=2, length=23, hypotheses=3)
    sizes = {name: min(getattr(self, name), limit) for name, limit in limits.items()}
    return dataclasses.replace(self, **sizes, over=self.over and (self.over[0], self.over[1][:2]))


_COMPACT = dict(width=64, depth=4, heads=8)
_ADAPT = dict(hypotheses=3)
CASES = {
    "forward_243": Case("forward", "denoiser, one clip of 243 frames", 243, 1),
    "forward_27": Case("forward", "denoiser, 32 clips of 27 frames", 27, 32),
    **{f"teacher_h{h}": Case("teacher", f"teacher, H = {h}, 4 clips of 27 frames", hypotheses=h)
       for h in (1, 3, 8, 20)},
    "adapt_step": Case("adapt", "adaptation step, 4 + 4 clips of 27 frames, H = 3", **_ADAPT),
    "adapt_step_parts": Case("adapt", "the same, gradient of 2 clips at once", at_once=2, **_ADAPT),
    "adapt_step_243": Case("adapt", "adaptation step, 1 + 1 clips of 243 frames, H = 3", 243, 1, **_ADAPT),
    "inference_k1": Case("infer", "inference with flip, K = 1, 4 clips of 27 frames"),
    "inference_k5": Case("infer", "inference with flip, K = 5, 4 clips of 27 frames", steps=5),
    "pretrain_step": Case("pretrain", "pretraining step, 4 clips of 27 frames"),
    "compact_step": Case("pretrain", "pretraining step, compact, 48 clips of 27 frames", clips=48, **_COMPACT),
    "compact_gradient": Case("gradient", "loss and gradient, compact, 48 clips of 27 frames", clips=48, **_COMPACT),
    "evaluation": Case("evaluate", "evaluation of 10,000 frames, compact", clips=64, length=10_000, **_COMPACT),
    "cold_start": Case("cold_start", "process start to first adaptation step, compact, 4 + 4 clips", **_ADAPT,
                       **_COMPACT),
    "sweep": Case("sweep", "8 adaptations in one step, compact, 4 + 4 clips each", members=8, **_ADAPT, **_COMPACT),
    "growth_hypotheses": Case("teacher", "teacher, 1 clip of 27 frames, by H", clips=1,
                              over=("hypotheses", (1, 2, 4, 8, 20))),
    "growth_hypotheses_chunked": Case("teacher", "teacher, 1 clip of 27 frames, 4 hypotheses at once, by H", clips=1,
                                      chunk=4, over=("hypotheses", (4, 8, 20, 40))),
    "growth_frames": Case("forward", "denoiser, 1 clip, by F", clips=1, over=("frames", (9, 27, 81, 243))),
    "growth_clips": Case("forward", "denoiser, clips of 27 frames, by B", over=("clips", (1, 2, 4, 8, 16, 32))),
    "growth_steps": Case("infer", "inference with flip, 1 clip of 27 frames, by K", clips=1,
                         over=("steps", (1, 2, 5, 10))),
    "growth_devices": Case("adapt", "adaptation step, compact, 8 + 8 clips in all, by forced devices", clips=8,
                           over=("devices", (1, 2, 4, 8)), **_ADAPT, **_COMPACT),
}


def choose(names) -> dict[str, Case]:
  """The cases of those names, all where none is given. Raises ValueError for an unknown name."""
  if unknown := [name for name in names if name not in CASES]:
    raise ValueError(f"case {', '.join(unknown)} is unknown; choose of {', '.join(CASES)}")
  return {name: CASES[name] for name in names or CASES}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """The array of a parameter's PyTorch name: normal with deviation 0.02, plus 1 for the scales of norms."""
  value = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32) * np.float32(0.02)
  return 1 + value if name.endswith(".weight") and len(shape) == 1 else value


def inputs(case: Case) -> dict:
  """The arrays of a case: `source` and `target` clips, `sequence` (a clip of `length` frames), `noise`, `t` [b]."""
  shape = case.clips, case.frames, JOINTS, 3
  return {
      "source": clips(case.clips, case.frames, 0), "target": clips(case.clips, case.frames, 1),
      "sequence": clips(1, case.length, 0), "noise": np.random.default_rng(1).standard_normal(shape, dtype=np.float32),
      "t": np.linspace(0, DIFFUSION_STEPS - 1, case.clips).astype(np.int32),
  }


def clips(num_clips: int, frames: int, seed: int) -> dict[str, np.ndarray]:
  """A batch of random clips before one camera: absolute `poses` (m) and screen-normalised keypoints."""
  rng = np.random.default_rng(seed)
  place = rng.uniform([-0.8, -0.5, 3], [0.8, 0.5, 5], (num_clips, 1, 1, 3))
  poses = _STANDING + 0.03 * rng.standard_normal((num_clips, frames, JOINTS, 3)) + place
  return {
      "keypoints": (poses[..., :2] / poses[..., 2:] * INTRINSICS[:2] + INTRINSICS[2:4]).astype(np.float32),
      "poses": poses.astype(np.float32), "intrinsics": np.tile(np.float32(INTRINSICS), (num_clips, 1)),
      "confidence": rng.uniform(0.5, 1, poses.shape[:-1]).astype(np.float32),
      "valid": np.ones(poses.shape[:2], np.float32), "index": np.arange(num_clips, dtype=np.int32),
  }


def token_flops(case: Case, rank: int = 0) -> float:
  """FLOPs of the linear layers for one clip, 2 a multiply-add as the paper counts, with low-rank factors of `rank`."""
  block = (4 + 2 * MLP_RATIO) * case.width**2 + 6 * rank * case.width
  return 2.0 * case.frames * JOINTS * (2 * case.depth * block + 5 * case.width + 3 * case.width)


def attention_flops(case: Case) -> float:
  """FLOPs of the two matrix products of all attentions for one clip."""
  return 4.0 * case.depth * case.frames * JOINTS * case.width * (JOINTS + case.frames)


def forward_flops(case: Case, rank: int = 0) -> float:
  """FLOPs of one clip through the denoiser: linear layers, attention and the time embedding."""
  return token_flops(case, rank) + attention_flops(case) + 2.0 * 4 * case.width**2


def flops(case: Case) -> float:
  """FLOPs of the matrix products of one unit of the case.

  A backward pass has two products a layer, but no gradient of the inputs. With a frozen base it has no gradients of
  weights, and none before the first adapter.
  """
  forward, adapted = forward_flops(case), forward_flops(case, RANK)
  embedding = 2.0 * case.frames * JOINTS * 5 * case.width
  factors = token_flops(case, RANK) - token_flops(case)
  first = 2.0 * case.frames * JOINTS * (3 * case.width + RANK) * case.width  # gradient of the first adapter's input
  backward = token_flops(case) - embedding - first + 2 * (attention_flops(case) + factors)
  if case.kind == "evaluate":
    return -(-case.length // case.frames) * forward
  of_a_clip = {
      "forward": forward, "teacher": case.hypotheses * adapted, "infer": 2 * case.steps * forward,
      "pretrain": 3 * forward - embedding, "gradient": 3 * forward - embedding,
  }
  return case.members * case.clips * of_a_clip.get(case.kind, case.hypotheses * adapted + 2 * (adapted + backward))
