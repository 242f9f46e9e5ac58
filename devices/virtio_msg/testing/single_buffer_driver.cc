#include "devices/virtio_msg/testing/single_buffer_driver.h"

#include <algorithm>
#include <string>
#include <utility>

#include "devices/virtio_msg/testing/bus_harness.h"

namespace vmsg::msg {
namespace {

constexpr uint32_t kPingData = 0x50494E47;
constexpr uint16_t kPingToken = 0xFFFF;

constexpr uint32_t kIoQueueSize = 8;
constexpr uint32_t kIoLastChains = 3;
constexpr uint32_t kIoBufferBytes = 16;
// Of the memory for I/O: a page for each queue, then the buffers.
constexpr uint64_t kIoQueueStride = 0x1000;
constexpr uint64_t kIoBuffers = 0x20000;

}  // namespace

SingleBufferDriver::SingleBufferDriver(uint64_t seed, DriverPort* port,
                                       const vmm::Clock* clock)
    : random_(seed), port_(port), clock_(clock) {}

void SingleBufferDriver::Restart() {
  for (Device& device : devices_) device = {};
  enumerating_ = false;
  buffer_.reset();
}

void SingleBufferDriver::Start() {
  enumerating_ = true;
  port_->Enqueue(GetDevicesRequest(0, kSlots));
}

void SingleBufferDriver::Rescan() {
  if (!enumerating_) Start();
}

void SingleBufferDriver::Run() {
  for (const Received& message : port_->Take()) OnMessage(message);
  if (buffer_.has_value() && clock_->Now() >= buffer_->handle_at) {
    const BusBuffer event = *buffer_;
    buffer_.reset();
    if (event.ping.has_value()) {
      ++pings_answered_;
      port_->Enqueue(PingAnswer(event.ping->u32(0), event.ping->token()));
    } else {
      HandleEvent(event.slot, event.state);
    }
  }
  for (uint32_t slot = 0; slot < kSlots; ++slot) RunIo(slot);
}

void SingleBufferDriver::EnableIo(const vmm::GuestMemory* memory,
                                  vmm::GuestAddress base) {
  io_memory_ = memory;
  io_base_ = base;
}

void SingleBufferDriver::AddChain(uint32_t slot) {
  Device& device = devices_[slot];
  const virtio::FakeDriverQueue::Buffer buffer = {
      {io_base_.value + kIoBuffers + kIoBufferBytes * slot},
      kIoBufferBytes,
      /*writable=*/true};
  if (!device.queue->Add(std::span(&buffer, 1)).has_value()) return;
  device.last_add = clock_->Now();
  port_->Enqueue(AvailEvent(static_cast<uint16_t>(slot), 0));
}

void SingleBufferDriver::RunIo(uint32_t slot) {
  Device& device = devices_[slot];
  if (device.queue == nullptr) return;
  const bool late = device.state == State::kDraining;
  if (device.state != State::kLive && !late) return;
  while (device.queue->TakeUsed().has_value()) {
    ++io_done_;
    if (late) ++io_done_late_;
  }
  if (device.queue->bad_used() != 0) Error("a chain that was not given");
  if (device.queue->outstanding() != 0 &&
      clock_->Now() > device.last_add + kMaxIo) {
    Error("a chain that hangs");
  }
  if (!late) return;
  if (device.last_chains > 0) {
    --device.last_chains;
    AddChain(slot);
  } else if (device.queue->outstanding() == 0 && !device.in_flight) {
    StopDevice(slot);
  }
}

void SingleBufferDriver::DoSomething() {
  if (random_() % 16 == 0 && !enumerating_) {
    Rescan();
    return;
  }
  if (random_() % 64 == 0) {
    port_->Enqueue(PingRequest(kPingData, kPingToken));
    return;
  }
  const uint32_t slot = static_cast<uint32_t>(random_() % kSlots);
  const Device& device = devices_[slot];
  if (device.state != State::kLive || device.in_flight) return;
  const uint16_t dev = static_cast<uint16_t>(slot);
  if (random_() % 2 == 0) {
    if (device.queue != nullptr) {
      for (uint64_t i = random_() % kIoQueueSize; i > 0; --i) AddChain(slot);
    }
    port_->Enqueue(AvailEvent(dev, static_cast<uint32_t>(random_() % 3)));
  } else {
    Ask(slot, GetConfigRequest(dev, 0, 4));
  }
}

bool SingleBufferDriver::idle() const {
  return !enumerating_ && !buffer_.has_value() &&
         std::none_of(devices_.begin(), devices_.end(), [](const Device& d) {
           return d.in_flight || d.removed || d.ready ||
                  d.state == State::kDraining ||
                  (d.queue != nullptr && d.queue->outstanding() != 0);
         });
}

void SingleBufferDriver::OnMessage(const Received& message) {
  if (message.is_response()) {
    OnAnswer(message);
    return;
  }
  if (message.is_ping()) {
    ToBuffer({.ping = message, .slot = 0, .state = 0, .handle_at = {}});
    return;
  }
  const uint32_t slot =
      message.is_device_event() ? message.u16(0) : message.dev();
  if (slot >= kSlots) {
    Error("a slot that does not exist");
    return;
  }
  if (message.is_device_event()) {
    ToBuffer(
        {.ping = {}, .slot = slot, .state = message.u16(2), .handle_at = {}});
  } else if (message.is_used_event()) {
    const State state = devices_[slot].state;
    if (state == State::kUnknown) Error("used buffers of an unknown device");
  } else if (!message.is_config_event()) {
    Error("an event of no kind");
  }
}

void SingleBufferDriver::ToBuffer(BusBuffer message) {
  if (buffer_.has_value()) ++overwritten_;
  buffer_ = std::move(message);
  buffer_->handle_at =
      clock_->Now() + vmm::Duration(random_() % kMaxHandlingDelay.count());
}

void SingleBufferDriver::OnAnswer(const Received& answer) {
  if (answer.is_bus()) {
    if (answer.id() == 0x03 && answer.token() == kPingToken &&
        answer.u32(0) == kPingData) {
      return;
    }
    if (!enumerating_ || answer.id() != 0x02 || answer.u16(2) != kSlots) {
      Error("an answer to no bus request");
      return;
    }
    enumerating_ = false;
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const bool there = (answer.u32(6) >> slot & 1) != 0;
      if (there && devices_[slot].state == State::kUnknown) Probe(slot);
    }
    return;
  }
  const uint32_t slot = answer.dev();
  if (slot >= kSlots || !devices_[slot].in_flight ||
      answer.id() != devices_[slot].id ||
      answer.token() != devices_[slot].token) {
    Error("an answer that nobody waits for");
    return;
  }
  Device& device = devices_[slot];
  device.in_flight = false;
  if (device.state == State::kTearingDown) {
    NextTearDownStep(slot);
  } else if (device.removed) {
    TearDown(slot);
  } else if (device.state == State::kProbing) {
    NextProbeStep(slot, answer);
  }
}

