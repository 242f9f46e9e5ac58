"""The demo with Debian's kernel as the guest, on real KVM; see scripts/demo."""

import json
import os
import subprocess
import sys

import bazel

# By layout of the FIFOs.
CASES = {'spsc': 'linux_rng', 'shmem-v1': 'linux_rng_shmem_v1'}


def run(quiet, fifo_layout):
  """Runs the case of tests/e2e that hot-plugs an entropy device into Linux.

  Args:
    quiet: show nothing of it.
    fifo_layout: one of CASES.

  Returns:
    The object for the last line.
  """
  setup = subprocess.run(
      [os.path.join(bazel.ROOT, 'scripts', 'setup'), '--e2e'], check=False,
      stdout=subprocess.DEVNULL if quiet else None)
  if setup.returncode:
    return {'result': 'fail', 'error': 'scripts/setup --e2e failed'}
  process = subprocess.Popen(
      [sys.executable, '-B', os.path.join(bazel.ROOT, 'tests/e2e/run.py'),
       CASES[fifo_layout]],
      stdout=subprocess.PIPE, encoding='utf-8', errors='replace')
  last = ''
  with process:
    for line in process.stdout:
      if not quiet and last:
        print(last, flush=True)
      last = line.rstrip('\n')
  try:
    return summary(json.loads(last), fifo_layout)
  except (KeyError, ValueError):
    return {'result': 'fail', 'error': 'tests/e2e/run.py ended with: ' + last}


def summary(result, fifo_layout):
  """Returns the demo's object for one of tests/e2e/run.py."""
  if result['result'] != 'pass':
    return result
  facts = result['cases'][CASES[fifo_layout]]
  return {
      'accel': 'kvm',
      'machine': result['machine'],
      'fifo_layout': fifo_layout,
      'guest': 'linux',
      'entropy_bytes': facts['entropy_bytes'],
      'entropy_sha256': facts['entropy_sha256'],
      'interrupts': facts['interrupts'],
      'attach_to_driver_ok_ms': facts['attach_to_driver_ok_ms'],
      'exits': facts['kvm_exits'],
      'result': 'pass',
  }
