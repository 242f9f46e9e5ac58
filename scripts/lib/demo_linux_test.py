"""Tests of demo_linux.py; run by scripts/test."""

import os
import unittest

import bazel
import demo_linux


class SummaryTest(unittest.TestCase):

  def test_takes_the_numbers_of_the_case(self):
    result = {
        'machine': 'emulated',
        'cases': {
            'linux_rng': {
                'entropy_bytes': 4096,
                'entropy_sha256': 'ab',
                'interrupts': 140,
                'attach_to_driver_ok_ms': 250,
                'kvm_exits': 9000,
                'result': 'pass',
            }
        },
        'result': 'pass',
    }
    self.assertEqual(
        demo_linux.summary(result, 'spsc'), {
            'accel': 'kvm',
            'machine': 'emulated',
            'fifo_layout': 'spsc',
            'guest': 'linux',
            'entropy_bytes': 4096,
            'entropy_sha256': 'ab',
            'interrupts': 140,
            'attach_to_driver_ok_ms': 250,
            'exits': 9000,
            'result': 'pass',
        })

  def test_passes_a_failure_on_with_its_reasons(self):
    result = {'result': 'fail', 'error': 'the build failed'}
    self.assertEqual(demo_linux.summary(result, 'spsc'), result)

  def test_a_pass_without_the_numbers_is_an_error(self):
    with self.assertRaises(KeyError):
      demo_linux.summary({'machine': 'host', 'cases': {'linux_rng': {}},
                          'result': 'pass'}, 'spsc')

  def test_each_layout_has_a_case(self):
    for case in demo_linux.CASES.values():
      self.assertTrue(os.path.isfile(
          os.path.join(bazel.ROOT, 'tests/e2e/cases/%s.sh' % case)))


if __name__ == '__main__':
  unittest.main()
