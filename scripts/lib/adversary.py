"""Runs the catalogue of guest/adversary; see scripts/adversary."""

import argparse
import json
import os
import queue
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time

import bazel
from demo import parse_line

sys.path.insert(1, os.path.join(bazel.ROOT, 'tests', 'e2e'))
import machine  # pylint: disable=wrong-import-position

_USAGE = """\
A guest that breaks every rule that it can, one after the other, against the
example VMM: registers, PCI, MSI-X, FIFOs, messages, status, features, queues,
rings, floods, races (guest/adversary/README.md has the catalogue and what the
verdicts mean). Prints a line for each case: its name, the verdict, and what was
expected. After each case the VMM has as many files open as before, and as much
memory: a block that is lost in each case shows. At the end its wire monitor has
found rows of the conformance table broken by the driver of the victim's FIFO, and
none by those of the controls. The last line is a JSON object; exit code 0 only when
every case went as expected.

A guest on KVM has no second thread to write with: those cases are skipped there,
and run in-process. The VMM has no device with a configuration: cases for one are
skipped, and run by //tests/adversary.
"""

_LAYOUTS = ['spsc', 'shmem-v1', 'shmem-v1-packed']
_DEVICES = [
    'virtio-rng-device,bus=amp0/fifo0/bus5',
    'virtio-rng-device,bus=amp0/fifo1/bus0',
    'virtio-rng-device,bus=amp1/fifo0/bus31',
]
_VICTIM = 'amp0/fifo0'
_TARGETS = {
    'kvm_vmm': '//examples/kvm_vmm:kvm_vmm',
    'vmsgctl': '//tools/vmsgctl:vmsgctl',
    'image': '//guest/adversary:adversary.elf',
    'live_memory': '//tests/live_memory:live_memory.so',
}
# Of tests/e2e, with their layouts.
_E2E_CASES = {
    'adversary': 'spsc',
    'adversary_shmem': 'shmem-v1',
    'adversary_shmem_packed': 'shmem-v1-packed',
}
# What the VMM may have taken from its allocator and not given back since the start:
# some lines of a log, and what gRPC keeps (seen: 2 KiB, 5 blocks). One block lost in
# each case is more before a tenth of the catalogue is through.
_LIVE_SLACK_BYTES = 8192
_LIVE_SLACK_BLOCKS = 40
# Anonymous memory that it may have mapped besides, which the allocator keeps or
# which has not come from it.
_MAPPED_SLACK_KIB = 1024
# Until connections of the operator are closed on the other side, and forgotten.
_SETTLE_SECONDS = 5
# Longer than the guest itself waits: up to four answers a case, each for a minute.
_CASE_SECONDS = 300
# So many cases of a layout may end the run; it goes on after each but the last.
_MOST_STOPS = 3


class AdversaryError(Exception):
  """The catalogue could not be run."""


