"""ACCAD motion capture as a TFDS dataset."""
