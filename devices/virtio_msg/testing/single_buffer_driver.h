// SingleBufferDriver: a model of the drivers in the field.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TESTING_SINGLE_BUFFER_DRIVER_H_
#define VMSG_DEVICES_VIRTIO_MSG_TESTING_SINGLE_BUFFER_DRIVER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/testing/driver_port.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/base/clock.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::msg {

// It keeps one buffer for bus messages of the device, looks at it up to
// kMaxHandlingDelay later, has one request per device in flight, probes a
// device up to DRIVER_OK and tears it down on REMOVED. What it did not expect
// is written down in errors(). A PING of the device goes to the same buffer,
// and is answered when that is looked at. Source: amp-pci-device, 4.
//
// Threads: the test's.
class SingleBufferDriver {
 public:
  static constexpr uint32_t kSlots = 32;
  static constexpr vmm::Duration kMaxHandlingDelay =
      std::chrono::milliseconds(50);

  // How long a chain may take until it counts as one that hangs.
  static constexpr vmm::Duration kMaxIo = std::chrono::seconds(30);

  // `port` and `clock` are borrowed.
  SingleBufferDriver(uint64_t seed, DriverPort* port, const vmm::Clock* clock);

  // From the next probe on, live devices have work: chains on queue 0. As a
  // disk driver, this one then waits on REMOVED until its chains are done, and
  // adds a last few, before it writes status 0. Queues and buffers are in the
  // kIoBytes from `base` on; `memory` is borrowed.
  void EnableIo(const vmm::GuestMemory* memory, vmm::GuestAddress base);
  static constexpr uint64_t kIoBytes = 0x40000;

  // A new driver takes over, with a reset of the function: it knows nothing.
  void Restart();
  // Begins with the enumeration.
  void Start();

  // Takes what has arrived and does what is due. Call it again and again.
  void Run();
  // Asks who is there, unless it is at that.
  void Rescan();
  // A live device gets a notification or a question, the bus is scanned again,
  // or gets a PING.
  void DoSomething();

  bool live(uint32_t slot) const {
    return devices_[slot].state == State::kLive;
  }
  // It has asked who is there and has no answer yet.
  bool enumerating() const { return enumerating_; }
  bool probing(uint32_t slot) const {
    return devices_[slot].state == State::kProbing;
  }
  // Nothing is in flight and nothing is to be done.
  bool idle() const;

  // Events that were overwritten in the buffer.
  uint64_t overwritten() const { return overwritten_; }
  uint64_t probes() const { return probes_; }
  uint64_t tear_downs() const { return tear_downs_; }
  uint64_t pings_answered() const { return pings_answered_; }
  // Chains that came back: of live devices, and of those on their way out.
  uint64_t io_done() const { return io_done_; }
  uint64_t io_done_late() const { return io_done_late_; }
  const std::vector<std::string>& errors() const { return errors_; }

 private:
  // kDraining: REMOVED is known, chains are out.
  enum class State : uint8_t {
    kUnknown,
    kProbing,
    kLive,
    kDraining,
    kTearingDown,
  };
  struct Device {
    State state = State::kUnknown;
    uint32_t step = 0;
    bool in_flight = false;
    uint8_t id = 0;  // of the request in flight
    uint16_t token = 0;
    bool removed = false;  // tear down when the answer is there
    bool ready = false;    // probe again when that is done
    std::unique_ptr<virtio::FakeDriverQueue> queue;  // with I/O
    vmm::MonotonicTime last_add{};
    uint32_t last_chains = 0;  // to be added while draining
  };

  struct BusBuffer {
    std::optional<Received> ping;
    uint32_t slot;
    uint16_t state;
    vmm::MonotonicTime handle_at;
  };

  void OnMessage(const Received& message);
  void ToBuffer(BusBuffer message);
  void OnAnswer(const Received& answer);
  void HandleEvent(uint32_t slot, uint16_t state);
  void Probe(uint32_t slot);
  void TearDown(uint32_t slot);
  void StopDevice(uint32_t slot);
  void AddChain(uint32_t slot);
  void RunIo(uint32_t slot);
  void NextProbeStep(uint32_t slot, const Received& answer);
  void NextTearDownStep(uint32_t slot);
  void Forget(uint32_t slot);
  void Ask(uint32_t slot, Bytes request);
  void Error(const std::string& what) { errors_.push_back(what); }

  std::mt19937_64 random_;
  DriverPort* const port_;
  const vmm::Clock* const clock_;
  std::array<Device, kSlots> devices_;
  bool enumerating_ = false;
  uint16_t next_token_ = 1;

  std::optional<BusBuffer> buffer_;
  uint64_t overwritten_ = 0;
  uint64_t probes_ = 0;
  uint64_t tear_downs_ = 0;
  uint64_t pings_answered_ = 0;
  const vmm::GuestMemory* io_memory_ = nullptr;
  vmm::GuestAddress io_base_{};
  uint64_t io_done_ = 0;
  uint64_t io_done_late_ = 0;
  std::vector<std::string> errors_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TESTING_SINGLE_BUFFER_DRIVER_H_
