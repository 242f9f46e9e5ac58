// The rows of the conformance table that bind a driver, and what the monitor
// makes of each.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MONITOR_ROWS_H_
#define VMSG_DEVICES_VIRTIO_MSG_MONITOR_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace vmsg::msg {

// What the monitor can find broken. In the order of the conformance table; the
// last ones bind the driver's side of the bus.
enum class Row : uint8_t {
  kDrvLimit1,
  kDrvLimit2,
  kDrvGen1,
  kDrvGen2,
  kDrvEndian1,
  kDrvHdr1,
  kDrvHdr3,
  kDrvHdr5,
  kDrvHdr6,
  kDrvInit1,
  kDrvInit2,
  kDrvInit3,
  kDrvInit4,
  kDrvInfo2,
  kDrvFeat1,
  kDrvFeat2,
  kDrvFeat3,
  kDrvFeat4,
  kDrvVq1,
  kDrvVq2,
  kDrvVq3,
  kDrvVq4,
  kDrvStatus2,
  kDrvStatus3,
  kDrvFinal1,
  kDrvFinal2,
  kDrvFinal3,
  kDrvNotif2,
  kDrvNotif3,
  kDrvNotif4,
  kDrvReset3,
  kDrvGdi1,
  kDrvSds2,
  kDrvSvq2,
  kDrvRvq1,
  kDrvEc2,
  kDrvEvdev2,
  kFactHdr2,
  kFactSvq1,
  kBusHdr2,
  kBusHdr4,
  kBusHdr6,
  kBusEnum3,
  kBusPing1,
};
inline constexpr size_t kNumRows = static_cast<size_t>(Row::kBusPing1) + 1;

// "DRV-LIMIT-1", and "MUST NOT"; "FACT" for what the draft states without a
// keyword.
std::string_view RowId(Row row);
std::string_view RowLevel(Row row);

enum class RowVerdict : uint8_t {
  kChecked,   // the monitor reports it; the note says when
  kShared,    // says again what another row says, which is reported
  kMayOnly,   // a permission: nothing to break
  kInternal,  // what the driver makes of a message does not show on the wire
  kUnseen,    // would show, but not to a device, or not without waiting times
};
std::string_view RowVerdictName(RowVerdict verdict);

struct RowEntry {
  std::string_view id;
  std::string_view level;
  RowVerdict verdict;
  std::string_view note;
};

// Every row that binds a driver, everybody, or the driver's side of the bus as
// far as the monitor judges it. The checked ones are in the order of Row.
std::span<const RowEntry> RowTable();

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MONITOR_ROWS_H_
