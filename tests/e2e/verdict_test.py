"""Tests of verdict.py; run by scripts/test."""

import unittest

import verdict

_PASS = 'e2e: case=rng result=pass seconds=4.5 kvm_exits=812 attach_ms=12'
_END = 'e2e: end status=0'


class JudgeTest(unittest.TestCase):

  def judge(self, *lines):
    return verdict.judge(list(lines), ['rng'])[0]

  def assert_fails(self, reason, *lines):
    result = self.judge(*lines)
    self.assertFalse(result.passed)
    self.assertIn(reason, '; '.join(result.reasons))

  def test_passes_what_the_run_calls_a_pass(self):
    result = self.judge('[    0.1] Linux', _PASS, _END)
    self.assertTrue(result.passed)
    self.assertEqual(result.reasons, [])
    self.assertEqual(result.facts,
                     {'seconds': 4.5, 'kvm_exits': 812, 'attach_ms': 12})

  def test_fails_what_the_run_calls_a_failure_and_says_why(self):
    self.assert_fails('no such device',
                      'rng out| e2e: error: no such device',
                      _PASS.replace('pass', 'fail'), _END)

  def test_fails_a_case_whose_processor_did_not_run(self):
    self.assert_fails('KVM', _PASS.replace('=812', '=0'), _END)
    self.assert_fails('KVM', 'e2e: case=rng result=pass seconds=1', _END)
    self.assert_fails('KVM', _PASS.replace('=812', '=-1'), _END)

  def test_fails_a_run_without_an_end(self):
    self.assert_fails('did not come to its end', _PASS)
    self.assert_fails('did not come to its end', _PASS, 'e2e: end status=')

  def test_fails_a_case_that_was_not_reached(self):
    self.assert_fails('0 results', _END)

  def test_fails_a_case_with_two_results(self):
    self.assert_fails('2 results', _PASS, _PASS, _END)

  def test_a_guest_that_prints_a_result_does_not_count(self):
    self.assert_fails('0 results', 'rng console| ' + _PASS, _END)

  def test_repeats_what_the_machine_says_of_itself(self):
    self.assert_fails('no /dev/kvm', 'e2e: error: this machine has no /dev/kvm',
                      'e2e: end status=1')

  def test_judges_each_case_by_its_own_lines(self):
    results = verdict.judge(
        [_PASS, 'other out| e2e: error: x',
         'e2e: case=other result=fail seconds=1 kvm_exits=3', _END],
        ['rng', 'other'])
    self.assertEqual([r.passed for r in results], [True, False])


if __name__ == '__main__':
  unittest.main()
