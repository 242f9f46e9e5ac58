"""Tests of machine.py; run by scripts/test."""

import os
import tempfile
import time
import unittest

import machine


class VirtualizationFlagTest(unittest.TestCase):

  def test_finds_the_flag_of_amd_and_of_intel(self):
    self.assertEqual(machine.virtualization_flag('flags\t\t: fpu svm lm\n'),
                     'svm')
    self.assertEqual(machine.virtualization_flag('flags\t\t: fpu vmx\n'), 'vmx')

  def test_takes_neither_part_of_a_word_nor_another_line_for_it(self):
    text = ('flags\t\t: fpu svm_lock\nbugs\t\t: svm\nvmx flags\t: ept\n')
    self.assertIsNone(machine.virtualization_flag(text))


class ShellMachine:
  """Runs a line of shell in place of cases."""

  def __init__(self, text, closing=None):
    self._text = text
    self._closing = closing

  def command(self, cases, seconds):
    text = self._text % {'cases': ' '.join(cases), 'seconds': seconds}
    return ['sh', '-c', text], {'E2E_TEST': 'set'}

  def closing_line(self, returncode):
    return self._closing and self._closing % returncode


class RunTest(unittest.TestCase):

  def run_it(self, text, seconds=60, closing=None):
    shown = []
    lines = machine.run(ShellMachine(text, closing), ['a', 'b'], 7, seconds,
                        shown.append)
    self.assertEqual(lines, shown)
    return lines

  def test_returns_and_shows_what_is_printed(self):
    self.assertEqual(
        self.run_it('echo %(cases)s %(seconds)d $E2E_TEST; echo error >&2'),
        ['a b 7 set', 'error'])

  def test_closes_with_the_exit_code_where_the_machine_wants_it(self):
    self.assertEqual(self.run_it('echo x; exit 3', closing='status=%d'),
                     ['x', 'status=3'])

  def test_ends_what_takes_too_long_with_all_its_children(self):
    start = time.monotonic()
    lines = self.run_it('echo $$; sleep 50 & sleep 50', seconds=3,
                        closing='status=%d')
    self.assertLess(time.monotonic() - start, 20)
    self.assertRegex(lines[-1], 'e2e: error: nothing was heard')
    self.assertFalse(any('status=' in line for line in lines))
    self.assert_group_is_gone(int(lines[0]))

  def test_leaves_no_child_behind_that_does_not_print(self):
    lines = self.run_it('echo $$; sleep 50 >/dev/null 2>&1 &')
    self.assert_group_is_gone(int(lines[0]))

  def assert_group_is_gone(self, group):
    # Killed children are reaped by whoever inherits them, a moment later.
    for _ in range(100):
      if not self._running(group):
        return
      time.sleep(0.05)
    self.fail('processes are left')

  def _running(self, group):
    for pid in filter(str.isdigit, os.listdir('/proc')):
      try:
        with open('/proc/%s/stat' % pid, encoding='utf-8') as file:
          fields = file.read().rpartition(')')[2].split()
      except OSError:
        continue
      if int(fields[2]) == group and fields[0] != 'Z':
        return True
    return False


class ShareOutTest(unittest.TestCase):

  def test_each_case_is_in_one_list(self):
    self.assertEqual(machine.share_out(['a', 'b', 'c'], 2), [['a', 'c'], ['b']])

  def test_no_list_is_empty(self):
    self.assertEqual(machine.share_out(['a'], 3), [['a']])
    self.assertEqual(machine.share_out(['a', 'b'], 1), [['a', 'b']])


class HostMachineTest(unittest.TestCase):

  def test_lays_out_the_files_that_cases_expect(self):
    with tempfile.TemporaryDirectory() as folder:
      source = os.path.join(folder, 'program')
      with open(source, 'w', encoding='utf-8') as file:
        file.write('x')
      place = machine.HostMachine({'bin/kvm_vmm': source}, folder)
      command, environment = place.command(['a'], 9)
      root = command[3]
      self.assertTrue(os.path.samefile(source, root + '/bin/kvm_vmm'))
      self.assertEqual(command[2], root + '/shell/run_cases.sh')
      self.assertEqual(environment, {'E2E_CASE_SECONDS': '9'})
      self.assertEqual(place.closing_line(1), 'e2e: end status=1')


if __name__ == '__main__':
  unittest.main()
