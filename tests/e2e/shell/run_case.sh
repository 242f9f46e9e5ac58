#!/bin/busybox sh
# Runs the host part of one case in the current folder; see run_cases.sh.
. "$E2E/shell/host_lib.sh"
. "$E2E/cases/$1.sh"
CASE=$1
trap vmm_kill EXIT
trap 'fail "it took too long"' TERM INT
host
