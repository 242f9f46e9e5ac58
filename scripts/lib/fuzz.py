"""Builds fuzz targets with libFuzzer and runs them; see scripts/fuzz."""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

import bazel
import fuzz_log
from bazel_results import FAILED, PASSED, TestResult

_USAGE = """\
Builds fuzz targets with libFuzzer, AddressSanitizer and
UndefinedBehaviorSanitizer, and runs each for a while from its corpus.
Inputs that broke something are kept in the output folder: fix the bug and add
the input to the corpus, which also runs as an ordinary test.

A long campaign goes on where it was: with the same --output, what a run found is
where the next one starts. --record adds what was done to docs/fuzzing.md, and
--minimize chooses anew which of the found inputs stand in the corpora of the tree.
"""

# Seconds by the clock after which an input counts as one that does not end. Each
# takes some milliseconds, but beside other programs that can be many.
_HANG = 60
# Most targets build a whole device for an input and reach thousands of features,
# for which libFuzzer's counts of them all cost more than the run, and
# AddressSanitizer's long memory of what was freed is as many page faults. Half as
# many runs again in the same time, with more features reached.
_FAST = ['-entropic=0', '-reduce_inputs=0']
_ENVIRONMENT = {'ASAN_OPTIONS': 'malloc_context_size=5:quarantine_size_mb=4'}
# An input of the tree's corpora runs in each test, under each sanitizer.
_MOST_BYTES = 4096
_MOST_INPUTS = 400


class Run:
  """What one target did.

  Attributes:
    result: a TestResult.
    facts: a fuzz_log.Facts, or None when the fuzzer did not come to its end.
  """

  def __init__(self, result, facts):
    self.result = result
    self.facts = facts


def find_targets():
  """Returns the labels of all fuzz targets."""
  return sorted(
      bazel.read('query', r'attr(tags, "\bfuzz\b", kind(cc_test, //...))')
      .split()
  )


def _corpus_folders(label):
  files = bazel.read('query', 'labels(data, %s)' % label).split()
  package = label[2:].split(':')[0]
  folders = set()
  for file in files:
    name = file.split(':')[1]
    folders.add(os.path.join(bazel.ROOT, package, name.split('/')[0]))
  return sorted(folders)


def _path(label):
  return label[2:].replace(':', '/')


def _found_folder(label, output):
  return os.path.join(output, _path(label), 'new_corpus')


def _wait(process):
  """Waits for a child; returns (exit code, processor seconds)."""
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  return process.returncode, usage.ru_utime + usage.ru_stime


def _run_one(label, folders, binary, limits, output):
  folder = os.path.join(output, _path(label))
  found = _found_folder(label, output)
  os.makedirs(found, exist_ok=True)
  log = os.path.join(folder, 'log')
  print('fuzz: %s' % label, flush=True)
  line = [binary, *limits, *_FAST, '-timeout=%d' % _HANG, '-print_final_stats=1',
          '-artifact_prefix=%s/' % folder, found, *folders]
  with open(log, 'wb') as file:
    code, seconds = _wait(subprocess.Popen(
        line, cwd=bazel.ROOT, stdout=file, stderr=file,
        env=os.environ | _ENVIRONMENT))
  with open(log, 'rb') as file:
    text = file.read().decode('utf-8', 'replace')
  facts = fuzz_log.read_facts(label, text, seconds)
  if code == 0 and facts:
    print('fuzz: %s: %s' % (label, facts), flush=True)
    return Run(TestResult(label, PASSED, log=log), facts)
  print(text[-4000:], flush=True)
  return Run(TestResult(label, FAILED, ['exit code %d' % code], log), facts)


def _binaries():
  return bazel.read('info', '--config=fuzz', 'bazel-bin').strip()


def run(targets, output, seconds=0, executions=0, jobs=0):
  """Builds and runs fuzz targets.

  Args:
    targets: labels.
    output: folder for logs, new inputs and inputs that broke something.
    seconds: how long each one runs at the most; 0: no limit.
    executions: so many runs of each, and no more; 0: no limit.
    jobs: so many targets at a time; 0: one for each processor.

  Returns:
    A list of Run; one without facts when the build failed.
  """
  if bazel.run('build', '--config=fuzz', *targets):
    failed = TestResult('build of the fuzz targets', FAILED, ['see above'])
    return [Run(failed, None)]
  binaries = _binaries()
  limits = []
  if seconds:
    limits.append('-max_total_time=%d' % seconds)
  if executions:
    limits.append('-runs=%d' % executions)
  folders = {label: _corpus_folders(label) for label in targets}

  def run_target(label):
    return _run_one(label, folders[label], os.path.join(binaries, _path(label)),
                    limits, output)

  jobs = jobs or len(os.sched_getaffinity(0))
  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    return list(pool.map(run_target, targets))


