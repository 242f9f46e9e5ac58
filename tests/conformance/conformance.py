"""Checks table.txt against the tests, and makes docs/conformance.md of it.

  conformance.py check    says what is wrong; exit code 1 when anything is
  conformance.py write    writes docs/conformance.md anew
"""

import collections
import glob
import os
import re
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(FOLDER, '..', '..', 'docs', 'conformance.md')

VERDICTS = ('PROVED', 'DEPARTS', 'STRUCTURAL')
LEVELS = ('MUST', 'MUST NOT', 'SHOULD', 'SHOULD NOT', 'MAY', '-')

# How many rows bind whom. A row that gets lost shows here.
ROWS = {'device': 66, 'bus': 51, 'driver': 74, 'driver or bus': 2, 'all': 1}
FACTS = 22

# Rows that this project does not follow to the letter, on purpose: the list of
# amp-pci-device, 4, with the rows that repeat them.
DEPARTURES = frozenset((
    'DEV-SDF-2', 'FACT-GDF-1', 'FACT-GC-1', 'DEV-NOTIF-4', 'DEV-RTVQ-1',
    'DEV-RVQ-1', 'BUS-DEVNUM-2', 'DEV-NOTIF-1', 'DEV-RTCFG-1', 'DEV-EC-1',
))

Row = collections.namedtuple(
    'Row', 'section id level binds verdict test requirement note')

_ID = re.compile(r'(DEV|DRV|BUS|ALL|ANY|FACT)-[A-Z]+-[0-9]+$')
_TEST = re.compile(
    r'^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)', re.MULTILINE)
_TEST_ID = re.compile(r'((?:DEV|DRV|BUS|ALL|ANY|FACT)_[A-Z]+_[0-9]+)_\w')


def parse_table(text):
  """Returns the rows of table.txt; ValueError names a line that is none."""
  rows = []
  section = ''
  for number, line in enumerate(text.split('\n'), 1):
    line = line.strip()
    if not line or line.startswith('#'):
      continue
    if line.startswith('[') and line.endswith(']'):
      section = line[1:-1]
      continue
    fields = [field.strip() for field in line.split(' | ')]
    if len(fields) != 7:
      raise ValueError('line %d has %d fields' % (number, len(fields)))
    rows.append(Row(section, *fields))
  return rows


def find_tests(source):
  """Names of the tests in a C++ file."""
  return ['%s.%s' % names for names in _TEST.findall(source)]


def row_id_of(test):
  """The row id that a test's name begins with; None without one."""
  match = _TEST_ID.match(test.partition('.')[2])
  return match.group(1).replace('_', '-') if match else None


def _check_row(row, rows_by_id, tests, problem):
  if not _ID.match(row.id):
    problem(row.id, 'is no row id')
  if row.level not in LEVELS:
    problem(row.id, 'has level %s' % row.level)
  if (row.level == '-') != row.id.startswith('FACT-'):
    problem(row.id, 'facts, and only they, have no level')
  if not row.requirement:
    problem(row.id, 'has no text')
  if row.verdict not in VERDICTS:
    problem(row.id, 'has verdict %s' % row.verdict)
  if (row.verdict == 'DEPARTS') != (row.id in DEPARTURES):
    problem(row.id, 'departs, or does not, unlike the list of departures')
  if row.verdict != 'PROVED' and row.note == '-':
    problem(row.id, 'is %s without a reason' % row.verdict)
  if row.verdict == 'STRUCTURAL':
    if row.test != '-':
      problem(row.id, 'is STRUCTURAL and has a test')
    return
  if row.test not in tests:
    problem(row.id, 'has no test: %s' % row.test)
    return
  proved = row_id_of(row.test)
  if proved == row.id:
    return
  other = rows_by_id.get(proved)
  if other is None or other.test != row.test or other.verdict != row.verdict:
    problem(row.id, 'names a test of another row: %s' % row.test)
  elif 'with ' + proved not in row.note and 'as ' + proved not in row.note:
    problem(row.id, 'does not say that it shares the test of ' + proved)


def check(rows, tests):
  """Returns what is wrong with the rows; `tests` are all tests there are."""
  problems = []

  def problem(what, text):
    problems.append('%s %s' % (what, text))

  rows_by_id = {}
  for row in rows:
    if row.id in rows_by_id:
      problem(row.id, 'is there twice')
    rows_by_id[row.id] = row
  for test, times in collections.Counter(tests).items():
    if times > 1:
      problem(test, 'is there twice')
    if row_id_of(test) not in rows_by_id:
      problem(test, 'proves no row')
    elif rows_by_id[row_id_of(test)].test != test:
      problem(test, 'is not the test of its row')
  for row in rows:
    _check_row(row, rows_by_id, frozenset(tests), problem)
  counts = collections.Counter(
      row.binds for row in rows if not row.id.startswith('FACT-'))
  for binds, wanted in ROWS.items():
    if counts.pop(binds, 0) != wanted:
      problem('rows', 'that bind %s are not %d' % (binds, wanted))
  if counts:
    problem('rows', 'bind nobody known: %s' % ', '.join(counts))
  facts = sum(row.id.startswith('FACT-') for row in rows)
  if facts != FACTS:
    problem('facts', 'are %d, not %d' % (facts, FACTS))
  return problems


