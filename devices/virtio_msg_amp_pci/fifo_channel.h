// FifoChannel: one FIFO of the function and all that belongs to it: the
// doorbell, the window, the interrupt vector and the message bus.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CHANNEL_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CHANNEL_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg/message_link.h"
#include "devices/virtio_msg/traffic_observer.h"
#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo_counters.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/log.h"
#include "vmm/base/mutex.h"
#include "vmm/event/event_loop.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/msix_table.h"

namespace vmsg::amp {

// Moves packets between the window and the bus: a doorbell, the bus, or a timer
// starts a turn, in which at most max_packets_per_wakeup packets come in, all
// that is owed goes out as far as there is room, both are published, and one
// interrupt is raised if anything went out. A turn that ended before its work
// queues the next one behind the other sources of the loop. A device queue
// without room is looked at again by timer, since the driver rings only for
// what it produces. Where the layout has a handshake, a turn begins with the
// steps that are due, and a timer looks whether a turn is needed for them.
//
// vCPU threads change one thing, which is whether there is a driver: bus
// mastering goes on or off, the function is reset. What they change takes
// effect in three places, so that nothing of before can show after (see
// docs/adr/2026-11-22-bus-master-off-resets-devices.md):
//   - the channel's DMA gate closes inside the call, and opens only on the loop
//     when everything of before is gone;
//   - a turn publishes, and shakes hands, under the lock that the call takes,
//     and does neither once the epoch is another;
//   - the loop forgets the old driver before it takes a packet of the new one.
// The lock is held for a few instructions a turn (to clear or compare a window
// at most), so a vCPU that changes bus mastering does not wait for any work.
//
// Threads: each method says. Destruction like construction.
class FifoChannel final : private msg::MessageLink {
 public:
  struct Options {
    std::string name;  // for logs: "amp0/fifo1"
    uint32_t index = 0;
    FifoLayout layout = FifoLayout::kSpsc;
    uint32_t max_packets_per_wakeup = 64;  // above 0
    // As in msg::MessageBusOptions.
    msg::PingOptions ping = {};
    msg::TrafficObserver* traffic_observer = nullptr;
    // As in AmpPciOptions.
    vmm::DmaTranslator* translator = nullptr;
    bool allow_untranslated = false;
  };

  // A device queue without room is looked at this soon, and then, as long as
  // nothing changes, in intervals that double up to the other value.
  // Source: amp-pci-device, 4.
  static constexpr vmm::Duration kMinRecheck = std::chrono::milliseconds(1);
  static constexpr vmm::Duration kMaxRecheck = std::chrono::milliseconds(50);

  // Clears the window (kFifoWindowBytes, 64-byte aligned). `doorbell` is
  // watched, vector options.index of `msix` is triggered. Everything is
  // borrowed and outlives the channel; `log_sink` may be null.
  // On a thread where loop->IsInLoopThread() is true.
  //   ResourceExhausted  no watch left.
  static absl::StatusOr<std::unique_ptr<FifoChannel>> Create(
      const Options& options, vmm::EventLoop* loop,
      const vmm::GuestMemory* memory, const vmm::EventFd* doorbell,
      std::byte* window, vmm::MsixTable* msix, vmm::LogSink* log_sink);
  ~FifoChannel() override;

  // --- vCPU threads (any thread, one call at a time). They do not wait. ---

  // Bus mastering was switched. Off: the driver is gone; see above. On: the
  // driver queue is looked at soon, also without a doorbell.
  void SetBusMaster(bool enabled);

  // The function is reset, or connected: the window has its initial contents
  // when this returns, bus mastering counts as off.
  void ResetFunction();

  // The function is disconnected: likewise, and the window says so where the
  // layout can, until ResetFunction().
  void RemoveFunction();

  // --- The loop, from here on. ---

  // The operator's way out of BROKEN: window to its initial contents, every
  // device reset. The driver has to start anew.
  void ResetFifo();

  msg::MessageBus& bus() { return bus_; }
  FifoState state() const { return fifo_->state(); }
  FifoFault fault() const { return fifo_->fault(); }

  // Called in a later turn of the loop after state(), bus().driver_seen() or
  // bus().driver_health() has changed. Empty: nobody.
  void SetObserver(absl::AnyInvocable<void()> observer);

  vmm::EventLoop* loop() const { return loop_; }              // any thread
  const FifoCounters& counters() const { return counters_; }  // any thread

 private:
  FifoChannel(const Options& options, vmm::EventLoop* loop,
              const vmm::GuestMemory* memory, std::byte* window,
              vmm::MsixTable* msix, vmm::LogSink* log_sink);

  // msg::MessageLink.
  bool TrySend(std::span<const std::byte> message) override;
  uint64_t Unread() override { return running_ ? fifo_->Unread() : 0; }
  void RequestService() override { wake_->Signal(); }

  void OnDoorbell();
  void OnRecheck();
  void OnLook();

  void ClearFunction() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // One turn.
  void Turn();
  // Makes the loop's side what vCPU threads have asked for. False: there is no
  // driver, do nothing.
  bool TakeOver();
  // Takes the steps of the handshake that are due. False as there.
  bool Shake();
  // Takes packets and sends, up to the bound. False: overtaken by a vCPU
  // thread, nothing of it counts.
  bool Move(bool* all_sent);
  // Publishes what Move did, and interrupts. False as there.
  bool Publish();
  void Interrupt();
  void ForgetDriver();
  void ScheduleRecheck(bool all_sent);
  void NoteChanges();

  bool Overtaken() const {
    // Acquire: after the packet that Receive() has just loaded with acquire.
    // Who finds no change here has a packet of before the change.
    return epoch_.load(std::memory_order_acquire) != seen_epoch_;
  }

  const Options options_;
  vmm::EventLoop* const loop_;
  vmm::MsixTable* const msix_;
  vmm::Logger log_;
  const std::unique_ptr<DeviceFifo> fifo_;
  FifoState seen_state_;  // the loop's, like what is below
  FifoCounters counters_;

  // Written by vCPU threads under the lock.
  vmm::Mutex mutex_;
  bool enabled_ ABSL_GUARDED_BY(mutex_) = false;
  bool cleared_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<uint32_t> dropped_before_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint32_t> epoch_{0};  // changes with each call
  // Opened under the lock too; devices look at it on the loop.
  vmm::DmaGate gate_;

  // The loop's.
  uint32_t seen_epoch_ = 0;
  bool running_ = false;  // bus mastering is on
  uint32_t taken_ = 0;    // packets, in this turn
  uint32_t sent_ = 0;
  uint32_t last_sent_ = 0;  // in the last turn that was published
  bool seen_driver_ = false;
  msg::DriverHealth seen_health_ = msg::DriverHealth::kUnknown;
  vmm::Duration recheck_delay_ = kMinRecheck;
  absl::AnyInvocable<void()> observer_;
  vmm::DmaSpace dma_;
  std::optional<vmm::DmaSpace> translated_dma_;  // with a translator
  const std::unique_ptr<vmm::WakeSource> wake_;
  const std::unique_ptr<vmm::WakeSource> observer_wake_;
  const std::unique_ptr<vmm::Timer> recheck_;
  const std::unique_ptr<vmm::Timer> look_;  // with a handshake only
  msg::MessageBus bus_;
  std::unique_ptr<vmm::FdWatch> watch_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CHANNEL_H_
