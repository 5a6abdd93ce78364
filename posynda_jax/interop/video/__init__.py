"""2D keypoints of a video file, in this process: frames by PyAV, people and their 33 joints by BlazePose, or by rtmlib.

It needs the extra `[video]` and the models of `data_prep.detector`, or rtmlib.

    reader       Info, probe, frames: a video's frames, upright, with their times
    blazepose    BlazePose, Region: the two networks
    models       read_models, check: their files
    rtm          RtmPose: rtmlib's networks, where it is installed
    detection    load, detect: everybody in a video, tracked; save
"""
