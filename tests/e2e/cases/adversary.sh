# The catalogue of guest/adversary on KVM: each case ends as its row says, and
# leaves the VMM with as many open files as before and no more memory. Cases that
# need a second writer run in-process only (scripts/adversary).
# Runs only when it is named.

LAYOUT=spsc
MEMORY_SLACK_KIB=1024
JUDGE=wrong

host() {
  function="num-fifos=2,fifo-layout=$LAYOUT"
  vmm_start --kernel="$E2E/images/adversary.elf" \
    --device "virtio-msg-amp-pci,id=amp0,$function" \
    --device "virtio-msg-amp-pci,id=amp1,$function" \
    --device virtio-rng-device,bus=amp0/fifo0/bus5 \
    --device virtio-rng-device,bus=amp0/fifo1/bus0 \
    --device virtio-rng-device,bus=amp1/fifo0/bus31
  # What the operator's first calls set up stays.
  control fifos
  control reset-fifo amp0/fifo0
  say 'run all'
  at=0
  failed=0
  while next_line; do
    case "$LINE" in
      'vmsg-guest: ready '*)
        files=$(open_files)
        memory=$(memory_kib)
        say next
        ;;
      'vmsg-guest: case '*' result=skipped '*)
        note "$LINE"
        say next
        ;;
      'vmsg-guest: case '*)
        unchanged "$LINE"
        note "$LINE"
        [ "$(value result "$LINE")" = ok ] || failed=$((failed + 1))
        say next
        ;;
      'vmsg-guest: want '*)
        control reset-fifo amp0/fifo0 >/dev/null
        say 'done'
        ;;
      'vmsg-guest: error '* | 'vmsg-guest: panic '*)
        fail "the guest says: $LINE"
        ;;
      'vmsg-guest: end '*)
        break
        ;;
    esac
  done
  fact cases "$(value run "$LINE")"
  fact memory_growth_kib $(($(memory_kib) - memory))
  same 'cases that failed' "$failed" 0
  same 'end of the guest' "$(value result "$LINE")" ok
  at_least 'cases that ran' "$(value run "$LINE")" 150
  vmm_end
}

# next_line: waits for the next whole line of the console, puts it in LINE.
next_line() {
  at=$((at + 1))
  tries=$((PATIENCE * 50))
  while [ "$(wc -l <console)" -lt $at ]; do
    kill -0 "$vmm" 2>/dev/null || fail "CRASH: the VMM ended after: $LINE"
    [ $tries -gt 0 ] || fail "HANG: nothing came after: $LINE"
    tries=$((tries - 1))
    sleep 0.02
  done
  LINE=$(sed -n "${at}{p;q}" console | tr -d '\r')
  count_exits
}

open_files() { find "/proc/$vmm/fd" -type l | wc -l; }
memory_kib() { sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$vmm/status"; }

# unchanged LINE: files and memory of the VMM are what they were at the start.
unchanged() {
  tries=50
  while [ "$(open_files)" -ne "$files" ] && [ $tries -gt 0 ]; do
    sleep 0.1  # a connection of the operator goes
    tries=$((tries - 1))
  done
  [ "$(open_files)" -eq "$files" ] ||
    fail "$(open_files) open files, not $files, after: $1"
  [ "$(memory_kib)" -le $((memory + MEMORY_SLACK_KIB)) ] ||
    fail "$(memory_kib) KiB of memory, not $memory, after: $1"
}
