"""Procedural human motion as a TFDS dataset."""
