#include "devices/virtio_msg/monitor/device_model.h"

#include <variant>

#include "devices/virtio/little_endian.h"
#include "devices/virtio/status.h"
#include "devices/virtio_msg/layout.h"

namespace vmsg::msg {
namespace {

using virtio::kStatusAcknowledge;
using virtio::kStatusDriver;
using virtio::kStatusDriverOk;
using virtio::kStatusFailed;
using virtio::kStatusFeaturesOk;
using virtio::kStatusNeedsReset;

// virtio 1.4 only, and no business of this transport.
constexpr uint32_t kStatusSuspend = 16;
constexpr uint32_t kStatusDefined =
    kStatusAcknowledge | kStatusDriver | kStatusDriverOk | kStatusFeaturesOk |
    kStatusSuspend | kStatusNeedsReset | kStatusFailed;

bool IsReset(const DriverMessage& message) {
  const SetDeviceStatus* const set = std::get_if<SetDeviceStatus>(&message);
  return set != nullptr && set->is_reset();
}

// What a later answer is understood with.
OpenRequests::Request ToOpenRequest(const Header& header,
                                    const DriverMessage& message) {
  OpenRequests::Request request{.msg_id = header.msg_id};
  if (const auto* const status = std::get_if<SetDeviceStatus>(&message)) {
    request.value = status->status;
  } else if (const auto* const get = std::get_if<GetConfig>(&message)) {
    request.length = get->length;
  } else if (const auto* const set = std::get_if<SetConfig>(&message)) {
    request.value = set->generation;
    request.length = static_cast<uint32_t>(set->data.size());
  }
  return request;
}

uint32_t LoadWord(std::span<const std::byte> bytes,
                  layout::Field<uint32_t> field) {
  return virtio::LoadLittle<uint32_t>(
      std::span<const std::byte, 4>(&bytes[field.offset], 4));
}

// An area of a ring. Source: virtio 1.2, 2.7 and 2.8.
struct Area {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t alignment = 1;

