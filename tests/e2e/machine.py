"""Where the cases run: this machine, or an emulated one that has KVM."""

import os
import re
import signal
import subprocess
import threading

import cpio
import image

_MEMORY_MIB = 1536
# Speed of the boot was measured with these; -M microvm hangs now and then.
_QEMU = [
    'qemu-system-x86_64', '-accel', 'tcg,thread=multi', '-cpu', 'EPYC,+svm,+npt',
    '-M', 'pc', '-m', str(_MEMORY_MIB), '-smp', '1', '-no-reboot', '-nodefaults',
    '-no-user-config', '-display', 'none', '-serial', 'stdio',
]
_COMMAND_LINE = ('console=ttyS0 quiet mitigations=off nokaslr cryptomgr.notests '
                 'no_timer_check panic=-1')


def virtualization_flag(cpuinfo):
  """Returns "svm" or "vmx" if the text of /proc/cpuinfo has it, or None."""
  found = re.search(r'^flags\s*:.*\b(svm|vmx)\b', cpuinfo, re.MULTILINE)
  return found.group(1) if found else None


def open_kvm():
  """Returns None if /dev/kvm opens, else why it does not."""
  try:
    os.close(os.open('/dev/kvm', os.O_RDWR | os.O_CLOEXEC))
  except OSError as error:
    return '/dev/kvm does not open: %s' % error.strerror
  return None


def choose():
  """Returns ("host" or "emulated", why)."""
  with open('/proc/cpuinfo', encoding='utf-8') as file:
    flag = virtualization_flag(file.read())
  if flag is None:
    return 'emulated', ('this processor has neither svm nor vmx: an emulated AMD '
                        'machine provides KVM')
  problem = open_kvm()
  if problem:
    return 'emulated', problem + ': an emulated AMD machine provides KVM'
  return 'host', 'this processor has %s and /dev/kvm opens' % flag


class HostMachine:
  """The cases run as processes of this machine."""

  def __init__(self, files, scratch):
    """files: {path in the tree of the cases: path of the file}."""
    self._root = os.path.join(scratch, 'e2e')
    self._scratch = scratch
    for path, source in files.items():
      target = os.path.join(self._root, path)
      os.makedirs(os.path.dirname(target), exist_ok=True)
      os.symlink(os.path.abspath(source), target)

  def command(self, cases, seconds):
    """The command that runs the cases, and additions to its environment."""
    line = ['busybox', 'sh', os.path.join(self._root, 'shell/run_cases.sh'),
            self._root, self._scratch, *cases]
    return line, {'E2E_CASE_SECONDS': str(seconds)}

  def closing_line(self, returncode):
    """What stands for the last line of an emulated machine."""
    return 'e2e: end status=%d' % returncode


class EmulatedMachine:
  """The cases run in a machine that QEMU emulates, with real KVM in it."""

  def __init__(self, files, scratch, kernel, base):
    """Puts the initramfs together.

    Args:
      files: {path in the tree of the cases: path of the file}.
      scratch: a folder for the initramfs.
      kernel: path of an uncompressed kernel.
      base: path of an archive with what programs need (image.py).
    """
    self._kernel = kernel
    self._initramfs = os.path.join(scratch, 'machine.cpio')
    archive = cpio.Archive()
    for path, source in sorted(files.items()):
      with open(source, 'rb') as file:
        archive.add_file('/e2e/' + path, file.read(),
                         executable=os.access(source, os.X_OK))
    with open(image.SHELL + '/machine_init.sh', 'rb') as file:
      archive.add_file('/init', file.read(), executable=True)
    with open(self._initramfs, 'wb') as output:
      with open(base, 'rb') as file:
        output.write(file.read())
      output.write(archive.to_bytes())

  def command(self, cases, seconds):
    """The command that runs the cases, and additions to its environment."""
    words = '%s e2e.cases=%s e2e.seconds=%d' % (_COMMAND_LINE, ','.join(cases),
                                                seconds)
    return _QEMU + ['-kernel', self._kernel, '-initrd', self._initramfs,
                    '-append', words], {}

  def closing_line(self, returncode):
    """Nothing: the machine's own init says how it went."""
    del returncode
    return None


class _Killer:
  """Kills a process and its children when time is up, or when told to."""

  def __init__(self, process, seconds):
    self.fired = False
    self._process = process
    self._timer = threading.Timer(seconds, self._fire)
    self._timer.start()

  def _fire(self):
    self.fired = True
    self._kill()

  def _kill(self):
    try:
      os.killpg(self._process.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass

  def stop(self):
    """Afterwards the process does not run."""
    self._timer.cancel()
    self._timer.join()
    # A group keeps its number while a child is left.
    self._kill()
    self._process.wait()


def run(machine, cases, case_seconds, total_seconds, take):
  """Runs cases, and ends what it has started whatever happens.

  Args:
    machine: HostMachine or EmulatedMachine.
    cases: their names.
    case_seconds: limit for each.
    total_seconds: limit for all.
    take: called with each line, as it is printed.

  Returns:
    The lines that were printed.
  """
  command, environment = machine.command(cases, case_seconds)
  lines = []

  def add(line):
    lines.append(line)
    take(line)

  process = subprocess.Popen(
      command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, encoding='utf-8', errors='replace',
      env=dict(os.environ, **environment), start_new_session=True)
  killer = _Killer(process, total_seconds)
  try:
    for line in process.stdout:
      add(line.rstrip('\r\n'))
    process.wait()
    if killer.fired:
      add('e2e: error: nothing was heard of the end within %d s' % total_seconds)
    else:
      closing = machine.closing_line(process.returncode)
      if closing:
        add(closing)
  finally:
    killer.stop()
  return lines


def share_out(cases, machines):
  """Returns lists of cases, at most so many, none of them empty."""
  return [cases[first::machines] for first in range(machines)
          if cases[first::machines]]
