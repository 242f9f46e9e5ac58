// kexec: goes from the running kernel to another one, without firmware between.
//
//   kexec load KERNEL INITRD COMMAND_LINE        for `kexec now`
//   kexec load-panic KERNEL INITRD COMMAND_LINE  for when this kernel panics
//   kexec now
//
// KERNEL is a bzImage. Debian's kexec-tools does the same; it also hooks into
// the reboot of the machine that it is installed on, which is not the guest
// here.

#include <fcntl.h>
#include <linux/kexec.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string_view>

namespace {

int Fail(const char* what) {
  std::perror(what);
  return 1;
}

int Load(const char* kernel, const char* initrd, const char* command_line,
         unsigned long flags) {
  const int kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
  if (kernel_fd < 0) return Fail(kernel);
  const int initrd_fd = open(initrd, O_RDONLY | O_CLOEXEC);
  if (initrd_fd < 0) return Fail(initrd);
  if (syscall(SYS_kexec_file_load, kernel_fd, initrd_fd,
              std::strlen(command_line) + 1, command_line, flags) != 0) {
    return Fail("kexec_file_load");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "load" && argc == 5) return Load(argv[2], argv[3], argv[4], 0);
  if (command == "load-panic" && argc == 5) {
    return Load(argv[2], argv[3], argv[4], KEXEC_FILE_ON_CRASH);
  }
  if (command == "now" && argc == 2) {
    reboot(RB_KEXEC);
    return Fail("kexec");
  }
  std::fputs("kexec: load|load-panic KERNEL INITRD COMMAND_LINE, or now\n",
             stderr);
  return 2;
}
