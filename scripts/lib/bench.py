"""Measures what the project promises about speed; see scripts/bench."""

import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile

import bazel
import bench_parse
import bench_results
import bench_start
from bench_results import AT_LEAST, AT_MOST, Result, Target

_USAGE = """\
Builds the programs of //benchmarks with -c opt, runs them, and prints a table.
docs/performance.md says what each measurement is.

A ratio comes from triples: baseline, subject, baseline, back to back. A triple
whose two baselines differ by more than 15 % is dropped; at least 21 are kept (7
with --quick). The figures are medians. p10 and p90 belong to the figure that
the target is about.

Exit code:
  0  every target is met, or can't be judged on this machine, which is said
  1  a target is missed
  2  wrong usage, or something failed
  3  none is missed, but the machine was too busy to judge one; try again
"""

_INSTRUCTIONS = 'benchmarks/instructions.json'
_INSTRUCTION_GROWTH = 1.02
_COUNTED = 'vmsg_counted_requests'

# Times that the wanted number of triples is measured before giving up.
_MAX_ROUNDS = 8

_PROGRAMS = [
    'fifo_benchmark', 'request_benchmark', 'request_instructions',
    'doorbell_benchmark', 'doorbell_calls', 'kvm_doorbell_benchmark',
    'start_time', 'vmm_memory'
]


class BenchError(Exception):
  """A program or a tool failed."""


class Bench:
  """Runs programs."""

  def __init__(self, arguments, folder):
    self.wanted = 7 if arguments.quick else 21
    self.record = arguments.record_instructions
    self.folder = folder
    self._built = None

  def build(self):
    if bazel.run('build', '-c', 'opt',
                 *['//benchmarks:' + name for name in _PROGRAMS],
                 *bench_start.LABELS):
      raise BenchError('the build failed')
    self._built = bazel.read('info', '-c', 'opt', 'bazel-bin').strip()

  def built(self, label):
    """The file of a target like //folder:name."""
    return os.path.join(self._built, label[2:].replace(':', '/'))

  def program(self, name):
    return self.built('//benchmarks:' + name)

  def run(self, *command):
    """Returns what a command printed."""
    result = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding='utf-8', errors='replace')
    if result.returncode:
      raise BenchError('%s ended with code %d:\n%s' % (
          ' '.join(command), result.returncode, result.stderr))
    return result.stdout

  def benchmark(self, program, name, repetitions):
    """Runs one benchmark; returns google-benchmark's JSON."""
    output = self.run(
        self.program(program), '--benchmark_filter=^%s/' % name,
        '--benchmark_repetitions=%d' % repetitions, '--benchmark_format=json')
    if not output:
      raise BenchError('%s has no benchmark %s' % (program, name))
    return output

  def triples(self, program, name):
    """Measures until enough triples are steady, or gives up."""
    found = []
    for _ in range(_MAX_ROUNDS):
      found += bench_parse.triples(
          self.benchmark(program, name, self.wanted), name)
      if sum(triple.is_steady for triple in found) >= self.wanted:
        break
    return found


class TripleMeasurement:
  """Subject against baseline."""

  def __init__(self, name, program, benchmark, target=None, inverted=False,
               note=None):
    self.names = [name]
    self._program = program
    self._benchmark = benchmark
    self._target = target
    self._inverted = inverted
    self._note = note

  def measure(self, bench):
    try:
      triples = bench.triples(self._program, self._benchmark)
    except bench_parse.NotRun as error:
      return [Result(self.names[0], 'ns', target=self._target,
                     unmeasured='not measured: %s' % error)]
    return [bench_results.from_triples(
        self.names[0], triples, bench.wanted, inverted=self._inverted,
        target=self._target, note=self._note)]


