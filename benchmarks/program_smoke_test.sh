#!/usr/bin/env bash
# Runs a program as a tool would, and looks at its one line of output:
# program_smoke_test.sh PROGRAM ARGUMENT... REGULAR_EXPRESSION
set -euo pipefail
output=$("${@:1:$#-1}")
if ! grep -Eqx "${!#}" <<<"$output"; then
  echo "unexpected: $output" >&2
  exit 1
fi
