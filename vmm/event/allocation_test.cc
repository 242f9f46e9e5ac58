// What the data path does on a loop allocates nothing.

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <thread>

#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_fd.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/event/event_loop.h"
#include "vmm/testing/status_matchers.h"

namespace {

std::atomic<int> allocations{0};

}  // namespace

void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace vmsg::vmm {
namespace {

class AllocationTest : public ::testing::Test {
 protected:
  AllocationTest() : loop_(*EpollEventLoop::Create()) {}

  // Rounds until `done`; returns the allocations since `before`.
  template <typename Done>
  int AllocationsUntil(int before, Done done) {
    while (!done()) loop_->RunOnce(Duration(-1));
    return allocations.load(std::memory_order_relaxed) - before;
  }

  const std::unique_ptr<EpollEventLoop> loop_;
};

TEST_F(AllocationTest, TheCounterCounts) {
  const int before = allocations;
  const auto memory = std::make_unique<int>(1);
  EXPECT_EQ(allocations - before, 1);
}

TEST_F(AllocationTest, SignalAndItsRunDoNotAllocate) {
  int runs = 0;
  const auto source = loop_->CreateWakeSource([&] { ++runs; });
  const int before = allocations;
  for (int i = 0; i < 100; ++i) {
    source->Signal();
    loop_->RunOnce(Duration(-1));
  }
  EXPECT_EQ(allocations - before, 0);
  EXPECT_EQ(runs, 100);
}

TEST_F(AllocationTest, ArmingAndFiringDoNotAllocate) {
  int fired = 0;
  std::unique_ptr<Timer> timers[20];
  for (auto& timer : timers) timer = loop_->CreateTimer([&] { ++fired; });
  const int before = allocations;
  for (auto& timer : timers) timer->Arm(std::chrono::microseconds(100));
  for (auto& timer : timers) timer->Cancel();
  for (auto& timer : timers) timer->Arm(std::chrono::microseconds(100));
  EXPECT_EQ(AllocationsUntil(before, [&] { return fired == 20; }), 0);
}

TEST_F(AllocationTest, DispatchOfADescriptorDoesNotAllocate) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  int calls = 0;
  const auto watch =
      loop_->Watch(event.fd(), FdEvents::kReadable, [&](FdEvents) {
        event.Drain();
        ++calls;
      });
  ASSERT_OK(watch);
  const int before = allocations;
  event.Signal();
  EXPECT_EQ(AllocationsUntil(before, [&] { return calls == 1; }), 0);
  (*watch)->SetEvents(FdEvents::kNone);
  (*watch)->SetEvents(FdEvents::kReadable);
  EXPECT_EQ(allocations - before, 0);
}

}  // namespace
}  // namespace vmsg::vmm
