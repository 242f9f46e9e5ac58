#!/bin/bash
# What the image may not contain: instructions that an emulated processor does
# not know, or that need state which interrupt handlers do not save; anything
# that a loader would have to do.

set -eu

image=$1
fail() {
  echo "FAIL: $*" >&2
  exit 1
}

disassembly=$(objdump -d --no-show-raw-insn "$image")
[[ $(grep -c . <<< "$disassembly") -gt 1000 ]] ||
  fail "no disassembly of $image"
for pattern in '%[xyz]mm' '%mm[0-7]' '%st\b' cmpxchg16b '\b[mls]fence\b' \
  popcnt tzcnt lzcnt xsave; do
  if grep -m 3 -P "$pattern" <<< "$disassembly"; then
    fail "the image has instructions with $pattern"
  fi
done

# An emulated processor may take an interrupt between the two, which is then slept
# over; see bare_metal/start.S.
if grep -P '^ *[0-9a-f]+:' <<< "$disassembly" | grep -A 1 -P '\bsti\b' |
  grep -P '\bhlt\b'; then
  fail "HLT right after STI"
fi

headers=$(readelf -lW "$image")
if grep -E 'INTERP|DYNAMIC|TLS' <<< "$headers"; then
  fail "the image needs a loader"
fi
if grep -E 'LOAD.*RWE' <<< "$headers"; then
  fail "a segment is writable and executable"
fi
[[ -z $(nm -u "$image") ]] || fail "undefined: $(nm -u "$image")"
[[ $(readelf -hW "$image") == *"EXEC (Executable file)"* ]] ||
  fail "not a static executable"
