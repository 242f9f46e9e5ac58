# A device goes while the guest reads from it: the read ends, the guest lives, and
# the next device on the same place works.

host() {
  linux_start
  in_guest insert_our_modules
  unplug_while_read amp0/fifo0/slot3
  control attach rng --id next --place amp0/fifo0/slot3 --wait "${PATIENCE}s"
  same 'state of next' "$(json state "$REPLY")" DEVICE_STATE_PRESENT
  compare_entropy record.1 1024
  linux_end
}
