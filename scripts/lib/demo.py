"""Hot-plugs entropy devices into a running guest; see scripts/demo."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import bazel
import demo_linux

_USAGE = """\
Builds the example VMM, its bare-metal guest and vmsgctl, starts the VMM, and
plays the operator:

  1. the guest enumerates and finds no device;
  2. a virtio-rng is attached over gRPC; the guest reads 4096 bytes from it;
  3. it is detached, and another is attached on another FIFO and slot and read;
  4. that is detached, and the guest powers off.

Then it compares what both sides say: the digest of the bytes, and the counts of
interrupts. Exit code 0 only when all of it happened and agrees. The last line
is a JSON object.

With --guest=linux the guest is Debian's kernel, with the driver of guest/linux,
and the bytes are read from /dev/hwrng. It needs a processor with virtualization;
where there is none, an emulated machine provides it (tests/e2e/README.md).
"""

_ENTROPY_BYTES = 4096
_PLACES = [('amp0', 0, 0), ('amp0', 1, 5)]
_PATIENCE_SECONDS = 120
_RING_PACKED_BIT = 34


class DemoError(Exception):
  """What was expected did not happen."""


class Guest:
  """The VMM, and the lines that its guest has printed so far."""

  def __init__(self, command, show):
    self._show = show
    self._lines = []
    self._changed = threading.Condition()
    self.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding='utf-8',
        errors='replace',
    )
    self._reader = threading.Thread(target=self._read)
    self._reader.start()

  def _read(self):
    for line in self.process.stdout:
      line = line.rstrip('\r\n')
      if self._show:
        print('  guest| ' + line, flush=True)
      with self._changed:
        self._lines.append(line)
        self._changed.notify_all()
    with self._changed:
      self._lines.append(None)
      self._changed.notify_all()

  def wait_for(self, word, after=0, **wanted):
    """Waits for `vmsg-guest: WORD key=value ...` with these values.

    Args:
      word: names the line.
      after: number of the first line to look at.
      **wanted: keys and the values they must have, as strings.

    Returns:
      The keys and values of the line, and the number of the line after it.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    position = after
    with self._changed:
      while True:
        while position < len(self._lines):
          line = self._lines[position]
          position += 1
          if line is None:
            raise DemoError('the VMM ended before the guest said "%s"' % word)
          found = parse_line(line)
          if found is None:
            continue
          if found[0] in ('error', 'panic'):
            raise DemoError('the guest says: ' + line)
          if found[0] == word and all(
              found[1].get(key) == value for key, value in wanted.items()
          ):
            return found[1], position
        left = deadline - time.monotonic()
        if left <= 0:
          raise DemoError('the guest did not say "%s %s" within %d s' % (
              word, wanted or '', _PATIENCE_SECONDS))
        self._changed.wait(left)

  def lines(self, word):
    """All lines so far that `word` names."""
    with self._changed:
      parsed = [parse_line(line) for line in self._lines if line is not None]
    return [found[1] for found in parsed if found and found[0] == word]

  def say(self, command):
    """Types a command at the guest's console."""
    self.process.stdin.write(command + '\n')
    self.process.stdin.flush()

  def end(self):
    """Waits for the end of the VMM; returns its exit code."""
    try:
      self.process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired as error:
      raise DemoError('the VMM did not end') from error
    finally:
      self.close()
    return self.process.returncode

  def close(self):
    """Ends the VMM, however it is."""
    if self.process.poll() is None:
      self.process.kill()
      self.process.wait()
    self.process.stdin.close()
    self._reader.join()


def parse_line(line):
  """Returns (word, {key: value}) of a line of the guest, or None."""
  prefix = 'vmsg-guest: '
  if not line.startswith(prefix):
    return None
  words = line[len(prefix):].split()
  if not words:
    return None
  pairs = [word.split('=', 1) for word in words[1:] if '=' in word]
  return words[0], dict(pairs)


def ring_format(started_lines):
  """What the features of all started devices say: 'split', 'packed', 'mixed'."""
  packed = {int(line['features'], 16) >> _RING_PACKED_BIT & 1
            for line in started_lines}
  return {(0,): 'split', (1,): 'packed'}.get(tuple(packed), 'mixed')


