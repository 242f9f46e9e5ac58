"""Tests of kernel_image.py; run by scripts/test."""

import ctypes
import lzma
import struct
import unittest
import zlib

import kernel_image

_ELF = b'\x7fELF' + b'vmlinux' * 1000


def bz_image(payload, version=0x20F, setup_sectors=3, gap=64):
  """A bzImage with just what finds the payload."""
  image = bytearray((setup_sectors + 1) * 512)
  image[0x1F1] = setup_sectors
  image[0x202:0x206] = b'HdrS'
  struct.pack_into('<H', image, 0x206, version)
  struct.pack_into('<II', image, 0x248, gap, len(payload))
  return bytes(image) + b'c' * gap + payload + b'after it'


def sized(data, size=len(_ELF)):
  return data + struct.pack('<I', size)


def gzip(data):
  packer = zlib.compressobj(wbits=31)
  return packer.compress(data) + packer.flush()


def lz4_legacy(*blocks):
  library = ctypes.CDLL('liblz4.so.1')
  result = b'\x02\x21\x4c\x18'
  for block in blocks:
    buffer = ctypes.create_string_buffer(len(block) + 1024)
    count = library.LZ4_compress_default(block, buffer, len(block), len(buffer))
    result += struct.pack('<I', count) + buffer.raw[:count]
  return result


class ExtractTest(unittest.TestCase):

  def test_takes_out_what_gzip_and_xz_packed(self):
    for packed in [gzip(_ELF), lzma.compress(_ELF)]:
      self.assertEqual(kernel_image.extract(bz_image(sized(packed))), _ELF)

  def test_takes_out_what_lz4_packed_in_blocks(self):
    packed = lz4_legacy(_ELF[:3000], _ELF[3000:])
    self.assertEqual(kernel_image.extract(bz_image(sized(packed))), _ELF)

  def test_zero_setup_sectors_mean_four(self):
    image = bytearray(bz_image(sized(gzip(_ELF)), setup_sectors=4))
    image[0x1F1] = 0
    self.assertEqual(kernel_image.extract(bytes(image)), _ELF)

  def test_refuses_what_is_no_bzimage(self):
    for image in [b'', b'MZ' * 1000, _ELF]:
      with self.assertRaisesRegex(kernel_image.KernelError, 'no bzImage'):
        kernel_image.extract(image)

  def test_refuses_an_old_protocol(self):
    with self.assertRaisesRegex(kernel_image.KernelError, 'does not say where'):
      kernel_image.extract(bz_image(sized(gzip(_ELF)), version=0x207))

  def test_refuses_a_truncated_file(self):
    image = bz_image(sized(gzip(_ELF)))
    with self.assertRaisesRegex(kernel_image.KernelError, 'cut short'):
      kernel_image.extract(image[:-20])

  def test_refuses_truncated_lz4_data(self):
    packed = lz4_legacy(_ELF)
    for end in [2, 6, 40]:
      with self.assertRaisesRegex(kernel_image.KernelError, 'cut short'):
        kernel_image.extract(bz_image(sized(packed[:4 + end])))

  def test_refuses_damaged_lz4_data(self):
    packed = bytearray(lz4_legacy(_ELF))
    packed[8:] = b'\xff' * len(packed[8:])
    with self.assertRaisesRegex(kernel_image.KernelError, 'not decompress'):
      kernel_image.extract(bz_image(sized(bytes(packed))))

  def test_refuses_damaged_gzip_data(self):
    packed = bytearray(gzip(_ELF))
    packed[20:30] = b'\xff' * 10
    with self.assertRaises(kernel_image.KernelError):
      kernel_image.extract(bz_image(sized(bytes(packed))))

  def test_refuses_a_size_that_differs(self):
    with self.assertRaisesRegex(kernel_image.KernelError, 'it says 17'):
      kernel_image.extract(bz_image(sized(gzip(_ELF), 17)))

  def test_refuses_unknown_compression_and_says_how_it_begins(self):
    with self.assertRaisesRegex(kernel_image.KernelError, '28b52ffd'):
      kernel_image.extract(bz_image(sized(b'\x28\xb5\x2f\xfd' + bytes(20))))

  def test_refuses_a_payload_that_is_no_elf_image(self):
    with self.assertRaisesRegex(kernel_image.KernelError, 'no ELF'):
      kernel_image.extract(bz_image(sized(gzip(b'text'), 4)))


class ParseDependsTest(unittest.TestCase):

  def test_returns_the_release_of_an_installed_meta_package(self):
    text = 'installed linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)'
    self.assertEqual(kernel_image.parse_depends(text),
                     '6.1.0-56-cloud-amd64')

  def test_returns_nothing_for_a_removed_package(self):
    text = 'config-files linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)'
    self.assertIsNone(kernel_image.parse_depends(text))
    self.assertIsNone(kernel_image.parse_depends(''))


if __name__ == '__main__':
  unittest.main()
