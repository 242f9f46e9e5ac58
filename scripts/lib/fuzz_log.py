"""Keeps docs/fuzzing.md: what was fuzzed for how long, and how far it came."""

import collections
import datetime
import fcntl
import os
import re
import subprocess

import bazel

PATH = os.path.join(bazel.ROOT, 'docs', 'fuzzing.md')

_TOTALS = '<!-- totals -->'
_RUNS = '<!-- runs -->'
_TOTALS_HEAD = ('| target | CPU hours | executions | edges |\n|---|---|---|---|\n')
_RUN = re.compile(r'\| (?P<date>[\d-]+) \| `(?P<label>[^`]+)` \| (?P<commit>\w+) '
                  r'\| (?P<minutes>[\d.]+) \| (?P<executions>\d+) '
                  r'\| (?P<edges>\d+) \|$')


class Facts:
  """What one run of a target did.

  Attributes:
    label: of the target.
    seconds: of processor time.
    executions: inputs that were tried.
    edges: edges of the program that its corpus reached in the end.
  """

  def __init__(self, label, seconds, executions, edges):
    self.label = label
    self.seconds = seconds
    self.executions = executions
    self.edges = edges

  def __str__(self):
    return '%d executions, %d edges, %d s of CPU' % (
        self.executions, self.edges, self.seconds)


def read_facts(label, log, seconds):
  """Returns the Facts of what libFuzzer has printed; None if it did not end."""
  executions = re.findall(r'^stat::number_of_executed_units: (\d+)$', log,
                          re.MULTILINE)
  edges = re.findall(r'^#\d+\s.* cov: (\d+) ', log, re.MULTILINE)
  if not executions or not edges:
    return None
  return Facts(label, seconds, int(executions[-1]), int(edges[-1]))


def row(date, commit, facts):
  """Returns the line of a run."""
  return '| %s | `%s` | %s | %.1f | %d | %d |' % (
      date, facts.label, commit, facts.seconds / 60, facts.executions,
      facts.edges)


def totals(rows):
  """Returns the table of all targets that lines of runs speak of."""
  minutes = collections.Counter()
  executions = collections.Counter()
  edges = {}
  for line in rows:
    found = _RUN.match(line)
    if not found:
      raise ValueError('no line of a run: ' + line)
    label = found['label']
    minutes[label] += float(found['minutes'])
    executions[label] += int(found['executions'])
    edges[label] = int(found['edges'])
  lines = ['| `%s` | %.2f | %d | %d |' % (label, minutes[label] / 60,
                                         executions[label], edges[label])
           for label in sorted(edges)]
  return _TOTALS_HEAD + ''.join(line + '\n' for line in lines)


def add(text, rows):
  """Returns the text of docs/fuzzing.md with more lines of runs in it."""
  before, _, rest = text.partition(_TOTALS + '\n')
  _, mark, after = rest.partition(_TOTALS + '\n')
  head, second, runs = after.partition(_RUNS + '\n')
  if not mark or not second:
    raise ValueError('docs/fuzzing.md has lost its marks')
  table, _, tail = runs.partition(_RUNS + '\n')
  lines = table.splitlines()
  lines[2:] += rows
  return ''.join([before, _TOTALS, '\n', totals(lines[2:]), _TOTALS, '\n', head,
                  _RUNS, '\n', '\n'.join(lines), '\n', _RUNS, '\n', tail])


def record(all_facts):
  """Adds runs of today, at the commit that is checked out."""
  commit = subprocess.run(
      ['git', 'rev-parse', '--short=10', 'HEAD'], cwd=bazel.ROOT, check=True,
      stdout=subprocess.PIPE, encoding='utf-8').stdout.strip()
  date = datetime.date.today().isoformat()
  with open(PATH, 'r+', encoding='utf-8') as file:
    # Runs of two targets beside each other may end at the same time.
    fcntl.flock(file, fcntl.LOCK_EX)
    text = add(file.read(), [row(date, commit, facts) for facts in all_facts])
    file.seek(0)
    file.truncate()
    file.write(text)