class Watcher:
  """Open files and memory of a process."""

  def __init__(self, pid, counts, proc='/proc'):
    """counts: the file of tests/live_memory, which is preloaded there."""
    self._folder = os.path.join(proc, str(pid))
    self._counts = counts
    self.files = self._files()
    self.mapped_kib = self._mapped_kib()
    self.bytes, self.blocks = self._live()
    if self.blocks == 0:
      raise AdversaryError('nobody counts the memory of the VMM')
    # As of the last look.
    self.growth = (0, 0)

  def _files(self):
    return len(os.listdir(os.path.join(self._folder, 'fd')))

  def _mapped_kib(self):
    with open(os.path.join(self._folder, 'status'), encoding='utf-8') as file:
      return int(re.search(r'RssAnon:\s+(\d+) kB', file.read()).group(1))

  def _live(self):
    with open(self._counts, 'rb') as file:
      return struct.unpack('=QQ', file.read(16))

  def _problem_now(self):
    files = self._files()
    if files != self.files:
      return 'open files: %d, not %d' % (files, self.files)
    live_bytes, blocks = self._live()
    self.growth = (live_bytes - self.bytes, blocks - self.blocks)
    if self.growth[0] > _LIVE_SLACK_BYTES or self.growth[1] > _LIVE_SLACK_BLOCKS:
      return 'live memory: %d bytes and %d blocks more' % self.growth
    mapped = self._mapped_kib()
    if mapped > self.mapped_kib + _MAPPED_SLACK_KIB:
      return 'mapped memory: %d KiB, not %d' % (mapped, self.mapped_kib)
    return None

  def problem(self):
    """Returns what is not as it was at the start, or None."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
      what = self._problem_now()
      if what is None or time.monotonic() > deadline:
        return what
      time.sleep(0.01)


def describe(pid, proc='/proc'):
  """Returns lines that tell what each thread of a process waits for."""
  lines = []
  folder = os.path.join(proc, str(pid), 'task')
  for thread in sorted(os.listdir(folder), key=int):
    def read(name, thread=thread):
      with open(os.path.join(folder, thread, name), encoding='utf-8') as file:
        return file.read().strip()

    state = re.search(r'State:\s+(.*)', read('status')).group(1)
    lines.append('thread %s: %s, in %s' % (read('comm'), state, read('wchan')))
  return lines


class Row:
  """How one case went."""

  def __init__(self, values, layout):
    self.name = '%s/%s' % (values['group'], values['name'])
    self.layout = layout
    self.expected = values['expected']
    self.verdict = values.get('verdict', '-')
    self.result = values.get('result', 'fail')
    self.why = values.get('why', '')
    self.recovery = values.get('recovery', '')
    self.watched = int(values.get('watched', 0))

  def fail(self, verdict, why):
    """Something worse than the guest has seen."""
    self.verdict = verdict or self.verdict
    self.result = 'fail'
    self.why = why

  def line(self):
    """For people."""
    notes = [note for note in (self.recovery, self.why) if note]
    return '%-52s %-9s expected %-9s %s%s' % (
        self.name, self.verdict, self.expected, self.result,
        ' (%s)' % ', '.join(notes) if notes else '')


class Session:
  """The VMM with the adversary in it, and the operator beside."""

  def __init__(self, command, control, seconds, counts,
               spawn=subprocess.Popen):
    """Starts the VMM.

    Args:
      command: its command line.
      control: control(words) runs vmsgctl, returns its output.
      seconds: limits each case.
      counts: the file in which tests/live_memory counts.
      spawn: as subprocess.Popen.
    """
    # The case that ended the run, or None.
    self.stopped_by = None
    self._control = control
    self._seconds = seconds
    self._counts = counts
    self._lines = queue.Queue()
    self.process = spawn(command, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, encoding='utf-8',
                         errors='replace')
    self._reader = threading.Thread(target=self._read)
    self._reader.start()

  def _read(self):
    for line in self.process.stdout:
      self._lines.put(line.rstrip('\r\n'))
    self._lines.put(None)

  def _say(self, line):
    try:
      self.process.stdin.write(line + '\n')
      self.process.stdin.flush()
    except BrokenPipeError:
      pass  # its end is on the way

  def run(self, pattern, layout, report):
    """Runs the cases that `pattern` names.

    Args:
      pattern: all, GROUP or GROUP/NAME, and " after GROUP/NAME" or not.
      layout: of the FIFO windows, for the rows.
      report: called with each Row.

    Returns:
      The Watcher, or None if the guest did not get that far.

    Raises:
      AdversaryError: the guest failed apart from a case.
    """
    watcher = None
    running = None
    # What the operator's first calls set up stays.
    self._control('fifos')
    self._control('reset-fifo', _VICTIM)
    self._say('run ' + pattern)
    while True:
      try:
        line = self._lines.get(timeout=self._seconds)
      except queue.Empty:
        return self._stopped(running, 'HANG', report, watcher)
      if line is None:
        return self._stopped(running, 'CRASH', report, watcher)
      found = parse_line(line)
      if found is None:
        continue
      word, values = found
      if word in ('error', 'panic'):
        if word == 'panic' and running:
          return self._stopped(running, 'CRASH', report, watcher)
        raise AdversaryError('the guest says: ' + line)
      if word == 'ready':
        watcher = Watcher(self.process.pid, self._counts)
        self._say('next')
      elif word == 'begin':
        running = Row(values, layout)
      elif word == 'want':
        self._control('reset-fifo', 'amp%s/fifo%s' % (
            values['function'], values['fifo']))
        self._say('done')
      elif word == 'case':
        row = Row(values, layout)
        running = None
        problem = watcher.problem() if row.result != 'skipped' else None
        if problem:
          row.fail(None, problem)
        report(row)
        self._say('next')
      elif word == 'end':
        if self.process.wait(self._seconds) != (
            0 if values['result'] == 'ok' else 1):
          raise AdversaryError('the VMM ended with code %d' %
                               self.process.returncode)
        return watcher

  def _stopped(self, running, verdict, report, watcher):
    if running is None:
      raise AdversaryError('the guest has stopped: ' + verdict)
    if verdict == 'CRASH':
      running.fail(verdict, 'the VMM ended')
    else:
      running.fail(verdict, 'nothing for %d s' % self._seconds)
      self._describe(running)
    self.stopped_by = running.name
    report(running)
    return watcher

  def _describe(self, running):
    """Says for people what can be seen of a VMM that hangs."""
    try:
      lines = describe(self.process.pid)
      lines += ['fifos: ' + self._control('fifos')]
    except (OSError, subprocess.SubprocessError) as error:
      lines = [str(error)]
    for line in lines:
      print('adversary: %s: %s' % (running.name, line), file=sys.stderr)

  def close(self):
    """Ends the VMM, however it is."""
    if self.process.poll() is None:
      self.process.kill()
      self.process.wait()
    self.process.stdin.close()
    self._reader.join()
    self.process.stdout.close()


def build():
  """Builds the programs; returns {name: path}."""
  options = ['-c', 'opt']
  if bazel.run('build', *options, *_TARGETS.values()):
    raise AdversaryError('the build failed')
  folder = bazel.read('info', *options, 'bazel-bin').strip()
  return {name: os.path.join(folder, label[2:].replace(':', '/'))
          for name, label in _TARGETS.items()}


def vmm_command(programs, accel, layout, socket, counts, stats):
  """The command line of the VMM.

  Its memory is counted in the file `counts`; at its end it writes the file
  `stats`, which tells what the wire monitor has found."""
  command = ['env', 'LD_PRELOAD=' + programs['live_memory'],
             'VMSG_LIVE_MEMORY=' + counts, programs['kvm_vmm'], '--accel=' + accel,
             '--in-process-program=adversary', '--kernel=' + programs['image'],
             '--control=unix:' + socket, '--wire-monitor', '--stats=' + stats]
  for function, fifos in (('amp0', 2), ('amp1', 1)):
    command += ['--device', 'virtio-msg-amp-pci,id=%s,num-fifos=%d,'
                'fifo-layout=%s' % (function, fifos, layout)]
  for device in _DEVICES:
    command += ['--device', device]
  return command


def run_here(accel, layouts, pattern, seconds, report):
  """Runs the catalogue in a VMM of this machine; returns facts."""
  programs = build()
  facts = {}
  blamed = []
  for layout in layouts:
    sessions = []
    with tempfile.TemporaryDirectory(prefix='vmsg-adversary.') as folder:
      socket = os.path.join(folder, 'control.sock')
      counts = os.path.join(folder, 'live_memory')
      stats = os.path.join(folder, 'stats.json')

      def control(*words, socket=socket):
        deadline = time.monotonic() + seconds
        while not os.path.exists(socket) and time.monotonic() < deadline:
          time.sleep(0.01)
        return subprocess.run(
            [programs['vmsgctl'], '--target=unix:' + socket, '--json', *words],
            check=True, stdout=subprocess.PIPE, encoding='utf-8',
            timeout=seconds).stdout.strip()

      def start(layout=layout, socket=socket, control=control, counts=counts,
                stats=stats, sessions=sessions):
        for file in (socket, stats):
          if os.path.exists(file):
            os.unlink(file)
        sessions.append(Session(
            vmm_command(programs, accel, layout, socket, counts, stats),
            control, seconds, counts))
        return sessions[-1]

      watcher = run_lives(start, pattern, layout, report)
      if watcher:
        facts[layout] = {'open_files': watcher.files,
                         'live_bytes': watcher.bytes,
                         'more_live_bytes': watcher.growth[0],
                         'more_live_blocks': watcher.growth[1]}
      # Those of the last VMM. One that a case has ended has none.
      if os.path.exists(stats):
        with open(stats, encoding='utf-8') as file:
          rows, wrong = broken_rows(
              json.load(file), pattern == 'all' and len(sessions) == 1)
        facts.setdefault(layout, {})['broken_rows'] = len(rows)
        if wrong:
          blamed.append('%s: %s' % (layout, wrong))
  if blamed:
    raise AdversaryError('the wire monitor: ' + '; '.join(blamed))
  return facts


def broken_rows(stats, whole):
  """What the wire monitor has found.

  Args:
    stats: what the VMM wrote.
    whole: whether it ran the whole catalogue.

  Returns:
    The rows of the conformance table that the victim's driver broke, and what is
    wrong: a control is blamed, whose driver is a good one, or the victim's is not
    blamed for the whole catalogue. Or ''.
  """
  broken = {'%s/fifo%d' % (function['id'], n): sorted(fifo['broken_rows'])
            for function in stats['functions']
            for n, fifo in enumerate(function['fifos'])}
  victim = broken.pop(_VICTIM)
  wrong = ['the good driver of %s broke %s' % (fifo, ', '.join(rows))
           for fifo, rows in sorted(broken.items()) if rows]
  if whole and not victim:
    wrong.append('the driver of %s broke nothing' % _VICTIM)
  return victim, '; '.join(wrong)


def run_lives(start, pattern, layout, report):
  """Runs the cases that `pattern` names, in a new VMM after one that did not end.

  Args:
    start: returns a new Session.
    pattern: all, GROUP or GROUP/NAME.
    layout: as in Session.run().
    report: as there.

  Returns:
    As there, of the last VMM.
  """
  words = pattern
  for _ in range(_MOST_STOPS):
    session = start()
    try:
      watcher = session.run(words, layout, report)
    finally:
      session.close()
    if session.stopped_by in (None, pattern):
      return watcher
    words = '%s after %s' % (pattern, session.stopped_by)
  return watcher


def run_emulated(report, say):
  """Runs the cases of tests/e2e in an emulated machine; returns facts."""
  setup = subprocess.run(
      [os.path.join(bazel.ROOT, 'scripts', 'setup'), '--e2e'], check=False)
  if setup.returncode:
    raise AdversaryError('scripts/setup --e2e failed')
  process = subprocess.Popen(
      [sys.executable, '-B', os.path.join(bazel.ROOT, 'tests/e2e/run.py'),
       '--seconds', '3600', *_E2E_CASES],
      stdout=subprocess.PIPE, encoding='utf-8', errors='replace')
  last = ''
  with process:
    for line in process.stdout:
      last = line.rstrip('\r\n')
      row = emulated_row(last)
      if row:
        report(row)
      elif last.startswith('e2e: '):
        say(last)
  result = json.loads(last)
  if result['result'] != 'pass':
    raise AdversaryError('tests/e2e/run.py: ' + last)
  return {'machine': result['machine'], 'cases': result['cases']}


def emulated_row(line):
  """The Row in a line of tests/e2e/run.py, or None."""
  found = re.search(r'(adversary\S*) out\| # (vmsg-guest: case .*)', line)
  if not found:
    return None
  parsed = parse_line(found.group(2))
  return Row(parsed[1], _E2E_CASES[found.group(1)])


def choose(accel):
  """Returns (accel, whether in an emulated machine, why)."""
  if accel == 'in-process':
    return 'in-process', False, 'asked for'
  kind, why = machine.choose()
  if kind == 'host':
    return 'kvm', False, why
  if accel == 'kvm':
    return 'kvm', True, why
  return 'in-process', False, ('no KVM here, so in-process; --accel=kvm emulates '
                               'a machine that has it')


def summary(rows):
  """The counts for the last line."""
  counts = {}
  for row in rows:
    key = row.verdict if row.result == 'ok' else row.result
    counts[key] = counts.get(key, 0) + 1
  return {
      'cases': len({row.name for row in rows}),
      'run': sum(row.result != 'skipped' for row in rows),
      'counts': counts,
      'controls_asked_in_the_middle': sum(row.watched for row in rows),
      'failed': ['%s %s' % (row.layout, row.name) for row in rows
                 if row.result == 'fail'],
  }


def main():
  parser = argparse.ArgumentParser(
      prog='scripts/adversary', description=_USAGE,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
      '--accel', choices=['auto', 'kvm', 'in-process'], default='auto',
      help='what runs the guest; kvm uses an emulated machine where this one '
      'has none (default: auto, which then runs in-process)')
  parser.add_argument(
      '--layout', choices=['all', *_LAYOUTS], default='all',
      help='layout of the FIFO windows (default: all, one after the other)')
  parser.add_argument('--only', metavar='GROUP[/NAME]', default='all',
                      help='this group or case only (not in an emulated machine)')
  parser.add_argument('--seconds', type=int, default=_CASE_SECONDS,
                      help='a case that takes longer is a HANG (default: '
                      '%(default)s)')
  parser.add_argument('--json', action='store_true',
                      help='print the rows as JSON, too')
  arguments = parser.parse_args()
  accel, emulated, why = choose(arguments.accel)
  if emulated and (arguments.only != 'all' or arguments.layout != 'all'):
    parser.error('the emulated machine runs everything')
  print('adversary: %s%s: %s' % (
      accel, ' in an emulated machine' if emulated else '', why), flush=True)
  rows = []
  layouts = _LAYOUTS if arguments.layout == 'all' else [arguments.layout]

  def report(row):
    if row.result == 'skipped' and row.why == 'other-layout':
      return
    if not rows or rows[-1].layout != row.layout:
      print('adversary: layout %s' % row.layout, flush=True)
    rows.append(row)
    print(json.dumps(vars(row)) if arguments.json else row.line(), flush=True)

  result = {'accel': accel, 'emulated': emulated}
  try:
    if emulated:
      result.update(run_emulated(report, print))
    else:
      result.update(run_here(accel, layouts, arguments.only, arguments.seconds,
                             report))
  except (AdversaryError, OSError, ValueError,
          subprocess.SubprocessError) as error:
    print('adversary: %s' % error, file=sys.stderr)
    result['error'] = str(error)
  result.update(summary(rows))
  passed = not result['failed'] and 'error' not in result and result['run'] > 0
  result['result'] = 'pass' if passed else 'fail'
  print(json.dumps(result), flush=True)
  return 0 if passed else 1


if __name__ == '__main__':
  sys.exit(main())
