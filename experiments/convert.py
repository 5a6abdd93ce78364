"""Converts weights between PyTorch checkpoints, run folders and .safetensors files, without PyTorch.

    python -m experiments.convert h36m_best_epoch.bin runs/d3dp          # then --base=runs/d3dp
    python -m experiments.convert runs/adapt_hdm05 adapted.bin --bias=drop
    python -m experiments.convert runs/base_cmu base.safetensors --dtype=float16 --temperature=0.7,1.0

Takes seconds. Prints the network that it recognised, what it assumed, and the digest of the base.
"""

import argparse
import dataclasses
import sys

from posynda_jax.adaptation import tensors_file
from posynda_jax.interop import convert
from posynda_jax.peft import counting


def make_parser() -> argparse.ArgumentParser:
  raw = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser("convert", description=__doc__, formatter_class=raw)
  add = parser.add_argument
  add("input", metavar="INPUT", help="PyTorch file (.bin .pt .pth), run folder, base's .safetensors, or shipped base")
  add("output", metavar="OUTPUT", help="new folder, or new file ending in .safetensors, .bin, .pt or .pth")
  add("--adapter", help="adapter of the base INPUT: folder of an adaptation run, or .safetensors file")
  add("--weights", default="adapted", help="adapter to read in a run folder: adapted (default), ceiling, ...")
  add("--lora", choices=convert.PARTS, help="what to do with the adapter; by default a folder keeps it, a PyTorch file "
      "has it merged, and a .safetensors file holds it alone")
  add("--bias", choices=convert.BIASES, default="refuse", help="the adapter's bias per joint, for which MixSTE has no "
      "place: drop it, or save it beside the state dict for you to add")
  add("--dtype", choices=tuple(tensors_file.DTYPES), help=".safetensors: type on disk (default float32)")
  add("--temperature", help="ACROSS,DEPTH: factors on the deviations that the base's doubt head states, as "
      "`experiments.hypotheses` prints them")
  add = parser.add_argument_group("facts that a PyTorch file's names and shapes do not show").add_argument
  add("--heads", type=int, help="MixSTE: attention heads (default 8)")
  add("--causal", action="store_true", default=None, help="VideoPose3D: trained with --causal")
  add("--num_frames", type=int, help="VideoPose3D: frames of its clips (default: its receptive field)")
  add("--diffusion_steps", type=int, help="T, for a file without schedule buffers (default 1000)")
  add("--clip_fps", type=float, help="frame rate of its training clips (default 50, Human3.6M)")
  add("--joint_order", help="joint order of its training data (default h36m17; MPI-INF-3DHP: dhp17)")
  return parser


def main(argv: list[str] | None = None) -> int:
  """Converts; returns the exit code, 1 after a one-line error."""
  args = make_parser().parse_args(argv)
  hints = {field.name: getattr(args, field.name) for field in dataclasses.fields(convert.Hints)}
  try:
    weights = convert.read(args.input, adapter=args.adapter, which=args.weights, hints=convert.Hints(**hints))
    print(f"{args.input}: {counting.count(weights.params['params']):,} parameters", *weights.notes, sep="\n  ")
    if args.temperature:
      weights = dataclasses.replace(weights, params=convert.with_temperature(weights.params, args.temperature))
    lines = convert.write(args.output, weights, part=args.lora, bias=args.bias, dtype=args.dtype)
    print("->", *lines, sep="\n  ")
  except (ValueError, OSError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