class RequestMeasurement:
  """Time and allocations of a GET_CONFIG request."""

  def __init__(self, name, benchmark, with_target):
    self.names = [name, name + ', allocations']
    self._benchmark = 'BM_GetConfig/' + benchmark
    self._with_target = with_target

  def measure(self, bench):
    runs = bench_parse.benchmark_runs(
        bench.benchmark('request_benchmark', self._benchmark, 5 * bench.wanted),
        self._benchmark)
    time_target = Target(AT_MOST, 100, 'value') if self._with_target else None
    return [
        bench_results.from_samples(
            self.names[0], 'ns', [1e9 / run['items_per_second'] for run in runs],
            target=time_target),
        # Not the median: one is one too many.
        Result(self.names[1], 'calls',
               value=max(run['allocations'] for run in runs), samples=len(runs),
               target=Target(AT_MOST, 0, 'value')),
    ]


def count_instructions(bench, *arguments):
  """Instructions of one GET_CONFIG request, counted by callgrind.

  Args:
    bench: a Bench.
    *arguments: of request_instructions.
  """
  output = os.path.join(bench.folder, 'callgrind')
  requests = int(bench.run(
      'valgrind', '--tool=callgrind', '--toggle-collect=' + _COUNTED,
      '--callgrind-out-file=' + output, bench.program('request_instructions'),
      *arguments))
  with open(output, encoding='utf-8') as file:
    return bench_parse.callgrind_instructions(file.read()) / requests


def _without_valgrind(name):
  return Result(name, 'instructions', target=Target(AT_MOST, _INSTRUCTION_GROWTH),
                unmeasured='not measured: valgrind is missing')


class InstructionMeasurement:
  """Instructions of a GET_CONFIG request against the recorded number."""

  def __init__(self, name, kind, layout='spsc'):
    self.names = [name]
    self._kind = kind
    self._layout = layout

  def measure(self, bench):
    if shutil.which('valgrind') is None:
      return [_without_valgrind(self.names[0])]
    which = '%s, %s' % (self._kind, self._layout)
    each = count_instructions(bench, self._kind, self._layout, '1', '1')
    if bench.record:
      record_instructions(which, each)
    return [compare_instructions(self.names[0], each, recorded(which))]


class ScaleMeasurement:
  """Instructions of a request do not depend on how much else is there."""

  _FIFOS_AND_DEVICES = [('1', '32'), ('8', '1'), ('8', '32')]

  def __init__(self, name, layout):
    self.names = ['%s, %s fifos, %s devices' % (name, fifos, devices)
                  for fifos, devices in self._FIFOS_AND_DEVICES]
    self._layout = layout

  def measure(self, bench):
    if shutil.which('valgrind') is None:
      return [_without_valgrind(name) for name in self.names]
    alone = count_instructions(bench, 'served', self._layout, '1', '1')
    return [
        compare_scales(
            name, count_instructions(bench, 'served', self._layout, *many),
            alone) for name, many in zip(self.names, self._FIFOS_AND_DEVICES)
    ]


def compare_scales(name, many, alone):
  """Returns the Result for a count with much else there, and one without."""
  return Result(
      name, 'instructions', value=many, baseline=alone, samples=1,
      # Either way round: the promise is that it is the same.
      ratio=max(many / alone, alone / many),
      target=Target(AT_MOST, _INSTRUCTION_GROWTH))


def _instructions_path():
  return os.path.join(bazel.ROOT, _INSTRUCTIONS)


def recorded(which):
  with open(_instructions_path(), encoding='utf-8') as file:
    return json.load(file).get(which)


def record_instructions(which, each):
  with open(_instructions_path(), encoding='utf-8') as file:
    numbers = json.load(file)
  numbers[which] = round(each, 1)
  with open(_instructions_path(), 'w', encoding='utf-8') as file:
    json.dump(numbers, file, indent=2, sort_keys=True)
    file.write('\n')


def compare_instructions(name, each, baseline):
  """Returns the Result for a count and the recorded one, which may be None."""
  target = Target(AT_MOST, _INSTRUCTION_GROWTH)
  result = Result(name, 'instructions', value=each, baseline=baseline, samples=1,
                  target=target)
  if not baseline:
    result.unmeasured = ('nothing recorded to compare with; '
                         '--record-instructions does it')
    return result
  result.ratio = each / baseline
  if result.ratio < 1 / _INSTRUCTION_GROWTH:
    result.note = 'fewer than recorded: --record-instructions keeps it so'
  return result


