"""Tests of shell/ with a program that stands for the VMM; run by scripts/test."""

import os
import subprocess
import tempfile
import unittest

import image
import verdict

# Repeats what it is told, and knows two words.
_VMM = """\
#!/bin/busybox sh
echo "options $*"
echo '{"accel":"kvm","exits":{"io":3,"mmio":4}}' >stats.json
while read -r line; do
  case $line in
    end) exit 0 ;;
    fail) exit 3 ;;
    *) echo "$line" ;;
  esac
done
"""
_END = 'say end; vmm_end'

# Stands for the VMM with guest/adversary in it: of three cases the second does
# not come back.
_ADVERSARY = """\
#!/bin/busybox sh
line() { echo "vmsg-guest: $*"; }
# live BLOCKS: what tests/live_memory would say; an octal number.
live() { printf '\\0\\20\\0\\0\\0\\0\\0\\0\\'$1'\\0\\0\\0\\0\\0\\0\\0' >"$VMSG_LIVE_MEMORY"; }
live 1
begin() { line "begin group=g name=$1 expected=PASS"; }
over() {
  line "case group=g name=$1 expected=PASS verdict=PASS result=ok"
  read -r next
}
read -r words
line ready layout=spsc
read -r next
case $words in
  'run all')
    begin a
    over a
    begin b
    STOP
    ;;
  'run all after g/b')
    begin c
    over c
    line end result=ok
    read -r next
    ;;
esac
"""
_ADVERSARY_CASE = """\
. "$E2E/cases/adversary.sh"
CASE_PATIENCE=5
count_exits() { :; }
control() { :; }
"""


