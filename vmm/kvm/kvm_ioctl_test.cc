#include "vmm/kvm/kvm_ioctl.h"

#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/event_fd.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(KvmIoctlTest, FailureReturnsTheErrnoAsANegativeNumber) {
  EXPECT_EQ(KvmIoctl(-1, 0), -EBADF);
}

TEST(KvmIoctlTest, UnknownRequestIsRefused) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  EXPECT_EQ(KvmIoctl(event.fd(), 0xAE00), -ENOTTY);
}

TEST(KvmStatusTest, CodesSayWhatTheCallerCanDo) {
  EXPECT_THAT(KvmStatus("x", EEXIST),
              StatusIs(absl::StatusCode::kAlreadyExists));
  for (const int error : {ENOMEM, ENOSPC, EMFILE, ENFILE}) {
    EXPECT_THAT(KvmStatus("x", error),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  // These two would read as "KVM cannot be opened".
  for (const int error : {ENOENT, EAGAIN, EINVAL, EFAULT}) {
    EXPECT_THAT(KvmStatus("x", error), StatusIs(absl::StatusCode::kInternal));
  }
}

TEST(KvmStatusTest, TextNamesTheCallAndTheErrno) {
  EXPECT_THAT(
      KvmStatus("KVM_THIS of slot 3", EINVAL),
      StatusIs(absl::StatusCode::kInternal,
               AllOf(HasSubstr("KVM_THIS of slot 3"),
                     HasSubstr("Invalid argument"), HasSubstr("errno 22"))));
}

}  // namespace
}  // namespace vmsg::vmm
