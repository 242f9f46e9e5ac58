// The packet queues that are compared, as the two threads use them.
//
// Each has Put (false: full) and Take (false: empty), which publish at once,
// and what they are made of: Add, Publish, Get, Release.

#ifndef VMSG_BENCHMARKS_PACKET_QUEUES_H_
#define VMSG_BENCHMARKS_PACKET_QUEUES_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "boost/lockfree/spsc_queue.hpp"
#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "guest/driver/fifo.h"
#include "guest/driver/spsc_fifo.h"
#include "guest/driver/window_fifo.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::bench {

// The FIFO in a window that is memory as BAR 1 is: a shared mapping of a memfd.
// Both ends are used through their interfaces, as Bus and FifoChannel do.
class FifoWindow {
 public:
  explicit FifoWindow(amp::FifoLayout layout = amp::FifoLayout::kSpsc);

  guest::Fifo& driver() { return *driver_; }
  amp::DeviceFifo& device() { return *device_; }

 private:
  const std::shared_ptr<const vmm::MemoryBacking> memory_;
  const std::unique_ptr<amp::DeviceFifo> device_;  // clears the window
  guest::WindowFifo storage_;
  guest::Fifo* const driver_;  // in storage_; in RUN with the device
};

class DriverQueue {
 public:
  using Packet = amp::Packet;

  explicit DriverQueue(FifoWindow* window)
      : driver_(&window->driver()), device_(&window->device()) {}

  // The driver's thread.
  bool Add(const Packet& packet) { return driver_->Send(packet.bytes); }
  void Publish() { driver_->CommitSent(); }
  bool Put(const Packet& packet) {
    if (!Add(packet)) return false;
    Publish();
    return true;
  }

  // The device's thread.
  bool Get(Packet* packet) { return device_->Receive(packet); }
  void Release() { device_->CommitReceived(); }
  bool Take(Packet* packet) {
    if (!Get(packet)) return false;
    Release();
    return true;
  }

 private:
  guest::Fifo* const driver_;
  amp::DeviceFifo* const device_;
};

class DeviceQueue {
 public:
  using Packet = guest::Packet;

  explicit DeviceQueue(FifoWindow* window)
      : driver_(&window->driver()), device_(&window->device()) {}

  // The device's thread.
  bool Add(const Packet& packet) { return device_->Send(packet.bytes); }
  void Publish() { device_->CommitSent(); }
  bool Put(const Packet& packet) {
    if (!Add(packet)) return false;
    Publish();
    return true;
  }

  // The driver's thread.
  bool Get(Packet* packet) { return driver_->Receive(packet); }
  void Release() { driver_->CommitReceived(); }
  bool Take(Packet* packet) {
    if (!Get(packet)) return false;
    Release();
    return true;
  }

 private:
  guest::Fifo* const driver_;
  amp::DeviceFifo* const device_;
};

// The queue that many programs would take, with as much room. Both threads can
// trust each other there, and it has no batches.
class BoostQueue {
 public:
  using Packet = amp::Packet;

  bool Put(const Packet& packet) { return queue_.push(packet); }
  bool Take(Packet* packet) { return queue_.pop(*packet); }

 private:
  boost::lockfree::spsc_queue<
      Packet, boost::lockfree::capacity<guest::SpscFifo::kCapacity>>
      queue_;
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_PACKET_QUEUES_H_
