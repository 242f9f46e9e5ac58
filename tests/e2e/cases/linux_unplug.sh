# A device goes while the guest reads from it: the read ends, the guest lives, and
# the next device on the same place works.

host() {
  linux_start
  in_guest insert_our_modules
  # So slow that the reader certainly waits for it.
  control attach rng --id slow --place amp0/fifo0/slot3 --wait "${PATIENCE}s" \
    --max-bytes-per-period 64 --period 1s
  in_guest 'dd if=/dev/hwrng of=/tmp/read bs=64 2>/dev/null & echo $! >/tmp/reader'
  in_guest 'wait_for 20 test -s /tmp/read'
  control detach slow --wait "${PATIENCE}s"
  same 'state of slow' "$(json state "$REPLY")" DEVICE_STATE_GONE
  in_guest 'wait_for 20 not kill -0 "$(cat /tmp/reader)"'
  in_guest 'virtio_count 4'
  same 'devices after that' "$OUTPUT" 0

  control attach rng --id next --place amp0/fifo0/slot3 --wait "${PATIENCE}s"
  same 'state of next' "$(json state "$REPLY")" DEVICE_STATE_PRESENT
  compare_entropy record.1 1024
  linux_end
}
