"""Bandai-Namco-Research-Motiondataset as a TFDS dataset."""
