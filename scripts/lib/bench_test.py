"""Tests of bench.py; run by scripts/test."""

import json
import os
import unittest

import bench


class FakeBench:
  """Answers with given texts instead of running programs."""

  def __init__(self, texts, wanted=2):
    self._texts = list(texts)
    self.wanted = wanted
    self.calls = 0

  def benchmark(self, unused_program, unused_name, unused_repetitions):
    self.calls += 1
    return self._texts[min(self.calls, len(self._texts)) - 1]

  triples = bench.Bench.triples


def triples(*figures):
  return json.dumps({'benchmarks': [{
      'run_name': 'BM_A/iterations:1/manual_time',
      'run_type': 'iteration',
      'before_ns': before,
      'subject_ns': subject,
      'after_ns': after,
  } for before, subject, after in figures]})


NOISY = (1, 1, 2)
STEADY = (1, 1, 1)


class TriplesTest(unittest.TestCase):

  def test_ends_as_soon_as_enough_are_steady(self):
    fake = FakeBench([triples(STEADY, NOISY), triples(STEADY, STEADY)])
    self.assertEqual(len(fake.triples('p', 'BM_A')), 4)
    self.assertEqual(fake.calls, 2)

  def test_gives_up_on_a_noisy_machine(self):
    fake = FakeBench([triples(NOISY, NOISY)])
    measurement = bench.TripleMeasurement('x', 'p', 'BM_A')
    (result,) = measurement.measure(fake)
    self.assertTrue(result.noisy)
    self.assertLess(fake.calls, 20)

  def test_benchmark_that_can_not_run_has_no_figure(self):
    text = json.dumps({'benchmarks': [{
        'run_name': 'BM_A', 'run_type': 'iteration', 'error_occurred': True,
        'error_message': 'no KVM'}]})
    measurement = bench.TripleMeasurement(
        'x', 'p', 'BM_A', bench.Target(bench.AT_MOST, 1.15))
    (result,) = measurement.measure(FakeBench([text]))
    self.assertIsNone(result.met)
    self.assertFalse(result.noisy)
    self.assertIn('no KVM', result.unmeasured)


class InstructionsTest(unittest.TestCase):

  def test_growth_beyond_two_percent_misses(self):
    self.assertIs(bench.compare_instructions('x', 1020, 1000).met, True)
    self.assertIs(bench.compare_instructions('x', 1021, 1000).met, False)

  def test_fewer_is_fine_and_is_said(self):
    result = bench.compare_instructions('x', 900, 1000)
    self.assertIs(result.met, True)
    self.assertIn('--record-instructions', result.note)

  def test_without_a_record_nothing_is_judged(self):
    self.assertIsNone(bench.compare_instructions('x', 900, None).met)

  def test_all_paths_are_recorded_in_the_tree(self):
    for kind in ['served', 'refused']:
      for layout in ['spsc', 'shmem-v1']:
        self.assertGreater(bench.recorded('%s, %s' % (kind, layout)), 0)

  def test_same_with_much_else_there_means_within_two_percent_both_ways(self):
    self.assertIs(bench.compare_scales('x', 1020, 1000).met, True)
    self.assertIs(bench.compare_scales('x', 1021, 1000).met, False)
    self.assertIs(bench.compare_scales('x', 1000, 1021).met, False)


class SelectTest(unittest.TestCase):

  def test_finds_by_a_part_of_any_name(self):
    measurements = bench._MEASUREMENTS
    self.assertEqual(bench.select(measurements, ''), measurements)
    self.assertEqual(
        [m.names for m in bench.select(measurements, 'kvm')],
        [['doorbell/kvm_to_interrupt'], ['doorbell/shmem/kvm_to_interrupt']])
    self.assertEqual(len(bench.select(measurements, 'system_calls, read')), 2)
    self.assertEqual(bench.select(measurements, 'nothing of that name'), [])

  def test_names_are_unique(self):
    names = [name for m in bench._MEASUREMENTS for name in m.names]
    self.assertEqual(len(names), len(set(names)))


class ProgramsTest(unittest.TestCase):

  def test_each_program_is_a_target(self):
    with open(os.path.join(bench.bazel.ROOT, 'benchmarks', 'BUILD.bazel'),
              encoding='utf-8') as file:
      text = file.read()
    for name in bench._PROGRAMS:
      self.assertIn('name = "%s"' % name, text)


if __name__ == '__main__':
  unittest.main()
