#!/bin/busybox sh
# The first process of a Linux guest: inserts modules, then does what the console
# says. A line "NUMBER COMMAND" is executed; each line of its output comes back as
# "e2e-out NUMBER LINE", then "e2e-done NUMBER STATUS end", which is whole when its last
# word is there. Cases use `in_guest` for it.
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp /root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp

exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
. /lib/guest_lib.sh

insert_stock_modules
# What is in the log until here would be there without our modules too.
dmesg -r >/tmp/log_before
echo "e2e-ready kernel=$(uname -r) cpus=$(nproc)"
while read -r number command; do
  eval "$command" >/tmp/output 2>&1 </dev/null
  status=$?
  sed "s/^/e2e-out $number /" /tmp/output
  echo "e2e-done $number $status end"
done
poweroff -f
