"""What a measurement gave, and what that means for its target."""

import json
import statistics

# A triple counts when its two baselines differ by no more than this.
MAX_BASELINE_DIFFERENCE = 0.15

AT_LEAST = 'at least'
AT_MOST = 'at most'


class Target:
  """What a figure has to reach.

  Attributes:
    kind: AT_LEAST or AT_MOST.
    limit: a number.
    of: 'ratio' or 'value': the attribute of Result that it is about.
  """

  def __init__(self, kind, limit, of='ratio'):
    self.kind = kind
    self.limit = limit
    self.of = of

  def is_met_by(self, figure):
    return figure >= self.limit if self.kind == AT_LEAST else figure <= self.limit

  def __str__(self):
    sign = '>=' if self.kind == AT_LEAST else '<='
    return '%s %s %g' % (self.of, sign, self.limit)


class Result:
  """One line of the report.

  Attributes:
    name: what was measured.
    value: the subject's figure, or None when there is none.
    unit: of value and baseline.
    baseline: what it is compared with, or None.
    ratio: subject to baseline, or None. Which of the two is divided by the
      other is the measurement's: see Measurement.inverted.
    p10, p90: of the figure that the target is about, or None.
    samples: how many are behind the figures.
    dropped: how many were measured and did not count.
    target: a Target, or None.
    unmeasured: why there is no (reliable) figure, or None.
    noisy: unmeasured for noise, so another run may have it.
    note: anything a reader should know, or None.
  """

  def __init__(self, name, unit, value=None, baseline=None, ratio=None, p10=None,
               p90=None, samples=0, dropped=0, target=None, unmeasured=None,
               noisy=False, note=None):
    self.name = name
    self.unit = unit
    self.value = value
    self.baseline = baseline
    self.ratio = ratio
    self.p10 = p10
    self.p90 = p90
    self.samples = samples
    self.dropped = dropped
    self.target = target
    self.unmeasured = unmeasured
    self.noisy = noisy
    self.note = note

  @property
  def met(self):
    """True, False, or None: there is no target, or nothing to hold against it."""
    if self.target is None or self.unmeasured is not None:
      return None
    return self.target.is_met_by(getattr(self, self.target.of))

  def to_json(self):
    """One object on one line."""
    fields = {
        'name': self.name,
        'value': self.value,
        'unit': self.unit,
        'baseline': self.baseline,
        'ratio': self.ratio,
        'target': None if self.target is None else self.target.limit,
        'met': self.met,
        'target_kind': None if self.target is None else self.target.kind,
        'target_of': None if self.target is None else self.target.of,
        'p10': self.p10,
        'p90': self.p90,
        'samples': self.samples,
        'dropped': self.dropped,
    }
    if self.unmeasured is not None:
      fields['unmeasured'] = self.unmeasured
    if self.note is not None:
      fields['note'] = self.note
    return json.dumps(fields)


def percentile(values, percent):
  """The value below which `percent` of the values are, between neighbours."""
  ordered = sorted(values)
  position = (len(ordered) - 1) * percent / 100
  below = int(position)
  above = min(below + 1, len(ordered) - 1)
  return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


class Triple:
  """Baseline, subject, baseline: nanoseconds for one operation each."""

  def __init__(self, before, subject, after):
    self.before = before
    self.subject = subject
    self.after = after

  @property
  def baseline(self):
    return (self.before + self.after) / 2

  @property
  def is_steady(self):
    low, high = sorted([self.before, self.after])
    return high - low <= MAX_BASELINE_DIFFERENCE * low


def from_triples(name, triples, wanted, inverted=False, target=None, note=None):
  """Returns the Result of triples.

  Args:
    name: of the result.
    triples: all that were measured.
    wanted: how many have to be steady.
    inverted: the ratio is baseline to subject: how many times as fast the
      subject is. Else it is how many times as long it takes.
    target: a Target, or None.
    note: for the reader.
  """
  steady = [triple for triple in triples if triple.is_steady]
  result = Result(
      name, 'ns', samples=len(steady), dropped=len(triples) - len(steady),
      target=target, note=note)
  if len(steady) < wanted:
    result.unmeasured = 'too noisy: %d of %d triples were steady, %d wanted' % (
        len(steady), len(triples), wanted)
    result.noisy = True
    return result
  ratios = [
      t.baseline / t.subject if inverted else t.subject / t.baseline
      for t in steady
  ]
  result.value = statistics.median(t.subject for t in steady)
  result.baseline = statistics.median(t.baseline for t in steady)
  result.ratio = statistics.median(ratios)
  about_value = target is not None and target.of == 'value'
  spread = [t.subject for t in steady] if about_value else ratios
  result.p10 = percentile(spread, 10)
  result.p90 = percentile(spread, 90)
  return result


def from_samples(name, unit, samples, target=None, note=None):
  """Returns the Result of samples that have no baseline."""
  return Result(
      name, unit, value=statistics.median(samples), p10=percentile(samples, 10),
      p90=percentile(samples, 90), samples=len(samples), target=target,
      note=note)


def _cell(figure):
  if figure is None:
    return '-'
  return '%.3g' % figure if abs(figure) < 100 else '%.0f' % figure


def table(results):
  """Returns the results as text."""
  rows = [('measurement', 'value', 'unit', 'baseline', 'ratio', 'p10', 'p90',
           'target', 'met')]
  for result in results:
    met = {True: 'yes', False: 'NO', None: '-'}[result.met]
    rows.append((
        result.name, _cell(result.value), result.unit, _cell(result.baseline),
        _cell(result.ratio), _cell(result.p10), _cell(result.p90),
        '-' if result.target is None else str(result.target), met))
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = []
  for row, result in zip(rows, [None] + list(results)):
    lines.append('  '.join(
        cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if result is not None:
      for text in (result.unmeasured, result.note):
        if text is not None:
          lines.append('    ' + text)
  return '\n'.join(lines)


def exit_code(results):
  """0: nothing missed. 1: a target was. 3: one could not be judged for noise."""
  if any(result.met is False for result in results):
    return 1
  if any(result.noisy and result.target is not None for result in results):
    return 3
  return 0
