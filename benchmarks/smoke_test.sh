#!/usr/bin/env bash
# Runs each benchmark of a program once: smoke_test.sh PROGRAM [may_skip]
#
# The programs check what they measure and abort when it is wrong. A benchmark
# that could not run at all fails this test, unless it may be skipped: on a
# machine without KVM it says so.
set -euo pipefail
result=$("$1" --benchmark_repetitions=1 --benchmark_format=json)
if ! grep -q '"run_type": "iteration"' <<<"$result"; then
  echo "no benchmark was run:" "$result" >&2
  exit 1
fi
if grep '"error_message"' <<<"$result" && [ "${2-}" != may_skip ]; then
  exit 1
fi
