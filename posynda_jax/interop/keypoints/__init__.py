"""2D keypoints that detectors wrote for your own videos, as records in Human3.6M-17 order.

It may import every room but the lifter. A reader returns `Detections`, `people` finds the people in them,
`geometry.layouts` makes Human3.6M-17 joints of one person, and `recordings` returns records with a report.

    formats      FORMATS, the table of formats; recognise, read
    arrays, documents, folders, tables   the readers: npz and npy, JSON, a file for each frame, CSV
    numbering    videos, count, from_times: frame numbers from names, and from what a detector wrote
    joint_names  find, spell: joints by their names
    json_stream, recognition             JSON files of any length, and which format they have
    detections   Detections, Collector
    people       find, find_doubles, track, join, choose, describe
    cleaning     drop_untrusted, fill, find_exchanged, exchange, find_jumps, interpolate, complete
    recordings   Options, Recording, read, from_array, from_detections
    targets      is_own, from_array, from_recordings, describe: targets named `keypoints:FILE`
"""