def _is_found(name):
  """Whether a fuzzer gave the name, and not a person."""
  return re.fullmatch('[0-9a-f]{40}', name) is not None


def minimize(targets, output):
  """Chooses anew which found inputs stand in the corpora of the tree.

  Those that reach an edge which no input with a name reaches, and no smaller one of
  theirs. Inputs with names stay: the names say what they are for.

  Args:
    targets: labels, which have been built and run with this output folder.
    output: as for run().

  Returns:
    True when each target could be done.
  """
  good = True
  for label in targets:
    folders = _corpus_folders(label)
    with tempfile.TemporaryDirectory(prefix='vmsg_fuzz.') as scratch:
      merged = os.path.join(scratch, 'merged')
      known = os.path.join(scratch, 'known')
      os.mkdir(merged)
      os.mkdir(known)
      for folder in folders:
        for name in os.listdir(folder):
          shutil.copy(os.path.join(folder, name),
                      known if _is_found(name) else merged)
      named = set(os.listdir(merged))
      before = set(os.listdir(known))
      code = subprocess.run(
          [os.path.join(_binaries(), _path(label)), '-merge=1', '-use_counters=0',
           '-timeout=%d' % _HANG, '-max_len=%d' % _MOST_BYTES, merged, known,
           _found_folder(label, output)],
          cwd=bazel.ROOT, check=False, stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL).returncode
      if code or not folders:
        print('fuzz: %s: not minimized, exit code %d' % (label, code))
        good = False
        continue
      chosen = sorted(set(os.listdir(merged)) - named)
      # The small ones first: they say more for less.
      chosen.sort(key=lambda name: os.path.getsize(os.path.join(merged, name)))
      kept = chosen[:max(0, _MOST_INPUTS - len(named))]
      for folder in folders:
        for name in before.intersection(os.listdir(folder)).difference(kept):
          os.unlink(os.path.join(folder, name))
      for name in set(kept) - before:
        shutil.copy(os.path.join(merged, name), folders[0])
      print('fuzz: %s: %d found inputs of %d kept, %d of them new' % (
          label, len(kept), len(chosen), len(set(kept) - before)))
  return good


def main():
  parser = argparse.ArgumentParser(
      prog='scripts/fuzz',
      description=_USAGE,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--seconds', type=int,
                      help='for each target (default: 60, no limit with '
                      '--executions)')
  parser.add_argument('--executions', type=int, default=0, metavar='N',
                      help='end each target after so many runs')
  parser.add_argument('--jobs', type=int, default=0, metavar='N',
                      help='so many targets at a time (default: one for each '
                      'processor)')
  parser.add_argument('--output', help='folder; a new one under /tmp if left out')
  parser.add_argument('--record', action='store_true',
                      help='add what was done to docs/fuzzing.md')
  parser.add_argument('--minimize', action='store_true',
                      help='then choose inputs for the corpora of the tree')
  parser.add_argument('target', nargs='*', help='labels; all if left out')
  arguments = parser.parse_args()
  output = os.path.abspath(
      arguments.output or tempfile.mkdtemp(prefix='vmsg_fuzz.'))
  seconds = arguments.seconds
  if seconds is None:
    seconds = 0 if arguments.executions else 60
  targets = arguments.target or find_targets()
  runs = run(targets, output, seconds, arguments.executions, arguments.jobs)
  for run_ in runs:
    print('%s: %s, log %s' % (run_.result.label, run_.result.outcome,
                              run_.result.log))
  print('fuzz: output in %s' % output)
  if arguments.record:
    fuzz_log.record([run_.facts for run_ in runs if run_.facts])
  good = all(run_.result.outcome == PASSED for run_ in runs)
  if good and arguments.minimize:
    good = minimize(targets, output)
  return 0 if good else 1


if __name__ == '__main__':
  sys.exit(main())
