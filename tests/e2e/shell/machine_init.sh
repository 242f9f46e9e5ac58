#!/bin/busybox sh
# The first process of the emulated machine: brings KVM up, runs the cases, says
# how that went and switches the machine off. The cases are words of the kernel's
# command line: e2e.cases=NAME,NAME e2e.seconds=N
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp /root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug
mount -t tmpfs tmpfs /tmp

# Guests may be larger than this machine, and most of their memory is not touched.
echo 1 >/proc/sys/vm/overcommit_memory
# Two levels of page tables are walked in software here: large pages are quicker.
echo always >/sys/kernel/mm/transparent_hugepage/enabled
echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled

for module in $(cat /lib/e2e_modules/order); do
  insmod "/lib/e2e_modules/$module.ko" || echo "e2e: error: insmod $module"
done
for word in $(cat /proc/cmdline); do
  case $word in
    e2e.cases=*) cases=$(echo "${word#*=}" | tr , ' ') ;;
    e2e.seconds=*) seconds=${word#*=} ;;
  esac
done

export E2E_CASE_SECONDS=$seconds
if [ -c /dev/kvm ]; then
  # shellcheck disable=SC2086  # names of cases have no spaces
  /e2e/shell/run_cases.sh /e2e /tmp $cases
  echo "e2e: end status=$?"
else
  echo "e2e: error: this machine has no /dev/kvm"
  echo "e2e: end status=1"
fi
poweroff -f
