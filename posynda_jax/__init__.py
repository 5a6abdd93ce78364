"""Adapt a 2D-to-3D human pose lifter to an unlabelled domain (PoSynDA, MM '23) with pure functions in JAX and Flax."""

__version__ = "0.1.0"
