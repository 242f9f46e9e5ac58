"""Runs guests in the example VMM on real KVM; see README.md."""

import argparse
import concurrent.futures
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import image
import kernel_image
import linux_modules
import machine
import shared_libraries
import verdict

sys.path.insert(1, os.path.join(image.FOLDER, '..', '..', 'scripts', 'lib'))
import bazel  # pylint: disable=wrong-import-position

_USAGE = """\
Builds the example VMM, its guests and vmsgctl, and runs the cases of
tests/e2e/cases on KVM: on this machine where its processor can, else in an
emulated machine. Says which, and why. The last line is a JSON object; exit code
0 only when each case passed.
"""

# An emulated machine wants a processor, and 2 GB of memory.
_MOST_JOBS = 4

# In a case that takes long: it runs when it is named.
_ONLY_NAMED = b'# Runs only when it is named.'

_TARGETS = {
    'bin/kvm_vmm': '//examples/kvm_vmm:kvm_vmm',
    'bin/vmsgctl': '//tools/vmsgctl:vmsgctl',
    'bin/hold_thread': '//tests/e2e/host:hold_thread',
    'bin/start_time': '//benchmarks:start_time',
    'bin/vmm_memory': '//benchmarks:vmm_memory',
    'images/payload.elf': '//guest/payload:payload.elf',
    'images/halt.elf': '//guest/payload:halt.elf',
    'images/first_instruction.elf': '//benchmarks:first_instruction.elf',
    'images/adversary.elf': '//guest/adversary:adversary.elf',
    'images/kexec': '//tests/e2e/guest:kexec',
    'images/live_memory.so': '//tests/live_memory:live_memory.so',
}

# What only the cases need that have the word in them: it takes a while to build.
_BENCHMARK = {
    'bin/kvm_doorbell_benchmark': '//benchmarks:kvm_doorbell_benchmark'
}
_KVM_TESTS_FOLDER = 'bin/tests/'


class E2eError(Exception):
  """The cases could not be run."""


def case_names():
  """The names of all cases."""
  paths = glob.glob(os.path.join(image.FOLDER, 'cases', '*.sh'))
  return sorted(os.path.basename(path)[:-len('.sh')] for path in paths)


def usual_case_names():
  """Those that run when none is named."""
  return [name for name in case_names() if not mentions([name], _ONLY_NAMED)]


def mentions(cases, word):
  """Whether the text of one of the cases has a word."""
  return any(
      word in image.read(os.path.join(image.FOLDER, 'cases', case + '.sh'))
      for case in cases)


def kvm_tests():
  """Returns {path in the tree of the cases: label} of tests with the tag kvm."""
  labels = bazel.read('query', r'attr(tags, "\bkvm\b", tests(//...))').split()
  return {_KVM_TESTS_FOLDER + label.split(':')[1]: label for label in labels}


def targets(cases):
  """Returns {path in the tree of the cases: label} of what the cases need."""
  needed = dict(_TARGETS)
  if mentions(cases, b'bin/kvm_doorbell_benchmark'):
    needed.update(_BENCHMARK)
  if mentions(cases, _KVM_TESTS_FOLDER.encode()):
    needed.update(kvm_tests())
  return needed


def find_programs(folder, cases):
  """Returns {path in the tree of the cases: file} of programs built elsewhere."""
  programs = {path: os.path.join(folder, path) for path in targets(cases)}
  for path in programs.values():
    if not os.path.exists(path):
      raise E2eError('there is no ' + path)
  return programs


def build(cases):
  """Builds the programs; returns {path in the tree of the cases: file}."""
  options = ['-c', 'opt']
  needed = targets(cases)
  if bazel.run('build', *options, *needed.values()):
    raise E2eError('the build failed')
  folder = bazel.read('info', *options, 'bazel-bin').strip()
  return {path: os.path.join(folder, label[2:].replace(':', '/'))
          for path, label in needed.items()}


def linux_files(programs, cases):
  """What the Linux guest is booted from, as build() returns it."""
  release = kernel_image.find_release()
  initramfs = image.guest_initramfs(release, linux_modules.build(release))
  files = {
      'images/vmlinux': image.vmlinux(release),
      'images/guest.cpio': initramfs,
  }
  if mentions(cases, b'linux_kexec_load'):
    files['images/kexec.cpio'] = image.kexec_archive(
        release, initramfs, programs['images/kexec'])
  return files


def tree(programs, cases):
  """All files that the cases need, as build() returns them."""
  files = dict(programs)
  if mentions(cases, b'linux_'):
    files.update(linux_files(programs, cases))
  for folder in ('shell', 'cases'):
    for path in glob.glob(os.path.join(image.FOLDER, folder, '*.sh')):
      files['%s/%s' % (folder, os.path.basename(path))] = path
  return files


