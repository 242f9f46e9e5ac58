// GetConfigPath: GET_CONFIG requests from packet to packet.

#ifndef VMSG_BENCHMARKS_GET_CONFIG_PATH_H_
#define VMSG_BENCHMARKS_GET_CONFIG_PATH_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "benchmarks/amp_driver.h"
#include "benchmarks/call_loop.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "guest/driver/fifo.h"
#include "guest/driver/spsc_fifo.h"
#include "vmm/interrupt/interrupt_controller.h"

namespace vmsg::bench {

// Counts interrupts and does nothing else.
class CountingInterrupts final : public vmm::InterruptController {
 public:
  absl::StatusOr<std::unique_ptr<vmm::MsiRoute>> CreateMsiRoute() override;
  uint64_t count() const { return count_; }

 private:
  class Route;

  uint64_t count_ = 0;
};

// The driver puts a batch of requests on its queue, the device's loop runs
// until they are answered, the driver takes the answers. The middle step is the
// one to measure: it is all that the device does between a wake-up and going
// back to sleep, up to the call of the interrupt controller, without what the
// kernel does for any of them.
//
// A device that takes no more than so many packets in a turn queues its next
// turn by itself when it has taken as many. So once the first doorbell was
// rung, Answer() needs no other.
//
// Threads: one.
class GetConfigPath {
 public:
  // Requests in a batch: a full queue.
  static constexpr uint32_t kBatch = guest::SpscFifo::kCapacity;

  enum class Range : uint8_t {
    kServed,   // 8 bytes at 0
    kRefused,  // 4 bytes at the end of the configuration space
  };

  struct Options {
    // Divides kBatch. 1: each request has a turn, is published and interrupts
    // by itself, as for a driver that waits for each answer.
    uint32_t packets_per_turn = 1;
    amp::FifoLayout layout = amp::FifoLayout::kSpsc;
    // All have a driver; the requests go to the last one.
    uint32_t fifos = 1;
    // On that FIFO; the requests go to one after the other.
    uint32_t devices = 1;
  };

  explicit GetConfigPath(const Options& options);
  ~GetConfigPath();

  void Put(Range range);
  void Answer() {
    for (uint32_t i = 0; i < turns_; ++i) loop_.RunWakes();
  }
  // Fails a check unless there are kBatch answers and each is right.
  void Take(Range range);

  uint64_t interrupts() const { return interrupts_.count(); }

 private:
  guest::Fifo& fifo() { return driver_.fifo(options_.fifos - 1); }
  uint16_t SlotOf(uint32_t request) const {
    return static_cast<uint16_t>(request % options_.devices);
  }
  void PutOne(uint32_t request, Range range);
  void PlugDevices();

  const Options options_;
  const uint32_t turns_;
  CallLoop loop_;
  CountingInterrupts interrupts_;
  AmpDriver driver_;
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_GET_CONFIG_PATH_H_
