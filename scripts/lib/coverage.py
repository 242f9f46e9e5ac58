"""Says how much of the library its tests run; see scripts/coverage."""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile

import bazel
from bazel_results import FAILED

_USAGE = """\
Builds devices/, vmm/ and the tests of tests/ that run in a process with Clang's
source coverage, runs all tests there, and prints which lines and branches were
run: each file with lines that no test runs, the most of them first; then folders;
then what counts and what does not; then branches, and lines at the very end.

What counts is each source in devices/ and vmm/ of a library or program that is
not for tests. A file that no test links counts with all its lines. Not counted:
tests, fuzz targets and whatever only these use (testonly), generated code, and
vmm/kvm, which takes a machine with KVM.

Exit code:
  0  the lines reach the minimum
  1  they do not, a source file is in no target, or a test has failed
  2  wrong usage, or something else failed
"""

_TESTS = [
    '//devices/...', '//vmm/...', '//tests/conformance/...',
    '//tests/in_process/...', '-//vmm/kvm/...'
]
_KVM = 'vmm/kvm'
# Rules with sources that the figures are about, and those with other sources.
_CODE = ('kind("cc_(library|binary|test)", //devices/... + //vmm/... - '
         '//%s/...)' % _KVM)
_COUNTED = 'attr(testonly, 0, %s)' % _CODE
_TESTONLY = 'attr(testonly, 1, %s)' % _CODE
_MINIMUM = 93
_PROFDATA = 'llvm-profdata-14'
_COV = 'llvm-cov-14'
_AR = 'llvm-ar-14'

# Why a file does not count.
TESTONLY = 'for tests only'
NEEDS_KVM = 'takes a machine with KVM'
ORPHAN = 'in no target'

# lines: {line number: times that it was run}. branches, taken: numbers.
FileCoverage = collections.namedtuple('FileCoverage', 'lines branches taken')


class CoverageError(Exception):
  """There are no figures."""


def parse_lcov(text):
  """Returns {path: FileCoverage} from what llvm-cov export -format=lcov says."""
  lines = {}
  branches = {}
  path = None
  for row in text.splitlines():
    key, _, value = row.partition(':')
    if key == 'SF':
      # A header has several spellings, after the folder that it was found in.
      path = os.path.normpath(value)
      lines.setdefault(path, collections.Counter())
      branches.setdefault(path, collections.Counter())
    elif key == 'DA':
      number, count = value.split(',')[:2]
      lines[path][int(number)] += int(count)
    elif key == 'BRDA':
      name, _, count = value.rpartition(',')
      branches[path][name] += 0 if count == '-' else int(count)
  return {
      path: FileCoverage(dict(lines[path]), len(branches[path]),
                         sum(count > 0 for count in branches[path].values()))
      for path in lines
  }


class Total:
  """Sums of several files."""

  def __init__(self, files=()):
    self.files = 0
    self.lines = self.lines_run = 0
    self.branches = self.branches_taken = 0
    for file in files:
      self.add(file)

  def add(self, file):
    self.files += 1
    self.lines += len(file.lines)
    self.lines_run += sum(count > 0 for count in file.lines.values())
    self.branches += file.branches
    self.branches_taken += file.taken

  @property
  def missing(self):
    return self.lines - self.lines_run

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


def unrun(file):
  """The numbers of the lines that no test runs."""
  return sorted(number for number, count in file.lines.items() if count == 0)


def ranges(numbers):
  """Returns [1, 2, 3, 7] as "1-3, 7"."""
  found = []
  for number in sorted(numbers):
    if found and number == found[-1][1] + 1:
      found[-1][1] = number
    else:
      found.append([number, number])
  return ', '.join('%d' % a if a == b else '%d-%d' % (a, b) for a, b in found)


_HEADINGS = '%7s %7s %8s %8s %8s' % ('missing', 'lines', 'run', 'branches',
                                     'taken')


def _figures(total):
  return '%7d %7d %6.1f %% %8d %6.1f %%' % (
      total.missing, total.lines, total.line_percent, total.branches,
      total.branch_percent)