class SystemCallMeasurement:
  """System calls of the loop's thread for a doorbell with one PING."""

  _FEW = 200
  _MANY = 1200
  _LIMITS = {'epoll_wait': 1, 'read': 0, 'write': 1, 'other': 0}

  def __init__(self, name, layout='spsc', note=None):
    self._kinds = list(self._LIMITS)
    self._layout = layout
    self._note = note
    self.names = ['%s, %s' % (name, kind) for kind in self._kinds]

  def _count(self, bench, doorbells):
    log = os.path.join(bench.folder, 'strace.%d' % doorbells)
    thread = int(bench.run('strace', '-f', '-o', log,
                           bench.program('doorbell_calls'), str(doorbells),
                           self._layout))
    with open(log, encoding='utf-8', errors='replace') as file:
      return bench_parse.system_calls(file.read(), thread)

  def measure(self, bench):
    why = None
    each = {}
    try:
      each = bench_parse.calls_each(
          self._count(bench, self._FEW), self._count(bench, self._MANY),
          self._MANY - self._FEW)
    except OSError as error:
      why = 'not measured: %s' % error
    except BenchError as error:
      # In many containers nobody may trace.
      if 'ptrace' not in str(error).lower():
        raise
      why = 'not measured: strace may not trace here'
    return [
        Result(name, 'calls', value=each.get(kind),
               samples=self._MANY - self._FEW,
               target=Target(AT_MOST, self._LIMITS[kind], 'value'),
               unmeasured=why, note=self._note) for name, kind in zip(self.names, self._kinds)
    ]


_BATCHED = 'ours in batches of 16, Boost one at a time'
_MEASUREMENTS = [
    TripleMeasurement(
        'fifo/stream/driver_to_device', 'fifo_benchmark',
        'BM_Stream<DriverQueue>', Target(AT_LEAST, 1.0), inverted=True),
    TripleMeasurement(
        'fifo/stream/device_to_driver', 'fifo_benchmark',
        'BM_Stream<DeviceQueue>', Target(AT_LEAST, 1.0), inverted=True),
    TripleMeasurement(
        'fifo/round_trip', 'fifo_benchmark', 'BM_RoundTrip',
        Target(AT_MOST, 1.1)),
    TripleMeasurement(
        'fifo/batches/driver_to_device', 'fifo_benchmark',
        'BM_StreamInBatches<DriverQueue>', inverted=True, note=_BATCHED),
    TripleMeasurement(
        'fifo/batches/device_to_driver', 'fifo_benchmark',
        'BM_StreamInBatches<DeviceQueue>', inverted=True, note=_BATCHED),
    TripleMeasurement(
        'fifo/shmem/stream/driver_to_device', 'fifo_benchmark',
        'BM_Stream<DriverQueue, kShmemV1>', Target(AT_LEAST, 1.0),
        inverted=True),
    TripleMeasurement(
        'fifo/shmem/stream/device_to_driver', 'fifo_benchmark',
        'BM_Stream<DeviceQueue, kShmemV1>', Target(AT_LEAST, 1.0),
        inverted=True),
    TripleMeasurement(
        'fifo/shmem/round_trip', 'fifo_benchmark', 'BM_RoundTripShmem',
        Target(AT_MOST, 1.1)),
    TripleMeasurement(
        'fifo/shmem/batches/driver_to_device', 'fifo_benchmark',
        'BM_StreamInBatches<DriverQueue, kShmemV1>', inverted=True,
        note=_BATCHED),
    TripleMeasurement(
        'fifo/shmem/batches/device_to_driver', 'fifo_benchmark',
        'BM_StreamInBatches<DeviceQueue, kShmemV1>', inverted=True,
        note=_BATCHED),
    RequestMeasurement('get_config/served', 'served', True),
    RequestMeasurement('get_config/refused', 'refused', True),
    RequestMeasurement('get_config/shmem/served', 'served_shmem', True),
    RequestMeasurement('get_config/shmem/refused', 'refused_shmem', True),
    RequestMeasurement('get_config/served_in_a_batch', 'served_batch', False),
    RequestMeasurement('get_config/refused_in_a_batch', 'refused_batch', False),
    InstructionMeasurement('get_config/served, instructions', 'served'),
    InstructionMeasurement('get_config/refused, instructions', 'refused'),
    InstructionMeasurement(
        'get_config/shmem/served, instructions', 'served', 'shmem-v1'),
    InstructionMeasurement(
        'get_config/shmem/refused, instructions', 'refused', 'shmem-v1'),
    ScaleMeasurement('get_config/served, instructions', 'spsc'),
    ScaleMeasurement('get_config/shmem/served, instructions', 'shmem-v1'),
    SystemCallMeasurement('doorbell/system_calls'),
    SystemCallMeasurement(
        'doorbell/shmem/system_calls', 'shmem-v1',
        note="without the waits that end when a timer looks at the driver's state"),
    TripleMeasurement(
        'doorbell/loop_cpu_per_ping', 'doorbell_benchmark', 'BM_LoopPerPing',
        Target(AT_MOST, 1500, 'value'),
        note='the baseline does nothing but epoll_wait, read and write'),
    TripleMeasurement(
        'doorbell/shmem/loop_cpu_per_ping', 'doorbell_benchmark',
        'BM_LoopPerPingShmem', Target(AT_MOST, 1500, 'value')),
    TripleMeasurement(
        'doorbell/loop_cpu_per_ping, asleep between', 'doorbell_benchmark',
        'BM_ThreadCpuPerPing',
        note='with what the kernel takes to put the thread to sleep and wake it'),
    TripleMeasurement(
        'doorbell/kvm_to_interrupt', 'kvm_doorbell_benchmark',
        'BM_DoorbellToInterrupt', Target(AT_MOST, 1.15)),
    TripleMeasurement(
        'doorbell/shmem/kvm_to_interrupt', 'kvm_doorbell_benchmark',
        'BM_DoorbellToInterruptShmem', Target(AT_MOST, 1.15)),
    *bench_start.MEASUREMENTS,
]


