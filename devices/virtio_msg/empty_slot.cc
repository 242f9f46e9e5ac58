#include "devices/virtio_msg/empty_slot.h"

#include <algorithm>
#include <variant>

namespace vmsg::msg {
namespace {

struct Answer {
  Revision revision;
  uint32_t max_message_bytes;
  const Header& header;
  std::span<std::byte> out;

  size_t operator()(const GetDeviceInfo&) const {
    return EncodeDeviceInfo(revision, header, DeviceInfoResponse{}, out);
  }
  size_t operator()(const GetDeviceFeatures& get) const {
    return EncodeDeviceFeatures(
        revision, header, get.block_index,
        std::min(get.num_blocks, MaxFeatureBlocks(max_message_bytes)),
        virtio::Features{}, out);
  }
  size_t operator()(const SetDriverFeatures&) const {
    return EncodeEmpty(header, out);
  }
  size_t operator()(const GetConfig& get) const {
    std::span<std::byte> data;
    return EncodeConfig(header, /*generation=*/0, get.offset, /*length=*/0, out,
                        &data);
  }
  size_t operator()(const SetConfig& set) const {
    return EncodeConfigWritten(header, /*generation=*/0, set.offset,
                               /*length=*/0, out);
  }
  size_t operator()(const GetDeviceStatus&) const {
    return EncodeStatus(header, 0, out);
  }
  size_t operator()(const SetDeviceStatus&) const {
    return EncodeStatus(header, 0, out);
  }
  size_t operator()(const GetVqueue& get) const {
    VqueueResponse response;
    response.index = get.index;
    return EncodeVqueue(revision, header, response, out);
  }
  size_t operator()(const SetVqueue&) const { return EncodeEmpty(header, out); }
  size_t operator()(const ResetVqueue&) const {
    return EncodeEmpty(header, out);
  }
  size_t operator()(const GetShm& get) const {
    ShmResponse response;
    response.index = get.index;
    return EncodeShm(revision, header, response, out);
  }
  size_t operator()(const EventAvail&) const { return 0; }
  // Bus messages concern no slot.
  size_t operator()(const GetDevices&) const { return 0; }
  size_t operator()(const Ping&) const { return 0; }
  size_t operator()(const PingResponse&) const { return 0; }
};

}  // namespace

size_t AnswerForEmptySlot(Revision revision, uint32_t max_message_bytes,
                          const Header& header, const DriverMessage& message,
                          std::span<std::byte> out) {
  return std::visit(Answer{revision, max_message_bytes, header, out}, message);
}

}  // namespace vmsg::msg