  bool wraps() const { return address > ~bytes; }
  bool aligned() const { return address % alignment == 0; }
  bool Overlaps(const Area& other) const {
    return address < other.address + other.bytes &&
           other.address < address + bytes;
  }
};

}  // namespace

// --- Messages of the driver. ---

void DeviceModel::OnDriver(const Header& header, const DriverMessage& message,
                           std::span<const std::byte> bytes) {
  const bool is_request = !std::holds_alternative<EventAvail>(message);
  // It has the answer to its last request, and so what came before that.
  if (is_request && s_.needs_reset == NeedsReset::kAnswered) {
    s_.needs_reset = NeedsReset::kSeen;
  }
  if (is_request && s_.successor.has_value()) BeginAnew();
  if (s_.gone && !IsReset(message) &&
      !std::holds_alternative<GetDeviceInfo>(message)) {
    // Whatever it makes of answers that mean nothing.
  } else if (IsForNobody(message)) {
    Violated(Row::kDrvHdr5, "message 0x%02x, and its info said no device",
             header.msg_id);
  } else {
    std::visit([this](const auto& m) { On(m); }, message);
    if (std::holds_alternative<SetVqueue>(message)) {
      using L = layout::VqueueSettings;
      if (LoadWord(bytes, L::kReserved0) != 0 ||
          LoadWord(bytes, L::kReserved1) != 0) {
        Violated(Row::kFactSvq1, "SET_VQUEUE with reserved words 0x%x and 0x%x",
                 LoadWord(bytes, L::kReserved0),
                 LoadWord(bytes, L::kReserved1));
      }
    }
  }
  if (is_request) s_.open.Push(ToOpenRequest(header, message));
}

// Questions are free, and so is what ends the use of a device.
bool DeviceModel::IsForNobody(const DriverMessage& message) const {
  if (!s_.absent || IsReset(message)) return false;
  return std::holds_alternative<SetDriverFeatures>(message) ||
         std::holds_alternative<SetConfig>(message) ||
         std::holds_alternative<SetDeviceStatus>(message) ||
         std::holds_alternative<SetVqueue>(message) ||
         std::holds_alternative<EventAvail>(message);
}

void DeviceModel::On(const GetDeviceInfo&) {
  s_.info_asked = true;
  s_.asked_anew = s_.removed;
}

void DeviceModel::SetInfo(const DeviceInfoResponse& info) {
  s_.absent = info.device_id == 0;
  s_.info_known = !s_.absent;
  s_.info = info;
}

// What is known is of the device that was removed, but for the info.
void DeviceModel::BeginAnew() {
  const State old = s_;
  s_ = {};
  s_.open = old.open;
  s_.info_asked = true;
  s_.info_known = old.info_known;
  s_.info = old.info;
  s_.absent = old.absent;
  if (!old.successor.has_value()) return;
  SetInfo(*old.successor);
  s_.absent = s_.absent && !old.replaced;
}

void DeviceModel::RequireInfo(std::string_view what) {
  if (s_.info_asked) return;
  s_.info_asked = true;
  Violated(Row::kDrvInit1, "%s before GET_DEVICE_INFO", what);
}

void DeviceModel::On(const GetDeviceFeatures&) {
  RequireInfo("GET_DEVICE_FEATURES");
}

void DeviceModel::On(const SetDriverFeatures& set) {
  RequireInfo("SET_DRIVER_FEATURES");
  if ((s_.status & kStatusFeaturesOk) != 0) {
    Violated(Row::kDrvFeat3, "features written in status 0x%x", s_.status);
  } else if ((s_.status & kStatusDriver) == 0) {
    Violated(Row::kDrvStatus2, "features written in status 0x%x", s_.status);
  }
  for (uint32_t k = 0; k < set.words.size(); ++k) {
    if (set.words[k] == 0) continue;
    const uint64_t block = uint64_t{set.block_index} + k;
    const bool exists =
        block < virtio::Features::kBlocks &&
        (!s_.info_known || block < s_.info.num_feature_bits / 32);
    if (exists && (s_.blocks_read >> block & 1) == 0) {
      Violated(Row::kDrvFeat1, "block %u written and never read", block);
      AssumeAllRead();
      break;
    }
    const uint32_t offered = exists ? s_.offered.block(block) : 0;
    if ((set.words[k] & ~offered) != 0) {
      Violated(Row::kDrvFeat2, "bits 0x%x of block %u were not offered",
               set.words[k] & ~offered, block);
      break;
    }
  }
  s_.acked.Write(set.block_index, set.words);
}

// What it did not read may have been offered, all of it.
void DeviceModel::AssumeAllRead() {
  for (uint32_t block = 0; block < virtio::Features::kBlocks; ++block) {
    if ((s_.blocks_read >> block & 1) == 0) {
      s_.offered.set_block(block, ~uint32_t{0});
    }
  }
  s_.blocks_read = ~uint32_t{0};
}

// --- Configuration space. ---

void DeviceModel::CheckConfigRange(uint32_t offset, size_t length) {
  if (!s_.info_known || uint64_t{offset} + length <= s_.info.config_size) {
    return;
  }
  Violated(Row::kDrvInfo2, "%u bytes at %u of a configuration of %u", length,
           offset, s_.info.config_size);
}

void DeviceModel::On(const GetConfig& get) {
  RequireInfo("GET_CONFIG");
  CheckConfigRange(get.offset, get.length);
  s_.generation_rejected = false;
  s_.unread_generation.reset();
}

void DeviceModel::On(const SetConfig& set) {
  RequireInfo("SET_CONFIG");
  CheckConfigRange(set.offset, set.data.size());
  if (s_.generation_rejected) {
    Violated(Row::kDrvGen2, "SET_CONFIG again without reading the count");
    s_.generation_rejected = false;
  }
  if (!s_.generations.Has(set.generation)) {
    Violated(Row::kDrvGen1, "SET_CONFIG with count %u, which is not the last",
             set.generation);
    s_.generations.Add(set.generation);
  } else if (s_.unread_generation == set.generation) {
    Violated(Row::kDrvEc2, "SET_CONFIG with count %u of an event without data",
             set.generation);
    s_.unread_generation.reset();
  }
}

// --- Status. ---

void DeviceModel::On(const SetDeviceStatus& set) {
  // The info that it has asked for may be the one of a device that was not
  // announced yet, which begins with status 0.
  if (s_.asked_anew && (s_.status & ~set.bits()) != 0) BeginAnew();
  if (set.is_reset()) {
    if (set.status != 0) {
      Violated(Row::kDrvStatus3, "status 0x%x is not 0 and has no bit",
               set.status);
    }
    Reset();
    return;
  }
  RequireInfo("SET_DEVICE_STATUS");
  if (s_.reset_not_done) {
    Violated(Row::kDrvSds2, "status 0x%x, and the reset is not done",
             set.status);
    s_.reset_not_done = false;
  }
  CheckNewStatus(set.status);
  const uint32_t added = set.bits() & ~s_.status;
  if ((added & kStatusFeaturesOk) != 0) {
    if (s_.blocks_read == 0) {
      Violated(Row::kDrvFeat1, "FEATURES_OK, and no features were read");
      AssumeAllRead();
    }
    s_.features_ok_tried = true;
    s_.features_ok_refused = false;
  }
  if ((added & kStatusDriverOk) != 0) CheckDriverOk();
  s_.status = set.bits();
}

// Source: virtio 1.2, 2.1 and 3.1.1.
void DeviceModel::CheckNewStatus(uint32_t status) {
  const uint32_t added = status & ~s_.status;
  const uint32_t cleared = s_.status & ~status & ~kStatusNeedsReset;
  if ((status & ~kStatusDefined) != 0) {
    Violated(Row::kDrvStatus2, "status 0x%x has undefined bits", status);
  } else if (cleared != 0) {
    Violated(Row::kDrvStatus2, "status 0x%x clears bits 0x%x", status, cleared);
  } else if ((added & kStatusNeedsReset) != 0 &&
             s_.needs_reset == NeedsReset::kNo) {
    Violated(Row::kDrvStatus2, "status 0x%x sets DEVICE_NEEDS_RESET", status);
  } else if ((added & kStatusDriver) != 0 &&
             (status & kStatusAcknowledge) == 0) {
    Violated(Row::kDrvStatus2, "status 0x%x: DRIVER without ACKNOWLEDGE",
             status);
  } else if ((added & kStatusFeaturesOk) != 0 &&
             (s_.status & kStatusDriver) == 0) {
    Violated(Row::kDrvStatus2, "status 0x%x: FEATURES_OK without DRIVER before",
             status);
  }
}

void DeviceModel::CheckDriverOk() {
  if (!s_.features_ok_tried) {
    Violated(Row::kDrvFeat3, "DRIVER_OK without FEATURES_OK");
  } else if (s_.features_ok_refused) {
    Violated(Row::kDrvFeat4, "DRIVER_OK, and FEATURES_OK was refused");
  } else if ((s_.reported & kStatusFeaturesOk) == 0) {
    Violated(Row::kDrvFinal1, "DRIVER_OK before FEATURES_OK was reported");
  } else if (s_.open.Has(layout::kSetVqueue)) {
    Violated(Row::kDrvFinal1, "DRIVER_OK before SET_VQUEUE was answered");
  }
  if (s_.reset_after_removal && !s_.asked_anew) {
    Violated(Row::kDrvEvdev2, "DRIVER_OK for a device that was removed");
    s_.reset_after_removal = false;
  }
  for (uint32_t i = 0; i < kQueues; ++i) {
    Queue& queue = s_.queues[i];
    if (!queue.configured || queue.confirmed) continue;
    Violated(Row::kDrvInit3, "DRIVER_OK, and queue %u was not confirmed", i);
    queue.confirmed = true;
  }
}

void DeviceModel::Reset() {
  if (s_.removed && s_.started_at_removal &&
      s_.needs_reset == NeedsReset::kNo) {
    s_.reset_after_removal = true;
  }
  s_.status = 0;
  s_.reported = 0;
  s_.reset_not_done = false;
  s_.features_ok_tried = false;
  s_.features_ok_refused = false;
  s_.needs_reset = NeedsReset::kNo;
  s_.acked = {};
  for (Queue& queue : s_.queues) {
    queue.looked_at = false;
    queue.configured = false;
  }
}

// --- Queues. ---

bool DeviceModel::Negotiated(uint32_t bit) const {
  return s_.acked.known().Has(bit) && (s_.reported & kStatusFeaturesOk) != 0;
}

bool DeviceModel::RequireIndex(uint32_t index, std::string_view what) {
  if (s_.info_known && index >= s_.info.max_virtqueues) {
    Violated(Row::kDrvGdi1, "%s of queue %u of %u", what, index,
             s_.info.max_virtqueues);
    return false;
  }
  return index < kQueues;
}

void DeviceModel::RequireFeaturesOk() {
  if ((s_.reported & kStatusFeaturesOk) != 0) return;
  if (s_.features_ok_refused) {
    Violated(Row::kDrvFeat4, "SET_VQUEUE, and FEATURES_OK was refused");
  } else {
    Violated(Row::kDrvInit2, "SET_VQUEUE before FEATURES_OK was reported");
  }
}

void DeviceModel::On(const GetVqueue& get) {
  RequireInfo("GET_VQUEUE");
  RequireIndex(get.index, "GET_VQUEUE");
}

void DeviceModel::On(const SetVqueue& set) {
  RequireInfo("SET_VQUEUE");
  RequireFeaturesOk();
  CheckAreas(set.config);
  if (!RequireIndex(set.index, "SET_VQUEUE")) return;
  Queue& queue = s_.queues[set.index];
  if (queue.configured && Negotiated(virtio::kFeatureRingReset)) {
    Violated(Row::kDrvVq4, "SET_VQUEUE of queue %u, which is active",
             set.index);
  } else if (queue.configured) {
    Violated(Row::kDrvVq1, "SET_VQUEUE of queue %u, which is active",
             set.index);
  } else if (!queue.looked_at) {
    Violated(Row::kDrvVq1, "SET_VQUEUE of queue %u without GET_VQUEUE",
             set.index);
  }
  if (queue.max_known && set.config.size > queue.max_size) {
    Violated(Row::kDrvVq2, "size %u of queue %u is above %u", set.config.size,
             set.index, queue.max_size);
  }
  queue.size = set.config.size;
  queue.configured = set.config.size != 0;
  queue.confirmed = false;
  queue.notified = false;
}

void DeviceModel::CheckAreas(const virtio::QueueConfig& config) {
  const uint64_t n = config.size;
  const bool packed = Negotiated(virtio::kFeatureRingPacked);
  const std::array<Area, 3> areas = {
      Area{config.desc.value, 16 * n, 16},
      Area{config.driver.value, packed ? 4 : 6 + 2 * n, packed ? 4u : 2u},
      Area{config.device.value, packed ? 4 : 6 + 8 * n, 4}};
  for (const Area& area : areas) {
    if (area.wraps()) {
      Violated(Row::kDrvVq3, "an area at 0x%x", area.address);
      return;
    }
  }
  if (areas[0].Overlaps(areas[1]) || areas[0].Overlaps(areas[2]) ||
      areas[1].Overlaps(areas[2])) {
    Violated(Row::kDrvVq3, "areas at 0x%x, 0x%x and 0x%x overlap",
             areas[0].address, areas[1].address, areas[2].address);
    return;
  }
  for (const Area& area : areas) {
    if (area.aligned()) continue;
    Violated(Row::kDrvSvq2, "an area at 0x%x, not a multiple of %u",
             area.address, area.alignment);
    return;
  }
}

void DeviceModel::On(const ResetVqueue& reset) {
  if (!Negotiated(virtio::kFeatureRingReset)) {
    Violated(Row::kDrvRvq1, "RESET_VQUEUE of queue %u without the feature",
             reset.index);
    return;
  }
  if (!RequireIndex(reset.index, "RESET_VQUEUE")) return;
  s_.queues[reset.index].configured = false;
}

void DeviceModel::On(const EventAvail& avail) {
  if (s_.needs_reset == NeedsReset::kSeen) {
    Violated(Row::kDrvReset3, "EVENT_AVAIL, and the device needs a reset");
    s_.needs_reset = NeedsReset::kReported;
  }
  if (s_.info_known && avail.index >= s_.info.max_virtqueues) {
    Violated(Row::kDrvNotif2, "EVENT_AVAIL of queue %u of %u", avail.index,
             s_.info.max_virtqueues);
    return;
  }
  if (avail.index >= kQueues) return;
  // A device that goes away answers as none would that is there. Who has reset
  // it knows that it has no queue.
  if (s_.removed && s_.status != 0) return;
  Queue& queue = s_.queues[avail.index];
  if (!queue.configured) {
    Violated(Row::kDrvFinal3, "EVENT_AVAIL of queue %u, not configured",
             avail.index);
    return;
  }
  if ((s_.status & kStatusDriverOk) == 0) {
    Violated(Row::kDrvInit4, "EVENT_AVAIL in status 0x%x", s_.status);
  } else if ((s_.reported & kStatusDriverOk) == 0) {
    Violated(Row::kDrvFinal2, "EVENT_AVAIL before DRIVER_OK was reported");
  }
  if (!queue.confirmed) {
    Violated(Row::kDrvInit3, "EVENT_AVAIL, and queue %u was not confirmed",
             avail.index);
    queue.confirmed = true;
  }
  CheckPosition(&queue, avail);
  queue.notified = true;
}

// A split queue's position is the 16-bit available index (O-24), which is not 0
// when the first buffers are there.
void DeviceModel::CheckPosition(Queue* queue, const EventAvail& avail) {
  const bool none = avail.next_offset == 0 && !avail.next_wrap;
  if (!Negotiated(virtio::kFeatureNotificationData)) {
    if (!none) {
      Violated(Row::kDrvNotif4, "position 0x%x without the feature",
               avail.next_offset);
    }
    return;
  }
  const bool packed = Negotiated(virtio::kFeatureRingPacked);
  const uint32_t limit = packed ? queue->size : 0x10000;
  if (avail.next_offset >= limit) {
    Violated(Row::kDrvNotif3, "position 0x%x of queue %u", avail.next_offset,
             avail.index);
  } else if (none && !packed && !queue->notified) {
    Violated(Row::kDrvNotif3, "first position 0 of queue %u", avail.index);
  }
}

// --- Messages of the device. ---

void DeviceModel::OnDevice(const Header& header, const DeviceMessage& message) {
  if (const auto* const event = std::get_if<ConfigChanged>(&message)) {
    ConfigEvent(*event);
    return;
  }
  if (!header.is_response) return;
  const std::optional<OpenRequests::Request> request =
      s_.open.Take(header.msg_id);
  if (!request.has_value()) return;
  std::visit(
      [&](const auto& answer) {
        if constexpr (requires { Answer(*request, answer); }) {
          Answer(*request, answer);
        }
      },
      message);
  if (s_.needs_reset == NeedsReset::kShown) {
    s_.needs_reset = NeedsReset::kAnswered;
  }
}

void DeviceModel::Answer(const OpenRequests::Request&,
                         const DeviceInfoResponse& info) {
  // One that is being removed shows its own info until the driver lets go of
  // it.
  if (s_.removed &&
      (info.device_id == 0 || s_.replaced || s_.gone || s_.status == 0)) {
    s_.successor = info;
    return;
  }
  if (s_.gone) BeginAnew();
  SetInfo(info);
}

void DeviceModel::Answer(const OpenRequests::Request&,
                         const FeaturesAnswer& features) {
  for (uint32_t k = 0; k < features.words.size(); ++k) {
    const uint64_t block = uint64_t{features.block_index} + k;
    if (block >= virtio::Features::kBlocks) break;
    s_.blocks_read |= uint32_t{1} << block;
    s_.offered.set_block(static_cast<uint32_t>(block), features.words[k]);
  }
}

void DeviceModel::Answer(const OpenRequests::Request& request,
                         const ConfigAnswer& config) {
  const bool refused = config.length == 0 && request.length != 0;
  if (request.msg_id == layout::kGetConfig && !refused) {
    s_.generations.Replace(config.generation);
    // Asked for before the event, and answered after it.
    if (s_.unread_generation == config.generation) s_.unread_generation.reset();
    return;
  }
  s_.generations.Add(config.generation);
  if (request.msg_id == layout::kSetConfig && refused &&
      config.generation != request.value) {
    s_.generation_rejected = true;
  }
}

void DeviceModel::Answer(const OpenRequests::Request& request,
                         const StatusAnswer& status) {
  const bool is_set = request.msg_id == layout::kSetDeviceStatus;
  // Of before a reset that is on its way.
  if (s_.open.Has(layout::kSetDeviceStatus)) return;
  NoteReported(status.status);
  if (is_set && (request.value & 0xFF) == 0) {
    s_.reset_not_done = status.status != 0;
    return;
  }
  if (status.status == 0) {
    s_.reset_not_done = false;
    // No device takes ACKNOWLEDGE back: it was removed, and its REMOVED may be
    // still to come.
    s_.gone = s_.gone || (s_.status & kStatusAcknowledge) != 0;
  }
  if (is_set && (request.value & kStatusFeaturesOk) != 0 &&
      (status.status & kStatusFeaturesOk) == 0) {
    s_.features_ok_refused = true;
  }
  // A device may keep what the driver took back.
  s_.status =
      is_set ? status.status & ~kStatusNeedsReset : s_.status & status.status;
}

void DeviceModel::Answer(const OpenRequests::Request&,
                         const VqueueAnswer& vqueue) {
  if (vqueue.index >= kQueues) return;
  Queue& queue = s_.queues[vqueue.index];
  queue.max_known = true;
  queue.max_size = vqueue.max_size;
  queue.looked_at = true;
  if (s_.open.Has(layout::kSetVqueue)) return;
  queue.configured = queue.configured && vqueue.cur_size != 0;
  queue.confirmed = queue.configured;
}

void DeviceModel::ConfigEvent(const ConfigChanged& event) {
  NoteReported(event.status);
  s_.generation_rejected = false;
  if (event.has_data) {
    s_.unread_generation.reset();
  } else if (!s_.generations.Has(event.generation)) {
    s_.unread_generation = event.generation;
  }
  s_.generations.Add(event.generation);
}

void DeviceModel::NoteReported(uint32_t status) {
  s_.reported = status;
  if ((status & kStatusNeedsReset) == 0) {
    s_.needs_reset = NeedsReset::kNo;
  } else if (s_.needs_reset == NeedsReset::kNo) {
    s_.needs_reset = NeedsReset::kShown;
  }
}

void DeviceModel::OnRemoved() {
  s_.removed = true;
  s_.started_at_removal = (s_.status & kStatusDriverOk) != 0;
  s_.reset_after_removal = false;
  s_.replaced = false;
  s_.asked_anew = false;
  s_.successor.reset();
}

}  // namespace vmsg::msg