def select(measurements, pattern):
  """Those that have a name with the pattern in it."""
  return [
      m for m in measurements
      if any(fnmatch.fnmatch(name, '*%s*' % pattern) for name in m.names)
  ]


def _parse_arguments():
  parser = argparse.ArgumentParser(
      prog='scripts/bench', description=_USAGE,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
      '--quick', action='store_true', help='fewer samples, for a first look')
  parser.add_argument(
      '--filter', default='', metavar='TEXT',
      help='only measurements whose name has TEXT in it (* stands for anything)')
  parser.add_argument(
      '--json', metavar='FILE', help='write one JSON object a line there')
  parser.add_argument(
      '--record-instructions', action='store_true',
      help='write the counted instructions to %s, to be committed' %
      _INSTRUCTIONS)
  parser.add_argument('--list', action='store_true', help='names only')
  return parser.parse_args()


def main():
  arguments = _parse_arguments()
  measurements = select(_MEASUREMENTS, arguments.filter)
  if not measurements:
    print('bench: no measurement has "%s" in its name' % arguments.filter,
          file=sys.stderr)
    return 2
  if arguments.list:
    print('\n'.join(name for m in measurements for name in m.names))
    return 0
  folder = tempfile.mkdtemp(prefix='vmsg-bench.')
  results = []
  try:
    bench = Bench(arguments, folder)
    bench.build()
    for measurement in measurements:
      print('bench: ' + measurement.names[0], flush=True)
      results += measurement.measure(bench)
  except (BenchError, OSError, KeyError, ValueError,
          subprocess.SubprocessError) as error:
    print('bench: %s' % error, file=sys.stderr)
    return 2
  finally:
    shutil.rmtree(folder, ignore_errors=True)
  print('\n' + bench_results.table(results), flush=True)
  if arguments.json:
    with open(arguments.json, 'w', encoding='utf-8') as file:
      for result in results:
        file.write(result.to_json() + '\n')
  return bench_results.exit_code(results)


if __name__ == '__main__':
  sys.exit(main())
