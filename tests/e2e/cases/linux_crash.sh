# The guest's kernel panics while its devices are in use, so no driver says a word to
# them. The kernel that takes over finds them again.

host() {
  GUEST_OPTIONS="$GUEST_OPTIONS crashkernel=192M"
  CRASH='BUG:|Oops'
  linux_kexec_start
  linux_kexec_load load-panic
  in_guest_start 'echo c >/proc/sysrq-trigger'
  hear 'Kernel panic - not syncing: sysrq triggered crash'
  linux_kexec_end
}
