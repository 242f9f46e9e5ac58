# Devices are stopped and started anew, as for a sleep: Linux does so for an image of
# itself, and finds then that it has no place for one. The second time a FIFO is out of
# order.

GUEST_OPTIONS="$GUEST_OPTIONS $FIFO_BREAKS"

# fall_asleep: and wake up at once.
fall_asleep() {
  in_guest 'echo shutdown >/sys/power/disk'
  in_guest 'not sh -c "echo disk >/sys/power/state"'
}

host() {
  linux_start
  in_guest insert_our_modules
  control attach rng --id rng0 --place amp0/fifo0/slot0 --wait "${PATIENCE}s"
  control attach rng --id rng1 --place amp0/fifo1/slot0 --wait "${PATIENCE}s"
  in_guest 'use_rng 0'
  compare_entropy record.0 1024
  control list
  before=$(json resets "$REPLY" 2)
  fall_asleep
  control list
  at_least 'resets of rng1' "$(json resets "$REPLY" 2)" $((before + 1))
  in_guest 'virtio_bound 4'
  same 'devices with a driver' "$OUTPUT" 2
  for number in 0 1; do
    in_guest "use_rng $number"
    compare_entropy record.$number 1024
  done

  note 'with a FIFO that is out of order'
  fifo_break
  in_guest 'cat /sys/bus/virtio/devices/virtio0/status'
  in_guest 'wait_for 20 log_has "fifo0 is down: an index is out of range"'
  trace pci_clear_master vring_del_virtqueue
  fall_asleep
  traced
  same 'order' "$(echo $OUTPUT)" \
    'vring_del_virtqueue pci_clear_master vring_del_virtqueue'
  compare_entropy record.1 1024

  # rng0 can't be taken away from its driver any more (guest/linux/README.md).
  in_guest 'new_warnings | grep -v -e "PM: Cannot " -e ": fifo0 " || true'
  same 'other warnings' "${OUTPUT:-none}" none
  in_guest_start 'poweroff -f'
  vmm_end
}
