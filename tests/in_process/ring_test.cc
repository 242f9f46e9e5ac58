// The driver's rings against the device's, which share no code: each format
// with and without each feature that changes what is in a ring.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/amp_function.h"
#include "guest/driver/any_virtqueue.h"
#include "guest/driver/bus.h"
#include "guest/driver/features.h"
#include "guest/driver/platform.h"
#include "guest/driver/rng.h"
#include "guest/driver/virtio_device.h"
#include "guest/driver/window_fifo.h"
#include "tests/in_process/in_process_machine.h"

namespace vmsg {
namespace {

using guest::Error;

constexpr uint64_t kTimeoutNs = 60'000'000'000;
constexpr uint64_t kFnvStart = 0xcbf29ce484222325;

uint64_t Fnv1a(uint64_t digest, std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) {
    digest = (digest ^ std::to_integer<uint64_t>(b)) * 0x100000001b3;
  }
  return digest;
}

// Packed, indirect descriptors, event index, in order, behind an IOMMU.
using RingCase = std::tuple<bool, bool, bool, bool, bool>;

bool IsPacked(const RingCase& ring) { return std::get<0>(ring); }
bool HasIommu(const RingCase& ring) { return std::get<4>(ring); }

guest::Features FeaturesOf(const RingCase& ring) {
  guest::Features features =
      guest::Features::Of(guest::kFeatureVersion1, guest::kFeatureRingReset);
  if (IsPacked(ring)) features.Set(guest::kFeatureRingPacked);
  if (std::get<1>(ring)) features.Set(guest::kFeatureIndirectDesc);
  if (std::get<2>(ring)) features.Set(guest::kFeatureEventIdx);
  if (std::get<3>(ring)) features.Set(guest::kFeatureInOrder);
  if (HasIommu(ring)) features.Set(guest::kFeatureAccessPlatform);
  return features;
}

std::string RingCaseName(const testing::TestParamInfo<RingCase>& ring) {
  std::string name = IsPacked(ring.param) ? "Packed" : "Split";
  if (std::get<1>(ring.param)) name += "Indirect";
  if (std::get<2>(ring.param)) name += "EventIndex";
  if (std::get<3>(ring.param)) name += "InOrder";
  if (HasIommu(ring.param)) name += "Iommu";
  return name;
}

// The driver's end of one FIFO.
class Driver {
 public:
  Driver(InProcessMachine* machine, guest::AmpFunction* function, uint32_t fifo)
      : platform_(machine->platform()) {
    guest::Fifo* const joined = window_.Open(function->window(fifo));
    EXPECT_EQ(
        guest::JoinFifo(platform_, joined, function->doorbell_address(fifo),
                        function->interrupt(fifo).id, kTimeoutNs),
        Error::kNone);
    bus_.emplace(
        platform_, joined,
        guest::BusOptions{.doorbell_address = function->doorbell_address(fifo),
                          .interrupt = function->interrupt(fifo).id,
                          .timeout_ns = kTimeoutNs});
  }

  guest::Bus* bus() { return &*bus_; }
  // Sleeps until something happens, or for `ns`.
  void Wait(uint64_t ns) {
    platform_->WaitForInterrupt(bus_->interrupt(),
                                platform_->InterruptCount(bus_->interrupt()),
                                guest::DeadlineAfter(platform_->NowNs(), ns));
  }

 private:
  guest::Platform* const platform_;
  guest::WindowFifo window_;
  std::optional<guest::Bus> bus_;
};

void OpenFunction(InProcessMachine* machine, guest::AmpFunction* function) {
  std::array<guest::PciLocation, 1> found;
  ASSERT_EQ(guest::FindPciFunctions(machine->platform(), guest::kAmpVendorId,
                                    guest::kAmpDeviceId, found),
            1u);
  ASSERT_EQ(function->Open(machine->platform(), found[0]), Error::kNone);
}

// --- On one thread. ---

class RingTest : public testing::TestWithParam<RingCase> {
 protected:
  static constexpr uint16_t kSlot = 3;
  static constexpr uint32_t kMaxChain = 5;
  static constexpr uint32_t kBufferBytes = 64;
  // Longer than the period of a device with a rate limit.
  static constexpr uint64_t kPeriodNs = 1'100'000'000;
  // Only a failing test sleeps that often.
  static constexpr uint32_t kPatience = 10'000;

