// Requests and events of the driver are what guest/driver writes, and the
// device's codec has to understand them; answers and events of the device are
// what the codec writes.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "devices/virtio/features.h"
#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/message.h"
#include "gtest/gtest.h"
#include "guest/driver/features.h"
#include "guest/driver/message.h"
#include "tests/wire_pages/wire_page.h"

namespace vmsg {
namespace {

constexpr uint16_t kDevice = 5;
constexpr uint16_t kToken = 0x1234;
constexpr size_t kMaxBytes = 64;
constexpr msg::Revision kRevision = msg::Revision::k2025;

class MessagesPageTest : public ::testing::Test {
 protected:
  // `size` bytes of buffer_, which guest/driver has written, as example `name`.
  // Returns what the device makes of it.
  msg::DriverMessage Request(const std::string& name, size_t size,
                             uint16_t token = kToken) {
    guest::SetToken(buffer_, token);
    const auto bytes = std::span(buffer_).first(size);
    page_.ExpectBytes(name, bytes);
    msg::DriverMessage message;
    EXPECT_EQ(
        msg::DecodeFromDriver(kRevision, kMaxBytes, bytes, &header_, &message),
        msg::DecodeError::kNone)
        << name;
    EXPECT_EQ(header_.token, token);
    return message;
  }
  // The same for what the codec has written.
  void FromDevice(const std::string& name, size_t size) {
    page_.ExpectBytes(name, std::span(buffer_).first(size));
    guest::Header header;
    EXPECT_TRUE(
        guest::DecodeHeader(std::span(buffer_).first(size), kMaxBytes, &header))
        << name;
  }

  WirePage page_ = WirePage::Open("messages.md");
  std::array<std::byte, kMaxBytes> buffer_ = {};
  msg::Header header_;  // of the last request
};

TEST_F(MessagesPageTest, EveryExampleIsWhatBothSidesSay) {
  // Enumeration.
  auto devices = std::get<msg::GetDevices>(
      Request("get_devices", guest::EncodeGetDevices(0, 32, buffer_)));
  EXPECT_EQ(devices.count, 32u);
  FromDevice("get_devices_answer",
             msg::EncodeDevices(kRevision, header_, 0, 32, 0,
                                1u << 0 | 1u << 2 | 1u << 5, buffer_));
  EXPECT_TRUE(std::holds_alternative<msg::GetDeviceInfo>(Request(
      "get_device_info", guest::EncodeGetDeviceInfo(kDevice, buffer_))));
  FromDevice("get_device_info_answer",
             msg::EncodeDeviceInfo(kRevision, header_,
                                   {.device_id = 2,
                                    .vendor_id = 0x1AF4,
                                    .num_feature_bits = 64,
                                    .config_size = 96,
                                    .max_virtqueues = 1},
                                   buffer_));

  // Features.
  Request("get_device_features",
          guest::EncodeGetDeviceFeatures(kDevice, 0, 2, buffer_));
  FromDevice(
      "get_device_features_answer",
      msg::EncodeDeviceFeatures(kRevision, header_, 0, 2,
                                virtio::Features({28, 32, 40}), buffer_));
  guest::Features wanted;
  wanted.Set(32);
  auto set_features = std::get<msg::SetDriverFeatures>(
      Request("set_driver_features",
              guest::EncodeSetDriverFeatures(kDevice, 0, 2, wanted, buffer_)));
  EXPECT_EQ(set_features.words[1], 1u);
  FromDevice("set_driver_features_answer", msg::EncodeEmpty(header_, buffer_));

  // Configuration.
  Request("get_config", guest::EncodeGetConfig(kDevice, 0, 8, buffer_));
  std::span<std::byte> data;
  const size_t config_bytes =
      msg::EncodeConfig(header_, 7, 0, 8, buffer_, &data);
  const std::array<std::byte, 8> capacity = {std::byte{0}, std::byte{0x20}};
  std::copy(capacity.begin(), capacity.end(), data.begin());
  FromDevice("get_config_answer", config_bytes);
  const std::array<std::byte, 1> one = {std::byte{1}};
  auto set_config = std::get<msg::SetConfig>(Request(
      "set_config", guest::EncodeSetConfig(kDevice, 7, 32, one, buffer_)));
  EXPECT_EQ(set_config.offset, 32u);
  FromDevice("set_config_refused",
             msg::EncodeConfigWritten(header_, 8, 32, 0, buffer_));

  // Status.
  Request("get_device_status", guest::EncodeGetDeviceStatus(kDevice, buffer_));
  FromDevice("get_device_status_answer",
             msg::EncodeStatus(header_, 0x03, buffer_));
  Request("set_device_status",
          guest::EncodeSetDeviceStatus(kDevice, 0x0B, buffer_));
  FromDevice("set_device_status_answer",
             msg::EncodeStatus(header_, 0x0B, buffer_));

  // Queues.
  auto set_vqueue = std::get<msg::SetVqueue>(
      Request("set_vqueue", guest::EncodeSetVqueue(kDevice,
                                                   {.index = 0,
                                                    .size = 128,
                                                    .desc = 0x40001000,
                                                    .driver = 0x40001800,
                                                    .device = 0x40002000},
                                                   buffer_)));
  FromDevice("set_vqueue_answer", msg::EncodeEmpty(header_, buffer_));
  Request("get_vqueue", guest::EncodeGetVqueue(kDevice, 0, buffer_));
  FromDevice("get_vqueue_answer",
             msg::EncodeVqueue(kRevision, header_,
                               {.index = 0,
                                .max_size = 256,
                                .enabled = true,
                                .config = set_vqueue.config},
                               buffer_));
  Request("reset_vqueue", guest::EncodeResetVqueue(kDevice, 0, buffer_));
  FromDevice("reset_vqueue_answer", msg::EncodeEmpty(header_, buffer_));
  Request("get_shm", guest::EncodeGetShm(kDevice, 1, buffer_));
  FromDevice("get_shm_answer",
             msg::EncodeShm(kRevision, header_, {.index = 1}, buffer_));

  // Events, without a token.
  auto avail = std::get<msg::EventAvail>(
      Request("event_avail",
              guest::EncodeEventAvail(kDevice, 1, 0x80000005, buffer_), 0));
  EXPECT_EQ(avail.next_offset, 5u);
  EXPECT_TRUE(avail.next_wrap);
  FromDevice("event_used", msg::EncodeUsedEvent(kDevice, 1, buffer_));
  FromDevice("event_config",
             msg::EncodeConfigEvent(kDevice, {.status = 0x4F, .generation = 8},
                                    {}, buffer_));
  FromDevice(
      "event_device",
      msg::EncodeDeviceEvent(kDevice, msg::DeviceBusState::kReady, buffer_));

  // The bus.
  Request("ping", guest::EncodePing(0x12345678, buffer_));
  FromDevice("ping_answer", msg::EncodePing(header_, 0x12345678, buffer_));

  page_.ExpectAllCompared();
}

}  // namespace
}  // namespace vmsg
