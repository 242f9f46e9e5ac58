#include "benchmarks/get_config_path.h"

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "guest/driver/message.h"
#include "vmm/base/check.h"

namespace vmsg::bench {
namespace {

constexpr uint16_t kSlot = 0;
constexpr uint32_t kConfigBytes = 16;
constexpr uint32_t kServedBytes = 8;
constexpr uint16_t kToken = 7;

void Send(guest::Fifo& fifo, std::span<const std::byte> message) {
  VMSG_CHECK(fifo.Send(message));
}

}  // namespace

class CountingInterrupts::Route final : public vmm::MsiRoute {
 public:
  explicit Route(uint64_t* count) : count_(count) {}
  absl::Status Update(const vmm::MsiMessage& /*message*/) override {
    return absl::OkStatus();
  }
  absl::Status Trigger() override {
    ++*count_;
    return absl::OkStatus();
  }

 private:
  uint64_t* const count_;
};

absl::StatusOr<std::unique_ptr<vmm::MsiRoute>>
CountingInterrupts::CreateMsiRoute() {
  return std::make_unique<Route>(&count_);
}

GetConfigPath::GetConfigPath(uint32_t packets_per_turn)
    : packets_per_turn_(packets_per_turn),
      turns_(kBatch / packets_per_turn),
      driver_({.num_fifos = 1, .max_packets_per_wakeup = packets_per_turn},
              &loop_, &interrupts_) {
  VMSG_CHECK(kBatch % packets_per_turn == 0);
  // The channel notes that it was connected, and would reset a device.
  loop_.RunUntilIdle();
  PlugDevice();
  // The first turns.
  for (uint32_t i = 0; i < packets_per_turn_; ++i) PutOne(Range::kServed);
  driver_.fifo().CommitSent();
  loop_.RunWatches();
  guest::Packet packet;
  for (uint32_t i = 0; i < packets_per_turn_; ++i) {
    VMSG_CHECK(driver_.fifo().Receive(&packet));
  }
  driver_.fifo().CommitReceived();
}

GetConfigPath::~GetConfigPath() = default;

void GetConfigPath::PlugDevice() {
  virtio::DummyOptions options;
  options.config_size = kConfigBytes;
  VMSG_CHECK(
      driver_.device()
          .bus(0)
          ->Plug(kSlot, 1,
                 std::make_unique<amp::VirtioPluggable>(
                     std::make_unique<virtio::DummyDevice>(options, &loop_)))
          .ok());
  // The driver shows that it knows the device, and drops what the bus says to
  // that: after it there is nothing but answers.
  std::array<std::byte, guest::kHeaderBytes> ask;
  VMSG_CHECK(guest::EncodeGetDeviceInfo(kSlot, ask) == ask.size());
  Send(driver_.fifo(), ask);
  driver_.fifo().CommitSent();
  loop_.RunUntilIdle();
  loop_.RunWatches();
  loop_.RunUntilIdle();
  guest::Packet packet;
  while (driver_.fifo().Receive(&packet)) {
  }
  driver_.fifo().CommitReceived();
}

void GetConfigPath::PutOne(Range range) {
  std::array<std::byte, 16> request;
  const bool served = range == Range::kServed;
  const size_t size = guest::EncodeGetConfig(
      kSlot, served ? 0 : kConfigBytes, served ? kServedBytes : 4, request);
  VMSG_CHECK(size == request.size());
  guest::SetToken(request, kToken);
  Send(driver_.fifo(), request);
}

void GetConfigPath::Put(Range range) {
  for (uint32_t i = 0; i < kBatch; ++i) PutOne(range);
  driver_.fifo().CommitSent();
}

void GetConfigPath::Take(Range range) {
  guest::Packet packet;
  for (uint32_t i = 0; i < kBatch; ++i) {
    VMSG_CHECK(driver_.fifo().Receive(&packet), "an answer is missing");
    guest::Header header;
    guest::ConfigData config;
    VMSG_CHECK(
        guest::DecodeHeader(packet.bytes, guest::kPacketBytes, &header) &&
        header.is_response() && !header.is_bus() && header.token == kToken &&
        header.msg_id == guest::kMsgGetConfig && header.dev_num == kSlot);
    VMSG_CHECK(guest::DecodeConfig(
        std::span(packet.bytes).first(header.msg_size), &config));
    VMSG_CHECK(config.length == (range == Range::kServed ? kServedBytes : 0));
  }
  VMSG_CHECK(!driver_.fifo().Receive(&packet), "more than was asked for");
  driver_.fifo().CommitReceived();
}

}  // namespace vmsg::bench
