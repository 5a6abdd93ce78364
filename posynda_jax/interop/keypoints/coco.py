"""Keypoints in COCO's annotation files, which many programs for labelling write."""

from posynda_jax.interop.keypoints import fields
from posynda_jax.interop.keypoints.detections import Collector, Detections
from posynda_jax.interop.keypoints.documents import field
from posynda_jax.interop.keypoints.json_stream import Reader


def read(path, layout=None) -> list[Detections]:
  """A COCO annotation file: `images` and `annotations` with x, y and v, where v = 0 means not labelled. The names in
  `categories` order the joints.
  """
  collector, reader, images, found, names = Collector(path, layout), Reader(path), {}, [], {}
  for key in reader.members():
    if key == "images":
      for image in reader.elements():
        size = field(image, "width", path), field(image, "height", path)
        images[field(image, "id", path)] = str(image.get("file_name", image["id"])), size
    elif key == "annotations":
      found = [entry for entry in reader.elements() if entry.get("keypoints")]
    elif key == "categories" and reader.is_list:
      names = {one.get("id"): list(map(str, one["keypoints"])) for one in reader.elements() if one.get("keypoints")}
    else:
      reader.value()
  sizes = {images[field(entry, "image_id", path)][1] for entry in found if entry["image_id"] in images}
  if len(sizes) > 1:
    raise ValueError(f"{path} has images of {len(sizes)} sizes: keep those of one video")
  ids_are_numbers = all(fields.is_a(number, int) for number in images)
  for number in sorted(images) if ids_are_numbers else images:  # the order of names without numbers
    collector.name(images[number][0])
  for entry in found:
    if entry["image_id"] not in images:
      raise ValueError(f"{path}: annotation of image {entry['image_id']!r}, which `images` does not list")
    joints, only = entry["keypoints"], next(iter(names.values()), None) if len(names) == 1 else None
    if own := names.get(entry.get("category_id"), only):
      joints = collector.place([joints[i : i + 3] for i in range(0, len(joints), 3)], own)
    numbers = (it.get("track_id") for it in (entry, entry.get("attributes") or {}))  # the latter are CVAT's
    person = next((number for number in numbers if number is not None), None)
    collector.add(images[entry["image_id"]][0], joints, person=person)
  return collector.finish(resolution=tuple(map(float, sizes.pop())) if sizes else None)
