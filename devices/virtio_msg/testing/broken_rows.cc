#include "devices/virtio_msg/testing/broken_rows.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "devices/virtio_msg/monitor/rows.h"
#include "gtest/gtest.h"

namespace vmsg::msg {

std::string BrokenRows(const WireMonitor& monitor) {
  std::string rows;
  for (size_t i = 0; i < kNumRows; ++i) {
    const Row row = static_cast<Row>(i);
    if (monitor.count(row) == 0) continue;
    absl::StrAppend(&rows, rows.empty() ? "" : " ", std::string(RowId(row)));
  }
  return rows;
}

void DriverVerdict::Check(const WireMonitor& monitor,
                          std::string_view details) const {
  if (anything_) return;
  EXPECT_EQ(BrokenRows(monitor), expected_)
      << "which rows of the conformance table the driver of this test breaks; "
         "the wire monitor says:\n"
      << details;
}

}  // namespace vmsg::msg
