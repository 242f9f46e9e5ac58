# The bare-metal guest reads entropy from two devices that are attached over gRPC
# one after the other, on different FIFOs and slots: with each FIFO layout, and
# with split rings and packed ones.

BYTES=4096

host() {
  play split 0 spsc
  play packed 1 shmem-v1
  play split 0 shmem-v1-packed
}

# play RING BIT LAYOUT: one life of the VMM; BIT is VIRTIO_F_RING_PACKED as
# negotiated.
play() {
  ring=$1
  packed=$2
  layout=$3
  vmm_start --kernel="$E2E/images/payload.elf" --append="ring=$ring" \
    --device "virtio-msg-amp-pci,id=amp0,num-fifos=2,fifo-layout=$layout"
  hear '^vmsg-guest: ready '
  same 'devices before any is attached' "$(value devices "$HEARD")" 0

  read_from rng0 0 0
  digest0=$DIGEST
  read_from rng1 1 5
  digest1=$DIGEST

  say poweroff
  hear '^vmsg-guest: interrupts '
  interrupts=$HEARD
  hear '^vmsg-guest: end '
  same 'end of the guest' "$(value result "$HEARD")" ok
  vmm_end

  stats=$(cat stats.json)
  same 'accelerator' "$(json accel "$stats")" kvm
  same 'bytes of rng0' "$(json bytes "$stats" 1)" $BYTES
  same 'bytes of rng1' "$(json bytes "$stats" 2)" $BYTES
  same 'digest of rng0' "$digest0" "$(json fnv1a "$stats" 1)"
  same 'digest of rng1' "$digest1" "$(json fnv1a "$stats" 2)"
  for vector in 0 1; do
    same "interrupts of vector $vector" "$(value vector$vector "$interrupts")" \
      "$(json interrupts "$stats" $((vector + 1)))"
  done
}

# read_from ID FIFO SLOT: attach, let the guest read, detach.
read_from() {
  start=$(seconds)
  control attach rng --id "$1" --place "amp0/fifo$2/slot$3" --wait "${PATIENCE}s"
  fact "attach_to_driver_ok_ms_${layout}_${ring}_$1" "$(milliseconds_since "$start")"
  same "state of $1" "$(json state "$REPLY")" DEVICE_STATE_PRESENT
  hear "^vmsg-guest: started .*fifo=$2 slot=$3 "
  same "packed ring of $1" $(($(value features "$HEARD") >> 34 & 1)) "$packed"
  hear "^vmsg-guest: entropy .*fifo=$2 slot=$3 .*total=$BYTES "
  DIGEST=$(value fnv1a "$HEARD")
  control detach "$1" --wait "${PATIENCE}s"
  hear "^vmsg-guest: removed .*fifo=$2 slot=$3 "
}
