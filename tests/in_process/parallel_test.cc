// Two functions with two FIFOs and several rng devices each, all at once: each
// FIFO has a loop and a thread of its own on the device's side, and a driver
// with a thread of its own on the guest's.

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/amp_function.h"
#include "guest/driver/bus.h"
#include "guest/driver/rng.h"
#include "guest/driver/virtio_device.h"
#include "guest/driver/window_fifo.h"
#include "tests/in_process/in_process_machine.h"

namespace vmsg {
namespace {

constexpr uint32_t kFunctions = 2;
constexpr uint32_t kFifos = 2;
constexpr uint32_t kDevices = 4;
constexpr int kRounds = 20;
constexpr size_t kBytes = 1500;

uint64_t Fnv1a(uint64_t digest, std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) {
    digest = (digest ^ std::to_integer<uint64_t>(b)) * 0x100000001b3;
  }
  return digest;
}

// What one driver thread found.
struct Outcome {
  std::string error;  // empty when all went well
  std::array<uint64_t, kDevices> digests;
};

void Drive(InProcessMachine* machine, guest::AmpFunction* function,
           uint32_t fifo_index, guest::Arena arena, Outcome* outcome) {
  guest::WindowFifo window;
  guest::Fifo* const fifo = window.Open(function->window(fifo_index));
  if (guest::JoinFifo(machine->platform(), fifo,
                      function->doorbell_address(fifo_index),
                      function->interrupt(fifo_index).id,
                      60'000'000'000) != guest::Error::kNone) {
    outcome->error = "join";
    return;
  }
  guest::Bus bus(machine->platform(), fifo,
                 {.doorbell_address = function->doorbell_address(fifo_index),
                  .interrupt = function->interrupt(fifo_index).id,
                  .timeout_ns = 60'000'000'000});
  const auto note = [outcome](const char* what, guest::Error error) {
    outcome->error = std::string(what) + ": " + guest::ErrorName(error);
    return error == guest::Error::kNone;
  };
  uint32_t present;
  if (!note("enumerate", bus.Enumerate(&present))) return;
  if (present != (1u << kDevices) - 1) {
    outcome->error = "devices are missing";
    return;
  }
  std::array<guest::VirtioDevice, kDevices> devices;
  std::array<guest::Rng, kDevices> rngs;
  outcome->digests.fill(0xcbf29ce484222325);
  for (uint16_t slot = 0; slot < kDevices; ++slot) {
    if (!note("probe", devices[slot].Probe(&bus, slot)) ||
        !note("start", rngs[slot].Start(&devices[slot], {}, &arena))) {
      return;
    }
  }
  for (int round = 0; round < kRounds; ++round) {
    for (uint32_t slot = 0; slot < kDevices; ++slot) {
      std::array<std::byte, kBytes> bytes;
      uint64_t received;
      uint32_t requests;
      if (!note("read", rngs[slot].Read(bytes, &received, &requests)) ||
          !note("ping", bus.Ping(static_cast<uint32_t>(round)))) {
        return;
      }
      outcome->digests[slot] = Fnv1a(outcome->digests[slot], bytes);
    }
  }
  for (guest::VirtioDevice& device : devices) {
    if (!note("reset", device.Reset())) return;
  }
  outcome->error.clear();
}

class ParallelTest : public testing::TestWithParam<amp::FifoLayout> {};

INSTANTIATE_TEST_SUITE_P(Layouts, ParallelTest,
                         testing::Values(amp::FifoLayout::kSpsc,
                                         amp::FifoLayout::kShmemV1,
                                         amp::FifoLayout::kShmemV1Packed),
                         LayoutTestName);

TEST_P(ParallelTest, FifosOfTwoFunctionsRunAtOnce) {
  InProcessMachine machine({.functions = kFunctions,
                            .num_fifos = kFifos,
                            .fifo_layout = GetParam(),
                            .threads = true});
  for (uint32_t f = 0; f < kFunctions; ++f) {
    for (uint32_t n = 0; n < kFifos; ++n) {
      for (uint32_t slot = 0; slot < kDevices; ++slot) {
        machine.Attach(f, n, slot);
      }
    }
  }
  std::array<guest::PciLocation, kFunctions> found;
  ASSERT_EQ(guest::FindPciFunctions(machine.platform(), guest::kAmpVendorId,
                                    guest::kAmpDeviceId, found),
            kFunctions);
  std::array<guest::AmpFunction, kFunctions> functions;
  std::array<std::array<Outcome, kFifos>, kFunctions> outcomes;
  std::vector<std::thread> drivers;
  for (uint32_t f = 0; f < kFunctions; ++f) {
    ASSERT_EQ(functions[f].Open(machine.platform(), found[f]),
              guest::Error::kNone);
    ASSERT_EQ(functions[f].num_fifos(), kFifos);
    for (uint32_t n = 0; n < kFifos; ++n) {
      const guest::Arena arena =
          machine.platform()->dma_arena()->Carve(64 * 1024, 4096);
      drivers.emplace_back(Drive, &machine, &functions[f], n, arena,
                           &outcomes[f][n]);
    }
  }
  for (std::thread& driver : drivers) driver.join();
  for (uint32_t f = 0; f < kFunctions; ++f) {
    for (uint32_t n = 0; n < kFifos; ++n) {
      EXPECT_EQ(outcomes[f][n].error, "") << "function " << f << " fifo " << n;
      for (uint32_t slot = 0; slot < kDevices; ++slot) {
        const virtio::RngStats stats = machine.rng_stats(f, n, slot);
        EXPECT_EQ(stats.bytes, kRounds * kBytes);
        EXPECT_EQ(stats.digest, outcomes[f][n].digests[slot]);
      }
      EXPECT_EQ(
          machine.platform()->InterruptCount(functions[f].interrupt(n).id),
          machine.function(f)->interrupts_delivered(n));
    }
    functions[f].Close();
  }
  EXPECT_EQ(machine.platform()->stray_interrupts(), 0u);
}

}  // namespace
}  // namespace vmsg
