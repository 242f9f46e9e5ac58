// Devices behind an embedder's translation, with a driver that knows of it and
// with one that does not. That rings and buffers of all kinds work there is the
// matter of ring_test.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/amp_function.h"
#include "guest/driver/arena.h"
#include "guest/driver/bus.h"
#include "guest/driver/features.h"
#include "guest/driver/platform.h"
#include "guest/driver/rng.h"
#include "guest/driver/virtio_device.h"
#include "guest/driver/window_fifo.h"
#include "tests/in_process/in_process_machine.h"
#include "vmm/base/guest_address.h"
#include "vmm/control/hotplug_bus.h"
#include "vmm/memory/iova_map.h"

namespace vmsg {
namespace {

using guest::Error;

constexpr uint64_t kTimeoutNs = 60'000'000'000;
// As InProcessPlatform has it.
constexpr vmm::GuestRange kRam{{0x100000}, 4 << 20};
constexpr guest::Features kUnaware =
    guest::kRngFeatures.Without(guest::kFeatureAccessPlatform);

void OpenFunction(InProcessMachine* machine, guest::AmpFunction* function) {
  std::array<guest::PciLocation, 1> found;
  ASSERT_EQ(guest::FindPciFunctions(machine->platform(), guest::kAmpVendorId,
                                    guest::kAmpDeviceId, found),
            1u);
  ASSERT_EQ(function->Open(machine->platform(), found[0]), Error::kNone);
}

// One device, its driver, and the pages that they share.
class RngUser {
 public:
  static constexpr uint64_t kArenaBytes = 64 * 1024;

  RngUser(InProcessMachine* machine, guest::AmpFunction* function,
          uint32_t fifo, guest::Features features)
      : options_{.requests = 5, .request_bytes = 3000, .features = features},
        arena_(machine->platform()->dma_arena()->Carve(kArenaBytes, 4096)) {
    guest::Fifo* const joined = window_.Open(function->window(fifo));
    EXPECT_EQ(guest::JoinFifo(machine->platform(), joined,
                              function->doorbell_address(fifo),
                              function->interrupt(fifo).id, kTimeoutNs),
              Error::kNone);
    bus_.emplace(
        machine->platform(), joined,
        guest::BusOptions{.doorbell_address = function->doorbell_address(fifo),
                          .interrupt = function->interrupt(fifo).id,
                          .timeout_ns = kTimeoutNs});
    EXPECT_EQ(device_.Probe(&*bus_, 0), Error::kNone);
  }

  Error Start() {
    arena_.Reset();
    return rng_.Start(&device_, options_, &arena_);
  }
  Error Read() {
    std::array<std::byte, 40000> bytes;
    uint64_t received;
    uint32_t requests;
    return rng_.Read(bytes, &received, &requests);
  }
  guest::VirtioDevice& device() { return device_; }
  // The pages, as the device knows them.
  vmm::GuestRange pages() {
    guest::Arena whole = arena_;
    whole.Reset();
    return {{whole.Allocate(1, 1).address}, kArenaBytes};
  }