def check_build_file(build, sources):
  """Test files without a target of their own."""
  return ['%s has no target' % name for name in sources
          if 'srcs = ["%s"]' % name not in build]


def _counts(rows, key, names, title):
  lines = ['| %s | %s | Total |' % (title, ' | '.join(VERDICTS)),
           '|---|%s---:|' % ('---:|' * len(VERDICTS))]
  total = [0] * len(VERDICTS)
  for name in names:
    numbers = [sum(key(row) == name and row.verdict == verdict for row in rows)
               for verdict in VERDICTS]
    total = [a + b for a, b in zip(total, numbers)]
    lines.append('| %s | %s | %d |' % (
        name, ' | '.join(map(str, numbers)), sum(numbers)))
  lines.append('| **Total** | %s | **%d** |' % (
      ' | '.join('**%d**' % n for n in total), sum(total)))
  return lines


def _list(rows, verdict):
  chosen = [row for row in rows if row.verdict == verdict]
  if not chosen:
    return ['None.']
  return ['* %s, %s: %s.' % (row.id, row.requirement, row.note)
          for row in chosen]


def document(rows):
  """The text of docs/conformance.md."""
  lines = [
      '# Conformance',
      '',
      '<!-- Made by tests/conformance/conformance.py write; do not edit. -->',
      '',
      'The %d normative rows of virtio-msg, transport revision 1 (draft of'
      % (len(rows) - FACTS),
      'December 2025), and %d facts that the draft states without a keyword,'
      % FACTS,
      'with what proves each. The words are explained in',
      '[tests/conformance](../tests/conformance/README.md).',
      '',
      '## Counts',
      '',
  ]
  party = lambda row: 'facts' if row.id.startswith('FACT-') else row.binds
  lines += _counts(rows, party, list(ROWS) + ['facts'], 'Binds')
  lines.append('')
  level = lambda row: 'facts' if row.level == '-' else row.level
  lines += _counts(rows, level, list(LEVELS[:-1]) + ['facts'], 'Level')
  own = len({row.test for row in rows if row.test != '-'})
  lines += ['', '%d tests; rows that repeat another share its test.' % own]
  for verdict, title in (('DEPARTS', 'Departures, each on purpose'),
                         ('STRUCTURAL', 'Nothing to execute')):
    lines += ['', '## ' + title, ''] + _list(rows, verdict)
  section = None
  lines += ['', '## All rows']
  for row in rows:
    if row.section != section:
      section = row.section
      lines += ['', '### ' + section, '',
                '| Id | Level | Binds | Requirement | Verdict | Test | Note |',
                '|---|---|---|---|---|---|---|']
    test = '' if row.test == '-' else '`%s`' % row.test
    note = '' if row.note == '-' else row.note
    lines.append('| %s | %s | %s | %s | %s | %s | %s |' % (
        row.id, '' if row.level == '-' else row.level, row.binds,
        row.requirement, row.verdict, test, note))
  return '\n'.join(lines) + '\n'


def _read(*path):
  with open(os.path.join(FOLDER, *path), encoding='utf-8') as file:
    return file.read()


def check_tree():
  """What is wrong with the table, the tests and the document of this tree."""
  rows = parse_table(_read('table.txt'))
  sources = sorted(
      os.path.basename(path)
      for path in glob.glob(os.path.join(FOLDER, '*_test.cc')))
  tests = [test for name in sources for test in find_tests(_read(name))]
  problems = check(rows, tests)
  problems += check_build_file(_read('BUILD.bazel'), sources)
  with open(DOCUMENT, encoding='utf-8') as file:
    if file.read() != document(rows):
      problems.append('docs/conformance.md is not current: run '
                      'tests/conformance/conformance.py write')
  return problems


def main(arguments):
  if arguments == ['check']:
    problems = check_tree()
    for text in problems:
      print('conformance: ' + text, file=sys.stderr)
    return 1 if problems else 0
  if arguments == ['write']:
    with open(DOCUMENT, 'w', encoding='utf-8') as file:
      file.write(document(parse_table(_read('table.txt'))))
    return 0
  print(__doc__, file=sys.stderr)
  return 2


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
