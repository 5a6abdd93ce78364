"""2D keypoints of people's own videos, as detectors write them, in Human3.6M-17 order."""
