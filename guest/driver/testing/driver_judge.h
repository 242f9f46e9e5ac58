// DriverJudge: the wire monitor on the FIFO of a FakeDevice, so that a test
// fails when the driver breaks a row of the conformance table on the way.

#ifndef VMSG_GUEST_DRIVER_TESTING_DRIVER_JUDGE_H_
#define VMSG_GUEST_DRIVER_TESTING_DRIVER_JUDGE_H_

#include <map>

#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "gtest/gtest.h"
#include "guest/driver/testing/fake_device.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::guest {

// Threads: the test's.
class DriverJudge {
 public:
  // `device` is borrowed; its tap is used from here to the end of the judge.
  explicit DriverJudge(FakeDevice* device) : device_(device) {
    monitor_.set_sink([this](const msg::Violation& violation) {
      const auto allowed = allowed_.find(violation.row);
      if (allowed != allowed_.end()) {
        ++allowed->second;
        return;
      }
      ADD_FAILURE() << "the driver breaks " << msg::RowId(violation.row) << ": "
                    << violation.text;
    });
    device->tap = [this](bool by_driver, const MessageBytes& message) {
      if (by_driver) {
        monitor_.OnDriverMessage(message);
      } else {
        monitor_.OnDeviceMessage(message);
      }
    };
  }
  DriverJudge(const DriverJudge&) = delete;
  DriverJudge& operator=(const DriverJudge&) = delete;
  ~DriverJudge() {
    device_->tap = nullptr;
    for (const auto& [row, times] : allowed_) {
      EXPECT_GT(times, 0) << msg::RowId(row) << " was allowed and not broken";
    }
  }

  // For a test whose own steps break this row, or whose device lies so that the
  // driver does. The test fails when that does not come.
  void Allow(msg::Row row) { allowed_.emplace(row, 0); }

 private:
  FakeDevice* const device_;
  vmm::FakeClock clock_;
  msg::WireMonitor monitor_{{.name = "fifo"}, &clock_, nullptr};
  std::map<msg::Row, int> allowed_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_DRIVER_JUDGE_H_
