"""Reads what a run of tests/e2e/run.py says in its last line."""

import json

from bazel_results import FAILED, PASSED, TestResult

_RUN = 'guests on KVM'


def read(last_line, code):
  """Returns a TestResult for each case, or one that says why there is none.

  Args:
    last_line: what the run printed last.
    code: its exit code. A code and a result that contradict each other fail.
  """
  try:
    said = json.loads(last_line)
  except ValueError:
    said = None
  if not isinstance(said, dict):
    return [TestResult(_RUN, FAILED, ['exit code %d, and no result' % code])]
  log = said.get('log')
  results = [
      _read_case(name, case, log)
      for name, case in sorted(said.get('cases', {}).items())
  ]
  passed = bool(results) and all(r.outcome == PASSED for r in results)
  if passed != (code == 0) or 'error' in said:
    reason = said.get('error', 'exit code %d' % code)
    results.append(TestResult(_RUN, FAILED, [reason], log))
  return results


def _read_case(name, case, log):
  label = 'tests/e2e/cases/%s.sh' % name
  if case.get('result') == 'pass':
    return TestResult(label, PASSED)
  return TestResult(label, FAILED, case.get('reasons', ['it failed']), log)
