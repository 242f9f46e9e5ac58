"""Puts one mistake at a time into a copy of the tree, and looks whether the test
of the row that it names fails; see scripts/mutants."""

import argparse
import collections
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFORMANCE = os.path.join('tests', 'conformance')

sys.path.append(os.path.join(ROOT, CONFORMANCE))
import conformance  # pylint: disable=wrong-import-position

Mutant = collections.namedtuple('Mutant', 'number file old new row')

# What bazel test exits with: all passed, tests failed.
_PASSED, _FAILED = 0, 3


def parse(text):
  """Returns the mutants of mutants.txt; ValueError names what is none."""
  mutants = []
  fields = {}
  for number, line in enumerate(text.split('\n') + [''], 1):
    if line.startswith('#'):
      continue
    if line:
      if line[:2] not in ('@ ', '- ', '+ ', '= ') or line[0] in fields:
        raise ValueError('line %d: %s' % (number, line))
      fields[line[0]] = line[2:]
    elif fields:
      if len(fields) != 4:
        raise ValueError('line %d: a mutant has @, -, + and =' % number)
      mutants.append(Mutant(len(mutants) + 1, *(fields[c] for c in '@-+=')))
      fields = {}
  return mutants


def mutate(source, mutant):
  """The source with the mistake in it; ValueError when it does not fit."""
  if source.count(mutant.old) != 1:
    raise ValueError('%d times in %s: %s' % (
        source.count(mutant.old), mutant.file, mutant.old))
  if mutant.old == mutant.new:
    raise ValueError('nothing changes in %s: %s' % (mutant.file, mutant.old))
  return source.replace(mutant.old, mutant.new)


def _read(path):
  with open(path, encoding='utf-8') as file:
    return file.read()


def _write(path, text):
  with open(path, 'w', encoding='utf-8') as file:
    file.write(text)


def tests_by_row(root):
  """Row id to (target, test)."""
  folder = os.path.join(root, CONFORMANCE)
  targets = {}
  for name in os.listdir(folder):
    if name.endswith('_test.cc'):
      for test in conformance.find_tests(_read(os.path.join(folder, name))):
        targets[test] = '//%s:%s' % (CONFORMANCE, name[:-len('.cc')])
  rows = conformance.parse_table(_read(os.path.join(folder, 'table.txt')))
  return {row.id: (targets[row.test], row.test)
          for row in rows if row.test in targets}


def load(root):
  """All mutants, each of which fits the tree and names a row with a test."""
  mutants = parse(_read(os.path.join(root, CONFORMANCE, 'mutants.txt')))
  rows = tests_by_row(root)
  for mutant in mutants:
    mutate(_read(os.path.join(root, mutant.file)), mutant)
    if mutant.row not in rows:
      raise ValueError('mutant %d: no test for %s' % (mutant.number, mutant.row))
  return mutants


def copy_tree(root, to):
  """The files that git knows, or would add, as they are now."""
  names = subprocess.run(
      ['git', 'ls-files', '-z', '-co', '--exclude-standard'], cwd=root,
      check=True, stdout=subprocess.PIPE, encoding='utf-8').stdout.split('\0')
  for name in filter(None, names):
    source = os.path.join(root, name)
    if not os.path.isfile(source):
      continue
    target = os.path.join(to, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy2(source, target)


class _Bazel:
  """Runs tests in the copy, with an output base of its own."""

  def __init__(self, tree, output_base):
    self._tree = tree
    self._startup = (
        [os.environ.get('BAZEL', 'bazel')]
        + shlex.split(os.environ.get('VMSG_BAZEL_STARTUP_OPTIONS', ''))
        + ['--output_base=' + output_base])

  def test(self, *arguments):
    """Returns (exit code, output)."""
    line = self._startup + ['test', '--noshow_progress', '--test_output=errors']
    line += shlex.split(os.environ.get('VMSG_BAZEL_OPTIONS', ''))
    done = subprocess.run(
        line + list(arguments), cwd=self._tree, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8',
        errors='replace')
    return done.returncode, done.stdout

  def shutdown(self):
    subprocess.run(self._startup + ['shutdown'], cwd=self._tree, check=False)


def _select(mutants, only):
  if not only:
    return mutants
  numbers = set()
  for part in only.split(','):
    if re.fullmatch(r'\d+(-\d+)?', part):
      first, _, last = part.partition('-')
      numbers.update(range(int(first), int(last or first) + 1))
    else:
      numbers.update(m.number for m in mutants
                     if m.row.startswith(part) or part in m.file)
  return [m for m in mutants if m.number in numbers]


def _try(bazel, tree, mutant, target, test):
  """One word for what became of a mutant, and what Bazel said."""
  path = os.path.join(tree, mutant.file)
  source = _read(path)
  _write(path, mutate(source, mutant))
  try:
    # The second form is for a test with parameters.
    code, output = bazel.test(f'--test_filter={test}:*/{test}/*',
                              '--test_timeout=60', target)
  finally:
    _write(path, source)
  if code == _PASSED:
    return 'SURVIVED', output
  return ('killed', output) if code == _FAILED else ('BROKEN', output)


def run(mutants, folder):
  """Prints a line for each mutant. Returns how many were not killed."""
  tree = os.path.join(folder, 'tree')
  copy_tree(ROOT, tree)
  tests = tests_by_row(tree)
  bazel = _Bazel(tree, os.path.join(folder, 'output'))
  try:
    code, output = bazel.test(*sorted({tests[m.row][0] for m in mutants}))
    if code != _PASSED:
      print(output)
      print('mutants: the tests fail without a mutant')
      return len(mutants)
    alive = 0
    for mutant in mutants:
      word, output = _try(bazel, tree, mutant, *tests[mutant.row])
      print('%-8s %3d %-13s %s: %s' % (
          word, mutant.number, mutant.row, mutant.file, mutant.new), flush=True)
      if word != 'killed':
        alive += 1
        print('         was: %s' % mutant.old)
      if word == 'BROKEN':
        print(output)
  finally:
    bazel.shutdown()
  print('%d of %d mutants killed' % (len(mutants) - alive, len(mutants)))
  return alive


def main():
  parser = argparse.ArgumentParser(
      prog='scripts/mutants',
      description='Puts each mistake of tests/conformance/mutants.txt into a '
      'copy of the tree and expects the test of the row that it names to fail.')
  parser.add_argument('--only', help='numbers (3,7-9), row ids or files, or the '
                      'start of an id or a part of a file name; with commas')
  parser.add_argument('--list', action='store_true', help='list them, run none')
  parser.add_argument('--folder', help='copy and output go there, and stay, '
                      'which makes the next run fast')
  arguments = parser.parse_args()
  mutants = _select(load(ROOT), arguments.only)
  if arguments.list or not mutants:
    for mutant in mutants:
      print('%3d %-13s %s: %s' % (
          mutant.number, mutant.row, mutant.file, mutant.new))
    return 0 if mutants else 1
  folder = arguments.folder or tempfile.mkdtemp(prefix='vmsg_mutants.')
  try:
    return 1 if run(mutants, os.path.abspath(folder)) else 0
  finally:
    if not arguments.folder:
      # Bazel leaves folders without write permission.
      subprocess.run(['chmod', '-R', 'u+w', folder], check=False)
      shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
  sys.exit(main())
