"""Tests of image.py; run by scripts/test."""

import os
import tempfile
import unittest

import image


class CachedTest(unittest.TestCase):

  def setUp(self):
    self._folder = tempfile.TemporaryDirectory()
    self.addCleanup(self._folder.cleanup)
    self.made = []

  def get(self, *parts, kind='kind'):
    def make():
      self.made.append(parts)
      return b'|'.join(parts)

    path = image.cached(self._folder.name, kind, list(parts), make)
    return image.read(path)

  def test_makes_an_entry_once(self):
    self.assertEqual(self.get(b'a', b'b'), b'a|b')
    self.assertEqual(self.get(b'a', b'b'), b'a|b')
    self.assertEqual(self.made, [(b'a', b'b')])

  def test_makes_another_for_other_parts(self):
    self.get(b'a', b'bc')
    self.assertEqual(self.get(b'ab', b'c'), b'ab|c')
    self.assertEqual(self.get(b'a', b'bc', kind='other'), b'a|bc')
    self.assertEqual(len(self.made), 3)

  def test_leaves_nothing_behind_when_making_fails(self):
    def make():
      return 'text, which can not be written'

    with self.assertRaises(TypeError):
      image.cached(self._folder.name, 'kind', [b'a'], make)
    self.assertEqual(os.listdir(self._folder.name), [])

  def test_forgets_what_was_not_used_for_long(self):
    for number in range(8):
      self.get(b'%d' % number)
      for name in os.listdir(self._folder.name):
        path = os.path.join(self._folder.name, name)
        os.utime(path, ns=(0, os.stat(path).st_mtime_ns - 10**10))
    self.assertEqual(len(os.listdir(self._folder.name)), 4)
    self.made.clear()
    self.get(b'7')
    self.assertEqual(self.made, [])

  def test_digest_tells_parts_apart(self):
    self.assertNotEqual(image.digest([b'a', b'b']), image.digest([b'ab']))


if __name__ == '__main__':
  unittest.main()
