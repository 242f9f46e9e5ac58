"""Says how much of the library its tests run; see scripts/coverage."""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
import zipfile

import bazel
from bazel_results import FAILED

_USAGE = """\
Builds the tests of devices/ and vmm/, and those of tests/ that run in a process,
with Clang's source coverage, runs them, and prints lines and branches that were
run, for each folder. What counts is the source of each library that is not for
tests, without vmm/kvm, which takes a machine with KVM. The last line is about
lines.

Exit code:
  0  the lines reach the minimum
  1  they do not, a source file is in no test, or a test has failed
  2  wrong usage, or something else failed
"""

_TESTS = [
    '//devices/...', '//vmm/...', '//tests/conformance/...',
    '//tests/in_process/...', '-//vmm/kvm/...'
]
# Of the sources that the figures are about.
_LIBRARIES = ('attr(testonly, 0, kind(cc_library, //devices/... + //vmm/... - '
              '//vmm/kvm/...))')
_MINIMUM = 93
_PROFDATA = 'llvm-profdata-14'
_COV = 'llvm-cov-14'

# lines: {line number: times that it was run}. branches, taken: numbers.
FileCoverage = collections.namedtuple('FileCoverage', 'lines branches taken')


class CoverageError(Exception):
  """There are no figures."""


def parse_lcov(text):
  """Returns {path: FileCoverage} from what llvm-cov export -format=lcov says."""
  files = {}
  path = None
  for line in text.splitlines():
    key, _, value = line.partition(':')
    if key == 'SF':
      path = os.path.normpath(value)
      lines, branches, taken = {}, 0, 0
    elif key == 'DA':
      number, count = value.split(',')[:2]
      lines[int(number)] = int(count)
    elif key == 'BRDA':
      branches += 1
      taken += value.split(',')[3] not in ('-', '0')
    elif key == 'end_of_record':
      files[path] = FileCoverage(lines, branches, taken)
  return files


class Total:
  """Sums of several files."""

  def __init__(self):
    self.files = 0
    self.lines = self.lines_run = 0
    self.branches = self.branches_taken = 0

  def add(self, file):
    self.files += 1
    self.lines += len(file.lines)
    self.lines_run += sum(count > 0 for count in file.lines.values())
    self.branches += file.branches
    self.branches_taken += file.taken

  @property
  def line_percent(self):
    return 100.0 * self.lines_run / self.lines if self.lines else 100.0

  @property
  def branch_percent(self):
    return (100.0 * self.branches_taken / self.branches
            if self.branches else 100.0)


def by_folder(files):
  """Returns {folder: Total} for {path: FileCoverage}."""
  totals = {}
  for path, file in files.items():
    totals.setdefault(os.path.dirname(path), Total()).add(file)
  return totals


def _row(name, total):
  return '%-44s %5d %7d %6.1f %% %8d %6.1f %%' % (
      name, total.files, total.lines, total.line_percent, total.branches,
      total.branch_percent)


def ranges(numbers):
  """Returns [1, 2, 3, 7] as "1-3, 7"."""
  found = []
  for number in sorted(numbers):
    if found and number == found[-1][1] + 1:
      found[-1][1] = number
    else:
      found.append([number, number])
  return ', '.join('%d' % a if a == b else '%d-%d' % (a, b) for a, b in found)


def report(files, missing, minimum):
  """Returns (text, exit code).

  Args:
    files: {path: FileCoverage} of the sources that count.
    missing: sources without figures that should have some.
    minimum: percent of lines.
  """
  everything = Total()
  for file in files.values():
    everything.add(file)
  text = ['%-44s %5s %7s %8s %8s %8s' % (
      'folder', 'files', 'lines', 'run', 'branches', 'taken')]
  text += [_row(folder, total)
           for folder, total in sorted(by_folder(files).items())]
  low = {path: file for path, file in files.items()
         if by_folder({path: file})[os.path.dirname(path)].line_percent < minimum}
  if low:
    text += ['', 'files below %g %%, and the lines that no test runs:' % minimum]
  for path, file in sorted(low.items()):
    unrun = ranges(n for n, count in file.lines.items() if count == 0)
    text.append('  %s: %s' % (path, unrun))
  text += ['in no test: ' + path for path in missing]
  text += [
      '',
      'branches: %.1f %% (%d of %d)' % (
          everything.branch_percent, everything.branches_taken,
          everything.branches),
      'lines: %.1f %% (%d of %d), at least %g %% wanted' % (
          everything.line_percent, everything.lines_run, everything.lines,
          minimum),
  ]
  # Not what was rounded: 92.96 is less than 93.
  reached = files and everything.line_percent >= minimum
  return '\n'.join(text), 0 if reached and not missing else 1


