"""Writes cpio archives of the kind that Linux unpacks as initramfs ("newc")."""

import posixpath
import stat

_ALIGNMENT = 4
_TRAILER = 'TRAILER!!!'
# Linux looks for the next archive at the next multiple of this.
_BLOCK = 512


class Archive:
  """An archive in memory; folders are added with what is in them.

  Two archives one after the other are one initramfs, the later file wins.
  """

  def __init__(self):
    self._parts = []
    self._names = set()
    self._inode = 0

  def add_file(self, path, content, executable=False):
    """Adds a file.

    Args:
      path: absolute, where it is to be.
      content: bytes.
      executable: whether all may execute it.

    Raises:
      ValueError: the path is not absolute and normal, or is there already.
    """
    mode = stat.S_IFREG | (0o755 if executable else 0o644)
    self._add(self._new_name(path), mode, content)

  def add_link(self, path, target):
    """Adds a symbolic link; raises as add_file does."""
    self._add(self._new_name(path), stat.S_IFLNK | 0o777, target.encode())

  def add_folder(self, path):
    """Adds a folder, if it is not there."""
    if path == '/':
      return
    _check_path(path)
    if path[1:] not in self._names:
      self.add_folder(posixpath.dirname(path))
      self._names.add(path[1:])
      self._add(path[1:], stat.S_IFDIR | 0o755, b'')

  def add_console(self):
    """Adds /dev/console, the standard input and output of the first process."""
    self._add(self._new_name('/dev/console'), stat.S_IFCHR | 0o600, b'',
              device=(5, 1))

  def to_bytes(self):
    """Returns the archive, padded so that another may follow."""
    data = b''.join(self._parts + [_entry(_TRAILER, 0, b'', 0, (0, 0))])
    return data + bytes(-len(data) % _BLOCK)

  def _new_name(self, path):
    _check_path(path)
    self.add_folder(posixpath.dirname(path))
    if path[1:] in self._names:
      raise ValueError('%s is in the archive already' % path)
    self._names.add(path[1:])
    return path[1:]

  def _add(self, name, mode, content, device=(0, 0)):
    self._inode += 1
    self._parts.append(_entry(name, mode, content, self._inode, device))


def _check_path(path):
  if not path.startswith('/') or posixpath.normpath(path) != path:
    raise ValueError('%r is no absolute, normal path' % path)


def _entry(name, mode, content, inode, device):
  """One file: a header of hexadecimal numbers, its name, its content."""
  encoded = name.encode() + b'\0'
  numbers = [
      inode,
      mode,
      0,  # user
      0,  # group
      1,  # links
      0,  # time: the same input gives the same archive
      len(content),
      0,  # the device that the file is on
      0,
      device[0],
      device[1],
      len(encoded),
      0,  # checksum; not in this kind
  ]
  header = b'070701' + b''.join(b'%08X' % number for number in numbers)
  return _pad(header + encoded) + _pad(content)


def _pad(data):
  return data + bytes(-len(data) % _ALIGNMENT)