def make_machine(kind, programs, cases, scratch):
  """Returns the HostMachine or EmulatedMachine, with files in scratch."""
  os.mkdir(scratch)
  files = tree(programs, cases)
  if kind == 'host':
    return machine.HostMachine(files, scratch)
  release = kernel_image.find_release()
  libraries = shared_libraries.of_programs(
      [path for name, path in programs.items() if name.startswith('bin/')])
  return machine.EmulatedMachine(files, scratch, image.vmlinux(release),
                                 image.machine_base(release, libraries))


def _at_least_one(text):
  number = int(text)
  if number < 1:
    raise ValueError(text)
  return number


def _parse_arguments():
  parser = argparse.ArgumentParser(
      prog='tests/e2e/run.py', description=_USAGE,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('case', nargs='*',
                      help='cases to run, of %s (default: %s)'
                      % (', '.join(case_names()), ', '.join(usual_case_names())))
  parser.add_argument('--machine', choices=['auto', 'host', 'emulated'],
                      default='auto', help='where to run them (default: auto)')
  parser.add_argument('--seconds', type=int, default=900,
                      help='limit for each case (default: 900)')
  parser.add_argument('--jobs', type=_at_least_one, metavar='N',
                      default=min(os.cpu_count(), _MOST_JOBS),
                      help='so many cases at a time, each of them in a machine of '
                      'its own if that is emulated (default here: %(default)s)')
  parser.add_argument('--log', help='file for all that is printed (default: a '
                      'temporary file, kept if a case fails)')
  parser.add_argument('--programs', metavar='FOLDER', help='use %s from this '
                      'folder, and build nothing' % ', '.join(_TARGETS))
  parser.add_argument('--quiet', action='store_true',
                      help='print the last line only')
  arguments = parser.parse_args()
  for name in arguments.case:
    if name not in case_names():
      parser.error('there is no case %s' % name)
  return arguments


def run_shares(kind, programs, shares, scratch, seconds, take):
  """Runs lists of cases at the same time; returns a CaseResult for each case.

  Args:
    kind: "host" or "emulated".
    programs: as build() returns them.
    shares: lists of names.
    scratch: a folder for files.
    seconds: limit for each case.
    take: called with each line, by one thread at a time.
  """
  lock = threading.Lock()

  def take_one(line):
    with lock:
      take(line)

  def run_share(number):
    cases = shares[number]
    lines = machine.run(places[number], cases, seconds,
                        60 + seconds * len(cases), take_one)
    return verdict.judge(lines, cases)

  places = [make_machine(kind, programs, cases,
                         os.path.join(scratch, str(number)))
            for number, cases in enumerate(shares)]
  with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
    results = pool.map(run_share, range(len(shares)))
    return [result for share in results for result in share]


def run(arguments, cases, scratch, log):
  """Runs the cases; returns the object for the last line."""
  def say(line):
    if not arguments.quiet:
      print(line, flush=True)

  kind, why = machine.choose()
  if arguments.machine not in ('auto', kind):
    kind, why = arguments.machine, 'asked for'
  say('e2e: machine: %s; %s' % (kind, why))
  programs = (find_programs(arguments.programs, cases) if arguments.programs
              else build(cases))
  start = time.monotonic()
  shares = machine.share_out(cases, arguments.jobs)
  with open(log, 'w', encoding='utf-8') as file:
    def take(line):
      file.write(line + '\n')
      file.flush()
      say(line)

    results = run_shares(kind, programs, shares, scratch, arguments.seconds,
                         take)
  for result in results:
    for reason in result.reasons:
      say('e2e: %s: %s' % (result.name, reason))
  return {
      'machine': kind,
      'why': why,
      'jobs': len(shares),
      'run_s': round(time.monotonic() - start, 1),
      'cases': {
          r.name: dict(r.facts, result='pass' if r.passed else 'fail',
                       **({'reasons': r.reasons} if r.reasons else {}))
          for r in results
      },
      'result': 'pass' if all(r.passed for r in results) else 'fail',
  }


def main():
  arguments = _parse_arguments()
  cases = arguments.case or usual_case_names()
  scratch = tempfile.mkdtemp(prefix='vmsg-e2e.')
  log = arguments.log
  if not log:
    handle, log = tempfile.mkstemp(prefix='vmsg-e2e.', suffix='.log')
    os.close(handle)
  try:
    result = run(arguments, cases, scratch, log)
  except (E2eError, kernel_image.KernelError, linux_modules.ModuleError,
          OSError, ValueError, subprocess.SubprocessError) as error:
    result = {'result': 'fail', 'error': str(error)}
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
  if result['result'] == 'pass' and not arguments.log:
    os.unlink(log)
  else:
    result['log'] = log
  print(json.dumps(result), flush=True)
  return 0 if result['result'] == 'pass' else 1


if __name__ == '__main__':
  sys.exit(main())