def _path(label):
  return re.sub(r'^//:?', '', label).replace(':', '/')


def sources():
  """The paths of the sources that count."""
  labels = bazel.read(
      'query', 'labels(srcs, {0}) + labels(hdrs, {0})'.format(_LIBRARIES)).split()
  # Generated files are there too; they have no place in the tree.
  return sorted(path for path in map(_path, labels)
                if os.path.exists(os.path.join(bazel.ROOT, path)))


def unpack_profiles(testlogs, labels, folder):
  """Returns the paths of all profiles of some tests.

  Args:
    testlogs: Bazel's folder of results.
    labels: of the tests.
    folder: what is in archives is put there.
  """
  profiles = []
  for label in labels:
    found = False
    for place, _, names in os.walk(os.path.join(testlogs, _path(label))):
      for name in names:
        path = os.path.join(place, name)
        if name.endswith('.profraw'):
          profiles.append(path)
          found = True
        elif name == 'outputs.zip':
          target = os.path.join(folder, str(len(profiles)))
          with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
              if member.endswith('.profraw'):
                profiles.append(archive.extract(member, target))
                found = True
    if not found:
      raise CoverageError('%s has left no profile' % label)
  return profiles


def _tool(*command):
  result = subprocess.run(command, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, encoding='utf-8',
                          errors='replace')
  if result.returncode:
    raise CoverageError('%s ended with code %d: %s' % (
        command[0], result.returncode, result.stderr[-2000:]))
  return result.stdout


def measure(labels):
  """Returns {path: FileCoverage} for all that these tests were made of."""
  testlogs = bazel.read('info', '--config=coverage', 'bazel-testlogs').strip()
  binaries = bazel.read('info', '--config=coverage', 'bazel-bin').strip()
  with tempfile.TemporaryDirectory(prefix='vmsg-coverage.') as folder:
    profiles = os.path.join(folder, 'profiles')
    with open(profiles, 'w', encoding='utf-8') as file:
      file.write('\n'.join(unpack_profiles(testlogs, labels, folder)))
    merged = os.path.join(folder, 'merged.profdata')
    _tool(_PROFDATA, 'merge', '-sparse', '-f', profiles, '-o', merged)
    objects = [os.path.join(binaries, _path(label)) for label in labels]
    return parse_lcov(_tool(
        _COV, 'export', '-format=lcov', '-instr-profile=' + merged, objects[0],
        *['-object=' + name for name in objects[1:]]))


def programs(labels):
  """The labels without tests that are scripts, which leave no profile."""
  scripts = set(bazel.read('query', 'kind(sh_test, %s)' % ' + '.join(
      test for test in _TESTS if not test.startswith('-'))).split())
  return [label for label in labels if label not in scripts]


def _parse_arguments():
  parser = argparse.ArgumentParser(
      prog='scripts/coverage', description=_USAGE,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--jobs', type=int, default=bazel.jobs(), metavar='N',
                      help='compilers at once (default: %(default)d)')
  parser.add_argument('--minimum', type=float, default=_MINIMUM,
                      metavar='PERCENT',
                      help='of lines (default: %(default)g)')
  parser.add_argument('tests', nargs='*', metavar='TARGET', help='run these '
                      'tests only, for a look at some files')
  return parser.parse_args()


def main():
  arguments = _parse_arguments()
  results = bazel.test('--config=coverage', '--jobs=%d' % arguments.jobs, '--',
                       *(arguments.tests or _TESTS))
  failed = [result for result in results if result.outcome == FAILED]
  for result in failed:
    print('coverage: %s: %s' % (result.label, ', '.join(result.reasons)))
  try:
    labels = programs(
        [result.label for result in results if result not in failed])
    if not labels:
      raise CoverageError('no test has run')
    measured = measure(labels)
    wanted = sources()
  except (CoverageError, OSError, ValueError, zipfile.BadZipFile,
          subprocess.SubprocessError) as error:
    print('coverage: %s' % error, file=sys.stderr)
    return 2
  # A header may have nothing to run.
  missing = [path for path in wanted
             if path not in measured and path.endswith('.cc')]
  text, code = report({path: measured[path] for path in wanted
                       if path in measured},
                      [] if arguments.tests else missing, arguments.minimum)
  print(text, flush=True)
  return 1 if failed else code


if __name__ == '__main__':
  sys.exit(main())