  // A chain at the device, and where its buffers are.
  struct Pending {
    uint64_t cookie;
    std::vector<std::span<std::byte>> buffers;
  };

  void Create(const virtio::RngOptions& rng = {}) {
    machine_.emplace(
        MachineOptions{.num_fifos = 1, .with_iommu = HasIommu(GetParam())});
    machine_->Attach(0, 0, kSlot, rng);
    OpenFunction(&*machine_, &function_);
    driver_.emplace(&*machine_, &function_, 0);
    queue_arena_ = machine_->platform()->dma_arena()->Carve(16384, 4096);
    ASSERT_EQ(device_.Probe(driver_->bus(), kSlot), Error::kNone);
  }
  void Start(uint32_t queue_size) {
    const guest::Features features = FeaturesOf(GetParam());
    ASSERT_EQ(device_.Negotiate(features, features), Error::kNone);
    SetUpQueue(queue_size);
    ASSERT_EQ(device_.Start(), Error::kNone);
  }
  void SetUpQueue(uint32_t size) {
    queue_arena_.Reset();
    ASSERT_EQ(device_.SetUpQueue(0, size, kMaxChain, &queue_arena_, &queue_),
              Error::kNone);
    // Buffers for as many chains as there are descriptors.
    buffers_.clear();
    for (uint32_t i = 0; i < queue_->size(); ++i) {
      buffers_.push_back(
          queue_arena_.Allocate(uint64_t{kMaxChain} * kBufferBytes, 64));
      ASSERT_NE(buffers_.back().data, nullptr);
    }
    pending_.clear();
    next_cookie_ = 0;
  }

  // Adds a chain of random length; false when the queue is full.
  bool AddChain() {
    if (pending_.size() == buffers_.size()) return false;
    // Chains come back in the order in which they were added, here: their
    // buffers go round.
    const guest::DmaMemory& memory = buffers_[next_cookie_ % buffers_.size()];
    Pending pending = {.cookie = next_cookie_, .buffers = {}};
    std::vector<guest::QueueBuffer> chain(
        1 + random_() % std::min<uint32_t>(kMaxChain, queue_->size()));
    for (size_t i = 0; i < chain.size(); ++i) {
      const auto bytes = static_cast<uint32_t>(1 + random_() % kBufferBytes);
      chain[i] = {memory.address + kBufferBytes * i, bytes, true};
      pending.buffers.emplace_back(memory.data + kBufferBytes * i, bytes);
    }
    const Error error = queue_->Add(chain, next_cookie_);
    if (error == Error::kQueueFull) return false;
    EXPECT_EQ(error, Error::kNone);
    ++next_cookie_;
    pending_.push_back(std::move(pending));
    return true;
  }
  void Publish() {
    if (queue_->Publish()) {
      ASSERT_EQ(device_.Notify(0, *queue_), Error::kNone);
    }
  }
  // Takes what came back and adds it to the digest; false when there is none.
  bool TakeChain() {
    guest::UsedChain used;
    const Error error = queue_->Take(&used);
    if (error == Error::kNotFound) return false;
    EXPECT_EQ(error, Error::kNone) << guest::QueueFaultName(queue_->fault());
    if (error != Error::kNone || pending_.empty()) return false;
    EXPECT_EQ(used.cookie, pending_.front().cookie);
    uint32_t left = used.written;
    for (const std::span<std::byte> buffer : pending_.front().buffers) {
      const size_t bytes = std::min<size_t>(left, buffer.size());
      digest_ = Fnv1a(digest_, buffer.first(bytes));
      left -= static_cast<uint32_t>(bytes);
    }
    EXPECT_EQ(left, 0u);
    EXPECT_NE(used.written, 0u);
    taken_bytes_ += used.written;
    pending_.pop_front();
    return true;
  }
  // Until `chains` more came back, with the queue kept as full as it gets.
  void Run(uint32_t chains) {
    for (uint32_t waits = 0; chains != 0; ++waits) {
      ASSERT_LT(waits, kPatience);
      while (random_() % 8 != 0 && AddChain()) continue;
      Publish();
      // As a driver does: it looks when the device has said so, and until there
      // is nothing more.
      if (device_.TakeUsed() == 0) {
        driver_->Wait(kPeriodNs);
        continue;
      }
      while (TakeChain()) {
        if (chains != 0) --chains;
      }
      ASSERT_FALSE(HasFailure());
    }
  }

