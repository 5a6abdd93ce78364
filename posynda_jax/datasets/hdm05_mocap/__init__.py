"""HDM05 motion capture as a TFDS dataset."""