def _by_missing(totals):
  """The items of {name: Total}, those that miss most lines first."""
  return sorted(totals.items(), key=lambda item: (-item[1].missing, item[0]))


def report(files, others, minimum):
  """Returns (text, exit code).

  Args:
    files: {path: FileCoverage} of the sources that count.
    others: {path: reason} of the sources that do not.
    minimum: percent of lines.
  """
  totals = {path: Total([file]) for path, file in files.items()}
  low = [item for item in _by_missing(totals) if item[1].missing]
  text = []
  if low:
    text += ['%-52s %s  lines that no test runs' % ('file', _HEADINGS)]
    text += ['%-52s %s  %s' % (path, _figures(total), ranges(unrun(files[path])))
             for path, total in low]
    text.append('')
  text.append('%-52s %s' % ('folder', _HEADINGS))
  text += ['%-52s %s' % (folder, _figures(total))
           for folder, total in _by_missing(by_folder(files))]

  counts = collections.Counter(others.values())
  text += ['', '%4d files count, %d of them miss no line' % (
      len(files), len(files) - len(low))]
  text += ['%4d files do not: %s' % (count, reason)
           for reason, count in sorted(counts.items())]
  orphans = sorted(path for path in others if others[path] == ORPHAN)
  text += ['%s: %s' % (ORPHAN, path) for path in orphans]

  everything = Total(files.values())
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
  return '\n'.join(text), 0 if reached and not orphans else 1


def as_json(files, others, minimum):
  """What report() says, for programs."""
  everything = Total(files.values())
  return {
      'minimum_percent': minimum,
      'lines': everything.lines,
      'lines_run': everything.lines_run,
      'line_percent': everything.line_percent,
      'branches': everything.branches,
      'branches_taken': everything.branches_taken,
      'branch_percent': everything.branch_percent,
      'files': {
          path: {
              'lines': len(file.lines),
              'unrun': unrun(file),
              'branches': file.branches,
              'branches_taken': file.taken,
          } for path, file in sorted(files.items())
      },
      'not_counted': dict(sorted(others.items())),
  }


def classify(tree, counted, testonly):
  """Says which sources count.

  Args:
    tree: paths of all sources.
    counted, testonly: paths of those in targets of the one kind and the other;
      files that are not in the tree are generated and left out.

  Returns:
    (the paths that count, sorted; {path: why it does not} of all others).
  """
  count, others = [], {}
  for path in sorted(tree):
    if path.startswith(_KVM + '/'):
      others[path] = NEEDS_KVM
    elif path in counted:
      count.append(path)
    else:
      others[path] = TESTONLY if path in testonly else ORPHAN
  return count, others


def _path(label):
  return re.sub(r'^//:?', '', label).replace(':', '/')


def _sources_of(rules):
  return {
      _path(label) for label in bazel.read(
          'query',
          ' + '.join('labels(%s, %s)' % (attribute, rules)
                     for attribute in ['srcs', 'hdrs', 'textual_hdrs'])).split()
  }


def sources():
  """Returns classify() of this tree."""
  listed = subprocess.run(
      ['git', 'ls-files', '-co', '--exclude-standard', '--',
       'devices/*.cc', 'devices/*.h', 'vmm/*.cc', 'vmm/*.h'],
      cwd=bazel.ROOT, check=True, stdout=subprocess.PIPE,
      encoding='utf-8').stdout.split('\n')
  tree = {path for path in listed
          if path and os.path.exists(os.path.join(bazel.ROOT, path))}
  return classify(tree, _sources_of(_COUNTED), _sources_of(_TESTONLY))


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


def _tool(*command, cwd=None):
  result = subprocess.run(command, cwd=cwd, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding='utf-8', errors='replace')
  if result.returncode:
    raise CoverageError('%s ended with code %d: %s' % (
        command[0], result.returncode, result.stderr[-2000:]))
  return result.stdout