  // Until all of them came back.
  void Drain() {
    for (uint32_t waits = 0; !pending_.empty(); ++waits) {
      ASSERT_LT(waits, kPatience);
      driver_->Wait(kPeriodNs);
      while (TakeChain()) continue;
      ASSERT_FALSE(HasFailure());
    }
  }

  std::optional<InProcessMachine> machine_;
  guest::AmpFunction function_;
  std::optional<Driver> driver_;
  guest::Arena queue_arena_;
  guest::AnyVirtqueue queue_;
  guest::VirtioDevice device_;  // before the bus goes
  std::vector<guest::DmaMemory> buffers_;
  std::deque<Pending> pending_;
  uint64_t next_cookie_ = 0;
  uint64_t digest_ = kFnvStart;
  uint64_t taken_bytes_ = 0;
  std::mt19937 random_{1};
};

INSTANTIATE_TEST_SUITE_P(Rings, RingTest,
                         testing::Combine(testing::Bool(), testing::Bool(),
                                          testing::Bool(), testing::Bool(),
                                          testing::Bool()),
                         RingCaseName);

TEST_P(RingTest, ChainsOfManyLengthsGoManyTimesAroundTheRing) {
  Create();
  // Chains end a round of the ring in every way.
  Start(IsPacked(GetParam()) ? 7 : 8);
  EXPECT_EQ(queue_->size(), IsPacked(GetParam()) ? 7u : 8u);
  Run(500);
  Drain();
  const virtio::RngStats stats = machine_->rng_stats(0, 0, kSlot);
  EXPECT_EQ(stats.bytes, taken_bytes_);
  EXPECT_EQ(stats.digest, digest_);
  EXPECT_FALSE(device_.needs_reset());
  EXPECT_EQ(device_.Reset(), Error::kNone);
}

TEST_P(RingTest, RingOfOneDescriptorIsEnough) {
  Create();
  Start(1);
  ASSERT_EQ(queue_->size(), 1u);
  Run(50);
  EXPECT_EQ(machine_->rng_stats(0, 0, kSlot).digest, digest_);
  EXPECT_EQ(device_.Reset(), Error::kNone);
}

TEST_P(RingTest, QueueThatWasResetIsLeftAloneAndBeginsAnew) {
  virtio::RngOptions slow;
  slow.max_bytes_per_period = 500;
  Create(slow);
  Start(8);
  for (const uint32_t size : {4u, 16u, 2u}) {
    Run(5);
    // Chains that the device keeps for its next period.
    while (AddChain()) continue;
    Publish();
    driver_->Wait(1'000'000);
    ASSERT_EQ(device_.ResetQueue(0), Error::kNone);
    // Nothing of it is touched when the period comes.
    guest::Arena whole = queue_arena_;
    whole.Reset();
    const guest::DmaMemory all = whole.Allocate(whole.size(), 1);
    std::fill_n(all.data, all.bytes, std::byte{0xA5});
    for (int i = 0; i < 3; ++i) driver_->Wait(2 * kPeriodNs);
    EXPECT_TRUE(std::all_of(all.data, all.data + all.bytes,
                            [](std::byte b) { return b == std::byte{0xA5}; }));

    SetUpQueue(size);
    const uint64_t handed_out = machine_->rng_stats(0, 0, kSlot).bytes;
    taken_bytes_ = 0;
    Run(20);
    Drain();
    EXPECT_EQ(machine_->rng_stats(0, 0, kSlot).bytes,
              handed_out + taken_bytes_);
  }
  EXPECT_FALSE(device_.needs_reset());
}

TEST_P(RingTest, NextDriverMayChooseAnotherFormat) {
  Create();
  const uint64_t arena_bytes = guest::Rng::ArenaBytes({});
  guest::Arena arena =
      machine_->platform()->dma_arena()->Carve(arena_bytes, 4096);
  guest::Features features = FeaturesOf(GetParam());
  uint64_t digest = kFnvStart;
  for (int i = 0; i < 4; ++i) {
    guest::Rng rng;
    arena.Reset();
    ASSERT_EQ(
        rng.Start(&device_, {.requests = 3, .features = features}, &arena),
        Error::kNone);
    EXPECT_EQ(device_.features(), features);
    std::array<std::byte, 10000> bytes;
    uint64_t received;
    uint32_t requests;
    ASSERT_EQ(rng.Read(bytes, &received, &requests), Error::kNone);
    digest = Fnv1a(digest, bytes);
    ASSERT_EQ(device_.Reset(), Error::kNone);
    features = features.Has(guest::kFeatureRingPacked)
                   ? features.Without(guest::kFeatureRingPacked)
                   : features.With(guest::kFeatureRingPacked);
  }
  EXPECT_EQ(machine_->rng_stats(0, 0, kSlot).bytes, 40000u);
  EXPECT_EQ(machine_->rng_stats(0, 0, kSlot).digest, digest);
}

// --- On several threads: each FIFO and each of its drivers has one. ---

class RingThreadsTest : public testing::TestWithParam<RingCase> {
 protected:
  static constexpr uint32_t kFifos = 2;
  static constexpr uint16_t kDevices = 2;
  static constexpr int kRounds = 40;
  static constexpr size_t kBytes = 3000;

