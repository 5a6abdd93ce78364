"""2D keypoints of a video file, in this process: frames by PyAV, people and their 33 joints by BlazePose.

It needs the extra `[video]` and the two models of `data_prep.detector`.

    reader       Info, probe, frames: a video's frames, upright, with their times
    blazepose    BlazePose, Region: the two networks
    models       read_models, is_known: their files
    detection    detect: everybody in a video, tracked; save, load
"""
