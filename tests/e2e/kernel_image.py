"""Finds Debian's kernel and takes the uncompressed image out of it.

An emulated machine spends most of its boot on decompressing; an uncompressed
vmlinux spares it that.
"""

import ctypes
import lzma
import os
import re
import struct
import subprocess
import zlib

_META_PACKAGES = ['linux-image-cloud-amd64', 'linux-image-amd64']
_ELF = b'\x7fELF'
_LZ4_BLOCK = 8 << 20


class KernelError(Exception):
  """There is no kernel, or not one that can be used."""


def find_release(root='/'):
  """Returns the release of the kernel of Debian's meta package.

  Raises:
    KernelError: none is installed.
  """
  for package in _META_PACKAGES:
    result = subprocess.run(
        ['dpkg-query', '-W', '-f', '${db:Status-Status} ${Depends}', package],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        encoding='utf-8')
    if result.returncode == 0:
      release = parse_depends(result.stdout)
      if release and os.path.exists(os.path.join(root, image_path(release))):
        return release
  raise KernelError('no kernel is installed; install ' + _META_PACKAGES[0])


def parse_depends(text):
  """Returns the release in "installed linux-image-RELEASE (= ...)", or None."""
  found = re.match(r'installed .*\blinux-image-(\d[\w.+-]*)', text)
  return found.group(1) if found else None


def image_path(release):
  """The compressed image, relative to the root folder."""
  return 'boot/vmlinuz-' + release


def modules_folder(release):
  """The modules, relative to the root folder."""
  return 'lib/modules/' + release


def extract(image):
  """Returns the ELF image that is in a bzImage.

  Args:
    image: the bytes of the file.

  Raises:
    KernelError: it is no bzImage, or compressed in a way not known here.
  """
  if len(image) < 0x250 or image[0x202:0x206] != b'HdrS':
    raise KernelError('this is no bzImage')
  if struct.unpack_from('<H', image, 0x206)[0] < 0x208:
    raise KernelError('this bzImage does not say where its payload is')
  setup_sectors = image[0x1F1] or 4
  offset, length = struct.unpack_from('<II', image, 0x248)
  start = (setup_sectors + 1) * 512 + offset
  payload = image[start:start + length]
  if len(payload) != length or length < 8:
    raise KernelError('the bzImage is cut short')
  # The kernel's build appends the size of what comes out.
  size = struct.unpack('<I', payload[-4:])[0]
  try:
    elf = _decompress(payload[:-4], size)
  except (lzma.LZMAError, zlib.error) as error:
    raise KernelError('the payload does not decompress: %s' % error) from error
  if len(elf) != size:
    raise KernelError('%d bytes came out of the bzImage, it says %d' % (
        len(elf), size))
  if not elf.startswith(_ELF):
    raise KernelError('what is in the bzImage is no ELF image')
  return elf


def _decompress(data, size):
  if data.startswith(b'\x1f\x8b'):
    return zlib.decompressobj(31).decompress(data)
  if data.startswith(b'\xfd7zXZ\0'):
    return lzma.LZMADecompressor().decompress(data)
  if data.startswith(b'\x02\x21\x4c\x18'):
    return _decompress_lz4(data, size)
  raise KernelError('unknown compression, begins with ' + data[:6].hex())


def _decompress_lz4(data, size):
  """Blocks of up to 8 MiB, each after its compressed size."""
  # Part of every Debian system: apt needs it.
  try:
    library = ctypes.CDLL('liblz4.so.1')
  except OSError as error:
    raise KernelError('the kernel is compressed with LZ4, and %s' % error
                      ) from error
  decompress = library.LZ4_decompress_safe
  decompress.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int,
                         ctypes.c_int]
  buffer = ctypes.create_string_buffer(_LZ4_BLOCK)
  result = bytearray()
  at = 4
  while len(result) < size:
    if at + 4 > len(data):
      raise KernelError('the LZ4 data is cut short')
    length = struct.unpack_from('<I', data, at)[0]
    block = data[at + 4:at + 4 + length]
    if len(block) != length or length == 0:
      raise KernelError('the LZ4 data is cut short')
    count = decompress(block, buffer, len(block), _LZ4_BLOCK)
    if count <= 0:
      raise KernelError('an LZ4 block does not decompress')
    result += buffer.raw[:count]
    at += 4 + length
  return bytes(result)
