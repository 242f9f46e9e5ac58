# What the host part of a case is written with. Each function ends the case with
# an error if what it is for does not happen.
#
# The files are in the current folder: console (what the guest printed), vmm.log,
# stats.json (written by the VMM at its end), facts, kvm_exits.

PATIENCE=${E2E_PATIENCE:-100}  # seconds that anything may take
HEARD=   # the line that `hear` has found
REPLY=   # what `control` has got, JSON
heard_lines=0
vmm=

# fail TEXT...: ends the case.
fail() {
  echo "e2e: error: $*" >&2
  exit 1
}

# note TEXT...: tells a reader of the log what happens.
note() { echo "# $*"; }

# fact KEY VALUE: a measured value for the result line.
fact() { echo "$1=$2" >>facts; }

# same WHAT A B: they have to be equal, and not empty.
same() {
  [ -n "$2" ] || fail "$1: nothing there"
  [ "$2" = "$3" ] || fail "$1: $2 is not $3"
  note "$1: $2 on both sides"
}

# at_least WHAT A MINIMUM
at_least() {
  [ "$2" -ge "$3" ] || fail "$1: $2 is less than $3"
  note "$1: $2, at least $3"
}

# vmm_start OPTION...: starts the VMM under KVM with a control socket, and a wire
# monitor on each FIFO; with NAME=VALUE of VMM_ENVIRONMENT.
VMM_ENVIRONMENT=
vmm_start() {
  rm -f input console control.sock
  mkfifo input
  : >console
  heard_lines=0
  note "kvm_vmm $*"
  # The word splitting takes the variables apart.
  # shellcheck disable=SC2086
  env $VMM_ENVIRONMENT \
    "$E2E/bin/kvm_vmm" --accel=kvm --control=unix:control.sock --stats=stats.json \
    --wire-monitor "$@" <>input >console 2>>vmm.log &
  vmm=$!
  echo $vmm >vmm.pid
}

# vmm_end: waits until the VMM ends, with code 0. The guest's driver must not have
# broken a row of the conformance table; one that does nothing else on the first FIFO,
# which a case says by JUDGE=wrong, must have, and only there.
JUDGE=right
vmm_end() {
  count_exits
  wait "$vmm"
  code=$?
  vmm=
  rm vmm.pid
  [ $code -eq 0 ] || fail "the VMM ended with code $code"
  [ -s stats.json ] || fail "the VMM wrote no stats"
  [ -s kvm_exits ] || sum_of_stats_exits >kvm_exits
  broken=$(grep -o '"broken_rows":{[^}][^}]*}' stats.json | tr '\n' ' ')
  case $JUDGE in
    wrong)
      first=$(grep -o '"broken_rows":{[^}]*}' stats.json | head -n 1)
      [ "$broken" = "$first " ] ||
        fail "the driver of the first FIFO and no other breaks rows: $broken"
      ;;
    *) [ -z "$broken" ] || fail "the guest's driver: $broken" ;;
  esac
}

# vmm_kill: ends the VMM whatever it does; nothing if it has ended.
vmm_kill() {
  [ -z "$vmm" ] || kill -9 "$vmm" 2>/dev/null
  vmm=
}

# vmm_describe: tells of a VMM that does not go on whether its vCPUs still do
# something, what each thread waits for in the kernel, and how its FIFOs are.
vmm_describe() {
  for when in 'now' 'a second later'; do
    counts=
    for counter in exits halt_exits halt_wakeup irq_injections mmio_exits; do
      counts="$counts $counter=$(kvm_counter $counter)"
    done
    note "KVM's counts, $when:$counts"
    sleep 1
  done
  for task in "/proc/$vmm/task"/*; do
    note "thread $(cat "$task/comm") is in $(cat "$task/wchan")" \
      "$(sed -n 's/^State:[[:space:]]*//p' "$task/status")"
  done
  note "vmsgctl fifos: $(timeout 10 "$E2E/bin/vmsgctl" \
    --target=unix:control.sock --json fifos 2>&1)"
}

# count_exits: notes what KVM itself counts for its virtual machines. It forgets a
# machine that has ended, so the largest number stays.
count_exits() {
  count=$(kvm_counter exits)
  [ -n "$count" ] || return 0
  [ "$count" -le "$(cat kvm_exits 2>/dev/null || echo 0)" ] ||
    echo "$count" >kvm_exits
}

