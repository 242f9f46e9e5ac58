#!/bin/sh
# Table, tests and docs/conformance.md agree; and conformance.py would notice if
# they did not.
cd tests/conformance && exec python3 -B -m unittest -q conformance_test
