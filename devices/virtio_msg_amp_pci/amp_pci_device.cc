#include "devices/virtio_msg_amp_pci/amp_pci_device.h"

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "devices/virtio_msg_amp_pci/channel_bus.h"
#include "devices/virtio_msg_amp_pci/fifo_channel.h"
#include "devices/virtio_msg_amp_pci/register_file.h"
#include "vmm/base/check.h"
#include "vmm/base/event_fd.h"
#include "vmm/pci/pci_function.h"

namespace vmsg::amp {
namespace {

// Enough for any batch that makes sense, few enough that other sources of the
// loop do not starve.
constexpr uint32_t kMaxPacketsPerWakeup = 65536;

static_assert(kMsixTableOffset + kMaxFifos * sizeof(vmm::MsixTableEntry) <=
              kMsixPendingOffset);
static_assert(kRegNotify + kMaxFifos * kNotifyStride <= kRegisterBarBytes);

constexpr size_t kMaxIdBytes = 64;  // as of devices in the control API

bool IsId(const std::string& id) {
  return !id.empty() && id.size() <= kMaxIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '-' || c == '_' || c == '.';
         });
}

absl::Status Validate(const AmpPciOptions& options, size_t num_loops) {
  if (!IsId(options.id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("id \"", options.id, "\": 1 to ", kMaxIdBytes,
                     " letters, digits, '-', '_' and '.'"));
  }
  if (options.num_fifos < kMinFifos || options.num_fifos > kMaxFifos) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.id, ": num_fifos is ", options.num_fifos, ", not ",
                     kMinFifos, " to ", kMaxFifos));
  }
  if (options.max_packets_per_wakeup == 0 ||
      options.max_packets_per_wakeup > kMaxPacketsPerWakeup) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.id, ": max_packets_per_wakeup is ",
        options.max_packets_per_wakeup, ", not 1 to ", kMaxPacketsPerWakeup));
  }
  if (!msg::IsValid(options.ping)) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.id,
        ": ping: interval from 0 and timeout above 0, both to an hour, misses "
        "1 to ",
        msg::PingOptions::kMaxMisses));
  }
  if (num_loops != 1 && num_loops != options.num_fifos) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.id, ": ", num_loops, " loops for ",
                     options.num_fifos, " FIFOs, not one or one for each"));
  }
  return absl::OkStatus();
}

vmm::PciIdentity Identity(const AmpPciOptions& options) {
  return {.vendor_id = kVendorId,
          .device_id = kDeviceId,
          .revision = kRevisionId,
          .class_code = kClassCode,
          .subclass = kSubclass,
          .prog_if = kProgIf,
          .subsystem_vendor_id = options.subsystem_vendor_id,
          .subsystem_id = options.subsystem_id};
}

uint64_t FifoBarBytes(uint32_t num_fifos) {
  return std::bit_ceil(num_fifos * kFifoWindowBytes);
}

std::vector<vmm::PciBar> Bars(
    RegisterFile* registers, std::span<const vmm::EventFd> doorbells,
    std::shared_ptr<const vmm::MemoryBacking> windows) {
  vmm::PciBar register_bar = {
      .info = {.index = kRegisterBar, .size_bytes = kRegisterBarBytes},
      .handler = registers};
  for (size_t n = 0; n < doorbells.size(); ++n) {
    register_bar.doorbells.push_back(
        {.offset = kRegNotify + n * kNotifyStride, .event = &doorbells[n]});
  }
  const uint64_t window_bytes = windows->size();
  vmm::PciBar fifo_bar = {.info = {.index = kFifoBar,
                                   .size_bytes = window_bytes,
                                   .prefetchable = true},
                          .memory = std::move(windows)};
  std::vector<vmm::PciBar> bars;
  bars.push_back(std::move(register_bar));
  bars.push_back(std::move(fifo_bar));
  return bars;
}

class AmpPciDeviceImpl final : public AmpPciDevice {
 public:
  AmpPciDeviceImpl(const AmpPciOptions& options,
                   std::vector<vmm::EventFd> doorbells,
                   std::shared_ptr<const vmm::MemoryBacking> windows,
                   const vmm::Clock* clock, vmm::LogSink* log_sink)
      : doorbells_(std::move(doorbells)),
        windows_(std::move(windows)),
        log_(log_sink, clock, options.id),
        registers_(doorbells_, &log_),
        function_(options, this) {}

  // Second half of construction.
  absl::Status CreateChannels(const AmpPciOptions& options,
                              vmm::GuestMemory* memory,
                              const std::vector<vmm::EventLoop*>& loops,
                              vmm::LogSink* log_sink) {
    for (uint32_t n = 0; n < options.num_fifos; ++n) {
      const std::string name = absl::StrCat(options.id, "/fifo", n);
      vmm::EventLoop* const loop = loops[loops.size() == 1 ? 0 : n];
      monitors_.push_back(
          options.wire_monitor
              ? std::make_unique<msg::WireMonitor>(
                    msg::WireMonitor::Options{
                        .name = name, .max_message_bytes = kFifoPacketBytes},
                    &loop->clock(), log_sink)
              : nullptr);
      absl::StatusOr<std::unique_ptr<FifoChannel>> channel =
          FifoChannel::Create(
              {.name = name,
               .index = n,
               .layout = options.fifo_layout,
               .max_packets_per_wakeup = options.max_packets_per_wakeup,
               .ping = options.ping,
               .traffic_observer = monitors_.back().get(),
               .translator = options.translator,
               .allow_untranslated = options.allow_untranslated},
              loop, memory, &doorbells_[n],
              windows_->data() + n * kFifoWindowBytes, msix_, log_sink);
      if (!channel.ok()) return channel.status();
      channels_.push_back(*std::move(channel));
      buses_.push_back(std::make_unique<ChannelBus>(
          control::HotplugBus::Id{options.id, n}, channels_.back().get(),
          monitors_.back().get()));
    }
    return absl::OkStatus();
  }