# run_with_kvm LOG PROGRAM ARGUMENT...: runs a program that has machines of its own,
# and returns its exit code.
run_with_kvm() {
  log=$1
  shift
  "$@" >"$log" 2>&1 &
  program=$!
  while kill -0 $program 2>/dev/null; do
    count_exits
    sleep 0.05
  done
  wait $program
}

# kvm_counter NAME: what KVM counts under this name for its virtual machines; nothing
# where debugfs can't be read.
kvm_counter() { cat "/sys/kernel/debug/kvm/$1" 2>/dev/null; }

# Where debugfs can't be read: the calls of KVM_RUN that returned to the VMM.
sum_of_stats_exits() {
  sed -n 's/.*"exits":{\([^}]*\)}.*/\1/p' stats.json | tr ',' '\n' |
    awk -F: '{sum += $2} END {print sum + 0}'
}

# What in the console says that the guest has crashed.
CRASH='Kernel panic|BUG:|Oops'

# hear PATTERN: waits for the next line of the console, after the one heard
# last, that matches the extended regular expression; puts it in HEARD.
hear() {
  tries=$((PATIENCE * 10))
  running=yes
  while [ $tries -gt 0 ]; do
    found=$(awk -v "after=$heard_lines" -v "pattern=$1" \
      'NR > after && $0 ~ pattern {print NR " " $0; exit}' console)
    if [ -n "$found" ]; then
      heard_lines=${found%% *}
      HEARD=$(echo "${found#* }" | tr -d '\r')
      count_exits
      return 0
    fi
    [ $running = yes ] || fail "the VMM ended before the guest said: $1"
    # What it said last may have come since, so there is one more look.
    kill -0 "$vmm" 2>/dev/null || running=no
    grep -q -E "$CRASH" console && fail 'the guest has crashed'
    sleep 0.1
    tries=$((tries - 1))
  done
  vmm_describe
  fail "the guest did not say within $PATIENCE s: $1"
}

# say TEXT: types a line at the guest's console.
say() { echo "$1" >input; }

