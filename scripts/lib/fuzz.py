"""Builds fuzz targets with libFuzzer and runs them; see scripts/fuzz."""

import argparse
import os
import subprocess
import sys
import tempfile

import bazel
from bazel_results import FAILED, PASSED, TestResult

_USAGE = """\
Builds fuzz targets with libFuzzer, AddressSanitizer and
UndefinedBehaviorSanitizer, and runs each for a while from its corpus.
Inputs that broke something are kept in the output folder: fix the bug and add
the input to the corpus, which also runs as an ordinary test.
"""


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


def _run_one(label, binaries, seconds, output):
  folder = os.path.join(output, label[2:].replace(':', '/'))
  found = os.path.join(folder, 'new_corpus')
  os.makedirs(found, exist_ok=True)
  log = os.path.join(folder, 'log')
  line = [
      os.path.join(binaries, label[2:].replace(':', '/')),
      '-max_total_time=%d' % seconds,
      '-timeout=10',
      '-print_final_stats=1',
      '-artifact_prefix=%s/' % folder,
      found,
  ] + _corpus_folders(label)
  with open(log, 'wb') as file:
    code = subprocess.run(
        line, cwd=bazel.ROOT, check=False, stdout=file, stderr=file
    ).returncode
  if code == 0:
    return TestResult(label, PASSED, log=log)
  with open(log, 'rb') as file:
    tail = file.read()[-4000:].decode('utf-8', 'replace')
  print(tail, flush=True)
  return TestResult(label, FAILED, ['exit code %d' % code], log)


def run(targets, seconds, output):
  """Builds and runs fuzz targets.

  Args:
    targets: labels.
    seconds: how long each one runs.
    output: folder for logs, new inputs and inputs that broke something.

  Returns:
    A list of TestResult.
  """
  if bazel.run('build', '--config=fuzz', *targets):
    return [TestResult('build of the fuzz targets', FAILED, ['see above'])]
  binaries = bazel.read('info', '--config=fuzz', 'bazel-bin').strip()
  results = []
  for label in targets:
    print('fuzz: %s, %d s' % (label, seconds), flush=True)
    results.append(_run_one(label, binaries, seconds, output))
  return results


def main():
  parser = argparse.ArgumentParser(
      prog='scripts/fuzz',
      description=_USAGE,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--seconds', type=int, default=60, help='for each target')
  parser.add_argument('--output', help='folder; a new one under /tmp if left out')
  parser.add_argument('target', nargs='*', help='labels; all if left out')
  arguments = parser.parse_args()
  output = arguments.output or tempfile.mkdtemp(prefix='vmsg_fuzz.')
  results = run(
      arguments.target or find_targets(),
      arguments.seconds,
      os.path.abspath(output),
  )
  for result in results:
    print('%s: %s, log %s' % (result.label, result.outcome, result.log))
  print('fuzz: output in %s' % output)
  return 1 if any(r.outcome == FAILED for r in results) else 0


if __name__ == '__main__':
  sys.exit(main())
