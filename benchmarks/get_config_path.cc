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

GetConfigPath::GetConfigPath(const Options& options)
    : options_(options),
      turns_(kBatch / options.packets_per_turn),
      driver_({.num_fifos = options.fifos,
               .fifo_layout = options.layout,
               .max_packets_per_wakeup = options.packets_per_turn},
              &loop_, &interrupts_) {
  VMSG_CHECK(kBatch % options_.packets_per_turn == 0);
  // The channel notes that it was connected, and would reset a device.
  loop_.RunUntilIdle();
  driver_.Join([this] {
    loop_.RunWatches();
    loop_.RunUntilIdle();
  });
  PlugDevices();
  // The first turns.
  for (uint32_t i = 0; i < options_.packets_per_turn; ++i) {
    PutOne(i, Range::kServed);
  }
  fifo().CommitSent();
  loop_.RunWatches();
  guest::Packet packet;
  for (uint32_t i = 0; i < options_.packets_per_turn; ++i) {
    VMSG_CHECK(fifo().Receive(&packet));
  }
  fifo().CommitReceived();
}

GetConfigPath::~GetConfigPath() = default;

void GetConfigPath::PlugDevices() {
  virtio::DummyOptions dummy;
  dummy.config_size = kConfigBytes;
  for (uint32_t slot = 0; slot < options_.devices; ++slot) {
    VMSG_CHECK(
        driver_.device()
            .bus(options_.fifos - 1)
            ->Plug(slot, 1,
                   std::make_unique<amp::VirtioPluggable>(
                       std::make_unique<virtio::DummyDevice>(dummy, &loop_)))
            .ok());
  }
  // The driver shows that it knows the devices, and drops what the bus says to
  // that: after it there is nothing but answers.
  for (uint32_t slot = 0; slot < options_.devices; ++slot) {
    std::array<std::byte, guest::kHeaderBytes> ask;
    VMSG_CHECK(guest::EncodeGetDeviceInfo(static_cast<uint16_t>(slot), ask) ==
               ask.size());
    Send(fifo(), ask);
    fifo().CommitSent();
    loop_.RunUntilIdle();
    loop_.RunWatches();
    loop_.RunUntilIdle();
    guest::Packet packet;
    while (fifo().Receive(&packet)) {
    }
    fifo().CommitReceived();
  }
}

void GetConfigPath::PutOne(uint32_t request, Range range) {
  std::array<std::byte, 16> message;
  const bool served = range == Range::kServed;
  const size_t size =
      guest::EncodeGetConfig(SlotOf(request), served ? 0 : kConfigBytes,
                             served ? kServedBytes : 4, message);
  VMSG_CHECK(size == message.size());
  guest::SetToken(message, kToken);
  Send(fifo(), message);
}

void GetConfigPath::Put(Range range) {
  for (uint32_t i = 0; i < kBatch; ++i) PutOne(i, range);
  fifo().CommitSent();
}

void GetConfigPath::Take(Range range) {
  guest::Packet packet;
  for (uint32_t i = 0; i < kBatch; ++i) {
    VMSG_CHECK(fifo().Receive(&packet), "an answer is missing");
    guest::Header header;
    guest::ConfigData config;
    VMSG_CHECK(
        guest::DecodeHeader(packet.bytes, guest::kPacketBytes, &header) &&
        header.is_response() && !header.is_bus() && header.token == kToken &&
        header.msg_id == guest::kMsgGetConfig && header.dev_num == SlotOf(i));
    VMSG_CHECK(guest::DecodeConfig(
        std::span(packet.bytes).first(header.msg_size), &config));
    VMSG_CHECK(config.length == (range == Range::kServed ? kServedBytes : 0));
  }
  VMSG_CHECK(!fifo().Receive(&packet), "more than was asked for");
  fifo().CommitReceived();
}

}  // namespace vmsg::bench
