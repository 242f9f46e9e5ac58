"""Builds the modules of guest/linux for the kernel of the Linux guest."""

import os
import shutil
import subprocess
import tempfile

import image

_SOURCE = os.path.join(image.FOLDER, '..', '..', 'guest', 'linux')
_SUFFIXES = ('.c', '.h')
_NAMES = ('Kbuild', 'Makefile')
# In the order of insertion.
MODULES = ['virtio_msg', 'virtio_msg_amp_pci']


class ModuleError(Exception):
  """The modules could not be built."""


def sources(folder=_SOURCE):
  """Returns {name: bytes} of what the modules are made of."""
  return {
      name: image.read(os.path.join(folder, name))
      for name in sorted(os.listdir(folder))
      if name in _NAMES or name.endswith(_SUFFIXES)
  }


def build(release):
  """Returns the paths of the modules, in the order of insertion.

  Raises:
    ModuleError: they can't be built; a warning counts.
  """
  headers = '/lib/modules/%s/build' % release
  if not os.path.exists(headers + '/Makefile'):
    raise ModuleError('no headers of %s; install linux-headers-cloud-amd64'
                      % release)
  files = sources()
  parts = [release.encode(), image.read(headers + '/Module.symvers'),
           image.read(os.path.join(image.FOLDER, 'linux_modules.py'))]
  for name, content in files.items():
    parts += [name.encode(), content]
  folder = os.path.join(image.cache_folder(), 'modules-' + image.digest(parts))
  paths = [os.path.join(folder, name + '.ko') for name in MODULES]
  if not all(map(os.path.exists, paths)):
    _make(headers, folder)
  return paths


def _make(headers, folder):
  scratch = tempfile.mkdtemp(prefix='vmsg-modules.')
  try:
    result = subprocess.run(
        ['make', '-C', _SOURCE, 'KDIR=' + headers, 'OUT=' + scratch,
         'KCFLAGS=-Werror'],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding='utf-8')
    if result.returncode:
      raise ModuleError('make of guest/linux failed:\n' + result.stdout)
    os.makedirs(folder, exist_ok=True)
    for name in MODULES:
      built = os.path.join(scratch, name + '.ko')
      # Debug information is most of it, and nothing in the guest reads it.
      subprocess.run(['strip', '--strip-debug', built], check=True)
      # Two runs at once may do this; each sees whole files.
      new = os.path.join(folder, '%s.%d' % (name, os.getpid()))
      shutil.copy(built, new)
      os.rename(new, os.path.join(folder, name + '.ko'))
  finally:
    shutil.rmtree(scratch)
