# The guest reboots without a word to its devices, and finds them again.

host() {
  linux_start --device virtio-rng-device,bus=amp0/fifo0/bus2
  for round in 1 2; do
    note "round $round"
    in_guest insert_our_modules
    in_guest 'wait_for 20 virtio_bound_is 4 1'
    compare_entropy record.0 1024
    in_guest_start 'reboot -f'
    linux_is_up
  done
  in_guest insert_our_modules
  control attach rng --id after --place amp0/fifo1/slot1 --wait "${PATIENCE}s"
  same 'state of after' "$(json state "$REPLY")" DEVICE_STATE_PRESENT
  in_guest 'wait_for 20 virtio_bound_is 4 2'
  linux_end
}