# value KEY LINE: the value of key=value in a line.
value() { echo "$2" | sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p"; }

# json KEY TEXT [N]: the value of the N-th (default: first) "KEY": in JSON.
json() {
  echo "$2" | grep -o "\"$1\": *\"\\?[^\",}]*" | sed -n "${3:-1}s/.*: *\"\\?//p"
}

# control ARGUMENT...: runs vmsgctl, which has to succeed; JSON is in REPLY.
control() {
  tries=$((PATIENCE * 10))
  while [ ! -S control.sock ] && [ $tries -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  note "vmsgctl $*"
  REPLY=$("$E2E/bin/vmsgctl" --target=unix:control.sock --json \
    --timeout="${PATIENCE}s" "$@") ||
    fail "vmsgctl $* ended with code $?: $REPLY"
  echo "$REPLY"
}

# seconds: time since power-on, with a fraction.
seconds() { cut -d ' ' -f 1 /proc/uptime; }

# milliseconds_since START: from what `seconds` said to now.
milliseconds_since() { echo "$(seconds) $1" | awk '{print int(($1 - $2) * 1000)}'; }

# ---- Linux as the guest

GUEST_OPTIONS='console=ttyS0 quiet mitigations=off nokaslr cryptomgr.notests
  no_timer_check panic=0 noxsave'
guest_commands=0
OUTPUT=  # what the last command in the guest printed

# linux_start OPTION...: boots Debian's kernel with MEMORY MiB and a function amp0
# of two FIFOs of this LAYOUT; options are more for kvm_vmm. The rng back ends write
# what they hand out to record.0, record.1 and so on, in order of attach.
MEMORY=256
LAYOUT=spsc
INITRD=$E2E/images/guest.cpio
linux_start() {
  booting=$(seconds)
  # The word splitting takes out the line break.
  # shellcheck disable=SC2086,SC2116
  vmm_start --kernel="$E2E/images/vmlinux" --initrd="$INITRD" \
    --append="$(echo $GUEST_OPTIONS)" --memory=$MEMORY \
    --entropy-record=record \
    --device "virtio-msg-amp-pci,id=amp0,num-fifos=2,fifo-layout=$LAYOUT" "$@"
  linux_is_up
  fact boot_ms "$(milliseconds_since "$booting")"
}

# linux_is_up: waits until the guest takes commands, once more after each reboot.
linux_is_up() {
  hear '^e2e-ready '
  note "$HEARD"
}

# linux_kexec_start: a guest with a device on a FIFO of either layout, both in use,
# one being read. It has the same kernel once more, to go to.
linux_kexec_start() {
  cat "$E2E/images/guest.cpio" "$E2E/images/kexec.cpio" >initrd
  INITRD=initrd
  MEMORY=512
  # Loading computes digests in the kernel, for so long on a busy emulated machine
  # that the guest would call it a lockup. But it is the watchdog's timer that wakes
  # up a guest of such a machine that has slept over an interrupt (halt.sh); without
  # it the ticks have to.
  GUEST_OPTIONS="$GUEST_OPTIONS nowatchdog nohz=off"
  linux_start --device virtio-msg-amp-pci,id=amp1,fifo-layout=shmem-v1
  in_guest insert_our_modules
  control attach rng --id rng0 --place amp0/fifo0/slot3 --wait "${PATIENCE}s"
  control attach rng --id rng1 --place amp1/fifo1/slot0 --wait "${PATIENCE}s"
  in_guest 'dd if=/dev/hwrng of=/tmp/read bs=64 2>/dev/null &'
  in_guest 'wait_for 20 test -s /tmp/read'
}

# linux_kexec_load load|load-panic: makes it the kernel after this one.
linux_kexec_load() {
  in_guest "/kexec/kexec $1 /kexec/vmlinuz /kexec/initrd \"\$(cat /proc/cmdline)\""
}

# linux_kexec_end: the new kernel is up, and both devices deliver.
linux_kexec_end() {
  linux_is_up
  in_guest insert_our_modules
  in_guest 'wait_for 20 virtio_bound_is 4 2'
  # Which of them is the first is chance.
  in_guest 'use_rng 0'
  compare_entropy 'record.0 record.1' 1024
  first=$RECORD
  in_guest 'use_rng 1'
  compare_entropy 'record.0 record.1' 1024
  [ "$first" != "$RECORD" ] || fail "both deliver what is in $RECORD"
  linux_end
}

# in_guest COMMAND: does it in the guest's shell; its output is in OUTPUT. The case
# fails if the command does. One line; functions of guest_lib.sh are there.
in_guest() {
  in_guest_start "$1"
  in_guest_end
}

# in_guest_start COMMAND, in_guest_end: the same in two steps.
in_guest_start() {
  guest_commands=$((guest_commands + 1))
  note "guest\$ $1"
  say "$guest_commands $1"
}
in_guest_end() {
  hear "^e2e-done $guest_commands [0-9]+ end"
  OUTPUT=$(tr -d '\r' <console | sed -n "s/^e2e-out $guest_commands //p")
  [ -z "$OUTPUT" ] || echo "$OUTPUT"
  HEARD=${HEARD% end}
  [ "${HEARD##* }" -eq 0 ] || fail "status ${HEARD##* } in the guest"
}

# linux_end: no new warning in the guest's log; power off; the VMM ends well.
linux_end() {
  in_guest new_warnings
  [ -z "$OUTPUT" ] || fail "the guest's log has new warnings: $OUTPUT"
  in_guest_start 'poweroff -f'
  vmm_end
}

# fifo_becomes FIFO STATE: waits until the device says that it is RUNNING, WAITING
# or BROKEN.
fifo_becomes() {
  tries=$((PATIENCE * 10))
  until control fifos amp0 >/dev/null &&
    [ "$(json state "$REPLY" $(($1 + 1)))" = "FIFO_STATE_$2" ]; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "FIFO $1 is not $2: $REPLY"
    sleep 0.1
  done
  note "FIFO $1 is $2"
}

# fifo_hold NUMBER, fifo_release: in between the thread of the VMM that serves this FIFO
# stands still, so that the guest gets no answers from it. Numbers go on over all
# functions.
fifo_hold() {
  : >held
  "$E2E/bin/hold_thread" "$vmm" "fifo$1" >held &
  holder=$!
  tries=$((PATIENCE * 10))
  until [ -s held ]; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "FIFO $1 can't be held"
    sleep 0.1
  done
  note "FIFO $1 is held"
}
fifo_release() {
  kill "$holder"
  wait "$holder" 2>/dev/null
  note 'FIFO released'
}

# fifo_break: the guest puts FIFO 0 out of order, which has layout spsc, by an index of
# the device that is out of range. Its driver takes it down as soon as it sends.
# FIFO_BREAKS in GUEST_OPTIONS lets it: by itself Debian's kernel keeps all but the
# driver from the window.
FIFO_BREAKS='iomem=relaxed nopat'
fifo_break() {
  in_guest 'devmem $((0x1040 + $(sed -n "2s/ .*//p" /sys/bus/pci/drivers/virtio_msg_amp_pci/0000:*/resource))) 32 62'
}

# trace FUNCTION...: the guest's kernel notes when it calls them. traced: their names
# in order, in OUTPUT.
trace() {
  in_guest 'mount -t tracefs tracefs /sys/kernel/tracing'
  in_guest "echo $* >/sys/kernel/tracing/set_ftrace_filter"
  in_guest 'echo function >/sys/kernel/tracing/current_tracer'
}
traced() {
  in_guest "sed -n 's/^[^#].*: \\(.*\\) <-.*/\\1/p' /sys/kernel/tracing/trace"
}

# costs_begin FIFO, costs_end NAME: facts of what happens in between: NAME_requests,
# NAME_packets_in and NAME_packets_out of this FIFO, and of the whole machine, where
# KVM can be asked, NAME_exits, of which NAME_halt_exits were idleness.
costs_begin() {
  costs_fifo=$(($1 + 1))
  costs >costs_before
}
costs_end() {
  costs >costs_after
  while read -r key after; do
    before=$(awk -v "key=$key" '$1 == key {print $2}' costs_before)
    fact "$1_$key" $((after - before))
  done <costs_after
}
costs() {
  for counter in exits halt_exits; do
    count=$(kvm_counter $counter)
    [ -z "$count" ] || echo "$counter $count"
  done
  control fifos amp0 >/dev/null
  echo "requests $(json answered "$REPLY" "$costs_fifo")"
  for counter in packets_in packets_out; do
    echo "$counter $(json $counter "$REPLY" "$costs_fifo")"
  done
}

# unplug_while_read PLACE: attaches a device there, the guest's only one, takes it
# away while the guest reads from it, and sees the read end.
unplug_while_read() {
  # So slow that the reader certainly waits for it.
  control attach rng --id slow --place "$1" --wait "${PATIENCE}s" \
    --max-bytes-per-period 64 --period 1s
  in_guest 'dd if=/dev/hwrng of=/tmp/read bs=64 2>/dev/null & echo $! >/tmp/reader'
  in_guest 'wait_for 20 test -s /tmp/read'
  control detach slow --wait "${PATIENCE}s"
  same 'state of slow' "$(json state "$REPLY")" DEVICE_STATE_GONE
  in_guest 'wait_for 20 not kill -0 "$(cat /tmp/reader)"'
  in_guest 'virtio_count 4'
  same 'devices after that' "$OUTPUT" 0
}

# compare_entropy RECORDS BYTES: the guest reads that many bytes from /dev/hwrng, and
# they are what a back end handed out (kvm_vmm --entropy-record): the same digest, in
# one of these files, whose name is then in RECORD.
# The guest's kernel takes some for itself, before and also between ours: every few
# seconds when it has just come up, once a minute later. For the sake of the latter
# there is a second chance.
compare_entropy() {
  for chance in 1 2; do
    in_guest "read_entropy $2"
    same 'bytes read' "$(value bytes "$OUTPUT")" "$2"
    recorded "$1" "$2" "$(value sha256 "$OUTPUT")" && return
  done
  fail "the back end did not hand out what the guest has read"
}

# recorded FILES BYTES SHA256: whether one of the files, then in RECORD, has bytes of
# this digest. It looks at multiples of 16, which is what Linux takes, and at the last
# ones first, which are what was just read, but for what the kernel took since.
RECORDED_SINCE=512
recorded() {
  back=0
  more=1
  while [ $more -eq 1 ] && [ $back -le $RECORDED_SINCE ]; do
    more=0
    for RECORD in $1; do
      offset=$((($(stat -c %s "$RECORD") - $2) / 16 * 16 - back))
      [ $offset -ge 0 ] || continue
      more=1
      digest=$(tail -c "+$((offset + 1))" "$RECORD" | head -c "$2" | sha256sum)
      if [ "${digest%% *}" = "$3" ]; then
        note "digest $3 on both sides, at byte $offset of $RECORD"
        return 0
      fi
    done
    back=$((back + 16))
  done
  return 1
}
