// DriverJudge: the wire monitor on the FIFO of a FakeDevice, so that a test of
// one row finds out when the driver breaks another.

#ifndef VMSG_TESTS_CONFORMANCE_DRIVER_JUDGE_H_
#define VMSG_TESTS_CONFORMANCE_DRIVER_JUDGE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "guest/driver/testing/fake_device.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg {

class DriverJudge {
 public:
  // `device` is borrowed; its tap is taken over, and used until it is gone.
  explicit DriverJudge(guest::FakeDevice* device) {
    monitor_.set_sink([this](const msg::Violation& violation) {
      if (allowed_ == violation.row) return;
      violations_.push_back(absl::StrCat(std::string(msg::RowId(violation.row)),
                                         ": ", std::string(violation.text)));
    });
    device->tap = [this](bool by_driver, const guest::MessageBytes& message) {
      if (by_driver) {
        monitor_.OnDriverMessage(message);
      } else {
        monitor_.OnDeviceMessage(message);
      }
    };
  }

  // For a test whose steps make the driver break this row.
  void Allow(msg::Row row) { allowed_ = row; }

  const std::vector<std::string>& violations() const { return violations_; }

 private:
  vmm::FakeClock clock_;
  msg::WireMonitor monitor_{{.name = "fifo"}, &clock_, nullptr};
  std::optional<msg::Row> allowed_;
  std::vector<std::string> violations_;
};

}  // namespace vmsg

#endif  // VMSG_TESTS_CONFORMANCE_DRIVER_JUDGE_H_
