"""Tests of adversary.py."""

import contextlib
import io
import os
import struct
import sys
import tempfile
import unittest
from unittest import mock

import adversary

_BEGIN = 'vmsg-guest: begin group=ring name=x expected=PASS'
_CASE = ('vmsg-guest: case group=ring name=x expected=PASS verdict=PASS result=ok '
         'recovery=device-reset watched=3 ms=1')


def _vmm(*lines, code=0, leave_open=False, leak=0):
  """The command line of a VMM that prints these lines, each after a word."""
  program = 'import os, struct, sys\n'
  for line in lines:
    if ' case ' in line and leave_open:
      program += 'os.open("/dev/null", os.O_RDONLY)\n'
    if ' case ' in line and leak:
      program += _LEAK % leak
    program += 'print(%r, flush=True)\n' % line
    if ' begin ' not in line and ' end ' not in line:
      program += 'sys.stdin.readline()\n'
  return [sys.executable, '-c', program + 'sys.exit(%d)\n' % code]


# Counts one block more.
_LEAK = """\
with open(os.environ['VMSG_LIVE_MEMORY'], 'r+b') as file:
  size, blocks = struct.unpack('=QQ', file.read(16))
  file.seek(0)
  file.write(struct.pack('=QQ', size + %d, blocks + 1))
"""


class SessionTest(unittest.TestCase):
  """What becomes of the lines of a guest."""

  def setUp(self):
    super().setUp()
    self.controls = []
    self.rows = []
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.counts = os.path.join(folder.name, 'counts')
    with open(self.counts, 'wb') as file:
      file.write(struct.pack('=QQ', 100000, 1000))
    environment = mock.patch.dict(os.environ, VMSG_LIVE_MEMORY=self.counts)
    environment.start()
    self.addCleanup(environment.stop)

  def run_vmm(self, command, seconds=20):
    """Plays a session with this VMM."""
    def control(*words):
      self.controls.append(words)
      return ''

    session = adversary.Session(command, control, seconds, self.counts)
    try:
      return session.run('all', 'spsc', self.rows.append)
    finally:
      session.close()

  def test_a_good_case_is_reported_with_its_verdict(self):
    watcher = self.run_vmm(_vmm(
        'vmsg-guest: start version=1', 'vmsg-guest: ready layout=spsc', _BEGIN,
        _CASE, 'vmsg-guest: end result=ok'))
    self.assertEqual([row.line().split() for row in self.rows],
                     [['ring/x', 'PASS', 'expected', 'PASS', 'ok',
                       '(device-reset)']])
    self.assertGreater(watcher.files, 0)

  def test_the_operator_is_asked_for_resets(self):
    self.run_vmm(_vmm(
        'vmsg-guest: start version=1', 'vmsg-guest: ready layout=spsc',
        'vmsg-guest: want operator=reset-fifo function=0 fifo=1',
        'vmsg-guest: end result=ok'))
    self.assertEqual(self.controls[-1], ('reset-fifo', 'amp0/fifo1'))

  def test_a_vmm_that_ends_in_a_case_is_a_crash(self):
    self.run_vmm(_vmm('vmsg-guest: start version=1',
                      'vmsg-guest: ready layout=spsc', _BEGIN, code=3))
    self.assertEqual((self.rows[0].name, self.rows[0].verdict,
                      self.rows[0].result), ('ring/x', 'CRASH', 'fail'))

  def test_a_case_without_an_end_is_a_hang(self):
    command = _vmm('vmsg-guest: start version=1',
                   'vmsg-guest: ready layout=spsc', _BEGIN)
    command[-1] += 'import time; time.sleep(100)\n'
    command[-1] = command[-1].replace('sys.exit(0)\n', '')
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      self.run_vmm(command, seconds=8)
    self.assertEqual((self.rows[0].verdict, self.rows[0].result),
                     ('HANG', 'fail'))
    self.assertIn('adversary: ring/x: thread ', said.getvalue())

  def run_lives(self, *lives, pattern='all'):
    """Plays lives of a VMM, each with the words that the guest has to be told."""
    lives = iter(lives)

    def start():
      words, command = next(lives)
      command[-1] = command[-1].replace(
          'sys.stdin.readline()', 'assert sys.stdin.readline() == %r' %
          (words + '\n'), 1)
      return adversary.Session(command, lambda *words: '', 20, self.counts)

    result = adversary.run_lives(start, pattern, 'spsc', self.rows.append)
    self.assertIsNone(next(lives, None))
    return result

  def test_what_comes_behind_a_case_that_ended_the_run_is_run(self):
    begin = ('vmsg-guest: start version=1', 'vmsg-guest: ready layout=spsc')
    self.run_lives(
        ('run all', _vmm(*begin, _BEGIN, code=3)),
        ('run all after ring/x',
         _vmm(*begin, _BEGIN.replace('=x', '=y'), _CASE.replace('=x', '=y'),
              'vmsg-guest: end result=ok')))
    self.assertEqual([(row.name, row.verdict) for row in self.rows],
                     [('ring/x', 'CRASH'), ('ring/y', 'PASS')])

  def test_nothing_is_run_after_the_third_or_when_one_case_was_asked_for(self):
    def crash():
      return _vmm('vmsg-guest: start version=1', 'vmsg-guest: ready layout=spsc',
                  _BEGIN, code=3)

    self.run_lives(('run ring', crash()), ('run ring after ring/x', crash()),
                   ('run ring after ring/x', crash()), pattern='ring')
    self.assertEqual(len(self.rows), 3)
    self.run_lives(('run ring/x', crash()), pattern='ring/x')
    self.assertEqual(len(self.rows), 4)

  def test_threads_of_a_process_are_described(self):
    self.assertRegex(adversary.describe(os.getpid())[0], r'^thread .+: \w .+, in ')

  def test_a_file_left_open_fails_the_case(self):
    with mock.patch.object(adversary, '_SETTLE_SECONDS', 0.1):
      self.run_vmm(_vmm('vmsg-guest: start version=1',
                        'vmsg-guest: ready layout=spsc', _BEGIN, _CASE,
                        'vmsg-guest: end result=ok', leave_open=True))
    self.assertEqual(self.rows[0].result, 'fail')
    self.assertIn('open files', self.rows[0].why)

  def run_leak(self, cases, leak):
    """Plays a VMM that loses a block of so many bytes in each case."""
    with mock.patch.object(adversary, '_SETTLE_SECONDS', 0):
      self.run_vmm(_vmm('vmsg-guest: start version=1',
                        'vmsg-guest: ready layout=spsc',
                        *[_BEGIN, _CASE] * cases,
                        'vmsg-guest: end result=ok', leak=leak))
    return [row.result for row in self.rows]

  def test_a_block_lost_in_each_case_fails_before_50_cases(self):
    results = self.run_leak(50, leak=24)
    self.assertEqual(results[0], 'ok')
    self.assertEqual(results[-1], 'fail')
    self.assertIn('live memory: 1200 bytes and 50 blocks more',
                  self.rows[-1].why)

  def test_a_large_block_lost_once_fails(self):
    self.assertEqual(self.run_leak(1, leak=10000), ['fail'])

  def test_memory_that_nobody_counts_is_no_result(self):
    with open(self.counts, 'wb') as file:
      file.write(bytes(16))
    with self.assertRaises(adversary.AdversaryError):
      self.run_leak(1, leak=0)

  def test_an_error_of_the_guest_is_no_result(self):
    with self.assertRaises(adversary.AdversaryError):
      self.run_vmm(_vmm('vmsg-guest: start version=1',
                        'vmsg-guest: error what=set-up error=timeout'))

  def test_an_end_that_the_vmm_contradicts_is_no_result(self):
    with self.assertRaises(adversary.AdversaryError):
      self.run_vmm(_vmm('vmsg-guest: start version=1',
                        'vmsg-guest: end result=ok', code=1))


