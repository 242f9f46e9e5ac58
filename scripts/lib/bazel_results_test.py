"""Tests of bazel_results.py; run by scripts/test."""

import json
import unittest

import bazel_results
from bazel_results import FAILED, PASSED, SKIPPED, TestResult

GOOD_XML = """<testsuites name="AllTests"><testsuite>
  <testcase name="Works" classname="FooTest" status="run" result="completed"/>
</testsuite></testsuites>"""

SKIP_XML = """<testsuites name="AllTests"><testsuite>
  <testcase name="Works" classname="FooTest" status="run" result="completed"/>
  <testcase name="Boots" classname="KvmTest" status="run" result="skipped">
    <skipped message="vmm/kvm/vm_test.cc:12&#x0A;/dev/kvm does not open"/>
  </testcase>
</testsuite></testsuites>"""

EMPTY_XML = '<testsuites tests="0" name="AllTests"></testsuites>'


def configured(label, test=True):
  return {
      'id': {'targetConfigured': {'label': label}},
      'configured': {'testSize': 'SMALL'} if test else {},
  }


def result(label, xml):
  return {
      'id': {'testResult': {'label': label}},
      'testResult': {
          'testActionOutput': [
              {'name': 'test.log', 'uri': 'file:///logs/test.log'},
              {'name': 'test.xml', 'uri': 'file://%s' % xml},
          ]
      },
  }


def summary(label, status):
  return {
      'id': {'testSummary': {'label': label}},
      'testSummary': {'overallStatus': status},
  }


def parse(*events):
  files = {'/good.xml': GOOD_XML, '/skip.xml': SKIP_XML, '/empty.xml': EMPTY_XML}
  return bazel_results.parse(
      [json.dumps(event) for event in events], read_file=files.__getitem__
  )


class ParseTest(unittest.TestCase):

  def test_counts_only_test_targets(self):
    self.assertEqual(
        parse(
            configured('//a:lib', test=False),
            configured('//a:t'),
            result('//a:t', '/good.xml'),
            summary('//a:t', 'PASSED'),
        ),
        [TestResult('//a:t', PASSED)],
    )

  def test_target_without_result_failed_to_build(self):
    self.assertEqual(
        parse(configured('//a:t')),
        [TestResult('//a:t', FAILED, ['FAILED TO BUILD'])],
    )

  def test_every_status_but_passed_is_a_failure(self):
    for status in ['FAILED', 'TIMEOUT', 'FLAKY', 'INCOMPLETE', 'NO_STATUS']:
      self.assertEqual(
          parse(configured('//a:t'), summary('//a:t', status)),
          [TestResult('//a:t', FAILED, [status])],
      )

  def test_target_with_a_skipped_case_is_skipped_and_says_why(self):
    self.assertEqual(
        parse(
            configured('//a:t'),
            result('//a:t', '/skip.xml'),
            summary('//a:t', 'PASSED'),
        ),
        [
            TestResult(
                '//a:t',
                SKIPPED,
                [
                    'KvmTest.Boots: vmm/kvm/vm_test.cc:12 '
                    '/dev/kvm does not open'
                ],
            )
        ],
    )

  def test_target_without_any_case_is_a_failure(self):
    self.assertEqual(
        parse(
            configured('//a:t'),
            result('//a:t', '/empty.xml'),
            summary('//a:t', 'PASSED'),
        ),
        [TestResult('//a:t', FAILED, ['has no test case'])],
    )

  def test_skipped_case_does_not_hide_a_failure(self):
    self.assertEqual(
        parse(
            configured('//a:t'),
            result('//a:t', '/skip.xml'),
            summary('//a:t', 'FAILED'),
        ),
        [TestResult('//a:t', FAILED, ['FAILED'])],
    )


if __name__ == '__main__':
  unittest.main()
