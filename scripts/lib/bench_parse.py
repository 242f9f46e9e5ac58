"""Reads what the measuring programs and tools print."""

import collections
import json
import re

from bench_results import Triple


class NotRun(Exception):
  """A benchmark says that it can't run here; the text says why."""


def benchmark_runs(text, name):
  """Returns google-benchmark's objects for the repetitions of one benchmark.

  Args:
    text: the output of a program with --benchmark_format=json.
    name: as the benchmark was registered.

  Raises:
    NotRun: it was skipped.
    ValueError: it is not there.
  """
  runs = [
      run for run in json.loads(text)['benchmarks']
      if run['run_type'] == 'iteration' and
      run['run_name'].split('/iterations:')[0] == name
  ]
  for run in runs:
    if run.get('error_occurred'):
      raise NotRun(run['error_message'])
  if not runs:
    raise ValueError('no benchmark %s in the output' % name)
  return runs


def triples(text, name):
  """Returns the triples that the repetitions of a benchmark measured."""
  return [
      Triple(run['before_ns'], run['subject_ns'], run['after_ns'])
      for run in benchmark_runs(text, name)
  ]


def callgrind_instructions(text):
  """Returns the instructions that were collected, from callgrind's file."""
  found = re.search(r'^(?:totals|summary):\s*(\d+)', text, re.MULTILINE)
  if found is None:
    raise ValueError("no total in callgrind's output")
  return int(found.group(1))


# strace -f -o: thread id, then the call. "<... read resumed>" is the second
# half of a call that another thread's line came in between of.
_CALL = re.compile(r'^(\d+)\s+(\w+)\(')
# The end of a wait that found nothing ready, with its timeout: a number of
# milliseconds, or a timespec.
_WAITED = re.compile(r'^(\d+)\s.*\bepoll_\w*wait\w*[( ].*\[\], \d+, '
                     r'(?:(-?\d+)|\{tv_sec=(\d+), tv_nsec=(\d+)\}).*= 0\b')
_WAIT = re.compile(r'epoll_p?wait2?')

# Stands for waits that a timer ended: they come with time, not with work.
TIMED_OUT = 'timed out'


def system_calls(text, thread):
  """Returns a Counter of the calls that a thread made, by name.

  Waits for events that ended with their timeout are counted as TIMED_OUT and not
  by name. Those that were not to wait are counted as what they are, calls.
  """
  calls = collections.Counter()
  pending = None
  for line in text.splitlines():
    found = _CALL.match(line)
    if found and int(found.group(1)) == thread:
      calls[found.group(2)] += 1
      if _WAIT.fullmatch(found.group(2)):
        pending = found.group(2)
    waited = _WAITED.match(line)
    if waited and int(waited.group(1)) == thread and any(
        int(number) > 0 for number in waited.groups()[1:] if number):
      calls[pending] -= 1
      calls[TIMED_OUT] += 1
  return +calls


def calls_each(few, many, more):
  """Returns {kind: calls for one doorbell} from the counters of two runs.

  Args:
    few, many: of the same program; the second rang `more` doorbells more. What
      is done once falls out.
    more: above 0.
  """
  kinds = {'epoll_wait': 0, 'read': 0, 'write': 0, 'other': 0}
  for name in (set(few) | set(many)) - {TIMED_OUT}:
    kind = 'epoll_wait' if _WAIT.fullmatch(name) else name
    if kind not in kinds:
      kind = 'other'
    kinds[kind] += (many[name] - few[name]) / more
  return kinds
