# The guest goes to a new kernel by kexec while its devices are in use, and finds
# them again.

host() {
  linux_kexec_start
  linux_kexec_load load
  in_guest_start '/kexec/kexec now'
  linux_kexec_end
}
