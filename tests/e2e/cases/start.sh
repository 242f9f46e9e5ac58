# From exec to the guest's first instruction, and what the VMM has in memory besides
# the guest's RAM while it serves a device and the control API.

RUNS=5
RESIDENT_KIB=$((32 * 1024))
ANONYMOUS_KIB=$((8 * 1024))

host() {
  # An emulated machine says little about time: facts, and no limit. The guest that
  # needs no KVM starts on any host, so a ratio can be had of it.
  start_of start_ms --accel=kvm --kernel="$E2E/images/first_instruction.elf"
  start_of start_in_process_ms --accel=in-process

  vmm_start --kernel="$E2E/images/payload.elf" \
    --device virtio-msg-amp-pci,id=amp0,num-fifos=2
  hear '^vmsg-guest: ready '
  control attach rng --place amp0/fifo1/slot3 --wait "${PATIENCE}s"
  hear '^vmsg-guest: entropy .*fifo=1 slot=3 '
  memory=$("$E2E/bin/vmm_memory" "$vmm") || fail 'the memory could not be measured'
  say poweroff
  hear '^vmsg-guest: end '
  vmm_end

  for kind in resident anonymous; do
    fact ${kind}_kib "$(value ${kind}_kib "$memory")"
  done
  at_least 'guest RAM in use, KiB' "$(value guest_ram_kib "$memory")" 1
  at_least 'resident memory left below the limit, KiB' \
    $((RESIDENT_KIB - $(value resident_kib "$memory"))) 0
  at_least 'anonymous memory left below the limit, KiB' \
    $((ANONYMOUS_KIB - $(value anonymous_kib "$memory"))) 0
}

# start_of FACT OPTION...: the median time from exec to the first byte of a guest.
start_of() {
  name=$1
  shift
  "$E2E/bin/start_time" $RUNS "$E2E/bin/kvm_vmm" "$@" --control=unix:start.sock \
    --device virtio-msg-amp-pci,id=amp0,num-fifos=2 >times 2>start.log ||
    fail "the guest was not seen to start: $(cat start.log)"
  same 'starts that were measured' "$(wc -l <times)" $RUNS
  fact "$name" "$(sort -n times | awk -v "middle=$(((RUNS + 1) / 2))" \
    'NR == middle {print int($1)}')"
}
