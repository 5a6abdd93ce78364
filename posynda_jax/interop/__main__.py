"""Converts weights between PyTorch checkpoints, run folders and .safetensors files, without PyTorch.

    python -m posynda_jax.interop convert h36m_best_epoch.bin runs/d3dp          # then --base=runs/d3dp
    python -m posynda_jax.interop convert runs/adapt_hdm05 adapted.bin --bias=drop
    python -m posynda_jax.interop convert runs/base_cmu base.safetensors --dtype=float16
"""

import argparse
import sys

from posynda_jax.adaptation import tensors_file
from posynda_jax.interop import convert
from posynda_jax.peft import lora


def parser() -> argparse.ArgumentParser:
  """The command line."""
  top = argparse.ArgumentParser(
      prog="python -m posynda_jax.interop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  command = top.add_subparsers(dest="command", required=True).add_parser("convert", help="from one form of weights to another")
  add = command.add_argument
  add("source", metavar="IN", help="PyTorch file (.bin .pt .pth), run folder, .safetensors of a base, or a base that ships")
  add("out", metavar="OUT", help="new folder, or new file ending in .safetensors, .bin, .pt or .pth")
  add("--adapter", help="adapter of IN: folder of an adaptation run, or .safetensors")
  add("--weights", default="adapted", help="which adapter of a run folder: adapted (default), ceiling, ...")
  add("--lora", choices=convert.PARTS,
      help="what becomes of the adapter (default: a folder keeps it, a PyTorch file has it merged, .safetensors is the adapter)")
  add("--layout", choices=convert.LAYOUTS, default="original", help="PyTorch file: as the original code saves, or a state dict")
  add("--bias", choices=convert.BIASES, default="refuse",
      help="the adapter's bias by joint, for which MixSTE has no place: left out, or put beside the state dict for you to add")
  add("--dtype", choices=tuple(tensors_file.DTYPES), help=".safetensors: type on disk (default float32)")
  told = command.add_argument_group("what a PyTorch file's names and shapes do not tell")
  told.add_argument("--heads", type=int, help="MixSTE: attention heads (default 8)")
  told.add_argument("--causal", action="store_true", default=None, help="VideoPose3D: trained with --causal")
  told.add_argument("--num_frames", type=int, help="VideoPose3D: frames of the clips it is run on (default: its receptive field)")
  told.add_argument("--diffusion_steps", type=int, help="T, where the file has no schedule buffers (default 1000)")
  told.add_argument("--clip_fps", type=float, help="frames a second it was trained at (default 50, Human3.6M)")
  told.add_argument("--joint_order", help="order of joints it was trained in (default h36m17; trained on MPI-INF-3DHP: dhp17)")
  return top


def main(argv: list[str] | None = None) -> int:
  """Converts; returns the exit code, 1 after a one-line error."""
  args = parser().parse_args(argv)
  told = convert.Told(
      heads=args.heads, causal=args.causal, num_frames=args.num_frames, diffusion_steps=args.diffusion_steps,
      clip_fps=args.clip_fps, joint_order=args.joint_order,
  )
  try:
    weights = convert.read(args.source, adapter=args.adapter, which=args.weights, told=told)
    print(f"{args.source}: {lora.count(weights.params['params']):,} parameters", *weights.notes, sep="\n  ")
    lines = convert.write(args.out, weights, part=args.lora, layout=args.layout, bias=args.bias, dtype=args.dtype)
    print("->", *lines, sep="\n  ")
  except (ValueError, FileNotFoundError, PermissionError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
