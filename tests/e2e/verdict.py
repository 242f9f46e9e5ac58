"""Judges a run by what it printed."""

import re


class CaseResult:
  """How one case ended."""

  def __init__(self, name, passed, facts, reasons):
    self.name = name
    self.passed = passed
    self.facts = facts  # {key: number or text}
    self.reasons = reasons  # what went wrong


def judge(lines, cases):
  """Returns a CaseResult for each case.

  A case passes if the run says so, with a count of KVM's exits that is not 0,
  and the run came to its end. A run that stops in the middle fails the cases
  that it did not come to.

  Args:
    lines: all that was printed.
    cases: names, in the order in which they were to run.
  """
  ended = any(re.match(r'e2e: end status=\d+$', line) for line in lines)
  said = {}
  for line in lines:
    found = re.match(r'e2e: case=(\S+) (.*)$', line)
    if found:
      pairs = [word.split('=', 1) for word in found.group(2).split()
               if '=' in word]
      said.setdefault(found.group(1), []).append(dict(pairs))
  problems = [line for line in lines if line.startswith('e2e: error: ')]
  return [_judge_case(name, said.get(name, []), ended, lines, problems)
          for name in cases]


def _judge_case(name, said, ended, lines, problems):
  reasons = []
  if len(said) != 1:
    reasons.append('the run has %d results for it' % len(said))
    facts = {}
  else:
    facts = {key: _number(value) for key, value in said[0].items()}
    if facts.pop('result', None) != 'pass':
      reasons.append('it failed')
    exits = facts.get('kvm_exits')
    if not isinstance(exits, int) or exits <= 0:
      reasons.append('nothing shows that KVM has run')
  if not ended:
    reasons.append('the run did not come to its end')
  if reasons:
    errors = re.compile(re.escape(name) + r' \S+\| e2e: error: (.*)')
    reasons += [found.group(1) for found in map(errors.match, lines) if found]
    reasons += problems
  return CaseResult(name, not reasons, facts, reasons)


def _number(text):
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      pass
  return text
