#include "devices/virtio_msg/testing/single_buffer_driver.h"

#include <algorithm>
#include <string>
#include <utility>

#include "devices/virtio_msg/testing/bus_harness.h"

namespace vmsg::msg {

SingleBufferDriver::SingleBufferDriver(uint64_t seed, FakeLink* link,
                                       const vmm::Clock* clock)
    : random_(seed), link_(link), clock_(clock) {}

void SingleBufferDriver::Restart() {
  devices_ = {};
  enumerating_ = false;
  buffer_.reset();
}

void SingleBufferDriver::Start() {
  enumerating_ = true;
  link_->Enqueue(GetDevicesRequest(0, kSlots));
}

void SingleBufferDriver::Run() {
  for (const Received& message : link_->Take()) OnMessage(message);
  if (buffer_.has_value() && clock_->Now() >= buffer_->handle_at) {
    const BusBuffer event = *buffer_;
    buffer_.reset();
    HandleEvent(event.slot, event.state);
  }
}

void SingleBufferDriver::DoSomething() {
  if (random_() % 16 == 0 && !enumerating_) {
    Start();  // somebody asked for a rescan
    return;
  }
  const uint32_t slot = static_cast<uint32_t>(random_() % kSlots);
  const Device& device = devices_[slot];
  if (device.state != State::kLive || device.in_flight) return;
  const uint16_t dev = static_cast<uint16_t>(slot);
  if (random_() % 2 == 0) {
    link_->Enqueue(AvailEvent(dev, 0));
  } else {
    Ask(slot, GetConfigRequest(dev, 0, 4));
  }
}

bool SingleBufferDriver::idle() const {
  return !enumerating_ && !buffer_.has_value() &&
         std::none_of(devices_.begin(), devices_.end(), [](const Device& d) {
           return d.in_flight || d.removed || d.ready;
         });
}

void SingleBufferDriver::OnMessage(const Received& message) {
  if (message.is_response()) {
    OnAnswer(message);
    return;
  }
  const uint32_t slot =
      message.is_device_event() ? message.u16(0) : message.dev();
  if (slot >= kSlots) {
    Error("a slot that does not exist");
    return;
  }
  if (message.is_device_event()) {
    if (buffer_.has_value()) ++overwritten_;
    buffer_ = BusBuffer{
        .slot = slot,
        .state = message.u16(2),
        .handle_at = clock_->Now() +
                     vmm::Duration(random_() % kMaxHandlingDelay.count())};
  } else if (message.is_used_event()) {
    const State state = devices_[slot].state;
    if (state == State::kUnknown) Error("used buffers of an unknown device");
  } else if (!message.is_config_event()) {
    Error("an event of no kind");
  }
}

void SingleBufferDriver::OnAnswer(const Received& answer) {
  if (answer.is_bus()) {
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
  if (device.state == State::kUnknown || device.state == State::kTearingDown) {
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
  link_->Enqueue(std::move(request));
}

}  // namespace vmsg::msg
