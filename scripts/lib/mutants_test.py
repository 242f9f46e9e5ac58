"""Tests of mutants.py, without Bazel."""

import unittest

import mutants

_ONE = """\
# A comment.

@ a/b.cc
- x < 1
+ x <= 1
= DEV-HDR-1
"""


class ParseTest(unittest.TestCase):

  def test_block_is_a_mutant(self):
    (mutant,) = mutants.parse(_ONE)
    self.assertEqual(mutant, (1, 'a/b.cc', 'x < 1', 'x <= 1', 'DEV-HDR-1'))

  def test_incomplete_block_is_an_error(self):
    with self.assertRaises(ValueError):
      mutants.parse(_ONE.replace('= DEV-HDR-1\n', ''))

  def test_other_line_is_an_error(self):
    with self.assertRaises(ValueError):
      mutants.parse(_ONE + 'what\n')

  def test_field_that_is_there_twice_is_an_error(self):
    with self.assertRaises(ValueError):
      mutants.parse(_ONE + '= DEV-HDR-2\n')


class MutateTest(unittest.TestCase):

  def setUp(self):
    (self.mutant,) = mutants.parse(_ONE)

  def test_replaces_the_part_of_the_line(self):
    self.assertEqual(
        mutants.mutate('if (x < 1) y();\n', self.mutant), 'if (x <= 1) y();\n')

  def test_what_is_not_there_is_an_error(self):
    with self.assertRaises(ValueError):
      mutants.mutate('if (x > 1) y();\n', self.mutant)

  def test_what_is_there_twice_is_an_error(self):
    with self.assertRaises(ValueError):
      mutants.mutate('x < 1; x < 1;\n', self.mutant)

  def test_no_change_is_an_error(self):
    with self.assertRaises(ValueError):
      mutants.mutate('x < 1', self.mutant._replace(new='x < 1'))


class TreeTest(unittest.TestCase):

  def test_mutants_fit_the_tree_and_name_rows_with_tests(self):
    self.assertGreaterEqual(len(mutants.load(mutants.ROOT)), 60)

  def test_selects_by_number_row_and_file(self):
    chosen = mutants._select(mutants.load(mutants.ROOT), '1,3-4')
    self.assertEqual([m.number for m in chosen], [1, 3, 4])
    for mutant in mutants._select(mutants.load(mutants.ROOT), 'BUS-SIZE-1'):
      self.assertEqual(mutant.row, 'BUS-SIZE-1')
    for mutant in mutants._select(mutants.load(mutants.ROOT), 'slot.cc'):
      self.assertIn('slot.cc', mutant.file)


if __name__ == '__main__':
  unittest.main()
