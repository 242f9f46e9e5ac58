"""Tests of linux_modules.py; run by scripts/test."""

import os
import tempfile
import unittest

import linux_modules


class SourcesTest(unittest.TestCase):

  def test_takes_what_the_modules_are_made_of_and_nothing_else(self):
    with tempfile.TemporaryDirectory() as folder:
      for name in ['a.c', 'a.h', 'Kbuild', 'Makefile', 'README.md', 'a.o',
                   'dkms.conf']:
        with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
          file.write(name)
      self.assertEqual(
          linux_modules.sources(folder),
          {name: name.encode() for name in ['Kbuild', 'Makefile', 'a.c', 'a.h']})


class BuildTest(unittest.TestCase):

  def test_says_which_package_is_missing(self):
    with self.assertRaisesRegex(linux_modules.ModuleError, 'linux-headers'):
      linux_modules.build('0.0.0-none')


if __name__ == '__main__':
  unittest.main()
