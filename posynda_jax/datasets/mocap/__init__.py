"""Open motion capture: parsers, the map to Human3.6M-17 joints, and the builder that its datasets share."""