void SingleBufferDriver::HandleEvent(uint32_t slot, uint16_t state) {
  Device& device = devices_[slot];
  if (state == 1) {
    if (device.state == State::kUnknown) {
      Probe(slot);
    } else if (device.state != State::kLive || device.removed) {
      device.ready = true;
    }
    return;
  }
  device.ready = false;
  if (device.state == State::kUnknown || device.state == State::kDraining ||
      device.state == State::kTearingDown) {
    return;
  }
  if (device.in_flight) {
    device.removed = true;
  } else {
    TearDown(slot);
  }
}

void SingleBufferDriver::Probe(uint32_t slot) {
  ++probes_;
  devices_[slot] = {};
  devices_[slot].state = State::kProbing;
  Ask(slot, GetDeviceInfoRequest(static_cast<uint16_t>(slot)));
}

void SingleBufferDriver::NextProbeStep(uint32_t slot, const Received& answer) {
  const uint16_t dev = static_cast<uint16_t>(slot);
  switch (devices_[slot].step++) {
    case 0:
      if (answer.u32(0) == 0) return Forget(slot);  // no device here
      return Ask(slot, SetStatusRequest(dev, 0));
    case 1:
      return Ask(slot, SetStatusRequest(dev, 1));
    case 2:
      return Ask(slot, SetStatusRequest(dev, 3));
    case 3:
      return Ask(slot, GetDeviceFeaturesRequest(dev, 0, 2));
    case 4:
      if ((answer.u32(12) & 1) == 0) return Forget(slot);
      return Ask(slot, SetDriverFeaturesRequest(dev, 0, {0, 1}));
    case 5:
      return Ask(slot, SetStatusRequest(dev, 11));
    case 6:
      if (answer.u32(0) != 11) return Forget(slot);
      return Ask(slot, GetVqueueRequest(dev, 0));
    case 7:
      if (answer.u32(4) == 0) return Forget(slot);  // no such queue
      if (io_memory_ != nullptr) {
        devices_[slot].queue = std::make_unique<virtio::FakeDriverQueue>(
            io_memory_,
            vmm::GuestAddress{io_base_.value + kIoQueueStride * slot},
            kIoQueueSize);
        const virtio::QueueConfig& place = devices_[slot].queue->config();
        return Ask(slot,
                   SetVqueueRequest(dev, 0, kIoQueueSize, place.desc.value,
                                    place.driver.value, place.device.value));
      }
      return Ask(slot, BusHarness::SetVqueueFor(dev, 0));
    case 8:
      return Ask(slot, GetVqueueRequest(dev, 0));
    case 9:
      if (answer.u32(8) == 0) return Forget(slot);
      return Ask(slot, SetStatusRequest(dev, 15));
    default:
      if (answer.u32(0) != 15) return Forget(slot);
      devices_[slot].state = State::kLive;
      devices_[slot].ready = false;
  }
}

void SingleBufferDriver::TearDown(uint32_t slot) {
  ++tear_downs_;
  Device& device = devices_[slot];
  if (device.state == State::kLive && device.queue != nullptr) {
    device.state = State::kDraining;
    device.removed = false;
    device.last_chains = static_cast<uint32_t>(random_() % kIoLastChains);
    return;
  }
  StopDevice(slot);
}

void SingleBufferDriver::StopDevice(uint32_t slot) {
  Device& device = devices_[slot];
  device.state = State::kTearingDown;
  device.step = 0;
  device.removed = false;
  Ask(slot, SetStatusRequest(static_cast<uint16_t>(slot), 0));
}

void SingleBufferDriver::NextTearDownStep(uint32_t slot) {
  if (devices_[slot].step++ == 0) {
    return Ask(slot, ResetVqueueRequest(static_cast<uint16_t>(slot), 0));
  }
  Forget(slot);
}

void SingleBufferDriver::Forget(uint32_t slot) {
  const bool again = devices_[slot].ready;
  devices_[slot] = {};
  if (again) Probe(slot);
}

void SingleBufferDriver::Ask(uint32_t slot, Bytes request) {
  Device& device = devices_[slot];
  device.in_flight = true;
  device.id = static_cast<uint8_t>(request[1]);
  device.token = next_token_++;
  request[4] = static_cast<std::byte>(device.token & 0xFF);
  request[5] = static_cast<std::byte>(device.token >> 8);
  port_->Enqueue(std::move(request));
}

}  // namespace vmsg::msg
