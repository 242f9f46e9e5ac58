"""Picks kernel modules and what they depend on, in the order of insertion."""

import gzip
import lzma
import os


def parse_dependencies(text):
  """Parses modules.dep; returns {path: [paths it needs]}."""
  result = {}
  for line in text.splitlines():
    path, colon, needed = line.partition(':')
    if colon:
      result[path.strip()] = needed.split()
  return result


def module_name(path):
  """The name by which the kernel knows the module in this file."""
  return os.path.basename(path).partition('.ko')[0].replace('-', '_')


def insertion_order(dependencies, names):
  """Returns the paths of modules, each after those that it needs.

  Args:
    dependencies: what parse_dependencies returned.
    names: modules that are wanted; '-' and '_' are the same.

  Raises:
    ValueError: a module does not exist, or modules need each other in a ring.
  """
  paths = {module_name(path): path for path in dependencies}
  order = []

  def add(path, above):
    if path in above:
      raise ValueError('%s needs itself' % path)
    if path in order:
      return
    if path not in dependencies:
      raise ValueError('%s is needed, and is not in modules.dep' % path)
    for needed in dependencies[path]:
      add(needed, above + [path])
    order.append(path)

  for name in names:
    path = paths.get(name.replace('-', '_'))
    if path is None:
      raise ValueError('there is no module %s' % name)
    add(path, [])
  return order


def builtin_names(text):
  """Parses modules.builtin; returns names of what is in the kernel itself."""
  return {module_name(line) for line in text.splitlines() if line}


def read_module(path):
  """Returns the bytes of a module, decompressed (BusyBox inserts no other)."""
  with open(path, 'rb') as file:
    content = file.read()
  if path.endswith('.xz'):
    return lzma.decompress(content)
  if path.endswith('.gz'):
    return gzip.decompress(content)
  return content


def load(folder, names):
  """Reads modules and what they need.

  Args:
    folder: lib/modules/RELEASE of a kernel.
    names: modules; those that the kernel has built in are left out.

  Returns:
    [(name, bytes)] in the order of insertion.

  Raises:
    ValueError: as insertion_order.
    OSError: a file cannot be read.
  """
  with open(os.path.join(folder, 'modules.dep'), encoding='utf-8') as file:
    dependencies = parse_dependencies(file.read())
  with open(os.path.join(folder, 'modules.builtin'), encoding='utf-8') as file:
    builtin = builtin_names(file.read())
  wanted = [name for name in names if name.replace('-', '_') not in builtin]
  return [(module_name(path), read_module(os.path.join(folder, path)))
          for path in insertion_order(dependencies, wanted)]
