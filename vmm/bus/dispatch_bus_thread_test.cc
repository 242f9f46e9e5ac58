// What DispatchMmioBus promises when handlers run on several threads.

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

constexpr GuestAddress kBase{0xFE00'0000};
// How long a wrong early return is given to show up. A correct one never
// depends on it.
constexpr std::chrono::milliseconds kNotYet(50);

// Its calls stay inside until released.
class GatedHandler final : public IoHandler {
 public:
  void Read(uint64_t, std::span<std::byte> data) override {
    std::fill(data.begin(), data.end(), std::byte{0});
  }
  void Write(uint64_t, std::span<const std::byte>) override {
    entered.set_value();
    released.wait();
    left.store(true);
  }

  std::promise<void> entered;
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::atomic<bool> left = false;
};

TEST(DispatchBusThreadTest, DestructionWaitsForTheCallInProgress) {
  DispatchMmioBus bus;
  GatedHandler handler;
  auto mapping = bus.MapHandler("dev", 0x1000, &handler).value();
  ASSERT_OK(mapping->SetBase(kBase));
  std::thread vcpu([&bus] { bus.Write(kBase, std::array<std::byte, 4>{}); });
  handler.entered.get_future().wait();

  auto destroyed = std::async(std::launch::async, [&] {
    mapping.reset();
    return handler.left.load();
  });
  EXPECT_EQ(destroyed.wait_for(kNotYet), std::future_status::timeout);
  handler.release.set_value();

  EXPECT_TRUE(destroyed.get());
  vcpu.join();
}

TEST(DispatchBusThreadTest, MoveDoesNotWaitForTheCallInProgress) {
  DispatchMmioBus bus;
  GatedHandler handler;
  const auto mapping = bus.MapHandler("dev", 0x1000, &handler).value();
  ASSERT_OK(mapping->SetBase(kBase));
  std::thread vcpu([&bus] { bus.Write(kBase, std::array<std::byte, 4>{}); });
  handler.entered.get_future().wait();

  // Would hang if it waited: the handler is released only afterwards.
  EXPECT_OK(mapping->SetBase(GuestAddress{kBase.value + 0x1000}));
  EXPECT_OK(mapping->SetBase(std::nullopt));

  EXPECT_FALSE(handler.left.load());
  handler.release.set_value();
  vcpu.join();
}

// A handler may move its own mapping, as a config write does.
class MovingHandler final : public IoHandler {
 public:
  void Read(uint64_t, std::span<std::byte> data) override {
    std::fill(data.begin(), data.end(), std::byte{0});
  }
  void Write(uint64_t, std::span<const std::byte>) override {
    moved = mapping->SetBase(std::nullopt).ok();
  }

  std::unique_ptr<MmioMapping> mapping;
  bool moved = false;
};

TEST(DispatchBusThreadTest, HandlerMayMoveItsOwnMapping) {
  DispatchMmioBus bus;
  MovingHandler handler;
  handler.mapping = bus.MapHandler("dev", 0x1000, &handler).value();
  ASSERT_OK(handler.mapping->SetBase(kBase));

  EXPECT_TRUE(bus.Write(kBase, std::array<std::byte, 4>{}));

  EXPECT_TRUE(handler.moved);
  EXPECT_FALSE(bus.Write(kBase, std::array<std::byte, 4>{}));
}

class SuicidalHandler final : public IoHandler {
 public:
  void Read(uint64_t, std::span<std::byte> data) override {
    std::fill(data.begin(), data.end(), std::byte{0});
  }
  void Write(uint64_t, std::span<const std::byte>) override { mapping.reset(); }

  std::unique_ptr<MmioMapping> mapping;
};

TEST(DispatchBusDeathTest, DestroyingAMappingInsideItsHandlerIsOurBug) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  DispatchMmioBus bus;
  SuicidalHandler handler;
  handler.mapping = bus.MapHandler("dev", 0x1000, &handler).value();
  ASSERT_OK(handler.mapping->SetBase(kBase));

  EXPECT_DEATH(bus.Write(kBase, std::array<std::byte, 4>{}),
               "inside its own handler");
}

// Every read of the mapping's two places hits exactly one of them while it
// hops.
TEST(DispatchBusThreadTest, RacingMovesKeepAccessesWhole) {
  constexpr int kMoves = 3000;
  class CountingHandler final : public IoHandler {
   public:
    void Read(uint64_t offset, std::span<std::byte> data) override {
      if (offset != 8 || data.size() != 8) wrong.fetch_add(1);
      std::fill(data.begin(), data.end(), std::byte{0x11});
    }
    void Write(uint64_t, std::span<const std::byte>) override {}
    std::atomic<int> wrong = 0;
  };
  DispatchMmioBus bus;
  CountingHandler handler;
  const auto mapping = bus.MapHandler("dev", 0x1000, &handler).value();
  const GuestAddress other{kBase.value + 0x1000};
  ASSERT_OK(mapping->SetBase(kBase));

  std::atomic<bool> done = false;
  std::atomic<int> torn = 0;
  std::thread vcpu([&] {
    std::array<std::byte, 8> data;
    const auto check = [&](GuestAddress place) {
      const bool claimed = bus.Read({place.value + 8}, data);
      for (const std::byte b : data) {
        if (b != (claimed ? std::byte{0x11} : std::byte{0xFF})) ++torn;
      }
    };
    while (!done.load()) {
      check(kBase);
      check(other);
    }
  });
  for (int i = 0; i < kMoves; ++i) {
    EXPECT_OK(mapping->SetBase(i % 2 == 0 ? other : kBase));
  }
  done.store(true);
  vcpu.join();

  EXPECT_EQ(torn.load(), 0);
  EXPECT_EQ(handler.wrong.load(), 0);
}

}  // namespace
}  // namespace vmsg::vmm
