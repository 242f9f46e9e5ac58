"""Reads what a `bazel test` run did from its build event file."""

import json
import urllib.parse
import xml.etree.ElementTree as ElementTree

PASSED = 'passed'
FAILED = 'failed'
SKIPPED = 'skipped'


class TestResult:
  """What became of one test target in one configuration.

  Attributes:
    label: the target's label.
    outcome: PASSED: everything in it ran and passed; SKIPPED: at least one of
      its cases skipped itself, the others passed; FAILED: anything else.
    reasons: lines that say why it failed or skipped.
    log: path of its log, or None.
  """

  def __init__(self, label, outcome, reasons=(), log=None):
    self.label = label
    self.outcome = outcome
    self.reasons = list(reasons)
    self.log = log

  def __repr__(self):
    return 'TestResult(%r, %r, %r)' % (self.label, self.outcome, self.reasons)

  def __eq__(self, other):
    return (self.label, self.outcome,
            self.reasons) == (other.label, other.outcome, other.reasons)


def read_cases(xml_text):
  """Reads a test.xml.

  Args:
    xml_text: content of the file.

  Returns:
    (number of cases, {case name: reason} of those that skipped themselves).
  """
  cases = 0
  skipped = {}
  for case in ElementTree.fromstring(xml_text).iter('testcase'):
    cases += 1
    skip = case.find('skipped')
    if skip is None:
      continue
    # GoogleTest puts file:line before the message.
    lines = (skip.get('message') or skip.text or '').strip().splitlines()
    reason = ' '.join(line.strip() for line in lines if line.strip())
    name = '%s.%s' % (case.get('classname'), case.get('name'))
    skipped[name] = reason or 'no reason given'
  return cases, skipped


def _path_of(uri):
  return urllib.parse.unquote(urllib.parse.urlparse(uri).path)


def _read_file(path):
  with open(path, encoding='utf-8', errors='replace') as file:
    return file.read()


def parse(event_lines, read_file=_read_file):
  """Turns build events into results.

  Args:
    event_lines: lines of the file that --build_event_json_file names.
    read_file: gives the content of a path; replaced in tests.

  Returns:
    A list of TestResult, in the order of labels. A test target that was
    selected but has no result (it did not build) counts as failed.
  """
  selected = set()
  summaries = {}
  outputs = {}
  for line in event_lines:
    event = json.loads(line)
    identity = event['id']
    if 'targetConfigured' in identity and 'testSize' in event.get(
        'configured', {}):
      selected.add(identity['targetConfigured']['label'])
    elif 'testSummary' in identity:
      label = identity['testSummary']['label']
      summaries[label] = event.get('testSummary', {}).get(
          'overallStatus', 'NO_STATUS')
    elif 'testResult' in identity:
      label = identity['testResult']['label']
      outputs.setdefault(label, []).append({
          output['name']: _path_of(output['uri'])
          for output in event.get('testResult', {}).get('testActionOutput', [])
          if 'uri' in output
      })

  results = []
  for label in sorted(selected | set(summaries)):
    status = summaries.get(label, 'FAILED TO BUILD')
    logs = [o['test.log'] for o in outputs.get(label, []) if 'test.log' in o]
    log = logs[-1] if logs else None
    if status != 'PASSED':
      results.append(TestResult(label, FAILED, [status], log))
      continue
    total = 0
    skipped = {}
    for output in outputs.get(label, []):
      if 'test.xml' in output:
        cases, more = read_cases(read_file(output['test.xml']))
        total += cases
        skipped.update(more)
    if not total:
      results.append(TestResult(label, FAILED, ['has no test case'], log))
    elif skipped:
      reasons = ['%s: %s' % item for item in sorted(skipped.items())]
      results.append(TestResult(label, SKIPPED, reasons, log))
    else:
      results.append(TestResult(label, PASSED, [], log))
  return results
