#include "vmm/control/report_relay.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::control {

ReportRelay::ReportRelay(uint32_t slots, vmm::EventLoop* bus,
                         vmm::EventLoop* control, Receiver receiver)
    : bus_(bus), control_(control), receiver_(std::move(receiver)) {
  waiting_.slots.resize(slots);
  sent_.slots.resize(slots);
}

void ReportRelay::Report(uint32_t slot, const SlotReport& report) {
  VMSG_CHECK(slot < waiting_.slots.size(), "a report of no slot");
  waiting_.slots[slot] = report;
  anything_waits_ = true;
  Send();
}

void ReportRelay::Report(const BusReport& report) {
  waiting_.bus = report;
  anything_waits_ = true;
  Send();
}

std::optional<SlotReport> ReportRelay::Take(uint32_t slot,
                                            uint64_t generation) {
  std::optional<SlotReport>& report = waiting_.slots[slot];
  if (!report.has_value() || report->generation != generation) {
    return std::nullopt;
  }
  return std::exchange(report, std::nullopt);
}

void ReportRelay::Send() {
  if (on_its_way_ || !anything_waits_) return;
  std::swap(waiting_, sent_);
  anything_waits_ = false;
  // It stays so when the loop has stopped: nobody is left to hear.
  on_its_way_ = true;
  control_->Post([self = shared_from_this()] { self->Arrive(); });
}

void ReportRelay::Arrive() {
  if (!receiver_(sent_)) return;
  bus_->Post([self = shared_from_this()] { self->Return(); });
}

void ReportRelay::Return() {
  for (std::optional<SlotReport>& report : sent_.slots) report.reset();
  sent_.bus.reset();
  on_its_way_ = false;
  Send();
}

}  // namespace vmsg::control
