# A FIFO breaks under its driver, which then can't reset the devices on it. When the
# function is unbound, the devices of the other FIFO let go first, as they may have
# work to end; then DMA ends; then the memory of those that broke is given back.

GUEST_OPTIONS="$GUEST_OPTIONS $FIFO_BREAKS"

host() {
  linux_start
  in_guest insert_our_modules
  control attach rng --id broken --place amp0/fifo0/slot0 --wait "${PATIENCE}s"
  control attach rng --id sound --place amp0/fifo1/slot0 --wait "${PATIENCE}s"
  in_guest 'use_rng 0'
  compare_entropy record.0 1024

  fifo_break
  in_guest 'cat /sys/bus/virtio/devices/virtio0/status'
  in_guest 'wait_for 20 log_has "fifo0 is down: an index is out of range"'
  in_guest 'use_rng 1'
  compare_entropy record.1 1024

  trace pci_clear_master vring_del_virtqueue
  in_guest 'cd /sys/bus/pci/drivers/virtio_msg_amp_pci && basename 0000:* >/tmp/name'
  in_guest 'cat /tmp/name >unbind'
  in_guest 'virtio_count 4'
  same 'devices after that' "$OUTPUT" 0
  traced
  # What follows is of no matter.
  same 'order' "$(echo $OUTPUT | cut -d ' ' -f -3)" \
    'vring_del_virtqueue pci_clear_master vring_del_virtqueue'

  in_guest 'cat /tmp/name >bind'
  in_guest 'wait_for 20 virtio_bound_is 4 1'
  compare_entropy record.1 1024
  in_guest 'new_warnings | grep -v -e "fifo0 is down" -e "fifo0 can.t be used" || true'
  same 'other warnings' "${OUTPUT:-none}" none
  in_guest_start 'poweroff -f'
  vmm_end
}
