# Two processors, and devices on two FIFOs: interrupts go where the guest wants
# them, also when it changes its mind, and both processors read at once.

host() {
  linux_start --smp=2
  in_guest nproc
  same processors "$OUTPUT" 2
  in_guest insert_our_modules
  for fifo in 0 1; do
    control attach rng --id rng$fifo --place amp0/fifo$fifo/slot0 \
      --wait "${PATIENCE}s"
    in_guest "use_rng $fifo"
    for cpu in 1 0; do
      in_guest "pin_interrupts $fifo $cpu && interrupts_on_cpu $fifo $cpu"
      before=$OUTPUT
      compare_entropy record.$fifo 1024
      in_guest "interrupts_on_cpu $fifo $cpu"
      # 16 requests; the first interrupt is what moves the others.
      at_least "interrupts of FIFO $fifo on CPU $cpu" $((OUTPUT - before)) 15
    done
  done
  in_guest 'read_on_cpus 0 1'
  same 'bytes read on both' "$(echo $OUTPUT)" '2048 2048'
  linux_end
}
