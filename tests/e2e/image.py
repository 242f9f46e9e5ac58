"""Prepares what does not change from run to run, and keeps it in a cache.

The cache is $VMSG_E2E_CACHE, or vmsg-e2e in the user's cache folder. The name of
an entry has a digest of all that it was made of, so an entry is never stale.
"""

import hashlib
import os
import tempfile

import cpio
import kernel_image
import kernel_modules

FOLDER = os.path.dirname(os.path.abspath(__file__))
SHELL = os.path.join(FOLDER, 'shell')

_MACHINE_MODULES = ['kvm-amd']
_GUEST_MODULES = ['virtio', 'virtio_ring', 'virtio-rng']
_KEEP = 4


def cache_folder():
  """Where the cache is; made if it is not there."""
  folder = os.environ.get('VMSG_E2E_CACHE') or os.path.join(
      os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
      'vmsg-e2e')
  os.makedirs(folder, exist_ok=True)
  return folder


def digest(parts):
  """A digest of byte strings, which differs when one moves to its neighbour."""
  total = hashlib.sha256()
  for part in parts:
    total.update(b'%d:' % len(part))
    total.update(part)
  return total.hexdigest()[:32]


def cached(folder, kind, parts, make):
  """Returns the path of the cache's entry, and makes it if it is not there.

  Args:
    folder: the cache.
    kind: begins the name of the entry.
    parts: byte strings that determine the content.
    make: returns the content.
  """
  path = os.path.join(folder, '%s-%s' % (kind, digest(parts)))
  if os.path.exists(path):
    os.utime(path)
    return path
  content = make()
  # Two runs at once may make the same entry; each sees a whole one.
  handle, new = tempfile.mkstemp(dir=folder, prefix='new-')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(content)
    os.rename(new, path)
  except BaseException:
    os.unlink(new)
    raise
  _forget_old(folder, kind)
  return path


def _forget_old(folder, kind):
  entries = [os.path.join(folder, name) for name in os.listdir(folder)
             if name.startswith(kind + '-')]
  for path in sorted(entries, key=os.path.getmtime)[:-_KEEP]:
    os.unlink(path)


def vmlinux(release):
  """Returns the path of the uncompressed kernel of a release."""
  with open('/' + kernel_image.image_path(release), 'rb') as file:
    packed = file.read()
  return cached(cache_folder(), 'vmlinux', [packed],
                lambda: kernel_image.extract(packed))


def machine_base(release, libraries):
  """Returns the path of the archive with what the emulated machine always has.

  Args:
    release: of the kernel whose modules it gets.
    libraries: paths of shared libraries, which keep them.
  """
  modules = kernel_modules.load('/' + kernel_image.modules_folder(release),
                                _MACHINE_MODULES)
  files = {'/bin/busybox': read('/bin/busybox')}
  for path in libraries:
    files[path] = read(path)
  for name, content in modules:
    files['/lib/e2e_modules/%s.ko' % name] = content
  order = ''.join(name + '\n' for name, _ in modules)
  files['/lib/e2e_modules/order'] = order.encode()

  return _cached_archive('machine', files)


def guest_initramfs(release, our_modules):
  """Returns the path of the initramfs of the Linux guest.

  Args:
    release: of the kernel whose modules it gets.
    our_modules: paths of the modules that are built here, in the order of
      insertion.
  """
  stock = kernel_modules.load('/' + kernel_image.modules_folder(release),
                              _GUEST_MODULES)
  ours = [(kernel_modules.module_name(path), read(path))
          for path in our_modules]
  files = {
      '/bin/busybox': read('/bin/busybox'),
      '/init': read(os.path.join(SHELL, 'guest_init.sh')),
      '/lib/guest_lib.sh': read(os.path.join(SHELL, 'guest_lib.sh')),
  }
  for kind, modules in (('stock', stock), ('ours', ours)):
    for name, content in modules:
      files['/lib/e2e_modules/%s.ko' % name] = content
    order = ''.join(name + '\n' for name, _ in modules)
    files['/lib/e2e_modules/' + kind] = order.encode()
  return _cached_archive('guest', files)


def kexec_archive(release, initramfs, program):
  """Returns the path of what a guest has in addition that goes to a new kernel.

  Args:
    release: of the new kernel.
    initramfs: path of the initramfs for it.
    program: path of the program kexec.
  """
  return _cached_archive('kexec', {
      '/kexec/vmlinuz': read('/' + kernel_image.image_path(release)),
      '/kexec/initrd': read(initramfs),
      '/kexec/kexec': read(program),
  })


def _cached_archive(kind, files):
  """Returns the path of an archive; files: {path in it: bytes}."""

  def make():
    archive = cpio.Archive()
    archive.add_console()
    archive.add_link('/bin/sh', 'busybox')
    for path, content in sorted(files.items()):
      archive.add_file(path, content,
                       executable=not path.startswith('/lib/e2e_modules'))
    return archive.to_bytes()

  # These two files determine the archive too.
  parts = [read(os.path.join(FOLDER, name)) for name in ('cpio.py', 'image.py')]
  for path, content in sorted(files.items()):
    parts += [path.encode(), content]
  return cached(cache_folder(), kind, parts, make)


def read(path):
  """The bytes of a file."""
  with open(path, 'rb') as file:
    return file.read()