def compare(entropy_lines, interrupt_lines, stats):
  """Holds what the guest says against what the VMM counted.

  Args:
    entropy_lines: the last entropy line of each device, in order of attach.
    interrupt_lines: the interrupts lines of the final report.
    stats: what the VMM wrote with --stats.

  Raises:
    DemoError: they disagree.
  """
  sources = stats['entropy']
  if len(sources) != len(entropy_lines):
    raise DemoError('%d back ends, %d devices read' % (
        len(sources), len(entropy_lines)))
  for line, source in zip(entropy_lines, sources):
    if int(line['total']) != source['bytes'] or line['fnv1a'] != source['fnv1a']:
      raise DemoError('entropy differs: the guest has %s, the back end gave %s'
                      % (line, source))
  if len(interrupt_lines) != len(stats['functions']):
    raise DemoError('the guest reports %d functions, the VMM has %d' % (
        len(interrupt_lines), len(stats['functions'])))
  total = 0
  for line, function in zip(interrupt_lines, stats['functions']):
    for number, fifo in enumerate(function['fifos']):
      counted = int(line['vector%d' % number])
      if counted != fifo['interrupts']:
        raise DemoError('vector %d of %s: the guest took %d interrupts, the VMM '
                        'delivered %d' % (number, function['id'], counted,
                                          fifo['interrupts']))
      total += counted
  if total == 0:
    raise DemoError('no interrupt was taken')
  return total


class Demo:
  """One run."""

  def __init__(self, arguments, folder):
    self._arguments = arguments
    self._folder = folder
    self._socket = os.path.join(folder, 'control.sock')
    self._stats = os.path.join(folder, 'stats.json')
    self._programs = {}
    self.attach_ms = []

  def build(self):
    """Builds the programs and notes where they are."""
    targets = {
        'kvm_vmm': '//examples/kvm_vmm:kvm_vmm',
        'vmsgctl': '//tools/vmsgctl:vmsgctl',
        'payload': '//guest/payload:payload.elf',
    }
    self._say('building %s' % ', '.join(sorted(targets)))
    options = ['-c', 'opt']
    if bazel.run('build', *options, *targets.values()):
      raise DemoError('the build failed')
    folder = bazel.read('info', *options, 'bazel-bin').strip()
    for name, label in targets.items():
      self._programs[name] = os.path.join(
          folder, label[2:].replace(':', '/'))

  def run(self):
    """Returns the object for the last line."""
    command = [
        self._programs['kvm_vmm'],
        '--accel=' + self._arguments.accel,
        '--kernel=' + self._programs['payload'],
        '--control=unix:' + self._socket,
        '--stats=' + self._stats,
        '--device', 'virtio-msg-amp-pci,id=amp0,num-fifos=2,fifo-layout='
        + self._arguments.fifo_layout,
        '--append=ring=' + self._arguments.ring,
        '--wire-monitor',
    ]
    self._say('$ ' + ' '.join(command))
    guest = Guest(command, show=not self._arguments.quiet)
    try:
      return self._play(guest)
    finally:
      guest.close()

  def _play(self, guest):
    ready, position = guest.wait_for('ready')
    if ready['devices'] != '0':
      raise DemoError('the guest found devices before any was attached')
    for bus in guest.lines('bus'):
      if int(bus['present'], 16) != 0:
        raise DemoError('the first enumeration shows a device: %s' % bus)
    self._say('the guest runs and has enumerated: no device')

    readings = []
    for number, (function, fifo, slot) in enumerate(_PLACES):
      name = 'rng%d' % number
      where = {'fifo': str(fifo), 'slot': str(slot)}
      start = time.monotonic()
      device = self._control('attach', 'rng', '--id', name, '--place',
                             '%s/fifo%d/slot%d' % (function, fifo, slot),
                             '--wait', '%ds' % _PATIENCE_SECONDS)['device']
      self.attach_ms.append((time.monotonic() - start) * 1000)
      if device['state'] != 'DEVICE_STATE_PRESENT':
        raise DemoError('%s is %s' % (name, device['state']))
      entropy, position = guest.wait_for(
          'entropy', position, bytes=str(_ENTROPY_BYTES), **where)
      readings.append(entropy)
      self._control('detach', name, '--wait', '%ds' % _PATIENCE_SECONDS)
      _, position = guest.wait_for('removed', position, **where)
      self._control('list')

    guest.say('poweroff')
    ring = ring_format(guest.lines('started'))
    if ring != self._arguments.ring:
      raise DemoError('the rings are %s' % ring)
    end, _ = guest.wait_for('end', position)
    code = guest.end()
    if end['result'] != 'ok' or code != 0:
      raise DemoError('the guest ended with %s, the VMM with code %d' % (
          end['result'], code))
    with open(self._stats, encoding='utf-8') as file:
      stats = json.load(file)
    reports = guest.lines('interrupts')
    functions = len(stats['functions'])
    interrupts = compare(readings, reports[-functions:], stats)
    broken = [row for function in stats['functions']
              for fifo in function['fifos'] for row in fifo['broken_rows']]
    if broken:
      raise DemoError('the driver breaks rules: %s' % broken)
    self._say('digests and counts of interrupts agree; the driver breaks no rule')
    return {
        'accel': stats['accel'],
        'fifo_layout': self._arguments.fifo_layout,
        'ring': ring,
        'guest': 'payload' if stats['accel'] == 'kvm' else 'driver',
        'entropy_bytes': int(readings[0]['total']),
        'entropy_fnv1a': readings[0]['fnv1a'],
        'devices_read': len(readings),
        'interrupts': interrupts,
        'hlt_wakeups': int(reports[-1]['hlt']),
        'attach_to_driver_ok_ms': round(self.attach_ms[0], 1),
        'exits': sum(stats['exits'].values()),
        'result': 'pass',
    }

  def _control(self, *arguments):
    """Runs vmsgctl and returns its JSON; waits while the socket comes up."""
    command = [self._programs['vmsgctl'], '--target=unix:' + self._socket,
               '--json', *arguments]
    self._say('$ vmsgctl ' + ' '.join(arguments))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not os.path.exists(self._socket) and time.monotonic() < deadline:
      time.sleep(0.01)
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE,
                            encoding='utf-8')
    if not self._arguments.quiet:
      for line in result.stdout.splitlines():
        print('vmsgctl| ' + line, flush=True)
    if result.returncode:
      raise DemoError('vmsgctl %s ended with code %d' % (
          ' '.join(arguments), result.returncode))
    return json.loads(result.stdout)

  def _say(self, text):
    if not self._arguments.quiet:
      print('   demo| ' + text, flush=True)