@unittest.skipUnless(os.path.exists('/bin/busybox'), 'needs busybox-static')
class RunCasesTest(unittest.TestCase):

  def run_case(self, host, seconds=30, vmm=_VMM, case=None):
    """Runs a case with this body; returns its CaseResult and what it printed.

    Args:
      host: the body of host().
      seconds: limit.
      vmm: what stands for the VMM.
      case: the whole file of the case, instead of host.
    """
    with tempfile.TemporaryDirectory() as folder:
      for name in ['bin', 'cases']:
        os.mkdir(os.path.join(folder, name))
      os.symlink(image.SHELL, os.path.join(folder, 'shell'))
      with open(folder + '/cases/it.sh', 'w', encoding='utf-8') as file:
        # The counter of this machine's KVM is not to be seen here.
        file.write(case or 'count_exits() { :; }\nhost() { %s\n}\n' % host)
      os.symlink(os.path.join(image.FOLDER, 'cases', 'adversary.sh'),
                 folder + '/cases/adversary.sh')
      with open(folder + '/bin/kvm_vmm', 'w', encoding='utf-8') as file:
        file.write(vmm)
      os.chmod(folder + '/bin/kvm_vmm', 0o755)
      result = subprocess.run(
          ['/bin/busybox', 'sh', folder + '/shell/run_cases.sh', folder,
           folder + '/scratch', 'it'],
          env=dict(os.environ, E2E_CASE_SECONDS=str(seconds), E2E_PATIENCE='2'),
          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
          encoding='utf-8', timeout=60)
      lines = result.stdout.splitlines()
      lines.append('e2e: end status=%d' % result.returncode)
      judged = verdict.judge(lines, ['it'])[0]
      self.assertEqual(judged.passed, result.returncode == 0, result.stdout)
      return judged, result.stdout

  def assert_fails(self, reason, host, **options):
    judged, output = self.run_case(host, **options)
    self.assertFalse(judged.passed, output)
    self.assertIn(reason, '; '.join(judged.reasons), output)

  def assert_passes(self, host, **options):
    judged, output = self.run_case(host, **options)
    self.assertTrue(judged.passed, output)

  def test_a_case_passes_with_its_facts_and_exits(self):
    judged, output = self.run_case(
        'vmm_start --x; hear "^options .*--x"; say "a b=7 c"; hear "^a "; '
        'same b "$(value b "$HEARD")" 7; fact speed 12; ' + _END)
    self.assertTrue(judged.passed, output)
    self.assertEqual(judged.facts['speed'], 12)
    self.assertEqual(judged.facts['kvm_exits'], 7)
    self.assertIn('it console| a b=7 c', output)

  def test_a_case_fails_when_values_differ_or_are_missing(self):
    self.assert_fails('digest: a is not b',
                      'vmm_start; same digest a b; ' + _END)
    self.assert_fails('digest: nothing', 'vmm_start; same digest "" ""; ' + _END)

  def test_a_case_fails_when_a_number_is_too_small(self):
    self.assert_fails('bytes: 3 is less than 4',
                      'vmm_start; at_least bytes 3 4; ' + _END)

  def test_a_case_fails_when_the_guest_does_not_say_it(self):
    self.assert_fails('did not say within 2 s: never', 'vmm_start; hear never')

  def test_a_vmm_that_does_not_go_on_is_described(self):
    _, output = self.run_case('vmm_start; hear never')
    self.assertRegex(output, r'thread (busybox|kvm_vmm|sh) is in \S+ S \(sleeping\)')
    self.assertIn('KVM\'s counts, a second later:', output)
    self.assertIn('vmsgctl fifos:', output)

  def run_adversary(self, stop):
    """Runs the case adversary, whose second case ends with this."""
    judged, output = self.run_case(None, case=_ADVERSARY_CASE,
                                   vmm=_ADVERSARY.replace('STOP', stop))
    self.assertFalse(judged.passed, output)
    self.assertIn('cases that failed: 1 is not 0', '; '.join(judged.reasons),
                  output)
    self.assertEqual(judged.facts['cases'], 3)
    # What comes behind it is run.
    self.assertIn('name=c expected=PASS verdict=PASS result=ok', output)
    return output

  def test_a_case_of_the_adversary_that_hangs_is_named_and_the_rest_runs(self):
    output = self.run_adversary('sleep 100')
    self.assertIn('it out| # vmsg-guest: case group=g name=b expected=PASS '
                  'verdict=HANG result=fail', output)
    self.assertIn('is in ', output)

  def test_a_case_of_the_adversary_that_ends_the_vmm_is_a_crash(self):
    self.assertIn('name=b expected=PASS verdict=CRASH result=fail',
                  self.run_adversary('exit 3'))

  def test_a_case_of_the_adversary_that_ends_in_a_panic_is_a_crash(self):
    self.assertIn('name=b expected=PASS verdict=CRASH result=fail',
                  self.run_adversary('line panic vector=14; sleep 100'))

  def test_a_case_of_the_adversary_that_loses_memory_ends_the_run(self):
    self.assert_fails(
        '0 48 bytes and blocks of memory more, after: vmsg-guest: case group=g '
        'name=b', None, case=_ADVERSARY_CASE,
        vmm=_ADVERSARY.replace('STOP', 'live 61; over b; line end result=ok'))

  def test_what_was_heard_is_not_heard_again(self):
    self.assert_fails('did not say', 'vmm_start; say xy; hear ^xy; hear ^xy')

  def test_a_case_fails_when_the_vmm_ends_early_or_badly(self):
    self.assert_fails('ended before', 'vmm_start; say end; hear never')
    self.assert_fails('with code 3', 'vmm_start; say fail; vmm_end')

  def test_a_case_fails_when_the_guest_crashes(self):
    self.assert_fails('crashed', 'vmm_start; say "Kernel panic - x"; hear never')

  def test_a_driver_breaks_no_row_and_a_wrong_one_some_on_the_first_fifo_only(self):
    def vmm(*broken):
      fifos = ','.join('{"broken_rows":{%s}}' % rows for rows in broken)
      return _VMM.replace('"exits"', '"functions":[%s],"exits"' % fifos)

    rows = '"DRV-VQ-1":2,"DRV-HDR-1":1'
    right = 'vmm_start; ' + _END
    wrong = 'JUDGE=wrong; ' + right
    self.assert_passes(right, vmm=vmm('', ''))
    self.assert_fails('DRV-VQ-1', right, vmm=vmm('', rows))
    self.assert_passes(wrong, vmm=vmm(rows, '', ''))
    self.assert_fails('and no other', wrong, vmm=vmm(rows, rows, ''))
    self.assert_fails('and no other', wrong, vmm=vmm('', rows, ''))
    self.assert_fails('and no other', wrong, vmm=vmm('', '', ''))

  def test_a_case_fails_when_kvm_has_run_nothing(self):
    self.assert_fails(
        'KVM has run nothing', 'vmm_start; ' + _END,
        vmm=_VMM.replace('"io":3,"mmio":4', '"io":0,"mmio":0'))

  def test_a_case_that_takes_too_long_is_ended_with_its_vmm(self):
    judged, output = self.run_case(
        'vmm_start; echo "vmm $vmm"; while :; do sleep 0.1; done', seconds=4)
    self.assertIn('it took too long', '; '.join(judged.reasons))
    vmm = output.split('it out| vmm ')[1].split()[0]
    self.assertFalse(os.path.exists('/proc/%s/cwd/it' % vmm))

  def test_commands_run_in_the_guest_and_their_output_comes_back(self):
    vmm = _VMM.replace('*) echo "$line"', '*) n=${line%% *}; eval "${line#* }" '
                       '>out; s=$?; sed "s/^/e2e-out $n /" out; '
                       'echo "e2e-done $n $s end"')
    judged, output = self.run_case(
        'vmm_start; in_guest "echo a; echo b"; same out "$(echo $OUTPUT)" "a b";'
        'in_guest "echo c"; same out "$OUTPUT" c; ' + _END, vmm=vmm)
    self.assertTrue(judged.passed, output)
    self.assert_fails('status 1 in the guest', 'vmm_start; in_guest false',
                      vmm=vmm)

  def test_finds_a_digest_in_a_record_and_no_other(self):
    setup = ('head -c 160 /dev/urandom >record; vmm_start; '
             'digest=$(tail -c +33 record | head -c 64 | sha256sum); ')
    judged, output = self.run_case(
        setup + 'recorded record 64 "${digest%% *}" || fail no; ' + _END)
    self.assertTrue(judged.passed, output)
    self.assert_fails('no', setup + 'recorded record 63 "${digest%% *}" || '
                      'fail no')

  def test_does_not_look_for_a_digest_far_behind(self):
    setup = ('RECORDED_SINCE=64; head -c 160 /dev/urandom >record; vmm_start; '
             'digest=$(tail -c +%d record | head -c 64 | sha256sum); ')
    look = 'recorded record 64 "${digest%% *}" || fail no; '
    self.assert_passes(setup % 33 + look + _END)
    self.assert_fails('no', setup % 17 + look + _END)

  def test_finds_a_digest_in_one_of_several_records(self):
    judged, output = self.run_case(
        'head -c 16 /dev/urandom >short; head -c 160 /dev/urandom >a; '
        'head -c 320 /dev/urandom >b; vmm_start; '
        'digest=$(tail -c +17 b | head -c 64 | sha256sum); '
        'recorded "short a b" 64 "${digest%% *}" || fail no; '
        'same record "$RECORD" b; ' + _END)
    self.assertTrue(judged.passed, output)

  def test_tells_what_the_counters_have_done(self):
    judged, output = self.run_case(
        'control() { REPLY=$(cat fifos); }; kvm_counter() { cat "$1"; }; '
        'count() { echo "$1" >exits; echo "$2" >halt_exits; '
        'echo "[{\\"answered\\":9,\\"packets_in\\":9,\\"packets_out\\":9},'
        '{\\"packets_in\\":\\"$3\\",\\"answered\\":$4,\\"packets_out\\":7}]" '
        '>fifos; }; '
        'vmm_start; count 100 10 5 6; costs_begin 1; count 150 13 9 8; '
        'costs_end it; ' + _END)
    self.assertTrue(judged.passed, output)
    self.assertEqual(
        {key: value for key, value in judged.facts.items() if 'it_' in key},
        {'it_exits': 50, 'it_halt_exits': 3, 'it_packets_in': 4,
         'it_requests': 2, 'it_packets_out': 0})

  def test_reads_values_of_json(self):
    judged, output = self.run_case(
        'vmm_start; text=\'{"a":[{"n":1,"s":"x"},{"n":2,"s":"y"}]}\'; '
        'same n "$(json n "$text")" 1; same n "$(json n "$text" 2)" 2; '
        'same s "$(json s "$text" 2)" y; ' + _END)
    self.assertTrue(judged.passed, output)


if __name__ == '__main__':
  unittest.main()
