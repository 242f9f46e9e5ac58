#include "devices/virtio_msg/testing/bus_harness.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "devices/virtio_msg/monitor/rows.h"
#include "vmm/base/check.h"

namespace vmsg::msg {

using virtio::DummyDevice;
using virtio::DummyOptions;

BusHarness::BusHarness(const MessageBusOptions& options, vmm::LogSink* log) {
  auto ram =
      vmm::MemoryBacking::CreateAnonymous(kMemoryBytes, "bus_harness_ram");
  VMSG_CHECK(ram.ok());
  VMSG_CHECK(
      memory_
          .Add(vmm::MemoryRegion{.range = {vmm::GuestAddress{0}, kMemoryBytes},
                                 .backing = *std::move(ram)})
          .ok());
  dma_ = std::make_unique<vmm::DmaSpace>(&memory_);
  link_ = std::make_unique<FakeLink>(&loop_);
  MessageBusOptions watched = options;
  if (watched.traffic_observer == nullptr) {
    monitor_ = std::make_unique<WireMonitor>(
        WireMonitor::Options{.name = "amp0/fifo0",
                             .revision = options.revision,
                             .max_message_bytes = options.max_message_bytes},
        &loop_.clock(), nullptr);
    monitor_->set_sink([this](const Violation& violation) {
      absl::StrAppend(&violations_, std::string(RowId(violation.row)),
                      violation.device == Violation::kNoDevice
                          ? ", bus: "
                          : absl::StrCat(", device ", violation.device, ": "),
                      std::string(violation.text), "\n");
    });
    watched.traffic_observer = monitor_.get();
  }
  bus_ = std::make_unique<MessageBus>("amp0/fifo0", watched, &loop_, dma_.get(),
                                      link_.get(), log);
  link_->set_bus(bus_.get());
}

BusHarness::~BusHarness() {
  if (monitor_ != nullptr) verdict_.Check(*monitor_, violations_);
}

DummyDevice* BusHarness::PlugDummy(uint32_t slot, const DummyOptions& options) {
  auto device = std::make_unique<DummyDevice>(options, &loop_);
  DummyDevice* const result = device.get();
  const absl::Status plugged =
      bus_->Plug(slot, next_generation_++, std::move(device));
  VMSG_CHECK(plugged.ok());
  return result;
}

std::vector<Received> BusHarness::Send(const Bytes& message) {
  return Send(std::vector<Bytes>{message});
}

std::vector<Received> BusHarness::Send(const std::vector<Bytes>& messages) {
  for (const Bytes& message : messages) link_->Enqueue(message);
  link_->Service();
  loop_.RunUntilIdle();
  return link_->Take();
}

Received BusHarness::Ask(const Bytes& request) {
  link_->Enqueue(request);
  link_->Service();
  for (int i = 0; i < 60'000; ++i) {
    loop_.RunUntilIdle();
    for (const Received& received : link_->Take()) {
      if (received.is_response() &&
          received.id() == static_cast<uint8_t>(request[1])) {
        return received;
      }
    }
    loop_.AdvanceTime(std::chrono::milliseconds(1));
  }
  vmm::CheckFailed(__FILE__, __LINE__, "an answer within a minute", {});
}

std::vector<Received> BusHarness::RunFor(vmm::Duration time) {
  constexpr vmm::Duration kLook = std::chrono::milliseconds(10);
  std::vector<Received> all;
  do {
    const vmm::Duration step = std::min(time, kLook);
    loop_.AdvanceTime(step);
    time -= step;
    for (Received& message : link_->Take()) all.push_back(std::move(message));
  } while (time > vmm::Duration::zero());
  return all;
}

void BusHarness::Negotiate(uint16_t dev, uint32_t low_features,
                           uint32_t high_features) {
  Ask(GetDeviceInfoRequest(dev));
  Ask(SetStatusRequest(dev, 0));
  Ask(SetStatusRequest(dev, 1));
  Ask(SetStatusRequest(dev, 3));
  Ask(GetDeviceFeaturesRequest(dev, 0, 2));
  Ask(SetDriverFeaturesRequest(dev, 0, {low_features, high_features}));
  VMSG_CHECK(Ask(SetStatusRequest(dev, 11)).u32(0) == 11);
}

void BusHarness::Start(uint16_t dev, uint32_t num_queues, uint32_t low_features,
                       uint32_t high_features) {
  Negotiate(dev, low_features, high_features);
  for (uint32_t i = 0; i < num_queues; ++i) {
    Ask(GetVqueueRequest(dev, i));
    Ask(SetVqueueFor(dev, i));
    Ask(GetVqueueRequest(dev, i));
  }
  VMSG_CHECK(Ask(SetStatusRequest(dev, 15)).u32(0) == 15);
}

virtio::QueueConfig BusHarness::QueuePlace(uint16_t dev, uint32_t index,
                                           uint32_t size) {
  // Where a FakeDriverQueue at this base has its areas. virtio 1.2, 2.7.
  const uint64_t base = 0x1000 + 0x4000 * uint64_t{dev} + 0x1000 * index;
  const uint64_t driver = base + (16 * uint64_t{size} + 63) / 64 * 64;
  const uint64_t device = driver + (6 + 2 * uint64_t{size} + 63) / 64 * 64;
  return virtio::QueueConfig{
      .size = size, .desc = {base}, .driver = {driver}, .device = {device}};
}

Bytes BusHarness::SetVqueueFor(uint16_t dev, uint32_t index, uint32_t size) {
  const virtio::QueueConfig place = QueuePlace(dev, index, size);
  return SetVqueueRequest(dev, index, size, place.desc.value,
                          place.driver.value, place.device.value);
}

}  // namespace vmsg::msg
