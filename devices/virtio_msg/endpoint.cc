#include "devices/virtio_msg/endpoint.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "absl/status/statusor.h"
#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

using virtio::kStatusAcknowledge;
using virtio::kStatusDriver;
using virtio::kStatusDriverOk;
using virtio::kStatusFailed;
using virtio::kStatusFeaturesOk;
using virtio::kStatusNeedsReset;

// Both 32-bit halves that standard bits live in, even where a device offers
// bits of the first only: drivers read two blocks.
constexpr uint32_t kMinFeatureBlocks = 2;

// Without what messages of revision 2025 can't carry, or this transport does
// not do. What addresses mean is not for the device to say.
virtio::Features Carried(virtio::Features features, bool translated) {
  features.Clear(virtio::kFeatureNotifConfigData);  // O-34
  features.Clear(virtio::kFeatureAdminVq);          // no such queues
  features.Clear(virtio::kFeatureAccessPlatform);
  if (translated) features.Set(virtio::kFeatureAccessPlatform);
  return features;
}

uint32_t BlocksOf(const virtio::Features& features) {
  uint32_t blocks = kMinFeatureBlocks;
  for (uint32_t i = blocks; i < virtio::Features::kBlocks; ++i) {
    if (features.block(i) != 0) blocks = i + 1;
  }
  return blocks;
}

}  // namespace

Endpoint::Endpoint(const EndpointOptions& options, std::string log_source,
                   std::unique_ptr<virtio::VirtioDevice> device,
                   vmm::EventLoop* loop, vmm::DmaSpace* dma,
                   vmm::LogSink* log_sink, EndpointHost* host)
    : options_(options),
      policy_(PolicyOf(options.revision)),
      loop_(loop),
      physical_dma_(dma),
      host_(host),
      log_(log_sink, &loop->clock(), std::move(log_source)),
      device_id_(device->device_id()),
      config_size_(device->config_size()),
      offered_(Carried(device->offered_features(),
                       options.translated_dma != nullptr)),
      avail_((device->queues().size() + 63) / 64),
      used_(static_cast<uint32_t>(device->queues().size())),
      alive_(std::make_shared<char>()),
      device_(std::move(device)) {
  for (const virtio::QueueLimits& limits : device_->queues()) {
    queues_.emplace_back().max_size = limits.max_size;
  }
  device_->SetConfigNotifier(this);
}

Endpoint::~Endpoint() = default;

// --- Requests. ---

size_t Endpoint::Handle(const Header& header, const DriverMessage& message,
                        std::span<std::byte> out) {
  VMSG_CHECK(!busy(), "a request during an operation");
  return std::visit(
      [&]<typename M>(const M& m) -> size_t {
        if constexpr (std::is_same_v<M, EventAvail> ||
                      std::is_same_v<M, GetDevices> ||
                      std::is_same_v<M, Ping> ||
                      std::is_same_v<M, PingResponse>) {
          vmm::CheckFailed(__FILE__, __LINE__, "a transport request", {});
        } else {
          return On(header, m, out);
        }
      },
      message);
}

size_t Endpoint::AnswerFinished(const Header& header,
                                const DriverMessage& message,
                                std::span<std::byte> out) const {
  return std::holds_alternative<SetDeviceStatus>(message)
             ? EncodeStatus(header, status_, out)
             : EncodeEmpty(header, out);
}

size_t Endpoint::On(const Header& header, const GetDeviceInfo&,
                    std::span<std::byte> out) {
  return EncodeDeviceInfo(
      options_.revision, header,
      DeviceInfoResponse{
          .device_id = device_id_,
          .vendor_id = options_.vendor_id,
          .num_feature_bits = 32 * BlocksOf(offered_),
          .config_size = config_size_,
          .max_virtqueues = static_cast<uint32_t>(queues_.size()),
      },
      out);
}

