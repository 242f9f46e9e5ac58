// BrokenRows: compares what a wire monitor has found with what a test says that
// its driver breaks.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TESTING_BROKEN_ROWS_H_
#define VMSG_DEVICES_VIRTIO_MSG_TESTING_BROKEN_ROWS_H_

#include <string>
#include <string_view>

#include "devices/virtio_msg/monitor/wire_monitor.h"

namespace vmsg::msg {

// The ids of the rows, in the order of RowTable(): "DRV-VQ-1 DRV-RVQ-1".
std::string BrokenRows(const WireMonitor& monitor);

// A driver that is a good one unless the test says otherwise. Both ways a
// difference fails the test: a row that is broken without being named, and one
// that is named without being broken.
//
// Threads: the test's.
class DriverVerdict {
 public:
  // As BrokenRows() has them.
  void Expect(std::string_view rows) { expected_ = rows; }
  // Its messages are random, or nobody's business.
  void ExpectAnything() { anything_ = true; }

  // `details` is shown when the test fails.
  void Check(const WireMonitor& monitor, std::string_view details) const;

 private:
  std::string expected_;
  bool anything_ = false;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TESTING_BROKEN_ROWS_H_
