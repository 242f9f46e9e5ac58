# The unit tests that need KVM, and are skipped where there is none.

host() {
  passed=0
  for test in "$E2E"/bin/tests/*; do
    note "$(basename "$test")"
    run_with_kvm tests.log "$test" --gtest_brief=1 ||
      fail "$(basename "$test"): $(cat tests.log)"
    same 'tests that were skipped' "$(grep -c '^\[  SKIPPED \]' tests.log)" 0
    ran=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) tests*\.$/\1/p' tests.log)
    at_least 'tests that passed' "${ran:-0}" 1
    passed=$((passed + ran))
  done
  fact tests "$passed"
}
