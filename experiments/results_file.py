"""The flag --json of the scripts that measure, and the file that it names."""

from absl import flags

from posynda_jax.runtime import files

JSON = flags.DEFINE_string("json", None, "Write the results to this file.")


def write(found: dict) -> None:
  """Writes the results to the file of --json, if it is given."""
  if JSON.value:
    files.write_json(JSON.value, found)
