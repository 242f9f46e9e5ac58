# Several devices on both FIFOs of a function, each the source of /dev/hwrng once.

host() {
  linux_start
  in_guest insert_our_modules
  for place in fifo0/slot0 fifo1/slot0 fifo0/slot7 fifo1/slot31; do
    control attach rng --id "$(echo $place | tr / -)" --place "amp0/$place" \
      --wait "${PATIENCE}s"
    same "state on $place" "$(json state "$REPLY")" DEVICE_STATE_PRESENT
  done
  in_guest 'virtio_bound 4'
  same 'devices with a driver' "$OUTPUT" 4
  for number in 0 1 2 3; do
    in_guest "use_rng $number"
    compare_entropy record.$number 1024
  done
  linux_end
}
