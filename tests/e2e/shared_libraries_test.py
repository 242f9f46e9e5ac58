"""Tests of shared_libraries.py; run by scripts/test."""

import os
import sys
import unittest

import shared_libraries

_LDD = """\
\tlinux-vdso.so.1 (0x00007ffd5a9f2000)
\tlibgrpc++.so.1.51 => /lib/x86_64-linux-gnu/libgrpc++.so.1.51 (0x00007f1)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f3)
"""


class ParseLddTest(unittest.TestCase):

  def test_returns_libraries_and_loader_but_not_the_vdso(self):
    self.assertEqual(shared_libraries.parse_ldd(_LDD), [
        '/lib/x86_64-linux-gnu/libgrpc++.so.1.51',
        '/lib/x86_64-linux-gnu/libc.so.6',
        '/lib64/ld-linux-x86-64.so.2',
    ])

  def test_names_a_library_that_is_missing(self):
    with self.assertRaisesRegex(ValueError, 'libgone'):
      shared_libraries.parse_ldd(_LDD + '\tlibgone.so.1 => not found\n')


class OfProgramsTest(unittest.TestCase):

  def test_finds_files_that_exist(self):
    paths = shared_libraries.of_programs([os.path.realpath(sys.executable)])
    self.assertTrue(any('libc.so' in path for path in paths), paths)
    for path in paths:
      self.assertTrue(os.path.exists(path), path)


if __name__ == '__main__':
  unittest.main()
