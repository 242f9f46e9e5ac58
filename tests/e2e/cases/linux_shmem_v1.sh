# FIFOs of layout shmem-v1, where both sides shake hands: at the start, when the
# modules go and come back, after a reboot that says nothing, and when the operator
# resets a FIFO under its driver.

host() {
  LAYOUT=shmem-v1
  linux_start
  fifo_becomes 0 WAITING
  in_guest insert_our_modules
  fifo_becomes 0 RUNNING
  fifo_becomes 1 RUNNING
  unplug_while_read amp0/fifo0/slot3
  control attach rng --id next --place amp0/fifo0/slot3 --wait "${PATIENCE}s"
  compare_entropy record.1 1024

  note 'modules away and back'
  in_guest remove_our_modules
  fifo_becomes 0 WAITING
  in_guest insert_our_modules
  in_guest 'wait_for 20 virtio_bound_is 4 1'
  compare_entropy record.1 1024

  note 'reset of a FIFO, which the driver has to find out by itself'
  in_guest new_warnings
  same 'warnings' "${OUTPUT:-none}" none
  control reset-fifo amp0/fifo0
  in_guest 'wait_for 20 log_has "fifo0 is down: the device has started anew"'
  fifo_becomes 1 RUNNING
  in_guest 'new_warnings | grep -v "fifo0 is down" || true'
  same 'other warnings' "${OUTPUT:-none}" none
  in_guest 'remove_our_modules && insert_our_modules'
  in_guest 'wait_for 20 virtio_bound_is 4 1'
  compare_entropy record.1 1024

  note 'reboot'
  in_guest_start 'reboot -f'
  linux_is_up
  in_guest insert_our_modules
  in_guest 'wait_for 20 virtio_bound_is 4 1'
  compare_entropy record.1 1024
  linux_end
}