def main():
  parser = argparse.ArgumentParser(
      prog='scripts/demo', description=_USAGE,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
      '--guest', choices=['payload', 'linux'], default='payload',
      help='what the guest is (default: payload, the bare-metal one)')
  parser.add_argument(
      '--accel', choices=['auto', 'kvm', 'in-process'], default='auto',
      help='what runs the guest; auto takes /dev/kvm where it can be opened, '
      'and says so where it can not (default: auto)')
  parser.add_argument(
      '--fifo-layout', choices=['spsc', 'shmem-v1', 'shmem-v1-packed'],
      default='spsc',
      help='layout of the FIFO windows; the guest finds out (default: spsc)')
  parser.add_argument(
      '--ring', choices=['split', 'packed'], default='split',
      help='format of the virtqueues, which the guest chooses (default: split)')
  parser.add_argument(
      '--quiet', action='store_true', help='print the last line only')
  arguments = parser.parse_args()
  if arguments.guest == 'linux':
    if (arguments.accel == 'in-process' or arguments.ring != 'split'
        or arguments.fifo_layout not in demo_linux.CASES):
      parser.error('Linux runs on KVM, with --ring=split and --fifo-layout=%s'
                   % ' or '.join(demo_linux.CASES))
    return finish(demo_linux.run(arguments.quiet, arguments.fifo_layout))
  folder = tempfile.mkdtemp(prefix='vmsg-demo.')
  demo = Demo(arguments, folder)
  try:
    demo.build()
    result = demo.run()
  except (DemoError, OSError, KeyError, ValueError) as error:
    print('demo: %s' % error, file=sys.stderr)
    result = {'result': 'fail', 'error': str(error)}
  finally:
    shutil.rmtree(folder, ignore_errors=True)
  return finish(result)


def finish(result):
  """Prints the last line; returns the exit code."""
  print(json.dumps(result), flush=True)
  return 0 if result['result'] == 'pass' else 1


if __name__ == '__main__':
  sys.exit(main())
