"""Tests of bench_parse.py; run by scripts/test."""

import json
import unittest

import bench_parse


def output(*runs):
  return json.dumps({'context': {}, 'benchmarks': list(runs)})


def run(name, run_type='iteration', **fields):
  return dict(fields, run_name=name, run_type=run_type)


class BenchmarkRunsTest(unittest.TestCase):

  def test_returns_repetitions_and_no_aggregates(self):
    text = output(
        run('BM_A/iterations:1/manual_time', n=1),
        run('BM_A/iterations:1/manual_time', n=2),
        run('BM_A/iterations:1/manual_time', run_type='aggregate', n=3))
    self.assertEqual(
        [r['n'] for r in bench_parse.benchmark_runs(text, 'BM_A')], [1, 2])

  def test_name_has_to_match_whole(self):
    text = output(run('BM_A/served/iterations:1/manual_time', n=1),
                  run('BM_A/served_batch/iterations:1/manual_time', n=2))
    self.assertEqual(
        [r['n'] for r in bench_parse.benchmark_runs(text, 'BM_A/served')], [1])

  def test_skipped_benchmark_says_why(self):
    text = output(run('BM_A/iterations:1', error_occurred=True,
                      error_message='no KVM'))
    with self.assertRaisesRegex(bench_parse.NotRun, 'no KVM'):
      bench_parse.benchmark_runs(text, 'BM_A')

  def test_missing_benchmark_is_an_error(self):
    with self.assertRaises(ValueError):
      bench_parse.benchmark_runs(output(), 'BM_A')

  def test_triples_have_their_three_figures(self):
    text = output(run('BM_A', before_ns=1.0, subject_ns=2.0, after_ns=3.0))
    (triple,) = bench_parse.triples(text, 'BM_A')
    self.assertEqual((triple.before, triple.subject, triple.after), (1, 2, 3))


class CallgrindTest(unittest.TestCase):

  def test_finds_the_total(self):
    text = 'version: 1\nevents: Ir\nfn=(1) f\n0 5\n\ntotals: 1234\n'
    self.assertEqual(bench_parse.callgrind_instructions(text), 1234)

  def test_output_without_total_is_an_error(self):
    with self.assertRaises(ValueError):
      bench_parse.callgrind_instructions('version: 1\n')


STRACE = """\
10 write(1, "11\\n", 3) = 3
11 epoll_pwait2(5,  <unfinished ...>
10 write(6, "\\1\\0\\0\\0\\0\\0\\0\\0", 8) = 8
11 <... epoll_pwait2 resumed>[{events=EPOLLIN}], 64, NULL, NULL, 8) = 1
11 read(6, "\\1\\0\\0\\0\\0\\0\\0\\0", 8) = 8
11 write(7, "\\1\\0\\0\\0\\0\\0\\0\\0", 8) = 8
11 +++ exited with 0 +++
"""


class SystemCallsTest(unittest.TestCase):

  def test_counts_the_thread_and_each_call_once(self):
    self.assertEqual(
        dict(bench_parse.system_calls(STRACE, 11)),
        {'epoll_pwait2': 1, 'read': 1, 'write': 1})

  def test_tells_waits_that_a_timer_ended_from_others(self):
    text = """\
11 epoll_pwait2(4, [], 64, {tv_sec=0, tv_nsec=235828}, NULL, 8) = 0
11 epoll_pwait2(4,  <unfinished ...>
10 epoll_pwait2(5, [], 64, {tv_sec=0, tv_nsec=235828}, NULL, 8) = 0
11 <... epoll_pwait2 resumed>[], 64, {tv_sec=1, tv_nsec=0}, NULL, 8) = 0
11 epoll_wait(4, [], 64, 7) = 0
11 epoll_wait(4, [], 64, 0) = 0
11 epoll_pwait2(4, [], 64, {tv_sec=0, tv_nsec=0}, NULL, 8) = 0
11 epoll_pwait2(4, [{events=EPOLLIN}], 64, {tv_sec=0, tv_nsec=9}, NULL, 8) = 1
11 epoll_pwait2(4, [{events=EPOLLIN}], 64, NULL, NULL, 8) = 1
"""
    self.assertEqual(
        dict(bench_parse.system_calls(text, 11)),
        {'epoll_pwait2': 3, 'epoll_wait': 1, bench_parse.TIMED_OUT: 3})

  def test_waits_that_a_timer_ended_are_not_of_the_doorbell(self):
    few = bench_parse.collections.Counter({'epoll_wait': 10})
    many = bench_parse.collections.Counter(
        {'epoll_wait': 20, bench_parse.TIMED_OUT: 5})
    self.assertEqual(
        bench_parse.calls_each(few, many, 10),
        {'epoll_wait': 1, 'read': 0, 'write': 0, 'other': 0})

  def test_what_is_done_once_falls_out(self):
    few = bench_parse.collections.Counter(
        {'epoll_wait': 13, 'read': 10, 'write': 11, 'gettid': 1})
    many = bench_parse.collections.Counter(
        {'epoll_wait': 23, 'read': 20, 'write': 21, 'gettid': 1})
    self.assertEqual(
        bench_parse.calls_each(few, many, 10),
        {'epoll_wait': 1, 'read': 1, 'write': 1, 'other': 0})

  def test_all_kinds_of_epoll_wait_are_one_kind(self):
    none = bench_parse.collections.Counter()
    many = bench_parse.collections.Counter(
        {'epoll_wait': 1, 'epoll_pwait': 2, 'epoll_pwait2': 3, 'epoll_ctl': 4})
    each = bench_parse.calls_each(none, many, 1)
    self.assertEqual((each['epoll_wait'], each['other']), (6, 4))


if __name__ == '__main__':
  unittest.main()