  struct Outcome {
    Error error = Error::kNone;
    std::array<uint64_t, kDevices> digests = {};
  };

  static Error Drive(InProcessMachine* machine, guest::AmpFunction* function,
                     uint32_t fifo, guest::Arena arena, Outcome* outcome) {
    Driver driver(machine, function, fifo);
    std::array<guest::VirtioDevice, kDevices> devices;
    std::array<guest::Rng, kDevices> rngs;
    outcome->digests.fill(kFnvStart);
    const guest::RngOptions options = {.requests = 5,
                                       .request_bytes = 200,
                                       .features = FeaturesOf(GetParam())};
    for (uint16_t slot = 0; slot < kDevices; ++slot) {
      if (const Error error = devices[slot].Probe(driver.bus(), slot);
          error != Error::kNone) {
        return error;
      }
      if (const Error error = rngs[slot].Start(&devices[slot], options, &arena);
          error != Error::kNone) {
        return error;
      }
      if (!(devices[slot].features() == options.features)) {
        return Error::kRefused;
      }
    }
    for (int round = 0; round < kRounds; ++round) {
      for (uint16_t slot = 0; slot < kDevices; ++slot) {
        std::array<std::byte, kBytes> bytes;
        uint64_t received;
        uint32_t requests;
        if (const Error error = rngs[slot].Read(bytes, &received, &requests);
            error != Error::kNone) {
          return error;
        }
        outcome->digests[slot] = Fnv1a(outcome->digests[slot], bytes);
      }
    }
    for (guest::VirtioDevice& device : devices) {
      if (const Error error = device.Reset(); error != Error::kNone) {
        return error;
      }
    }
    return Error::kNone;
  }
};

INSTANTIATE_TEST_SUITE_P(Rings, RingThreadsTest,
                         testing::Combine(testing::Bool(), testing::Bool(),
                                          testing::Bool(), testing::Bool(),
                                          testing::Bool()),
                         RingCaseName);

TEST_P(RingThreadsTest, DriversAndDevicesShareTheirRingsAtTheSameTime) {
  InProcessMachine machine({.num_fifos = kFifos,
                            .threads = true,
                            .with_iommu = HasIommu(GetParam())});
  for (uint32_t fifo = 0; fifo < kFifos; ++fifo) {
    for (uint32_t slot = 0; slot < kDevices; ++slot) {
      machine.Attach(0, fifo, slot);
    }
  }
  guest::AmpFunction function;
  OpenFunction(&machine, &function);
  std::array<Outcome, kFifos> outcomes;
  std::vector<std::thread> drivers;
  for (uint32_t fifo = 0; fifo < kFifos; ++fifo) {
    const guest::Arena arena =
        machine.platform()->dma_arena()->Carve(64 * 1024, 4096);
    drivers.emplace_back([&, fifo, arena] {
      outcomes[fifo].error =
          Drive(&machine, &function, fifo, arena, &outcomes[fifo]);
    });
  }
  for (std::thread& driver : drivers) driver.join();
  for (uint32_t fifo = 0; fifo < kFifos; ++fifo) {
    EXPECT_EQ(outcomes[fifo].error, Error::kNone)
        << guest::ErrorName(outcomes[fifo].error);
    for (uint32_t slot = 0; slot < kDevices; ++slot) {
      const virtio::RngStats stats = machine.rng_stats(0, fifo, slot);
      EXPECT_EQ(stats.bytes, kRounds * kBytes);
      EXPECT_EQ(stats.digest, outcomes[fifo].digests[slot]);
    }
  }
  function.Close();
}

}  // namespace
}  // namespace vmsg
