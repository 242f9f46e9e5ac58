#include "devices/virtio/testing/fake_notifier.h"

#include <gtest/gtest.h>

#include <thread>

namespace vmsg::virtio {
namespace {

TEST(FakeNotifierTest, RemembersEachKindOfCall) {
  FakeNotifier notifier;
  notifier.NotifyUsed(0);
  notifier.NotifyUsed(3);
  notifier.NotifyUsed(3);
  notifier.NotifyConfigChanged(4, 2);
  notifier.NotifyNeedsReset("loop");
  notifier.NotifyBackendHealth(false, "gone");
  EXPECT_EQ(notifier.used(0), 1u);
  EXPECT_EQ(notifier.used(1), 0u);
  EXPECT_EQ(notifier.used(3), 2u);
  EXPECT_EQ(notifier.used(), 3u);
  ASSERT_EQ(notifier.config_changes().size(), 1u);
  EXPECT_EQ(notifier.config_changes()[0], (FakeNotifier::ConfigChange{4, 2}));
  ASSERT_EQ(notifier.needs_reset().size(), 1u);
  EXPECT_EQ(notifier.needs_reset()[0], "loop");
  ASSERT_EQ(notifier.health().size(), 1u);
  EXPECT_EQ(notifier.health()[0], (FakeNotifier::Health{false, "gone"}));
}

TEST(FakeNotifierTest, CallsAfterForbidAreCountedApart) {
  FakeNotifier notifier;
  notifier.NotifyUsed(0);
  notifier.Forbid();
  EXPECT_EQ(notifier.forbidden_calls(), 0u);
  notifier.NotifyUsed(0);
  EXPECT_EQ(notifier.forbidden_calls(), 1u);
  EXPECT_EQ(notifier.used(0), 2u);
}

TEST(FakeNotifierTest, UsedMayComeFromSeveralThreads) {
  FakeNotifier notifier;
  const auto call = [&notifier] {
    for (int i = 0; i < 1000; ++i) notifier.NotifyUsed(1);
  };
  std::thread other(call);
  call();
  other.join();
  EXPECT_EQ(notifier.used(1), 2000u);
}

}  // namespace
}  // namespace vmsg::virtio