class BrokenRowsTest(unittest.TestCase):
  """What the wire monitor has to have found."""

  def stats(self, *broken):
    """Those of a VMM with these rows for amp0/fifo0, amp0/fifo1, amp1/fifo0."""
    fifos = [{'broken_rows': rows} for rows in broken]
    return {'functions': [{'id': 'amp0', 'fifos': fifos[:2]},
                          {'id': 'amp1', 'fifos': fifos[2:]}]}

  def test_rows_of_the_victim_are_told(self):
    stats = self.stats({'DRV-VQ-1': 1, 'DRV-HDR-1': 3}, {}, {})
    self.assertEqual(adversary.broken_rows(stats, whole=True),
                     (['DRV-HDR-1', 'DRV-VQ-1'], ''))

  def test_a_control_is_not_blamed(self):
    for broken in [({'A': 1}, {'DRV-VQ-1': 1}, {}), ({'A': 1}, {}, {'DRV-VQ-1': 1})]:
      _, wrong = adversary.broken_rows(self.stats(*broken), whole=True)
      self.assertRegex(wrong, 'good driver of amp./fifo. broke DRV-VQ-1')

  def test_a_monitor_that_sees_nothing_in_the_whole_catalogue_is_wrong(self):
    stats = self.stats({}, {}, {})
    self.assertIn('broke nothing', adversary.broken_rows(stats, whole=True)[1])
    self.assertEqual(adversary.broken_rows(stats, whole=False), ([], ''))


class RowTest(unittest.TestCase):
  """Rows and their sum."""

  def test_rows_are_found_in_the_log_of_an_emulated_machine(self):
    row = adversary.emulated_row('adversary_shmem out| # ' + _CASE)
    self.assertEqual((row.name, row.layout), ('ring/x', 'shmem-v1'))
    row = adversary.emulated_row('adversary_shmem_packed out| # ' + _CASE)
    self.assertEqual(row.layout, 'shmem-v1-packed')
    self.assertEqual(
        adversary.emulated_row('adversary out| # ' + _CASE).layout, 'spsc')
    self.assertIsNone(adversary.emulated_row('payload out| # ' + _CASE))

  def test_failures_are_named_in_the_sum(self):
    row = adversary.emulated_row('adversary out| # ' + _CASE)
    bad = adversary.emulated_row('adversary out| # ' + _CASE)
    bad.fail('CRASH', 'the VMM ended')
    self.assertEqual(adversary.summary([row, bad]), {
        'cases': 1, 'run': 2, 'counts': {'PASS': 1, 'fail': 1},
        'controls_asked_in_the_middle': 6,
        'failed': ['spsc ring/x']})

  def test_memory_beyond_the_slack_is_a_problem(self):
    with tempfile.NamedTemporaryFile() as counts, \
        mock.patch.object(adversary, '_SETTLE_SECONDS', 0):
      counts.write(struct.pack('=QQ', 1, 1))
      counts.flush()
      watcher = adversary.Watcher(os.getpid(), counts.name)
      self.assertIsNone(watcher.problem())
      watcher.mapped_kib -= 1 << 20
      self.assertIn('mapped memory', watcher.problem())


if __name__ == '__main__':
  unittest.main()
