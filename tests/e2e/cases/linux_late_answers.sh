# A host that answers too late: enumeration is repeated until it knows the devices,
# a device that ran into a timeout goes on delivering and lets go, and a shutdown
# does not wait for one.

# linux_end would take these lines of the log for faults.
EXPECTED='-e "enumeration: -110" -e "does not answer"'

insert_with_timeout() {
  in_guest "insert virtio_msg && insmod \$MODULES/virtio_msg_amp_pci.ko \
request_timeout_ms=$1"
}

host() {
  linux_start --device virtio-rng-device,bus=amp0/fifo0/bus2
  fifo_hold 0
  insert_with_timeout 15000
  in_guest 'wait_for 60 log_has "fifo0: enumeration: -110"'
  in_guest 'virtio_count 4'
  same 'devices while nobody answers' "$OUTPUT" 0
  fifo_release
  in_guest 'wait_for 60 virtio_bound_is 4 1'
  compare_entropy record.0 1024

  note 'one request in vain, of a device that has a buffer of ours'
  in_guest 'not log_has "does not answer"'
  fifo_hold 0
  in_guest 'cat /sys/bus/virtio/devices/virtio0/status'
  in_guest 'log_has "fifo0 device 2: does not answer"'
  fifo_release
  compare_entropy record.0 1024
  in_guest remove_our_modules
  in_guest "new_warnings | grep -v $EXPECTED || true"
  same 'other warnings' "${OUTPUT:-none}" none

  note 'shutdown, with a request under way that would wait for 300 s'
  insert_with_timeout 300000
  in_guest 'wait_for 60 virtio_bound_is 4 1'
  compare_entropy record.0 1024
  fifo_hold 0
  in_guest 'cat /sys/bus/virtio/devices/virtio*/status >/dev/null 2>&1 & sleep 1'
  in_guest_start 'reboot -f'
  hear 'reboot: Restarting system'
  fifo_release
  linux_is_up
  in_guest insert_our_modules
  in_guest 'wait_for 60 virtio_bound_is 4 1'
  compare_entropy record.0 1024
  linux_end
}
