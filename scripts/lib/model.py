"""Runs the Promela models of tests/model, and the variants with a mistake in
them, which have to be found; see tests/model/README.md."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODELS = os.path.join(ROOT, 'tests', 'model')
PACKAGES = ('spin', 'gcc')

# What a run can be expected to find, and how pan says so.
HOLDS, VIOLATES, STALLS = 'holds', 'violates', 'stalls'
OUTCOMES = (HOLDS, VIOLATES, STALLS)
_ERRORS = {'assertion violated': VIOLATES, 'invalid end state': STALLS}

_MEGABYTES = 1800
_SECONDS = 300
_DEPTH = 1000000


def parse(text):
  """[(expected, file, flags)] of runs.txt; ValueError names a bad line."""
  runs = []
  for number, line in enumerate(text.splitlines(), 1):
    words = line.split('#')[0].split()
    if not words:
      continue
    if (len(words) < 2 or words[0] not in OUTCOMES or
        not all(re.fullmatch(r'[A-Z_]+(=\d+)?', word) for word in words[2:])):
      raise ValueError('line %d: %s' % (number, line))
    runs.append((words[0], words[1], words[2:]))
  return runs


def verdict(output):
  """(what pan found, number of states) from its output; HOLDS only when it
  has searched everything. One of OUTCOMES, perhaps with ': ' and details, or
  text that is none of them."""
  errors = re.search(r'errors: (\d+)', output)
  states = re.search(r'(\d+) states, stored', output)
  count = int(states.group(1)) if states else 0
  # These end a search early.
  for early in ('max search depth too small', 'out of memory', 'truncated'):
    if early in output:
      return early, count
  if errors is None:
    return 'no result', count
  if errors.group(1) == '0':
    return HOLDS, count
  reason = re.search(r'^pan:\d+: (.*?) \(at depth', output, re.MULTILINE)
  text = reason.group(1) if reason else 'an error without a reason'
  for error, outcome in _ERRORS.items():
    if text.startswith(error):
      return '%s: %s' % (outcome, text[len(error):].strip() or text), count
  return text, count


def _output(command, folder, seconds=_SECONDS):
  try:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=seconds)
  except subprocess.TimeoutExpired:
    return None, 'longer than %d s' % seconds
  return done.returncode, done.stdout


def check(file, flags):
  """(what was found, number of states)."""
  with tempfile.TemporaryDirectory(prefix='vmsg_model_') as folder:
    shutil.copy(os.path.join(MODELS, file), folder)
    for command in (['spin', '-a'] + ['-D' + flag for flag in flags] + [file],
                    ['gcc', '-O1', '-w', '-DSAFETY', '-DMEMLIM=%d' % _MEGABYTES,
                     '-o', 'pan', 'pan.c']):
      code, output = _output(command, folder)
      if code != 0:
        return '%s: %s' % (command[0], output.strip()), 0
    code, output = _output(['./pan', '-m%d' % _DEPTH], folder)
    if code is None:
      return output, 0
    return verdict(output)


def main():
  parser = argparse.ArgumentParser(
      prog='scripts/model',
      description='Checks the Promela models of tests/model with spin: one line '
      'for each run of runs.txt, exit code 0 when each found what it should. '
      'Needs the Debian packages %s (scripts/setup --model).' %
      ' and '.join(PACKAGES))
  parser.add_argument('only', nargs='*', metavar='WORD',
                      help='only runs that have all these words: a file, '
                      '"holds", "violates", "stalls", a flag')
  args = parser.parse_args()
  for program in PACKAGES:
    if shutil.which(program) is None:
      sys.exit('model: %s is missing; run scripts/setup --model' % program)
  with open(os.path.join(MODELS, 'runs.txt'), encoding='utf-8') as file:
    runs = [run for run in parse(file.read())
            if all(word in [run[0], run[1]] + run[2] for word in args.only)]
  if not runs:
    sys.exit('model: no such run')
  wrong = 0
  for expected, file, flags in runs:
    start = time.monotonic()
    found, states = check(file, flags)
    good = found.split(':')[0] == expected
    wrong += not good
    print('%-5s %s: %s (%d states, %.1f s)' % (
        'ok' if good else 'WRONG', ' '.join([file] + flags), found, states,
        time.monotonic() - start), flush=True)
  print('model: %d runs, %d as expected, %d wrong' % (
      len(runs), len(runs) - wrong, wrong))
  return 1 if wrong else 0


if __name__ == '__main__':
  sys.exit(main())
