#include "devices/virtio_msg/monitor/rows.h"

#include <array>

#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

using enum RowVerdict;

constexpr auto kTable = std::to_array<RowEntry>({
    {"DRV-LIMIT-1", "MUST NOT", kChecked, "msg_size above the maximum"},
    {"DRV-LIMIT-2", "MUST NOT", kChecked,
     "an id that revision 1 does not give to drivers"},
    {"DRV-REV-1", "MUST", kShared,
     "the sum of the mandatory driver rows of this table"},
    {"DRV-REV-2", "MUST", kInternal, "what it ignores"},
    {"DRV-REV-3", "MUST NOT", kInternal, "what it acts on"},
    {"DRV-GEN-1", "MUST", kChecked,
     "SET_CONFIG with a count that is not the last GET_CONFIG's and of no "
     "event since"},
    {"DRV-GEN-2", "SHOULD", kChecked,
     "SET_CONFIG after a stale one, with neither GET_CONFIG nor an event "
     "between"},
    {"DRV-ENDIAN-1", "MUST", kChecked,
     "msg_size is impossible, and possible when its bytes are swapped"},
    {"DRV-HDR-1", "MUST", kChecked,
     "type bits 2 to 7 of a transport message not zero"},
    {"DRV-HDR-2", "MUST", kInternal, "what it ignores"},
    {"DRV-HDR-3", "MUST", kChecked,
     "msg_size below 8, above the packet, below the fixed part, or too small "
     "for a count inside"},
    {"DRV-HDR-4", "MUST NOT", kShared, "with DRV-LIMIT-1"},
    {"DRV-HDR-5", "MUST", kChecked,
     "a device number of 32 or more, or one whose info said that nothing is "
     "there"},
    {"DRV-HDR-6", "MUST", kChecked,
     "bytes after the payload but within msg_size not zero"},
    {"DRV-HDR-7", "MUST", kInternal, "what a token means to it"},
    {"DRV-HDR-8", "MUST NOT", kInternal, "what a token means to it"},
    {"ALL-HDR-1", "MUST", kShared, "with DRV-HDR-1"},
    {"DRV-INIT-1", "MUST", kChecked,
     "set-up or configuration of a device without GET_DEVICE_INFO before"},
    {"DRV-INIT-2", "MUST", kChecked,
     "SET_VQUEUE before a status with FEATURES_OK was reported"},
    {"DRV-INIT-3", "MUST", kChecked,
     "DRIVER_OK or EVENT_AVAIL with a queue whose settings GET_VQUEUE did not "
     "show"},
    {"DRV-INIT-4", "MUST", kChecked, "EVENT_AVAIL without DRIVER_OK"},
    {"DRV-INFO-1", "MUST", kShared, "with DRV-INIT-1"},
    {"DRV-INFO-2", "MUST", kChecked,
     "GET_CONFIG or SET_CONFIG past the reported size"},
    {"DRV-FEAT-1", "MUST", kChecked,
     "features written, or FEATURES_OK, without having read them"},
    {"DRV-FEAT-2", "MUST", kChecked, "a feature bit that was not offered"},
    {"DRV-FEAT-3", "MUST", kChecked,
     "DRIVER_OK without FEATURES_OK tried, or features written after it"},
    {"DRV-FEAT-4", "MUST", kChecked,
     "SET_VQUEUE or DRIVER_OK although FEATURES_OK was refused"},
    {"DRV-CFG-1", "MUST", kShared, "with DRV-INFO-2"},
    {"DRV-CFG-2", "MUST", kShared, "with DRV-GEN-1"},
    {"DRV-CFG-3", "SHOULD", kShared, "with DRV-GEN-2"},
    {"DRV-VQ-1", "MUST", kChecked,
     "SET_VQUEUE without GET_VQUEUE since the reset, or of an active queue "
     "without VIRTIO_F_RING_RESET"},
    {"DRV-VQ-2", "MUST", kChecked, "size above the maximum"},
    {"DRV-VQ-3", "MUST", kChecked,
     "an area past the end of the address space or over another one"},
    {"DRV-VQ-4", "SHOULD", kChecked,
     "SET_VQUEUE of an active queue with VIRTIO_F_RING_RESET"},
    {"DRV-STATUS-1", "SHOULD", kInternal, "when it diagnoses"},
    {"DRV-STATUS-2", "MUST", kChecked,
     "bits cleared, undefined or out of order; features before DRIVER"},
    {"DRV-STATUS-3", "MUST", kChecked,
     "a status whose lower 8 bits alone are 0"},
    {"DRV-FINAL-1", "MUST", kChecked,
     "DRIVER_OK while FEATURES_OK or SET_VQUEUE is not answered"},
    {"DRV-FINAL-2", "MUST NOT", kChecked,
     "EVENT_AVAIL before DRIVER_OK was reported"},
    {"DRV-FINAL-3", "MUST NOT", kChecked,
     "EVENT_AVAIL for a queue that is not configured"},
    {"DRV-NOTIF-1", "MUST", kUnseen, "rings are not looked at"},
    {"DRV-NOTIF-2", "MUST", kChecked,
     "EVENT_AVAIL with an index that the device does not have"},
    {"DRV-NOTIF-3", "MUST", kChecked,
     "a position outside of the ring, or of a split queue's first event 0"},
    {"DRV-NOTIF-4", "MUST", kChecked,
     "a position without VIRTIO_F_NOTIFICATION_DATA"},
    {"DRV-EVT-1", "SHOULD", kInternal, "its view of the configuration"},
    {"DRV-EVT-2", "MUST", kInternal, "what it reclaims"},
    {"DRV-RTCFG-1", "MAY", kMayOnly, "SET_CONFIG after initialization"},
    {"DRV-RTCFG-2", "SHOULD", kShared, "with DRV-EVT-1"},
    {"DRV-RTVQ-1", "MAY", kMayOnly, "queues after initialization"},
    {"DRV-RTVQ-2", "SHOULD", kShared, "with DRV-VQ-4"},
    {"DRV-RESET-1", "MAY", kMayOnly, "reset at any time"},
    {"DRV-RESET-2", "MAY", kMayOnly, "initialization after a reset"},
    {"DRV-RESET-3", "SHOULD", kChecked,
     "EVENT_AVAIL after DEVICE_NEEDS_RESET without status 0 between"},
    {"DRV-CORE-1", "MUST", kInternal, "what it can send"},
    {"DRV-GDI-1", "SHOULD", kChecked,
     "a queue message with an index past max_virtqueues"},
    {"DRV-GDF-1", "MUST", kInternal, "how it reads the words"},
    {"DRV-SDF-1", "MUST", kShared, "with DRV-FEAT-2"},
    {"DRV-GC-1", "MUST", kShared, "with DRV-INFO-2"},
    {"DRV-SC-1", "MUST", kShared, "with DRV-GEN-1"},
    {"DRV-SC-2", "MUST", kShared, "with DRV-INFO-2"},
    {"DRV-SDS-1", "MUST", kShared, "with DRV-STATUS-3"},
    {"DRV-SDS-2", "MUST", kChecked,
     "a new status after a reset that was not reported as done"},
    {"DRV-SVQ-1", "MUST", kShared, "with DRV-VQ-2"},
    {"DRV-SVQ-2", "MUST", kChecked, "an area not aligned as its ring wants"},
    {"DRV-RVQ-1", "SHOULD", kChecked,
     "RESET_VQUEUE without VIRTIO_F_RING_RESET"},
    {"DRV-EC-1", "SHOULD", kInternal, "its view of the configuration"},
    {"DRV-EC-2", "SHOULD", kChecked,
     "SET_CONFIG with the count of an event without data, and no GET_CONFIG "
     "since"},
    {"DRV-EA-1", "MUST", kShared, "with DRV-NOTIF-4"},
    {"DRV-EA-2", "MUST", kShared, "with DRV-NOTIF-3"},
    {"DRV-EU-1", "MUST", kShared, "with DRV-EVT-2"},
    {"DRV-ENUM-1", "MAY", kMayOnly, "enumeration"},
    {"ANY-PING-1", "MAY", kMayOnly, "keepalive"},
    {"ANY-PING-2", "SHOULD", kUnseen,
     "when a reply counts as late is the initiator's policy"},
    {"DRV-EVDEV-1", "SHOULD", kUnseen,
     "no time is set in which it has to probe; DRV-INIT-1 shows use without"},
    {"DRV-EVDEV-2", "MUST", kChecked,
     "a removed device reset and brought to DRIVER_OK again without "
     "GET_DEVICE_INFO"},
    {"DRV-EVDEV-3", "SHOULD", kInternal, "what it tolerates"},
    {"DRV-EVDEV-4", "MAY", kMayOnly, "other monitoring"},
    {"FACT-HDR-1", "FACT", kShared, "with DRV-HDR-3"},
    {"FACT-HDR-2", "FACT", kChecked,
     "a response that answers nothing a device asks"},
    {"FACT-ID-1", "FACT", kShared, "with DRV-LIMIT-2"},
    {"FACT-ID-2", "FACT", kShared, "with DRV-LIMIT-2"},
    {"FACT-SVQ-1", "FACT", kChecked, "reserved words of SET_VQUEUE not zero"},
    {"FACT-EA-1", "FACT", kShared, "with DRV-NOTIF-3"},
    {"FACT-PING-1", "FACT", kMayOnly, "a PING of its own"},
    {"BUS-HDR-2", "MUST", kChecked, "a bus message with a device number"},
    {"BUS-HDR-4", "MUST", kChecked,
     "type bits 2 to 7 of a bus message not zero"},
    {"BUS-HDR-6", "MUST", kChecked, "packet bytes after msg_size not zero"},
    {"BUS-ENUM-3", "MUST", kChecked,
     "GET_DEVICES with values that are no multiples of 8"},
    {"BUS-PING-1", "MUST", kChecked,
     "a PING answer with other data, or to no PING"},
});

