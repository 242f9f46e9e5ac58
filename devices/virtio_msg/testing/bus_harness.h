// BusHarness: a message bus with everything around it faked, and a driver that
// speaks bytes.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TESTING_BUS_HARNESS_H_
#define VMSG_DEVICES_VIRTIO_MSG_TESTING_BUS_HARNESS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg/testing/broken_rows.h"
#include "devices/virtio_msg/testing/fake_link.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/base/log.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::msg {

// A wire monitor judges that driver, and the test fails at the end of the
// harness when it has broken other rows than DriverBreaks() says; unless the
// options have a traffic observer, which takes the place of the monitor.
//
// Threads: the test's.
class BusHarness {
 public:
  static constexpr uint64_t kMemoryBytes = 1 << 20;

  // `log` is borrowed; null: nobody listens.
  explicit BusHarness(const MessageBusOptions& options = {},
                      vmm::LogSink* log = nullptr);
  ~BusHarness();

  // The rows that the driver of this test breaks, by their ids in the order of
  // the table: "DRV-INIT-1 DRV-VQ-1".
  void DriverBreaks(std::string_view rows) { verdict_.Expect(rows); }
  void DriverMayBreakAnything() { verdict_.ExpectAnything(); }

  // A DummyDevice whose transitions take `options.max_transition_delay` at
  // most; plugged on `slot`. Valid until it is removed.
  virtio::DummyDevice* PlugDummy(uint32_t slot,
                                 const virtio::DummyOptions& options = {});

  // Puts the messages on the driver queue, rings, and runs the loop until it is
  // idle, without moving time. Returns all that the driver got.
  std::vector<Received> Send(const Bytes& message);
  std::vector<Received> Send(const std::vector<Bytes>& messages);
  // The same, for a request whose answer may take time: moves the clock until
  // it is there, a minute at most. The one answer; what else came is dropped.
  Received Ask(const Bytes& request);
  // Runs the loop for `time`, with a driver that takes what comes within 10 ms,
  // and returns that.
  std::vector<Received> RunFor(vmm::Duration time);

  // The driver finds what is plugged, so that no READY is owed.
  void Enumerate() { Ask(GetDevicesRequest(0, MessageBusOptions::kSlots)); }
  // The driver's way to DRIVER_OK. `features` is the lowest two words; queue 0
  // to num_queues - 1 are configured from the start of memory on.
  void Start(uint16_t dev, uint32_t num_queues = 1, uint32_t low_features = 0,
             uint32_t high_features = 1);
  // Up to FEATURES_OK.
  void Negotiate(uint16_t dev, uint32_t low_features = 0,
                 uint32_t high_features = 1);
  uint32_t Status(uint16_t dev) { return Ask(GetStatusRequest(dev)).u32(0); }
  // Where Start() puts queue `index` of `dev`, with `size` descriptors.
  static virtio::QueueConfig QueuePlace(uint16_t dev, uint32_t index,
                                        uint32_t size = 8);
  static Bytes SetVqueueFor(uint16_t dev, uint32_t index, uint32_t size = 8);

  vmm::ManualEventLoop& loop() { return loop_; }
  vmm::GuestMemory& memory() { return memory_; }
  FakeLink& link() { return *link_; }
  MessageBus& bus() { return *bus_; }
  const MessageBus::Counters& counters() const { return bus_->counters(); }

  // Ends the bus before the harness does.
  void DestroyBus() { bus_.reset(); }

 private:
  vmm::ManualEventLoop loop_;
  std::unique_ptr<WireMonitor> monitor_;  // null: an observer of the test's
  std::string violations_;                // their texts, for a test that fails
  DriverVerdict verdict_;
  vmm::GuestMemory memory_;
  std::unique_ptr<vmm::DmaSpace> dma_;
  std::unique_ptr<FakeLink> link_;
  std::unique_ptr<MessageBus> bus_;
  uint64_t next_generation_ = 1;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TESTING_BUS_HARNESS_H_
