"""CMU motion capture as a TFDS dataset."""
