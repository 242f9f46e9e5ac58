#include "vmm/kvm/linux_kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <vector>

#include "gtest/gtest.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::vmm {
namespace {

// Story: with the kernel headers' own declaration of trailing arrays the ioctl
// number of KVM_GET_SUPPORTED_CPUID was wrong in C++, and the call failed with
// EINVAL or ENOTTY.
TEST(LinuxKvmTest, KernelTakesTheNumberOfAnIoctlWithATrailingArray) {
  const UniqueFd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.valid()) GTEST_SKIP() << "/dev/kvm can't be opened, errno " << errno;
  constexpr uint32_t kEntries = 512;
  std::vector<uint64_t> bytes(
      (sizeof(kvm_cpuid2) + kEntries * sizeof(kvm_cpuid_entry2)) / 8);
  auto* const table = reinterpret_cast<kvm_cpuid2*>(bytes.data());
  table->nent = kEntries;
  ASSERT_EQ(ioctl(kvm.get(), KVM_GET_SUPPORTED_CPUID, table), 0)
      << "errno " << errno;
  EXPECT_GT(table->nent, 0u);
  EXPECT_LT(table->nent, kEntries);
}

}  // namespace
}  // namespace vmsg::vmm
