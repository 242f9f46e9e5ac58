# A virtio-rng that is attached over gRPC to a running Debian kernel becomes the
# source of /dev/hwrng and delivers what its back end hands out.

BYTES=4096

host() {
  linux_start
  in_guest insert_our_modules
  in_guest 'virtio_count 4'
  same 'devices before any is attached' "$OUTPUT" 0

  costs_begin 1
  sleep 2
  costs_end idle_2s
  costs_begin 1
  start=$(seconds)
  control attach rng --id rng0 --place amp0/fifo1/slot3 --wait "${PATIENCE}s"
  fact attach_to_driver_ok_ms "$(milliseconds_since "$start")"
  attached=$REPLY
  costs_end probe
  in_guest 'dd if=/dev/hwrng of=/dev/null bs=64 count=1'
  fact attach_to_hwrng_ms "$(milliseconds_since "$start")"
  same 'state of rng0' "$(json state "$attached")" DEVICE_STATE_PRESENT
  in_guest 'cat /sys/bus/virtio/devices/virtio0/virtio_msg/*'
  same 'place in the guest' "$(echo $OUTPUT)" 'fifo1 3'
  in_guest 'virtio_bound 4'
  same 'devices with a driver' "$OUTPUT" 1
  in_guest 'cat $HWRNG/rng_current'
  same 'source of /dev/hwrng' "$OUTPUT" virtio_rng.0
  compare_entropy record.0 $BYTES
  fact entropy_bytes $BYTES
  fact entropy_sha256 "$(value sha256 "$OUTPUT")"
  in_guest 'amp_interrupts 1'
  interrupts=$OUTPUT
  fact interrupts "$interrupts"
  linux_end

  # Linux asks for 64 bytes at a time and sleeps until they are there.
  at_least 'interrupts of FIFO 1 in the guest' "$interrupts" $((BYTES / 64))
  at_least 'interrupts of FIFO 1 from the VMM' \
    "$(json interrupts "$(cat stats.json)" 2)" "$interrupts"
}
