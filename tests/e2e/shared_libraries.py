"""Finds the shared libraries that programs need."""

import re
import subprocess


def parse_ldd(text):
  """Returns the paths in what ldd says, the loader's among them.

  Raises:
    ValueError: a library was not found.
  """
  paths = []
  for line in text.splitlines():
    line = line.strip()
    if line.endswith('not found'):
      raise ValueError(line)
    found = re.match(r'(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$', line)
    if found:
      paths.append(found.group(1))
  return paths


def of_programs(programs):
  """Returns the sorted paths of all shared libraries of some programs.

  Raises:
    ValueError: a library was not found.
    subprocess.CalledProcessError: a file is no dynamic program.
  """
  paths = set()
  for program in programs:
    result = subprocess.run(['ldd', program], check=True,
                            stdout=subprocess.PIPE, encoding='utf-8')
    paths.update(parse_ldd(result.stdout))
  return sorted(paths)
