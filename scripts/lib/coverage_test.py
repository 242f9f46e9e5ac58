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

  def test_spellings_of_a_path_are_one_file(self):
    files = coverage.parse_lcov(
        'SF:./vmm/a.h\nDA:1,0\nDA:2,3\nBRDA:1,0,0,-\nBRDA:1,0,1,2\n'
        'end_of_record\n'
        'SF:vmm/a.h\nDA:1,1\nDA:3,0\nBRDA:1,0,0,1\nBRDA:1,0,1,0\n'
        'end_of_record\n')
    self.assertEqual(files, {
        'vmm/a.h': FileCoverage({1: 1, 2: 3, 3: 0}, branches=2, taken=2)})


class RangesTest(unittest.TestCase):

  def test_neighbours_are_put_together(self):
    self.assertEqual(coverage.ranges([7, 1, 3, 2, 9]), '1-3, 7, 9')
    self.assertEqual(coverage.ranges([]), '')


class ReportTest(unittest.TestCase):

  def test_last_line_is_about_lines_and_the_one_before_about_branches(self):
    text, _ = coverage.report({'vmm/a.cc': covered(93, 7)}, {}, 93)
    self.assertEqual(
        text.splitlines()[-2:],
        ['branches: 50.0 % (2 of 4)',
         'lines: 93.0 % (93 of 100), at least 93 % wanted'])

  def test_minimum_itself_is_enough(self):
    _, code = coverage.report({'vmm/a.cc': covered(93, 7)}, {}, 93)
    self.assertEqual(code, 0)

  def test_what_only_rounds_to_the_minimum_is_not_enough(self):
    _, code = coverage.report({'vmm/a.cc': covered(9299, 701)}, {}, 93)
    self.assertEqual(code, 1)

  def test_all_files_count_together(self):
    _, code = coverage.report(
        {'vmm/a.cc': covered(100, 0), 'devices/b.cc': covered(86, 14)}, {}, 93)
    self.assertEqual(code, 0)

  def test_files_with_most_missing_lines_come_first_and_name_them(self):
    text, _ = coverage.report(
        {'vmm/few.cc': covered(1, 2), 'vmm/most.cc': covered(90, 7),
         'vmm/whole.cc': covered(5, 0), 'vmm/some.cc': covered(0, 3)}, {}, 0)
    rows = [line.split() for line in text.splitlines()]
    self.assertEqual([row[0] for row in rows[1:4]],
                     ['vmm/most.cc', 'vmm/some.cc', 'vmm/few.cc'])
    self.assertEqual(rows[1][1:], [
        '7', '97', '92.8', '%', '4', '50.0', '%', '91-97'])
    self.assertNotIn('vmm/whole.cc', text)
    self.assertIn('4 files count, 1 of them miss no line', text)

  def test_folders_have_their_own_line(self):
    text, _ = coverage.report(
        {'vmm/x/a.cc': covered(1, 0), 'vmm/x/b.cc': covered(0, 1),
         'vmm/y/c.cc': covered(1, 0)}, {}, 0)
    rows = [line.split() for line in text.splitlines()]
    self.assertIn(['vmm/x', '1', '2', '50.0', '%', '8', '50.0', '%'], rows)
    self.assertIn(['vmm/y', '0', '1', '100.0', '%', '4', '50.0', '%'], rows)

  def test_says_what_does_not_count_and_why(self):
    text, code = coverage.report(
        {'vmm/a.cc': covered(1, 0)},
        {'vmm/a_test.cc': coverage.TESTONLY, 'vmm/b_test.cc': coverage.TESTONLY,
         'vmm/kvm/k.cc': coverage.NEEDS_KVM}, 93)
    self.assertIn('2 files do not: for tests only', text)
    self.assertIn('1 files do not: takes a machine with KVM', text)
    self.assertEqual(code, 0)

  def test_source_that_is_in_no_target_fails(self):
    text, code = coverage.report(
        {'vmm/a.cc': covered(9, 0)}, {'vmm/forgotten.cc': coverage.ORPHAN}, 93)
    self.assertEqual(code, 1)
    self.assertIn('in no target: vmm/forgotten.cc', text)

  def test_no_figures_at_all_fail(self):
    self.assertEqual(coverage.report({}, {}, 93)[1], 1)

  def test_json_has_the_same_figures(self):
    found = coverage.as_json({'vmm/a.cc': covered(3, 1)},
                             {'vmm/a_test.cc': coverage.TESTONLY}, 93)
    self.assertEqual(found['line_percent'], 75.0)
    self.assertEqual((found['branches'], found['branches_taken']), (4, 2))
    self.assertEqual(found['files']['vmm/a.cc']['unrun'], [4])
    self.assertEqual(found['not_counted'], {'vmm/a_test.cc': coverage.TESTONLY})


class ClassifyTest(unittest.TestCase):

  def classify(self, *paths):
    return coverage.classify(
        set(paths), counted={'vmm/a.cc', 'vmm/kvm/vm.cc', 'vmm/generated.cc'},
        testonly={'vmm/a.cc', 'vmm/a_test.cc', 'vmm/testing/fake.cc'})

  def test_sources_of_libraries_count_whatever_else_has_them(self):
    self.assertEqual(self.classify('vmm/a.cc'), (['vmm/a.cc'], {}))

  def test_what_is_for_tests_does_not_count(self):
    self.assertEqual(
        self.classify('vmm/a_test.cc', 'vmm/testing/fake.cc'),
        ([], {'vmm/a_test.cc': coverage.TESTONLY,
              'vmm/testing/fake.cc': coverage.TESTONLY}))

  def test_only_the_folder_for_kvm_is_left_out(self):
    self.assertEqual(
        self.classify('vmm/kvm/vm.cc', 'vmm/kvm/no_target.cc'),
        ([], {'vmm/kvm/vm.cc': coverage.NEEDS_KVM,
              'vmm/kvm/no_target.cc': coverage.NEEDS_KVM}))
    self.assertEqual(self.classify('vmm/kvm_like.cc')[1],
                     {'vmm/kvm_like.cc': coverage.ORPHAN})


class ArchivesTest(unittest.TestCase):

  def test_are_those_of_the_labels(self):
    with tempfile.TemporaryDirectory() as folder:
      os.makedirs(os.path.join(folder, 'vmm/base'))
      path = os.path.join(folder, 'vmm/base/liblog.a')
      with open(path, 'w', encoding='utf-8'):
        pass
      self.assertEqual(coverage.archives(folder, ['//vmm/base:log']), [path])

  def test_library_that_was_not_built_is_an_error(self):
    with tempfile.TemporaryDirectory() as folder:
      with self.assertRaisesRegex(coverage.CoverageError, '//vmm/base:log'):
        coverage.archives(folder, ['//vmm/base:log'])


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
