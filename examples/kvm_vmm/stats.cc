#include "examples/kvm_vmm/stats.h"

#include <cstddef>
#include <iostream>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "devices/virtio_msg/monitor/rows.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"

namespace vmsg::example {
namespace {

// What the driver of a FIFO did wrong, by row; empty when nobody looked.
std::string ViolationsJson(const msg::WireMonitor* monitor) {
  if (monitor == nullptr) return "";
  std::vector<std::string> rows;
  for (size_t i = 0; i < msg::kNumRows; ++i) {
    const msg::Row row = static_cast<msg::Row>(i);
    if (monitor->count(row) == 0) continue;
    rows.push_back(
        absl::StrFormat(R"("%s":%d)", msg::RowId(row), monitor->count(row)));
  }
  return absl::StrFormat(R"(,"driver_violations":%d,"broken_rows":{%s})",
                         monitor->violations(), absl::StrJoin(rows, ","));
}

}  // namespace

void PrintViolations(const Machine& machine) {
  for (const auto& function : machine.functions()) {
    for (uint32_t i = 0; i < function->num_fifos(); ++i) {
      const msg::WireMonitor* const monitor = function->wire_monitor(i);
      if (monitor == nullptr || monitor->violations() == 0) continue;
      std::cerr << "kvm_vmm: the driver of " << function->id() << "/fifo" << i
                << " broke " << monitor->Summary() << "\n";
    }
  }
}

std::string StatsJson(const GuestRunner& guest, const Machine& machine,
                      const EntropyLog& entropy, const GuestEnd& end) {
  std::vector<std::string> functions;
  for (const auto& function : machine.functions()) {
    std::vector<std::string> fifos;
    for (uint32_t i = 0; i < function->num_fifos(); ++i) {
      const auto& counters = function->fifo_counters(i);
      fifos.push_back(absl::StrFormat(
          R"({"interrupts":%d,"wakeups":%d,"packets_in":%d,"packets_out":%d%s})",
          function->interrupts_delivered(i), counters.wakeups.value(),
          counters.packets_in.value(), counters.packets_out.value(),
          ViolationsJson(function->wire_monitor(i))));
    }
    functions.push_back(absl::StrFormat(R"({"id":"%s","fifos":[%s]})",
                                        function->id(),
                                        absl::StrJoin(fifos, ",")));
  }
  std::vector<std::string> sources;
  for (const EntropyTotals& totals : entropy.totals()) {
    sources.push_back(absl::StrFormat(R"({"bytes":%d,"fnv1a":"0x%016x"})",
                                      totals.bytes, totals.fnv1a));
  }
  std::vector<std::string> exits;
  for (const auto& [name, count] : guest.exits()) {
    exits.push_back(absl::StrFormat(R"("%s":%d)", name, count));
  }
  return absl::StrFormat(
      R"({"accel":"%s","ok":%s,"functions":[%s],"entropy":[%s],"exits":{%s}})",
      std::string(guest.accel()), end.ok ? "true" : "false",
      absl::StrJoin(functions, ","), absl::StrJoin(sources, ","),
      absl::StrJoin(exits, ","));
}

}  // namespace vmsg::example
