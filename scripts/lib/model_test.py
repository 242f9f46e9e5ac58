"""Tests of model.py."""

import os
import unittest

import model


def _pan(errors, *lines):
  return '\n'.join(lines + ('State-vector 100 byte, errors: %d' % errors,
                            '     1234 states, stored'))


class ModelTest(unittest.TestCase):

  def test_a_run_has_an_outcome_a_model_and_flags(self):
    self.assertEqual(
        model.parse('# text\n\nholds a.pml\nstalls b.pml N=2 BUG_X # why\n'),
        [('holds', 'a.pml', []), ('stalls', 'b.pml', ['N=2', 'BUG_X'])])

  def test_a_line_that_is_no_run_is_named(self):
    for line in ('holds', 'fails a.pml', 'holds a.pml n=2', 'stalls a.pml -x'):
      with self.assertRaisesRegex(ValueError, 'line 2: ' + line):
        model.parse('holds a.pml\n' + line)

  def test_the_runs_of_the_models_can_be_read(self):
    path = os.path.join(model.MODELS, 'runs.txt')
    with open(path, encoding='utf-8') as file:
      runs = model.parse(file.read())
    self.assertEqual({run[0] for run in runs}, set(model.OUTCOMES))

  def test_a_search_without_errors_holds(self):
    self.assertEqual(model.verdict(_pan(0)), ('holds', 1234))

  def test_an_error_is_told_from_another(self):
    self.assertEqual(
        model.verdict(_pan(1, 'pan:1: assertion violated (a==b) (at depth 7)')),
        ('violates: (a==b)', 1234))
    self.assertEqual(
        model.verdict(_pan(1, 'pan:1: invalid end state (at depth 7)')),
        ('stalls: invalid end state', 1234))

  def test_any_other_error_is_no_outcome(self):
    for text in (_pan(1, 'pan:1: a rendezvous with itself (at depth 7)'),
                 _pan(1)):
      self.assertNotIn(model.verdict(text)[0].split(':')[0], model.OUTCOMES)

  def test_a_search_that_ended_early_is_no_outcome(self):
    for early in ('error: max search depth too small', 'pan: out of memory'):
      found, _ = model.verdict(_pan(0, early))
      self.assertNotIn(found.split(':')[0], model.OUTCOMES)
    self.assertNotIn(model.verdict('')[0], model.OUTCOMES)


if __name__ == '__main__':
  unittest.main()
