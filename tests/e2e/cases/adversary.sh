# The catalogue of guest/adversary on KVM: each case ends as its row says, and
# leaves the VMM with as many open files as before and as much memory. Cases that
# need a second writer run in-process only (scripts/adversary).
# Runs only when it is named.

LAYOUT=spsc
# As in scripts/lib/adversary.py, which says why.
LIVE_SLACK_BYTES=8192
LIVE_SLACK_BLOCKS=40
MAPPED_SLACK_KIB=1024
VMM_ENVIRONMENT="LD_PRELOAD=$E2E/images/live_memory.so VMSG_LIVE_MEMORY=live_memory"
JUDGE=wrong

# Longer than the guest itself waits: up to four answers a case, each for a minute.
CASE_PATIENCE=300
# So many cases may take the VMM or the guest with them.
MOST_STOPS=3

host() {
  ran=0
  failed=0
  stops=0
  growth='0 0'
  until play "run all${after:-}"; do
    stops=$((stops + 1))
    [ $stops -lt $MOST_STOPS ] || break
    after=" after $(value group "$RUNNING")/$(value name "$RUNNING")"
  done
  fact cases $ran
  fact more_live_bytes "${growth% *}"
  fact more_live_blocks "${growth#* }"
  same 'cases that failed' $failed 0
  same 'end of the guest' "$(value result "$LINE")" ok
  at_least 'cases that ran' $ran 150
  vmm_end
}

# play WORDS: one life of the VMM, in which the guest is told this. False when a
# case, which is then in RUNNING, has ended it.
play() {
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
  say "$1"
  at=0
  RUNNING=
  while next_line; do
    case "$LINE" in
      'vmsg-guest: ready '*)
        files=$(open_files)
        mapped=$(mapped_kib)
        live=$(live_memory)
        [ "${live#* }" -gt 0 ] || fail 'nobody counts the memory of the VMM'
        say next
        ;;
      'vmsg-guest: begin '*)
        RUNNING=${LINE#vmsg-guest: begin }
        ;;
      'vmsg-guest: case '*' result=skipped '*)
        RUNNING=
        note "$LINE"
        say next
        ;;
      'vmsg-guest: case '*)
        RUNNING=
        ran=$((ran + 1))
        unchanged "$LINE"
        note "$LINE"
        [ "$(value result "$LINE")" = ok ] || failed=$((failed + 1))
        say next
        ;;
      'vmsg-guest: want '*)
        control reset-fifo amp0/fifo0 >/dev/null
        say 'done'
        ;;
      'vmsg-guest: panic '*)
        note "$LINE"
        STOP=CRASH
        break
        ;;
      'vmsg-guest: error '*)
        fail "the guest says: $LINE"
        ;;
      'vmsg-guest: end '*)
        return 0
        ;;
    esac
  done
  [ -n "$RUNNING" ] || fail "$STOP: nothing came after: $LINE"
  [ "$STOP" = CRASH ] || vmm_describe
  ran=$((ran + 1))
  failed=$((failed + 1))
  note "vmsg-guest: case $RUNNING verdict=$STOP result=fail why=it-ended-the-run"
  ended=${vmm:-}
  vmm_kill
  wait "$ended" 2>/dev/null
  return 1
}

# next_line: waits for the next whole line of the console, puts it in LINE. False:
# there is none, for the reason in STOP.
next_line() {
  at=$((at + 1))
  read -r now _ </proc/uptime
  limit=$((${now%.*} + CASE_PATIENCE))
  STOP=
  while [ "$(wc -l <console)" -lt $at ]; do
    [ -z "$STOP" ] || return 1
    read -r now _ </proc/uptime
    [ "${now%.*}" -le $limit ] || STOP=HANG
    kill -0 "$vmm" 2>/dev/null || STOP=CRASH
    sleep 0.02  # and then a last look
  done
  LINE=$(sed -n "${at}{p;q}" console | tr -d '\r')
  count_exits
}

open_files() { find "/proc/$vmm/fd" -type l | wc -l; }
mapped_kib() { sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$vmm/status"; }

# live_memory: bytes and blocks that the VMM has not given back.
live_memory() { od -An -t u8 -N 16 live_memory | awk '{ print $1, $2 }'; }

# unchanged LINE: files and memory of the VMM are what they were at the start.
unchanged() {
  tries=50
  until what_changed || [ $tries -eq 0 ]; do
    sleep 0.1  # a connection of the operator goes
    tries=$((tries - 1))
  done
  what_changed || fail "$CHANGED, after: $1"
}

# what_changed: false when something has, with it in CHANGED.
what_changed() {
  now=$(live_memory)
  growth="$((${now% *} - ${live% *})) $((${now#* } - ${live#* }))"
  CHANGED=
  if [ "$(open_files)" -ne "$files" ]; then
    CHANGED="$(open_files) open files, not $files"
  elif [ "${growth% *}" -gt $LIVE_SLACK_BYTES ] ||
    [ "${growth#* }" -gt $LIVE_SLACK_BLOCKS ]; then
    CHANGED="$growth bytes and blocks of memory more"
  elif [ "$(mapped_kib)" -gt $((mapped + MAPPED_SLACK_KIB)) ]; then
    CHANGED="$(mapped_kib) KiB of memory mapped, not $mapped"
  fi
  [ -z "$CHANGED" ]
}
