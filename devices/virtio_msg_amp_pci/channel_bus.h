// ChannelBus: the message bus of a FIFO as the control plane sees it.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_CHANNEL_BUS_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_CHANNEL_BUS_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg_amp_pci/fifo_channel.h"
#include "vmm/control/hotplug_bus.h"

namespace vmsg::amp {

// Takes devices of family kVirtioMsgFamily, on slots that are the device
// numbers of the FIFO. Threads: as HotplugBus.
class ChannelBus final : public control::HotplugBus {
 public:
  // `channel` and `monitor` are borrowed and outlive this; `monitor` may be
  // null.
  ChannelBus(Id id, FifoChannel* channel, const msg::WireMonitor* monitor);
  ~ChannelBus() override;

  const Id& id() const override { return id_; }
  uint32_t slot_count() const override;
  std::string_view family() const override;
  vmm::EventLoop* loop() override { return channel_->loop(); }
  void Observe(SlotObserver slots, BusObserver bus) override;
  absl::Status Plug(uint32_t slot, uint64_t generation,
                    std::unique_ptr<control::Pluggable> device) override;
  absl::Status Unplug(uint32_t slot, uint64_t generation,
                      const control::RemoveOptions& options,
                      absl::AnyInvocable<void()> gone) override;
  control::SlotReport slot_report(uint32_t slot) const override;
  control::BusReport bus_report() const override;
  void ResetBus() override { channel_->ResetFifo(); }

 private:
  void OnSlotChanged(uint32_t slot);

  const Id id_;
  FifoChannel* const channel_;
  const msg::WireMonitor* const monitor_;
  SlotObserver slot_observer_;
  BusObserver bus_observer_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_CHANNEL_BUS_H_
