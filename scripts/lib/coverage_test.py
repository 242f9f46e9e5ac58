"""Tests of coverage.py; run by scripts/test."""

import os
import tempfile
import unittest
import zipfile

import coverage
from coverage import FileCoverage

_LCOV = """\
SF:./vmm/base/a.cc
FN:1,f
FNDA:4,f
FNF:1
DA:1,4
DA:2,0
DA:3,1
BRDA:1,0,0,3
BRDA:1,0,1,0
BRDA:2,0,0,-
BRF:3
BRH:1
LF:3
LH:2
end_of_record
SF:devices/virtio/b.h
DA:10,1
LF:1
LH:1
end_of_record
"""


def covered(run, unrun):
  lines = {n: 1 for n in range(1, run + 1)}
  lines.update({n: 0 for n in range(run + 1, run + unrun + 1)})
  return FileCoverage(lines, 4, 2)


class ParseTest(unittest.TestCase):

  def test_has_lines_and_branches_of_each_file(self):
    files = coverage.parse_lcov(_LCOV)
    self.assertEqual(files['vmm/base/a.cc'],
                     FileCoverage({1: 4, 2: 0, 3: 1}, branches=3, taken=1))
    self.assertEqual(files['devices/virtio/b.h'], FileCoverage({10: 1}, 0, 0))


class RangesTest(unittest.TestCase):

  def test_neighbours_are_put_together(self):
    self.assertEqual(coverage.ranges([7, 1, 3, 2, 9]), '1-3, 7, 9')
    self.assertEqual(coverage.ranges([]), '')


class ReportTest(unittest.TestCase):

  def test_last_line_is_about_lines_and_the_one_before_about_branches(self):
    text, _ = coverage.report({'vmm/a.cc': covered(93, 7)}, [], 93)
    self.assertEqual(
        text.splitlines()[-2:],
        ['branches: 50.0 % (2 of 4)',
         'lines: 93.0 % (93 of 100), at least 93 % wanted'])

  def test_minimum_itself_is_enough(self):
    _, code = coverage.report({'vmm/a.cc': covered(93, 7)}, [], 93)
    self.assertEqual(code, 0)

  def test_what_only_rounds_to_the_minimum_is_not_enough(self):
    _, code = coverage.report({'vmm/a.cc': covered(9299, 701)}, [], 93)
    self.assertEqual(code, 1)

  def test_all_files_count_together(self):
    text, code = coverage.report(
        {'vmm/a.cc': covered(100, 0), 'devices/b.cc': covered(86, 14)}, [], 93)
    self.assertEqual(code, 0)
    self.assertIn('devices/b.cc: 87-100', text)

  def test_folders_have_their_own_line(self):
    text, _ = coverage.report(
        {'vmm/x/a.cc': covered(1, 0), 'vmm/x/b.cc': covered(0, 1),
         'vmm/y/c.cc': covered(1, 0)}, [], 0)
    rows = [line.split() for line in text.splitlines()]
    self.assertIn(['vmm/x', '2', '2', '50.0', '%', '8', '50.0', '%'], rows)
    self.assertIn(['vmm/y', '1', '1', '100.0', '%', '4', '50.0', '%'], rows)

  def test_source_that_is_in_no_test_fails(self):
    text, code = coverage.report(
        {'vmm/a.cc': covered(9, 0)}, ['vmm/forgotten.cc'], 93)
    self.assertEqual(code, 1)
    self.assertIn('in no test: vmm/forgotten.cc', text)

  def test_no_figures_at_all_fail(self):
    self.assertEqual(coverage.report({}, [], 93)[1], 1)


class ProfilesTest(unittest.TestCase):

  def setUp(self):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = folder.name

  def _outputs(self, path):
    place = os.path.join(self.folder, 'logs', path, 'test.outputs')
    os.makedirs(place)
    return place

  def _unpack(self, *labels):
    return coverage.unpack_profiles(
        os.path.join(self.folder, 'logs'), labels,
        os.path.join(self.folder, 'unpacked'))

  def test_come_from_archives_of_all_shards_and_from_plain_files(self):
    for shard in ['1', '2']:
      archive = os.path.join(
          self._outputs('vmm/a/shard_%s_of_2' % shard), 'outputs.zip')
      with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('1_0.profraw', shard)
        file.writestr('other', '')
    with open(os.path.join(self._outputs('vmm/b'), '1_0.profraw'), 'w',
              encoding='utf-8') as file:
      file.write('3')
    found = []
    for path in self._unpack('//vmm:a', '//vmm:b'):
      with open(path, encoding='utf-8') as file:
        found.append(file.read())
    self.assertEqual(sorted(found), ['1', '2', '3'])

  def test_test_without_a_profile_is_an_error(self):
    self._outputs('vmm/a')
    with self.assertRaisesRegex(coverage.CoverageError, '//vmm:a'):
      self._unpack('//vmm:a')


if __name__ == '__main__':
  unittest.main()
