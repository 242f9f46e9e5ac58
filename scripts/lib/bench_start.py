"""Measures how a VMM starts, and what it has in memory besides guest RAM."""

import os
import re
import signal
import subprocess

import bench_results
from bench_results import AT_MOST, Result, Target

KVM_VMM = '//examples/kvm_vmm:kvm_vmm'
VMSGCTL = '//tools/vmsgctl:vmsgctl'
PAYLOAD = '//guest/payload:payload.elf'
FIRST_INSTRUCTION = '//benchmarks:first_instruction.elf'
LABELS = [KVM_VMM, VMSGCTL, PAYLOAD, FIRST_INSTRUCTION]

_FUNCTION = '--device=virtio-msg-amp-pci,id=amp0,num-fifos=2'
_PLACE = 'amp0/fifo1/slot3'
_PATIENCE = 60  # seconds

_START_MS = 30
_RESIDENT_KIB = 32 * 1024
_ANONYMOUS_KIB = 8 * 1024


def kvm_problem():
  """Returns why KVM can't be had here, or None."""
  try:
    os.close(os.open('/dev/kvm', os.O_RDWR | os.O_CLOEXEC))
  except OSError as error:
    return '/dev/kvm: %s' % error.strerror
  return None


class StartMeasurement:
  """From exec of the VMM to the first instruction of its guest.

  The guest writes to its console at once, so the figure has in it what the VMM
  and the pipe take to pass that on. The control server is asked for; it starts
  beside the guest.
  """

  def __init__(self, name, accel, target=None, note=None):
    self.names = [name]
    self._accel = accel
    self._target = target
    self._note = note

  def measure(self, bench):
    problem = kvm_problem() if self._accel == 'kvm' else None
    if problem:
      return [Result(
          self.names[0], 'ms', target=self._target,
          unmeasured='SKIPPED: %s (`python3 tests/e2e/run.py start` takes an '
          'emulated machine)' % problem)]
    command = [
        bench.built(KVM_VMM), '--accel=' + self._accel, _FUNCTION,
        '--control=unix:' + os.path.join(bench.folder, 'start.sock')
    ]
    if self._accel == 'kvm':
      command.append('--kernel=' + bench.built(FIRST_INSTRUCTION))
    runs = min(bench.wanted, 20)
    output = bench.run(bench.program('start_time'), str(runs), *command)
    return [bench_results.from_samples(
        self.names[0], 'ms', [float(line) for line in output.split()],
        target=self._target, note=self._note)]


def parse_memory(text):
  """Returns {name: KiB} from what vmm_memory prints."""
  return {name: int(kib) for name, kib in re.findall(r'(\w+)_kib=(\d+)', text)}


class MemoryMeasurement:
  """Memory of a VMM whose guest has a device that was attached over gRPC."""

  _RUNS = 3

  def __init__(self, name):
    self.names = [name + '/resident', name + '/anonymous']
    self._targets = {'resident': Target(AT_MOST, _RESIDENT_KIB, 'value'),
                     'anonymous': Target(AT_MOST, _ANONYMOUS_KIB, 'value')}

  def _once(self, bench, accel):
    socket = os.path.join(bench.folder, 'memory.sock')
    command = [bench.built(KVM_VMM), '--accel=' + accel, _FUNCTION,
               '--control=unix:' + socket]
    if accel == 'kvm':
      command.append('--kernel=' + bench.built(PAYLOAD))
    vmm = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, encoding='utf-8', errors='replace')
    signal.alarm(_PATIENCE)
    try:
      _wait_for(vmm, 'vmsg-guest: ready ')
      bench.run(bench.built(VMSGCTL), '--target=unix:' + socket, 'attach', 'rng',
                '--place', _PLACE, '--wait', '%ds' % _PATIENCE)
      _wait_for(vmm, 'vmsg-guest: entropy ')
      return parse_memory(bench.run(bench.program('vmm_memory'), str(vmm.pid)))
    finally:
      signal.alarm(0)
      vmm.kill()
      vmm.communicate()

  def measure(self, bench):
    problem = kvm_problem()
    signal.signal(signal.SIGALRM, _too_late)
    runs = [self._once(bench, 'in-process' if problem else 'kvm')
            for _ in range(self._RUNS)]
    note = problem and problem + ': with the guest in-process'
    return [
        # Not the median: memory has to do for the worst.
        Result(name, 'KiB', value=max(run[kind] for run in runs),
               samples=len(runs), target=target, note=note)
        for name, (kind, target) in zip(self.names, self._targets.items())
    ]


def _too_late(unused_signal, unused_frame):
  raise TimeoutError('the VMM took more than %d s' % _PATIENCE)


def _wait_for(vmm, text):
  for line in vmm.stdout:
    if line.startswith(text):
      return
  raise ValueError('the VMM ended before it said "%s"' % text)


MEASUREMENTS = [
    StartMeasurement('start/first_instruction', 'kvm',
                     Target(AT_MOST, _START_MS, 'value')),
    StartMeasurement(
        'start/first_line_in_process', 'in-process',
        note='exec, libraries, machine, and the PCI scan of the guest program'),
    MemoryMeasurement('memory_besides_guest_ram'),
]