  // PciDevice.
  const std::string& id() const override { return function_.id(); }
  absl::Status Connect(vmm::PciAddress address, vmm::MmioBus* mmio,
                       vmm::InterruptController* interrupts) override {
    ResetChannels();
    return function_.Connect(address, mmio, interrupts);
  }
  void Disconnect() override {
    for (const auto& bus : buses_) {
      VMSG_CHECK(bus->loop()->IsInLoopThread(),
                 "a function is disconnected while its loop runs");
    }
    // First, so that the guest can see it while the windows are mapped.
    for (const auto& channel : channels_) channel->RemoveFunction();
    function_.Disconnect();
  }
  uint32_t ReadConfig(uint16_t offset, uint8_t width) override {
    return function_.ReadConfig(offset, width);
  }
  void WriteConfig(uint16_t offset, uint8_t width, uint32_t value) override {
    function_.WriteConfig(offset, width, value);
  }
  std::span<const vmm::PciBarInfo> bars() const override {
    return function_.bars();
  }
  void Reset() override { function_.Reset(); }

  // AmpPciDevice.
  uint32_t num_fifos() const override {
    return static_cast<uint32_t>(channels_.size());
  }
  control::HotplugBus* bus(uint32_t n) override {
    VMSG_CHECK(n < buses_.size(), "no such FIFO");
    return buses_[n].get();
  }
  const FifoCounters& fifo_counters(uint32_t n) const override {
    VMSG_CHECK(n < channels_.size(), "no such FIFO");
    return channels_[n]->counters();
  }
  const msg::WireMonitor* wire_monitor(uint32_t n) const override {
    VMSG_CHECK(n < monitors_.size(), "no such FIFO");
    return monitors_[n].get();
  }
  uint64_t interrupts_delivered(uint32_t n) const override {
    return msix_->stats(n).delivered;
  }
  const vmm::Counter& bad_accesses() const override {
    return registers_.bad_accesses();
  }

 private:
  class Function final : public vmm::PciFunction {
   public:
    Function(const AmpPciOptions& options, AmpPciDeviceImpl* device)
        : PciFunction(
              options.id, Identity(options),
              Bars(&device->registers_, device->doorbells_, device->windows_),
              {.bar = kMsixBar,
               .vectors = options.num_fifos,
               .table_offset = kMsixTableOffset,
               .pending_offset = kMsixPendingOffset,
               .bar_size_bytes = kMsixBarBytes}),
          device_(device) {}

   private:
    void OnBusMasterChanged(bool enabled) override {
      for (const auto& channel : device_->channels_) {
        channel->SetBusMaster(enabled);
      }
    }
    void OnReset() override { device_->ResetChannels(); }

    AmpPciDeviceImpl* const device_;
  };

  void ResetChannels() {
    for (const auto& channel : channels_) channel->ResetFunction();
  }

  // Constant after construction.
  const std::vector<vmm::EventFd> doorbells_;
  const std::shared_ptr<const vmm::MemoryBacking> windows_;
  vmm::Logger log_;
  RegisterFile registers_;
  Function function_;
  vmm::MsixTable* const msix_ = &function_.msix();
  // One for each FIFO, null without; before the channels that tell them.
  std::vector<std::unique_ptr<msg::WireMonitor>> monitors_;
  std::vector<std::unique_ptr<FifoChannel>> channels_;
  std::vector<std::unique_ptr<ChannelBus>> buses_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AmpPciDevice>> AmpPciDevice::Create(
    const AmpPciOptions& options, vmm::GuestMemory* memory,
    std::vector<vmm::EventLoop*> loops, vmm::LogSink* log_sink) {
  if (absl::Status status = Validate(options, loops.size()); !status.ok()) {
    return status;
  }
  VMSG_CHECK(memory != nullptr);
  VMSG_CHECK(std::find(loops.begin(), loops.end(), nullptr) == loops.end());
  std::vector<vmm::EventFd> doorbells;
  for (uint32_t n = 0; n < options.num_fifos; ++n) {
    absl::StatusOr<vmm::EventFd> doorbell = vmm::EventFd::Create();
    if (!doorbell.ok()) return doorbell.status();
    doorbells.push_back(*std::move(doorbell));
  }
  absl::StatusOr<std::shared_ptr<const vmm::MemoryBacking>> windows =
      vmm::MemoryBacking::CreateAnonymous(FifoBarBytes(options.num_fifos),
                                          absl::StrCat(options.id, "-fifos"));
  if (!windows.ok()) return windows.status();
  auto device = std::make_unique<AmpPciDeviceImpl>(
      options, std::move(doorbells), *std::move(windows),
      &loops.front()->clock(), log_sink);
  if (absl::Status status =
          device->CreateChannels(options, memory, loops, log_sink);
      !status.ok()) {
    return status;
  }
  return device;
}

}  // namespace vmsg::amp