def archives(binaries, libraries):
  """Returns the paths of the archives of libraries that have one.

  Args:
    binaries: Bazel's folder of what it builds.
    libraries: labels of those that have more than headers.
  """
  found = []
  for label in libraries:
    folder, _, name = _path(label).rpartition('/')
    path = os.path.join(binaries, folder, 'lib%s.a' % name)
    if not os.path.exists(path):
      raise CoverageError('%s was not built' % label)
    found.append(path)
  return found


def unpack_objects(archive, folder):
  """Returns the paths of what is in an archive, unpacked into a new folder.

  llvm-cov 14 reads archives too, but calls those malformed whose objects do not
  happen to be aligned.
  """
  os.makedirs(folder)
  _tool(_AR, 'x', archive, cwd=folder)
  return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def measure(tests, libraries):
  """Returns {path: FileCoverage}.

  Args:
    tests: labels of programs that have run.
    libraries: labels of libraries with sources that count, whether a test links
      them or not.
  """
  testlogs = bazel.read('info', '--config=coverage', 'bazel-testlogs').strip()
  binaries = bazel.read('info', '--config=coverage', 'bazel-bin').strip()
  with tempfile.TemporaryDirectory(prefix='vmsg-coverage.') as folder:
    objects = [os.path.join(binaries, _path(label)) for label in tests]
    for number, archive in enumerate(archives(binaries, libraries)):
      objects += unpack_objects(archive,
                                os.path.join(folder, 'objects', str(number)))
    profiles = os.path.join(folder, 'profiles')
    with open(profiles, 'w', encoding='utf-8') as file:
      file.write('\n'.join(unpack_profiles(testlogs, tests, folder)))
    merged = os.path.join(folder, 'merged.profdata')
    _tool(_PROFDATA, 'merge', '-sparse', '-f', profiles, '-o', merged)
    return parse_lcov(_tool(
        _COV, 'export', '-format=lcov', '-instr-profile=' + merged, objects[0],
        *['-object=' + name for name in objects[1:]]))


def _labels(query):
  return bazel.read('query', query).split()


def programs(labels):
  """The labels without tests that are scripts, which leave no profile."""
  scripts = set(_labels('kind(sh_test, %s)' % ' + '.join(
      test for test in _TESTS if not test.startswith('-'))))
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
  parser.add_argument('--json', metavar='FILE',
                      help='write the figures there too (a path from the root of '
                      'the tree)')
  parser.add_argument('--list', action='store_true',
                      help='only say of each file whether it counts, or why not')
  parser.add_argument('tests', nargs='*', metavar='TARGET', help='run these '
                      'tests only, for a look at the files that they link')
  return parser.parse_args()


def _run(arguments):
  """Returns the exit code."""
  counted, others = sources()
  if arguments.list:
    for path in sorted([*counted, *others]):
      print('%s: %s' % (path, others.get(path, 'counts')))
    return 0
  results = bazel.test('--config=coverage', '--jobs=%d' % arguments.jobs, '--',
                       *(arguments.tests or _TESTS))
  failed = [result for result in results if result.outcome == FAILED]
  for result in failed:
    print('coverage: %s: %s' % (result.label, ', '.join(result.reasons)))
  labels = programs(
      [result.label for result in results if result not in failed])
  if not labels:
    raise CoverageError('no test has run')
  libraries = [] if arguments.tests else _labels(
      'attr(srcs, "\\.cc", kind(cc_library, %s))' % _COUNTED)
  measured = measure(labels, libraries)
  # What has no figures has nothing to run.
  files = {path: measured.get(path, FileCoverage({}, 0, 0)) for path in counted
           if path in measured or not arguments.tests}
  text, code = report(files, others, arguments.minimum)
  print(text, flush=True)
  if arguments.json:
    with open(arguments.json, 'w', encoding='utf-8') as file:
      json.dump(as_json(files, others, arguments.minimum), file, indent=2)
      file.write('\n')
  return 1 if failed else code


def main():
  arguments = _parse_arguments()
  try:
    return _run(arguments)
  except (CoverageError, OSError, ValueError, zipfile.BadZipFile,
          subprocess.SubprocessError) as error:
    print('coverage: %s' % error, file=sys.stderr)
    return 2


if __name__ == '__main__':
  sys.exit(main())
