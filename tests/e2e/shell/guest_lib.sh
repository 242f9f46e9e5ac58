# Functions of the Linux guest, for the commands of `in_guest`.

MODULES=/lib/e2e_modules

# insert_stock_modules: those that Debian's kernel has.
insert_stock_modules() { insert $(cat $MODULES/stock); }

# insert_our_modules: virtio_msg and what comes after it.
insert_our_modules() { insert $(cat $MODULES/ours); }

# remove_our_modules: in the opposite order.
remove_our_modules() {
  for module in $(tac $MODULES/ours); do
    rmmod "$module" || return 1
  done
}

insert() {
  for module in "$@"; do
    insmod "$MODULES/$module.ko" || return 1
  done
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
  tries=$(($1 * 10))
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    sleep 0.1
  done
}

# virtio_count ID: how many virtio devices of this type (4: entropy) there are.
virtio_count() {
  cat /sys/bus/virtio/devices/*/device 2>/dev/null |
    awk -v "kind=$(printf 0x%04x "$1")" '$1 == kind {n++} END {print n + 0}'
}

# virtio_bound ID: how many of them have a driver.
virtio_bound() {
  bound=0
  for device in /sys/bus/virtio/devices/*; do
    [ "$(cat "$device/device" 2>/dev/null)" = "$(printf 0x%04x "$1")" ] &&
      [ -e "$device/driver" ] && bound=$((bound + 1))
  done
  echo $bound
}

# virtio_bound_is ID COUNT
virtio_bound_is() { [ "$(virtio_bound "$1")" -eq "$2" ]; }

# new_warnings: log lines of level warning and above that came after the stock
# modules; not the two taint lines of each out-of-tree, unsigned module, and not
# that a busy host let a processor or a clock wait, which Linux tells at any time.
new_warnings() {
  dmesg -r | awk 'NR == FNR {before++; next} FNR > before' /tmp/log_before - |
    grep '^<[0-4]>' |
    grep -v -e ': loading out-of-tree module taints kernel' \
      -e ': module verification failed: signature and/or required key missing' \
      -e 'clocksource: ' -e 'hrtimer: interrupt took '
  true
}

# log_has TEXT: whether a line of the kernel's log has it.
log_has() { dmesg | grep -q -F -e "$1"; }

HWRNG=/sys/class/misc/hw_random

# read_entropy BYTES: reads /dev/hwrng; prints bytes=N sha256=DIGEST.
read_entropy() {
  dd if=/dev/hwrng of=/tmp/entropy bs=64 count=$(($1 / 64)) iflag=fullblock \
    2>/dev/null || return 1
  echo "bytes=$(stat -c %s /tmp/entropy) sha256=$(sha256sum </tmp/entropy |
    cut -d ' ' -f 1)"
}

# not COMMAND...: its opposite.
not() { ! "$@"; }

# amp_interrupts FIFO: how often the processors took the vector of this FIFO.
amp_interrupts() {
  awk -v "name=fifo$1\$" '/virtio-msg-/ && $0 ~ name {
    for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i; print n}' /proc/interrupts
}

# amp_irq FIFO: the number of its interrupt.
amp_irq() { sed -n "s/^ *\([0-9]*\):.*virtio-msg-.*fifo$1\$/\1/p" /proc/interrupts; }

# pin_interrupts FIFO CPU: lets this processor take them.
pin_interrupts() { echo "$2" >"/proc/irq/$(amp_irq "$1")/smp_affinity_list"; }

# interrupts_on_cpu FIFO CPU: how many of them this processor took.
interrupts_on_cpu() {
  awk -v "line=$(amp_irq "$1"):" -v "column=$(($2 + 2))" \
    '$1 == line {print $column}' /proc/interrupts
}

# use_rng NUMBER: makes this device the source of /dev/hwrng.
use_rng() {
  echo "virtio_rng.$1" >$HWRNG/rng_current &&
    [ "$(cat $HWRNG/rng_current)" = "virtio_rng.$1" ]
}

# read_on_cpus CPU...: each of them reads 2048 bytes, all at once; how many it got.
read_on_cpus() {
  for cpu in "$@"; do
    taskset -c "$cpu" dd if=/dev/hwrng "of=/tmp/cpu$cpu" bs=64 count=32 \
      iflag=fullblock 2>/dev/null &
  done
  wait
  for cpu in "$@"; do
    stat -c %s "/tmp/cpu$cpu"
  done
}
