# A guest with memory above 4 GiB, which is where Linux takes buffers from first;
# most of it is never touched.

host() {
  MEMORY=6144
  linux_start
  in_guest "awk '/MemTotal/ {print (\$2 > 5500000)}' /proc/meminfo"
  same 'has more than 5.5 GB' "$OUTPUT" 1
  in_guest insert_our_modules
  control attach rng --id rng0 --place amp0/fifo0/slot0 --wait "${PATIENCE}s"
  compare_entropy record.0 1024
  linux_end
}