constexpr auto kChecks = [] {
  std::array<const RowEntry*, kNumRows> checks = {};
  size_t n = 0;
  for (const RowEntry& entry : kTable) {
    if (entry.verdict == kChecked) checks.at(n++) = &entry;
  }
  return checks;
}();
static_assert(kChecks.back() != nullptr);
static_assert(kChecks[static_cast<size_t>(Row::kDrvInit1)]->id == "DRV-INIT-1");
static_assert(kChecks[static_cast<size_t>(Row::kDrvVq1)]->id == "DRV-VQ-1");
static_assert(kChecks[static_cast<size_t>(Row::kFactHdr2)]->id == "FACT-HDR-2");
static_assert(kChecks[static_cast<size_t>(Row::kBusPing1)]->id == "BUS-PING-1");

}  // namespace

std::string_view RowId(Row row) {
  return kChecks.at(static_cast<size_t>(row))->id;
}

std::string_view RowLevel(Row row) {
  return kChecks.at(static_cast<size_t>(row))->level;
}

std::string_view RowVerdictName(RowVerdict verdict) {
  switch (verdict) {
    case kChecked:
      return "checked";
    case kShared:
      return "shared";
    case kMayOnly:
      return "permission";
    case kInternal:
      return "internal";
    case kUnseen:
      return "unseen";
  }
  VMSG_CHECK(false, "unknown verdict");
  return "";
}

std::span<const RowEntry> RowTable() { return kTable; }

}  // namespace vmsg::msg
