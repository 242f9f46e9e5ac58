"""Tests of cpio.py; run by scripts/test."""

import unittest

import cpio


def entries(data):
  """Reads an archive back; [(name, mode, content, device)] up to the trailer."""
  found = []
  at = 0
  while True:
    assert data[at:at + 6] == b'070701', data[at:at + 6]
    numbers = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
    size, name_size = numbers[6], numbers[11]
    name = data[at + 110:at + 110 + name_size]
    assert name.endswith(b'\0')
    at += -(-(110 + name_size) // 4) * 4
    content = data[at:at + size]
    at += -(-size // 4) * 4
    name = name[:-1].decode()
    if name == 'TRAILER!!!':
      return found, at
    found.append((name, numbers[1], content, (numbers[9], numbers[10])))


class ArchiveTest(unittest.TestCase):

  def test_holds_files_with_content_and_mode(self):
    archive = cpio.Archive()
    archive.add_file('/init', b'#!/bin/sh\n', executable=True)
    archive.add_file('/notes', b'12345')
    found, _ = entries(archive.to_bytes())
    self.assertEqual(found, [('init', 0o100755, b'#!/bin/sh\n', (0, 0)),
                             ('notes', 0o100644, b'12345', (0, 0))])

  def test_puts_folders_before_what_is_in_them_and_once(self):
    archive = cpio.Archive()
    archive.add_file('/lib/a/x', b'')
    archive.add_file('/lib/b/y', b'')
    found, _ = entries(archive.to_bytes())
    self.assertEqual([entry[0] for entry in found],
                     ['lib', 'lib/a', 'lib/a/x', 'lib/b', 'lib/b/y'])
    self.assertEqual(found[0][1], 0o040755)

  def test_holds_links_and_the_console(self):
    archive = cpio.Archive()
    archive.add_link('/bin/sh', 'busybox')
    archive.add_console()
    found, _ = entries(archive.to_bytes())
    self.assertIn(('bin/sh', 0o120777, b'busybox', (0, 0)), found)
    self.assertIn(('dev/console', 0o020600, b'', (5, 1)), found)

  def test_ends_where_linux_looks_for_another_archive(self):
    archive = cpio.Archive()
    archive.add_file('/a', b'x' * 1000)
    data = archive.to_bytes()
    _, end = entries(data)
    self.assertEqual(len(data) % 512, 0)
    self.assertLess(len(data) - end, 512)
    self.assertEqual(data[end:].strip(b'\0'), b'')

  def test_same_input_gives_the_same_bytes(self):
    def archive():
      result = cpio.Archive()
      result.add_file('/a/b', b'c')
      return result.to_bytes()

    self.assertEqual(archive(), archive())

  def test_refuses_a_path_twice(self):
    archive = cpio.Archive()
    archive.add_file('/a', b'')
    with self.assertRaisesRegex(ValueError, '/a is in the archive'):
      archive.add_file('/a', b'')

  def test_refuses_paths_that_are_not_absolute_and_normal(self):
    for path in ['a', '/a/../b', '/a//b', '/a/', '']:
      with self.assertRaises(ValueError, msg=path):
        cpio.Archive().add_file(path, b'')


if __name__ == '__main__':
  unittest.main()