// Always the offered set (O-9), as many blocks as fit (O-12).
size_t Endpoint::On(const Header& header, const GetDeviceFeatures& get,
                    std::span<std::byte> out) {
  const uint32_t blocks =
      std::min(get.num_blocks, MaxFeatureBlocks(options_.max_message_bytes));
  return EncodeDeviceFeatures(options_.revision, header, get.block_index,
                              blocks, offered_, out);
}

// After FEATURES_OK ignored, with the normal answer (O-11).
size_t Endpoint::On(const Header& header, const SetDriverFeatures& set,
                    std::span<std::byte> out) {
  if (!has(kStatusFeaturesOk)) acked_.Write(set.block_index, set.words);
  return EncodeEmpty(header, out);
}

bool Endpoint::ConfigRangeFits(uint32_t offset, uint64_t length) const {
  return uint64_t{offset} + length <= config_size_;
}

size_t Endpoint::On(const Header& header, const GetConfig& get,
                    std::span<std::byte> out) {
  const bool fits = get.length <= MaxConfigBytes(options_.max_message_bytes) &&
                    ConfigRangeFits(get.offset, get.length);
  std::span<std::byte> data;
  const size_t size = EncodeConfig(header, generation_, get.offset,
                                   fits ? get.length : 0, out, &data);
  if (!data.empty()) device_->ReadConfig(get.offset, data);
  return size;
}

// The count is not advanced by the driver's own write: drivers need not take it
// from the answer (O-15).
size_t Endpoint::On(const Header& header, const SetConfig& set,
                    std::span<std::byte> out) {
  const bool current =
      !policy_.checks_config_generation || set.generation == generation_;
  const bool applied = current && !set.data.empty() &&
                       ConfigRangeFits(set.offset, set.data.size()) &&
                       device_->WriteConfig(set.offset, set.data);
  return EncodeConfigWritten(
      header, generation_, set.offset,
      applied ? static_cast<uint32_t>(set.data.size()) : 0, out);
}

size_t Endpoint::On(const Header& header, const GetDeviceStatus&,
                    std::span<std::byte> out) {
  return EncodeStatus(header, status_, out);
}

// Bits 8 to 31 are ignored (O-32), and so is what is not the driver's to set.
// A set bit is cleared by a reset alone. Source: virtio 1.2, 2.1 and 3.1.1.
size_t Endpoint::On(const Header& header, const SetDeviceStatus& set,
                    std::span<std::byte> out) {
  if (set.is_reset()) {
    ResetNow();
    return 0;
  }
  const uint8_t wanted = set.bits();
  const uint8_t before = status_;
  status_ |= wanted & (kStatusAcknowledge | kStatusDriver | kStatusFailed);
  if ((wanted & kStatusFeaturesOk) != 0 && has(kStatusDriver) &&
      FeaturesAcceptable()) {
    status_ |= kStatusFeaturesOk;
  }
  const bool start = (wanted & kStatusDriverOk) != 0 && !has(kStatusDriverOk) &&
                     has(kStatusFeaturesOk) && !has(kStatusNeedsReset) &&
                     !has(kStatusFailed);
  if (status_ != before) host_->OnStatusChanged();
  if (start && StartActivation()) return 0;
  return EncodeStatus(header, status_, out);
}

// A driver without VERSION_1 is refused: the legacy interface, which it would
// expect then, has no messages. Source: virtio 1.2, 2.2 and 6.
//
// Nor is one without ACCESS_PLATFORM where addresses are to be translated: its
// own would pass the translator by, and reach what that keeps from devices.
bool Endpoint::FeaturesAcceptable() {
  if (options_.translated_dma != nullptr && !options_.allow_untranslated &&
      !acked_.known().Has(virtio::kFeatureAccessPlatform)) {
    log_.LogGuest(vmm::LogSeverity::kWarning,
                  "refused: a driver without VIRTIO_F_ACCESS_PLATFORM");
    return false;
  }
  virtio::Features of_device = acked_.known();
  of_device.Clear(virtio::kFeatureAccessPlatform);
  return !acked_.HasUnknown() && acked_.known().IsSubsetOf(offered_) &&
         of_device.Has(virtio::kFeatureVersion1) &&
         device_->AcceptFeatures(of_device);
}

