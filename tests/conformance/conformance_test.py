"""Tests of conformance.py, each with one thing wrong; and the tree itself."""

import unittest

import conformance


def rows_of_the_tree():
  return conformance.parse_table(conformance._read('table.txt'))


def tests_of(rows):
  return sorted({row.test for row in rows if row.test != '-'})


class CheckTest(unittest.TestCase):

  def setUp(self):
    self.rows = rows_of_the_tree()
    self.tests = tests_of(self.rows)

  def change(self, row_id, **fields):
    self.rows = [
        row._replace(**fields) if row.id == row_id else row
        for row in self.rows
    ]

  def problems(self):
    return '\n'.join(conformance.check(self.rows, self.tests))

  def test_a_sound_table_has_no_problems(self):
    self.assertEqual(self.problems(), '')

  def test_row_without_a_test_is_found(self):
    row = next(row for row in self.rows if row.id == 'DEV-HDR-1')
    self.tests.remove(row.test)
    self.assertIn('DEV-HDR-1 has no test', self.problems())

  def test_lost_row_is_found(self):
    self.rows = [row for row in self.rows if row.id != 'BUS-NOTIF-1']
    self.assertIn('that bind bus are not 51', self.problems())

  def test_lost_fact_is_found(self):
    self.rows = [row for row in self.rows if row.id != 'FACT-EC-1']
    self.assertIn('facts are 21, not 22', self.problems())

  def test_test_of_another_row_is_no_proof(self):
    other = next(row for row in self.rows if row.id == 'DEV-HDR-2')
    self.change('DEV-HDR-1', test=other.test)
    self.assertIn('DEV-HDR-1 does not say that it shares', self.problems())

  def test_new_departure_is_found(self):
    self.change('DEV-HDR-1', verdict='DEPARTS', note='we felt like it')
    self.assertIn('DEV-HDR-1 departs', self.problems())

  def test_no_row_may_be_missing(self):
    self.change('DEV-HDR-1', verdict='MISSING', test='-', note='later')
    self.assertIn('DEV-HDR-1 has verdict MISSING', self.problems())

  def test_structural_row_needs_a_reason(self):
    self.change('BUS-NOTIF-1', note='-')
    self.assertIn('STRUCTURAL without a reason', self.problems())

  def test_test_that_proves_nothing_is_found(self):
    self.tests.append('Suite.DEV_HDR_99_Nothing')
    self.assertIn('proves no row', self.problems())

  def test_second_test_of_a_row_is_found(self):
    self.tests.append('Suite.DEV_HDR_1_Again')
    self.assertIn('is not the test of its row', self.problems())

  def test_disabled_test_is_no_test(self):
    source = 'TEST(Suite, DISABLED_DEV_HDR_1_Text) {'
    self.assertEqual(
        [conformance.row_id_of(t) for t in conformance.find_tests(source)],
        [None])


class DocumentTest(unittest.TestCase):

  def test_every_row_is_in_it(self):
    rows = rows_of_the_tree()
    text = conformance.document(rows)
    for row in rows:
      self.assertIn('| %s |' % row.id, text)

  def test_it_counts(self):
    self.assertIn('| **216** |', conformance.document(rows_of_the_tree()))


class TreeTest(unittest.TestCase):

  def test_table_tests_and_document_agree(self):
    self.assertEqual(conformance.check_tree(), [])


if __name__ == '__main__':
  unittest.main()
