"""Tests of e2e_results.py."""

import json
import unittest

import e2e_results
from bazel_results import FAILED, PASSED, TestResult


def _line(**said):
  return json.dumps(said)


class E2eResultsTest(unittest.TestCase):

  def test_each_case_is_a_result(self):
    line = _line(result='pass', cases={'b': {'result': 'pass', 'seconds': 1.5},
                                       'a': {'result': 'pass'}})
    self.assertEqual(e2e_results.read(line, 0), [
        TestResult('tests/e2e/cases/a.sh', PASSED),
        TestResult('tests/e2e/cases/b.sh', PASSED),
    ])

  def test_a_case_that_failed_says_why_and_where_the_log_is(self):
    line = _line(result='fail', log='/tmp/x.log', cases={
        'a': {'result': 'pass'},
        'b': {'result': 'fail', 'reasons': ['it failed', 'no driver']},
    })
    results = e2e_results.read(line, 1)
    self.assertEqual(results, [
        TestResult('tests/e2e/cases/a.sh', PASSED),
        TestResult('tests/e2e/cases/b.sh', FAILED, ['it failed', 'no driver']),
    ])
    self.assertEqual(results[1].log, '/tmp/x.log')

  def test_a_run_that_did_not_come_to_its_cases_fails_with_its_error(self):
    line = _line(result='fail', error='the build failed')
    self.assertEqual(e2e_results.read(line, 1), [
        TestResult('guests on KVM', FAILED, ['the build failed'])])

  def test_a_run_without_cases_fails(self):
    self.assertEqual(e2e_results.read(_line(result='pass', cases={}), 0), [
        TestResult('guests on KVM', FAILED, ['exit code 0'])])

  def test_an_exit_code_that_contradicts_the_cases_fails(self):
    line = _line(result='pass', cases={'a': {'result': 'pass'}})
    self.assertEqual(e2e_results.read(line, 1), [
        TestResult('tests/e2e/cases/a.sh', PASSED),
        TestResult('guests on KVM', FAILED, ['exit code 1'])])

  def test_a_run_that_was_killed_fails(self):
    for line in ('', 'a guest console| half a li', '17'):
      self.assertEqual(e2e_results.read(line, -9), [
          TestResult('guests on KVM', FAILED, ['exit code -9, and no result'])])


if __name__ == '__main__':
  unittest.main()
