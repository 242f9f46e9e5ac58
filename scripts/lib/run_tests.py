"""All checks of the project, one stage after the other; see scripts/test."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

import bazel
import e2e_results
import fuzz
from bazel_results import FAILED, PASSED, SKIPPED, TestResult

_USAGE = """\
Installs missing packages (scripts/setup), then runs every stage below, also
after one has failed:

%s
The last line counts test targets, once for each configuration they ran in, and
checks that are not Bazel tests:

    N passed, N failed, N skipped

A target counts as skipped when a case in it skipped itself; the reason is
printed. Exit code: 0 when nothing failed, else 1.

Environment: VMSG_BAZEL_STARTUP_OPTIONS, VMSG_BAZEL_OPTIONS add options to every
call of Bazel (for example --disk_cache=FOLDER).
"""

_FUZZ_SECONDS = 5


def _check(name, *line, **kwargs):
  """One command as one result; passes when it exits with 0."""
  code = subprocess.run(
      line, cwd=kwargs.pop('cwd', bazel.ROOT), check=False, **kwargs
  ).returncode
  if code == 0:
    return [TestResult(name, PASSED)]
  return [TestResult(name, FAILED, ['exit code %d' % code])]


def _cpp_files():
  """C++ files of the tree, those that git ignores left out."""
  listed = subprocess.run(
      ['git', 'ls-files', '-co', '--exclude-standard', '*.cc', '*.h'],
      cwd=bazel.ROOT,
      check=True,
      stdout=subprocess.PIPE,
      encoding='utf-8',
  ).stdout.split('\n')
  return sorted(
      name for name in set(listed)
      if name and os.path.exists(os.path.join(bazel.ROOT, name))
  )


def _format():
  files = _cpp_files()
  if not files:
    return [TestResult('clang-format', FAILED, ['no C++ file found'])]
  return _check('clang-format', 'clang-format-14', '--dry-run', '-Werror', *files)


def _scripts():
  results = []
  for folder in ['docs', 'scripts/lib', 'tests/dependencies', 'tests/e2e']:
    results += _check(
        'unit tests in ' + folder,
        sys.executable,
        '-B',
        '-m',
        'unittest',
        'discover',
        '-q',
        '-p',
        '*_test.py',
        cwd=os.path.join(bazel.ROOT, folder),
    )
  return results


def _dependencies():
  query = subprocess.run(
      bazel.command(
          'query',
          '--keep_going',
          '--noshow_progress',
          '--output=xml',
          '--notool_deps',
          '--noimplicit_deps',
          'deps(//...)',
      ),
      cwd=bazel.ROOT,
      check=False,
      stdout=subprocess.PIPE,
      encoding='utf-8',
  )
  results = _check(
      'dependency rules',
      sys.executable,
      '-B',
      'tests/dependencies/check_dependencies.py',
      bazel.ROOT,
      input=query.stdout,
      encoding='utf-8',
  )
  if query.returncode:
    # What was loaded has been checked all the same.
    reason = 'bazel query: exit code %d' % query.returncode
    results.append(TestResult('graph of targets', FAILED, [reason]))
  return results


def _optimized():
  return bazel.test('-c', 'opt', '//...')


def _optimized_few():
  return bazel.test('-c', 'opt', '//benchmarks/...', '//guest/...',
                    '//tests/...')


def _asan():
  return bazel.test('--config=asan', '//...')


def _tsan():
  return bazel.test('--config=tsan', '//...')


def _clang():
  code = bazel.run('build', '--config=thread_safety', '//...')
  if code:
    return [TestResult('build by clang', FAILED, ['exit code %d' % code])]
  return [TestResult('build by clang', PASSED)]


def _tidy():
  code = bazel.run('build', '--config=clang_tidy', '//...')
  if code:
    return [TestResult('clang-tidy', FAILED, ['exit code %d' % code])]
  return [TestResult('clang-tidy', PASSED)]


def _fuzz():
  output = tempfile.mkdtemp(prefix='vmsg_fuzz.')
  try:
    runs = fuzz.run(fuzz.find_targets(), output, _FUZZ_SECONDS)
    results = [run.result for run in runs]
  except subprocess.CalledProcessError as error:
    results = [TestResult('fuzz targets', FAILED, [str(error)])]
  if not any(result.outcome == FAILED for result in results):
    shutil.rmtree(output)
  return results


# Each FIFO layout and each format of virtqueues, once.
_DEMOS = [('spsc', 'split'), ('shmem-v1', 'packed'),
          ('shmem-v1-packed', 'split')]


def _demos(accel):
  results = []
  for layout, ring in _DEMOS:
    results += _check('demo, %s, %s, %s' % (accel, layout, ring),
                      sys.executable, '-B', 'scripts/lib/demo.py', '--quiet',
                      '--accel=' + accel, '--fifo-layout=' + layout,
                      '--ring=' + ring)
  return results


def _demo():
  """The demo on each way to run a guest that this machine has."""
  results = _demos('in-process')
  try:
    os.close(os.open('/dev/kvm', os.O_RDWR | os.O_CLOEXEC))
  except OSError as error:
    reason = '/dev/kvm does not open: %s' % error.strerror
    return results + [TestResult('demo on KVM', SKIPPED, [reason])]
  return results + _demos('kvm')


def _e2e():
  """Guests on real KVM, which an emulated machine has where this one has not."""
  results = _check('packages of tests/e2e', 'scripts/setup', '--e2e')
  if results[0].outcome != PASSED:
    return results
  with subprocess.Popen(
      [sys.executable, '-B', 'tests/e2e/run.py'],
      cwd=bazel.ROOT,
      stdout=subprocess.PIPE,
      encoding='utf-8',
      errors='replace',
  ) as run:
    line = ''
    for line in run.stdout:
      print(line, end='', flush=True)
  return results + e2e_results.read(line, run.returncode)


def _external_workspace():
  return _check('external workspace', 'tests/external_workspace/check')


# Runs of stages: all checks, the first round, and only when asked for.
_FULL, _QUICK, _ASKED = 'full', 'quick', 'asked'

# Name, what it does, function, the runs it is part of. Each configuration
# compiles everything anew, so the full run has every test once with each
# sanitizer, and optimized only where that is the point.
_STAGES = [
    ('format', 'clang-format on every C++ file', _format, (_FULL, _QUICK)),
    ('scripts', 'unit tests of the scripts', _scripts, (_FULL, _QUICK)),
    ('dependencies', 'who may depend on what, by bazel query', _dependencies,
     (_FULL, _QUICK)),
    ('test', 'all tests, -c opt, GCC; with --quick or --stage', _optimized,
     (_QUICK,)),
    ('asan', 'all tests with AddressSanitizer and UBSan', _asan, (_FULL,)),
    ('tsan', 'tests that do not link gRPC with ThreadSanitizer', _tsan,
     (_FULL,)),
    ('opt', 'benchmarks and tests across packages, -c opt', _optimized_few,
     (_FULL,)),
    ('demo', 'the demo, on KVM and in-process', _demo, (_FULL, _QUICK)),
    ('e2e', 'guests on real KVM, Linux among them', _e2e, (_FULL,)),
    ('fuzz', 'each fuzz target for %d s with libFuzzer, and clang\'s thread-'
     'safety analysis' % _FUZZ_SECONDS, _fuzz, (_FULL,)),
    ('external', 'another workspace that depends on this one',
     _external_workspace, (_FULL,)),
    ('clang', 'build by clang with thread-safety analysis; only with --stage',
     _clang, (_ASKED,)),
    ('tidy', 'clang-tidy on every C++ file that is not a test; only with --stage',
     _tidy, (_ASKED,)),
]


def _parse_arguments():
  stages = ''.join('    %-13s %s\n' % stage[:2] for stage in _STAGES)
  parser = argparse.ArgumentParser(
      prog='scripts/test',
      description=_USAGE % stages,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
      '--quick', action='store_true', help='a first round, without sanitizers'
  )
  parser.add_argument(
      '--stage',
      action='append',
      choices=[stage[0] for stage in _STAGES],
      help='run this stage only; may be repeated',
  )
  return parser.parse_args()


def _print_summary(results):
  print('\n==== summary')
  for outcome in (SKIPPED, FAILED):
    for stage, result in results:
      if result.outcome == outcome:
        print('%-7s [%s] %s' % (outcome.upper(), stage, result.label))
        for reason in result.reasons:
          print('          %s' % reason)
        if outcome == FAILED and result.log:
          print('          log: %s' % result.log)
  counts = [
      sum(result.outcome == outcome for _, result in results)
      for outcome in (PASSED, FAILED, SKIPPED)
  ]
  print('%d passed, %d failed, %d skipped' % tuple(counts), flush=True)


def main():
  arguments = _parse_arguments()
  results = []
  run = _QUICK if arguments.quick else _FULL
  for name, what, function, runs in _STAGES:
    if name not in arguments.stage if arguments.stage else run not in runs:
      continue
    print('==== %s: %s' % (name, what), flush=True)
    start = time.monotonic()
    try:
      stage_results = function()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
      # The later stages still have something to say.
      stage_results = [TestResult(name, FAILED, [repr(error)])]
    results += [(name, result) for result in stage_results]
    failed = sum(result.outcome == FAILED for result in stage_results)
    print(
        '==== %s: %s, %d results, %d s'
        % (
            name,
            '%d FAILED' % failed if failed else 'ok',
            len(stage_results),
            time.monotonic() - start,
        ),
        flush=True,
    )
  _print_summary(results)
  return 1 if any(r.outcome == FAILED for _, r in results) else 0


if __name__ == '__main__':
  sys.exit(main())