 private:
  const guest::RngOptions options_;
  guest::Arena arena_;
  guest::WindowFifo window_;
  std::optional<guest::Bus> bus_;
  guest::VirtioDevice device_;  // before the bus goes
  guest::Rng rng_;
};

class TranslationTest : public testing::TestWithParam<bool> {
 protected:
  // With the ring format of this test.
  guest::Features Format(guest::Features features) const {
    return GetParam() ? features.With(guest::kFeatureRingPacked) : features;
  }
};

INSTANTIATE_TEST_SUITE_P(Rings, TranslationTest, testing::Bool(),
                         [](const auto& packed) {
                           return packed.param ? "Packed" : "Split";
                         });

TEST_P(TranslationTest, DriverThatDoesNotAcceptItIsRefused) {
  vmm::IovaMap iommu;
  InProcessMachine machine({.num_fifos = 1, .translator = &iommu});
  machine.Attach(0, 0, 0);
  guest::AmpFunction function;
  OpenFunction(&machine, &function);
  {
    RngUser unaware(&machine, &function, 0, Format(kUnaware));
    EXPECT_EQ(unaware.Start(), Error::kRefused);
  }
  EXPECT_EQ(machine.rng_stats(0, 0, 0).bytes, 0u);
  // One that accepts it and has nothing mapped gets no queue, ...
  RngUser aware(&machine, &function, 0, Format(guest::kRngFeatures));
  EXPECT_EQ(aware.Start(), Error::kRefused);
  // ... and with memory mapped to itself it works.
  ASSERT_TRUE(iommu.Map({.iova = kRam, .physical = kRam.start}).ok());
  EXPECT_EQ(aware.Start(), Error::kNone);
  EXPECT_EQ(aware.Read(), Error::kNone);
  EXPECT_EQ(aware.device().Reset(), Error::kNone);
}

TEST_P(TranslationTest, WhereItIsAllowedADriverMayPassItBy) {
  vmm::IovaMap iommu;
  InProcessMachine machine(
      {.num_fifos = 1, .translator = &iommu, .allow_untranslated = true});
  machine.Attach(0, 0, 0);
  guest::AmpFunction function;
  OpenFunction(&machine, &function);
  RngUser unaware(&machine, &function, 0, Format(kUnaware));
  ASSERT_EQ(unaware.Start(), Error::kNone);
  EXPECT_EQ(unaware.Read(), Error::kNone);
  EXPECT_EQ(unaware.device().Reset(), Error::kNone);
}

TEST_P(TranslationTest, DeviceWhoseMemoryIsUnmappedNeedsAResetAndNoOtherDoes) {
  InProcessMachine machine({.num_fifos = 2, .with_iommu = true});
  machine.Attach(0, 0, 0);
  machine.Attach(0, 1, 0);
  guest::AmpFunction function;
  OpenFunction(&machine, &function);
  RngUser victim(&machine, &function, 0, Format(guest::kRngFeatures));
  RngUser other(&machine, &function, 1, Format(guest::kRngFeatures));
  ASSERT_EQ(victim.Start(), Error::kNone);
  ASSERT_EQ(other.Start(), Error::kNone);
  ASSERT_EQ(victim.Read(), Error::kNone);

  vmm::IovaMap& iommu = *machine.platform()->iommu();
  const vmm::GuestRange pages = victim.pages();
  // What is behind the pages: RAM is mapped in reverse.
  const auto physical = [&](uint64_t page) {
    return vmm::GuestAddress{
        kRam.start.value + kRam.size - 4096 -
        (pages.start.value - guest::InProcessPlatform::kIova.value) -
        4096 * page};
  };
  ASSERT_TRUE(iommu.Unmap(pages).ok());
  EXPECT_EQ(victim.Read(), Error::kNeedsReset);
  EXPECT_EQ(machine.slot_report(0, 0, 0).health, control::Health::kNeedsReset);
  EXPECT_EQ(other.Read(), Error::kNone);

  EXPECT_EQ(victim.device().Reset(), Error::kNone);
  for (uint64_t page = 0; page < pages.size / 4096; ++page) {
    ASSERT_TRUE(iommu
                    .Map({.iova = {{pages.start.value + 4096 * page}, 4096},
                          .physical = physical(page)})
                    .ok());
  }
  EXPECT_EQ(victim.Start(), Error::kNone);
  EXPECT_EQ(victim.Read(), Error::kNone);
  EXPECT_EQ(other.Read(), Error::kNone);
}

// --- On several threads. ---

TEST_P(TranslationTest, MappingsComeAndGoWhileDevicesWork) {
  constexpr uint32_t kFifos = 2;
  InProcessMachine machine(
      {.num_fifos = kFifos, .threads = true, .with_iommu = true});
  guest::AmpFunction function;
  OpenFunction(&machine, &function);
  std::vector<std::unique_ptr<RngUser>> users;
  for (uint32_t fifo = 0; fifo < kFifos; ++fifo) {
    machine.Attach(0, fifo, 0);
    users.push_back(std::make_unique<RngUser>(&machine, &function, fifo,
                                              Format(guest::kRngFeatures)));
  }
  std::atomic<bool> stop{false};
  std::thread iommu_thread([&] {
    vmm::IovaMap& iommu = *machine.platform()->iommu();
    const vmm::GuestRange place{{0x1000}, 4096};
    while (!stop.load()) {
      ASSERT_TRUE(iommu.Map({.iova = place, .physical = kRam.start}).ok());
      ASSERT_TRUE(iommu.Unmap(place).ok());
    }
  });
  std::vector<std::thread> drivers;
  std::array<Error, kFifos> errors;
  errors.fill(Error::kNone);
  for (uint32_t fifo = 0; fifo < kFifos; ++fifo) {
    drivers.emplace_back([&user = *users[fifo], &error = errors[fifo]] {
      error = user.Start();
      for (int i = 0; error == Error::kNone && i < 20; ++i) {
        error = user.Read();
      }
      if (error == Error::kNone) error = user.device().Reset();
    });
  }
  for (std::thread& driver : drivers) driver.join();
  stop.store(true);
  iommu_thread.join();
  for (const Error error : errors) {
    EXPECT_EQ(error, Error::kNone) << guest::ErrorName(error);
  }
}

}  // namespace
}  // namespace vmsg