size_t Endpoint::On(const Header& header, const GetVqueue& get,
                    std::span<std::byte> out) {
  VqueueResponse response;  // all zero but the index (O-18)
  response.index = get.index;
  if (get.index < queues_.size()) {
    const Queue& queue = queues_[get.index];
    response.max_size = queue.max_size;
    response.enabled = queue.enabled;
    response.config = queue.config;
  }
  return EncodeVqueue(options_.revision, header, response, out);
}

size_t Endpoint::On(const Header& header, const SetVqueue& set,
                    std::span<std::byte> out) {
  ApplyQueueSettings(set);
  return EncodeEmpty(header, out);
}

// What is unusable changes nothing (O-19): an index or an area that does not
// exist, a size that is no size, a queue before FEATURES_OK (6.6), and a queue
// that runs (O-20).
void Endpoint::ApplyQueueSettings(const SetVqueue& set) {
  if (set.index >= queues_.size() || !has(kStatusFeaturesOk)) return;
  Queue& queue = queues_[set.index];
  const bool running = has(kStatusDriverOk);
  if (running && (queue.enabled || has(kStatusNeedsReset) || failing_)) return;

  virtio::QueueConfig config = set.config;
  if (set.keep_size) config.size = queue.config.size;
  if (set.keep_desc) config.desc = queue.config.desc;
  if (set.keep_driver) config.driver = queue.config.driver;
  if (set.keep_device) config.device = queue.config.device;
  const bool enable = set.enable == SetVqueue::Enable::kKeep
                          ? queue.enabled
                          : set.enable == SetVqueue::Enable::kEnable;
  if (!virtio::CheckQueueConfig(config, queue.max_size, acked_.known(), dma())
           .ok()) {
    log_.LogGuest(vmm::LogSeverity::kWarning, "SET_VQUEUE: unusable settings");
    return;
  }
  if (running && enable) {
    const uint16_t index = static_cast<uint16_t>(set.index);
    absl::StatusOr<std::unique_ptr<virtio::Virtqueue>> made =
        virtio::CreateVirtqueue(index, config, queue.max_size, acked_.known(),
                                dma());
    if (!made.ok()) return;
    device_->ActivateQueue(*std::move(made));
    device_->QueueNotify(index);
  }
  queue.config = config;
  queue.enabled = enable;
}

// Without VIRTIO_F_RING_RESET, or a queue to reset, nothing changes (O-21).
size_t Endpoint::On(const Header& header, const ResetVqueue& reset,
                    std::span<std::byte> out) {
  if (reset.index >= queues_.size() || !has(kStatusFeaturesOk) ||
      !acked_.known().Has(virtio::kFeatureRingReset)) {
    return EncodeEmpty(header, out);
  }
  Queue& queue = queues_[reset.index];
  if (!has(kStatusDriverOk) || !queue.enabled) {
    queue.enabled = false;
    queue.config = {};
    return EncodeEmpty(header, out);
  }
  StartQueueReset(static_cast<uint16_t>(reset.index));
  return 0;
}

size_t Endpoint::On(const Header& header, const GetShm& get,
                    std::span<std::byte> out) {
  ShmResponse response;
  response.index = get.index;
  if (get.index <= UINT8_MAX) {
    const std::optional<virtio::SharedMemoryRegion> region =
        device_->shared_memory(static_cast<uint8_t>(get.index));
    if (region.has_value()) {
      response.length = region->length;
      response.address = region->address.value;
    }
  }
  return EncodeShm(options_.revision, header, response, out);
}

}  // namespace vmsg::msg
