"""Runs Bazel in this workspace."""

import os
import shlex
import subprocess
import tempfile

import bazel_results

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def jobs():
  """How many compilers may run at once: one a CPU, and 1.5 GiB for each."""
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return max(1, min(len(os.sched_getaffinity(0)), memory // (3 << 29)))


def command(verb, *arguments):
  """Returns the command line of one Bazel call.

  VMSG_BAZEL_STARTUP_OPTIONS and VMSG_BAZEL_OPTIONS in the environment add
  options, for example --output_base= and --disk_cache=.
  """
  line = [os.environ.get('BAZEL', 'bazel')]
  line += shlex.split(os.environ.get('VMSG_BAZEL_STARTUP_OPTIONS', ''))
  line += [verb]
  if verb in ('build', 'test'):
    line += [
        '--jobs=%d' % jobs(),
        '--keep_going',
        '--color=no',
        '--curses=no',
        '--show_progress_rate_limit=30',
    ]
  if verb not in ('query', 'shutdown'):
    line += shlex.split(os.environ.get('VMSG_BAZEL_OPTIONS', ''))
  return line + list(arguments)


def run(verb, *arguments):
  """Runs Bazel, output to the terminal. Returns its exit code."""
  return subprocess.run(
      command(verb, *arguments), cwd=ROOT, check=False
  ).returncode


def read(verb, *arguments):
  """Returns what Bazel wrote to stdout.

  Raises:
    subprocess.CalledProcessError: Bazel failed; its stderr was shown.
  """
  result = subprocess.run(
      command(verb, *arguments),
      cwd=ROOT,
      check=False,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      encoding='utf-8',
  )
  if result.returncode:
    print(result.stderr, end='', flush=True)
    result.check_returncode()
  return result.stdout


def test(*arguments):
  """Runs `bazel test` and returns a list of bazel_results.TestResult."""
  with tempfile.TemporaryDirectory() as folder:
    events = os.path.join(folder, 'events.json')
    code = run(
        'test',
        '--test_summary=terse',
        '--build_event_json_file=' + events,
        *arguments
    )
    results = []
    if os.path.exists(events):
      with open(events, encoding='utf-8') as lines:
        results = bazel_results.parse(lines)
  failed = any(r.outcome == bazel_results.FAILED for r in results)
  if code and not failed:
    # A library that no test needs may fail too.
    results.append(
        bazel_results.TestResult(
            'bazel test', bazel_results.FAILED, ['exit code %d' % code]
        )
    )
  if not results:
    results.append(
        bazel_results.TestResult(
            'bazel test', bazel_results.FAILED, ['no test target found']
        )
    )
  return results
