// Whatever the two sides say, the monitor counts each violation once, under a
// row and with a text, and goes on.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "devices/virtio_msg/monitor/monitor_fuzz_input.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "vmm/base/check.h"
#include "vmm/base/log.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::msg {
namespace {

// A line is one, and of reasonable length.
class CheckingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord& record) override {
    VMSG_CHECK(!record.message.empty() && record.message.size() < 300);
    VMSG_CHECK(record.message.find('\n') == std::string_view::npos);
    ++lines;
  }
  uint64_t lines = 0;
};

void Run(std::span<const uint8_t> input) {
  vmm::FakeClock clock;
  CheckingLogSink log;
  WireMonitor monitor({.name = "amp0/fifo0"}, &clock, &log);
  uint64_t told = 0;
  monitor.set_sink([&](const Violation& violation) {
    ++told;
    VMSG_CHECK(static_cast<size_t>(violation.row) < kNumRows);
    VMSG_CHECK(!violation.text.empty());
    VMSG_CHECK(violation.device == Violation::kNoDevice ||
               violation.device <= UINT16_MAX);
  });
  while (!input.empty()) {
    const auto op = static_cast<fuzz::Op>(input[0] % fuzz::kNumOps);
    input = input.subspan(1);
    if (op == fuzz::kReset) {
      monitor.OnDriverReset();
      continue;
    }
    if (input.empty() || input[0] > input.size() - 1) break;
    const size_t size = std::min<size_t>(input[0], fuzz::kMaxMessage);
    // Of just this size, so that a sanitizer sees a read past its end.
    const auto message = std::make_unique<std::byte[]>(size);
    if (size != 0) std::memcpy(message.get(), &input[1], size);
    const uint64_t before = told;
    if (op == fuzz::kDriver) {
      monitor.OnDriverMessage({message.get(), size});
      // A confirmation for each queue, and a few for all else.
      VMSG_CHECK(told - before <= DeviceModel::kQueues + 8);
    } else {
      monitor.OnDeviceMessage({message.get(), size});
      VMSG_CHECK(told == before, "the device broke a row of the driver");
    }
    input = input.subspan(1 + input[0]);
  }
  uint64_t counted = 0;
  for (size_t i = 0; i < kNumRows; ++i) {
    counted += monitor.count(static_cast<Row>(i));
  }
  VMSG_CHECK(counted == told && monitor.violations() == told);
  VMSG_CHECK(monitor.Summary().empty() == (told == 0));
  VMSG_CHECK(log.lines <= kNumRows + vmm::Logger::kGuestBurst);
}

}  // namespace
}  // namespace vmsg::msg

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vmsg::msg::Run({data, size});
  return 0;
}
