#!/bin/sh
# Runs a test of a coverage build: `bazel test --config=coverage`.
#
# The counts go to the test's undeclared outputs, which Bazel keeps with the
# result. Processes of the test, if it starts any, add to the same two files.
export LLVM_PROFILE_FILE="$TEST_UNDECLARED_OUTPUTS_DIR/%2m.profraw"
exec "$@"
