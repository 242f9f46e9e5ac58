"""Tests of bench_results.py; run by scripts/test."""

import json
import unittest

import bench_results
from bench_results import AT_LEAST, AT_MOST, Result, Target, Triple


def steady(baseline, subject):
  return Triple(baseline, subject, baseline)


class TripleTest(unittest.TestCase):

  def test_is_steady_up_to_fifteen_percent_whichever_comes_first(self):
    self.assertTrue(Triple(100, 1, 115).is_steady)
    self.assertTrue(Triple(115, 1, 100).is_steady)
    self.assertFalse(Triple(100, 1, 115.1).is_steady)
    self.assertFalse(Triple(115.1, 1, 100).is_steady)

  def test_baseline_is_between_the_two(self):
    self.assertEqual(Triple(100, 1, 110).baseline, 105)


class PercentileTest(unittest.TestCase):

  def test_lies_between_neighbours(self):
    values = list(range(11))
    self.assertEqual(bench_results.percentile(values, 10), 1)
    self.assertEqual(bench_results.percentile(values, 90), 9)
    self.assertEqual(bench_results.percentile([1, 2], 50), 1.5)
    self.assertEqual(bench_results.percentile([4], 90), 4)

  def test_order_does_not_matter(self):
    self.assertEqual(bench_results.percentile([3, 1, 2], 50), 2)


class FromTriplesTest(unittest.TestCase):

  def test_takes_medians_of_the_steady_ones_only(self):
    result = bench_results.from_triples(
        'x', [steady(100, 90), steady(100, 120), steady(100, 100),
              Triple(100, 9999, 200)], wanted=3)
    self.assertEqual(
        (result.value, result.baseline, result.ratio), (100, 100, 1.0))
    self.assertEqual((result.samples, result.dropped), (3, 1))

  def test_ratio_is_of_each_triple_not_of_the_medians(self):
    # The machine's speed changes between the triples, the ratio does not.
    result = bench_results.from_triples(
        'x', [steady(100, 50), steady(400, 200), steady(10, 5)], wanted=3)
    self.assertEqual(result.ratio, 0.5)

  def test_inverted_ratio_tells_how_many_times_as_fast(self):
    result = bench_results.from_triples(
        'x', [steady(100, 50)], wanted=1, inverted=True)
    self.assertEqual(result.ratio, 2)

  def test_spread_is_that_of_the_targets_figure(self):
    triples = [steady(100, 50), steady(200, 100)]
    ratio = bench_results.from_triples('x', triples, wanted=2)
    self.assertEqual((ratio.p10, ratio.p90), (0.5, 0.5))
    value = bench_results.from_triples(
        'x', triples, wanted=2, target=Target(AT_MOST, 75, 'value'))
    self.assertEqual((value.p10, value.p90), (55, 95))

  def test_too_few_steady_ones_give_no_figure(self):
    result = bench_results.from_triples(
        'x', [steady(1, 1), Triple(1, 1, 2)], wanted=2,
        target=Target(AT_LEAST, 1))
    self.assertIsNone(result.ratio)
    self.assertIsNone(result.met)
    self.assertIn('1 of 2 triples', result.unmeasured)


class TargetTest(unittest.TestCase):

  def test_limit_itself_meets(self):
    self.assertTrue(Target(AT_LEAST, 1.0).is_met_by(1.0))
    self.assertTrue(Target(AT_MOST, 1.1).is_met_by(1.1))

  def test_beyond_the_limit_misses(self):
    self.assertFalse(Target(AT_LEAST, 1.0).is_met_by(0.99))
    self.assertFalse(Target(AT_MOST, 1.1).is_met_by(1.11))


def result(value, target=Target(AT_MOST, 1, 'value'), **kwargs):
  return Result('x', 'calls', value=value, target=target, **kwargs)


class MetTest(unittest.TestCase):

  def test_goes_by_the_figure_that_the_target_names(self):
    ratio = Result('x', 'ns', value=5, ratio=1.0, target=Target(AT_MOST, 1.1))
    self.assertIs(ratio.met, True)
    self.assertIs(result(2).met, False)

  def test_is_unknown_without_target_or_figure(self):
    self.assertIsNone(result(2, target=None).met)
    self.assertIsNone(result(None, unmeasured='no KVM').met)


class ExitCodeTest(unittest.TestCase):

  def test_a_miss_counts_most(self):
    noisy = result(None, unmeasured='too noisy', noisy=True)
    self.assertEqual(bench_results.exit_code([result(2), noisy]), 1)
    self.assertEqual(bench_results.exit_code([result(1), noisy]), 3)

  def test_what_the_machine_lacks_is_no_failure(self):
    missing = result(None, unmeasured='no KVM')
    self.assertEqual(bench_results.exit_code([result(1), missing]), 0)

  def test_noise_where_no_target_is_is_no_failure(self):
    noisy = result(None, target=None, unmeasured='too noisy', noisy=True)
    self.assertEqual(bench_results.exit_code([noisy]), 0)


class OutputTest(unittest.TestCase):

  def test_json_has_the_promised_fields_on_one_line(self):
    line = result(0.5).to_json()
    self.assertNotIn('\n', line)
    fields = json.loads(line)
    for name in ['name', 'value', 'unit', 'baseline', 'ratio', 'target', 'met']:
      self.assertIn(name, fields)
    self.assertEqual((fields['value'], fields['target'], fields['met']),
                     (0.5, 1, True))

  def test_json_says_why_there_is_no_figure(self):
    fields = json.loads(result(None, unmeasured='no KVM').to_json())
    self.assertIsNone(fields['met'])
    self.assertEqual(fields['unmeasured'], 'no KVM')

  def test_table_shows_misses_and_reasons(self):
    text = bench_results.table([
        result(2), result(1), result(None, unmeasured='no KVM')])
    lines = text.splitlines()
    self.assertIn('NO', lines[1])
    self.assertIn('yes', lines[2])
    self.assertIn('no KVM', lines[4])


if __name__ == '__main__':
  unittest.main()
