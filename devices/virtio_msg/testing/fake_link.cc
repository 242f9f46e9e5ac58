#include "devices/virtio_msg/testing/fake_link.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::msg {

FakeLink::FakeLink(vmm::EventLoop* loop)
    : wake_(loop->CreateWakeSource([this] { Service(); })) {}

std::vector<Received> FakeLink::Take() {
  if (room_ != kUnlimited) room_ += to_driver_.size();
  return std::exchange(to_driver_, {});
}

void FakeLink::Clear() {
  Take();
  to_device_.clear();
}

bool FakeLink::Service() {
  VMSG_CHECK(bus_ != nullptr);
  bool flushed = bus_->Flush();
  while (!to_device_.empty() && bus_->CanAccept()) {
    const Bytes message = std::move(to_device_.front());
    to_device_.pop_front();
    bus_->Receive(message);
    if (to_device_.empty() || !bus_->CanAccept()) flushed = bus_->Flush();
  }
  return flushed;
}

bool FakeLink::TrySend(std::span<const std::byte> message) {
  if (room_ == 0) return false;
  if (room_ != kUnlimited) --room_;
  to_driver_.emplace_back(Bytes(message.begin(), message.end()));
  return true;
}

void FakeLink::RequestService() {
  ++services_requested_;
  wake_->Signal();
}

}  // namespace vmsg::msg
