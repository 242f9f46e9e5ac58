# The guest's modules go and come back; devices are found again and deliver.

host() {
  linux_start --device virtio-rng-device,bus=amp0/fifo0/bus2
  in_guest insert_our_modules
  for round in 1 2 3; do
    note "round $round"
    in_guest 'wait_for 20 virtio_bound_is 4 1'
    compare_entropy record.0 1024
    in_guest remove_our_modules
    in_guest 'virtio_count 4'
    same 'devices without our modules' "$OUTPUT" 0
    in_guest insert_our_modules
  done
  # What comes while the modules are away is there afterwards.
  in_guest remove_our_modules
  control attach rng --id late --place amp0/fifo1/slot1
  in_guest insert_our_modules
  in_guest 'wait_for 20 virtio_bound_is 4 2'
  linux_end
}
