"""Tests of fuzz_log.py; run by scripts/test."""

import unittest

import fuzz_log

_LOG = """\
#2	INITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb
#4096	NEW    cov: 120 ft: 300 corp: 30/2Kb lim: 40 exec/s: 2048 rss: 31Mb L: 3/9
#5000	DONE   cov: 121 ft: 301 corp: 31/2Kb lim: 40 exec/s: 2500 rss: 31Mb
Done 5000 runs in 2 second(s)
stat::number_of_executed_units: 5000
stat::average_exec_per_sec:     2500
"""

_PAGE = """\
# Fuzzing

<!-- totals -->
old
<!-- totals -->

Text.

<!-- runs -->
| date | target | commit | CPU minutes | executions | edges |
|---|---|---|---|---|---|
| 2026-01-02 | `//a:b` | 0123456789 | 30.0 | 100 | 7 |
<!-- runs -->

End.
"""


class ReadFactsTest(unittest.TestCase):

  def test_takes_the_last_count_of_edges_and_the_executions(self):
    facts = fuzz_log.read_facts('//a:b', _LOG, 61)
    self.assertEqual((facts.label, facts.seconds, facts.executions, facts.edges),
                     ('//a:b', 61, 5000, 121))

  def test_has_nothing_of_a_fuzzer_that_did_not_end(self):
    self.assertIsNone(fuzz_log.read_facts('//a:b', _LOG.split('Done')[0], 1))
    self.assertIsNone(fuzz_log.read_facts('//a:b', '', 1))


class AddTest(unittest.TestCase):

  def test_sums_up_what_was_done_and_keeps_the_rest(self):
    facts = fuzz_log.Facts('//a:b', 3600, 50, 9)
    other = fuzz_log.Facts('//a:a', 60, 5, 3)
    page = fuzz_log.add(_PAGE, [fuzz_log.row('2026-02-03', 'abc', facts),
                                fuzz_log.row('2026-02-03', 'abc', other)])
    self.assertIn('| `//a:b` | 1.50 | 150 | 9 |\n', page)
    self.assertIn('| `//a:a` | 0.02 | 5 | 3 |\n', page)
    self.assertNotIn('old', page)
    self.assertIn('| 2026-01-02 | `//a:b` | 0123456789 | 30.0 | 100 | 7 |\n'
                  '| 2026-02-03 | `//a:b` | abc | 60.0 | 50 | 9 |\n', page)
    self.assertIn('\nText.\n', page)
    self.assertTrue(page.endswith('\nEnd.\n'))

  def test_adding_nothing_a_second_time_changes_nothing(self):
    page = fuzz_log.add(_PAGE, [])
    self.assertEqual(fuzz_log.add(page, []), page)

  def test_refuses_a_page_that_it_does_not_know(self):
    with self.assertRaises(ValueError):
      fuzz_log.add('# Fuzzing\n', [])
    with self.assertRaises(ValueError):
      fuzz_log.add(_PAGE.replace('| 100 |', '| many |'), [])


if __name__ == '__main__':
  unittest.main()
