// ReportRelay: brings the reports of one bus to the control loop, in bounded
// memory. Private to DeviceManager.

#ifndef VMSG_VMM_CONTROL_REPORT_RELAY_H_
#define VMSG_VMM_CONTROL_REPORT_RELAY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "vmm/control/hotplug_bus.h"
#include "vmm/event/event_loop.h"

namespace vmsg::control {

// A guest brings about reports as fast as it likes, and the control loop may be
// slow. So one parcel at a time is on its way; what is reported meanwhile waits
// on the bus's loop, the latest of each slot and of the bus, and is the next
// parcel when that one is back. The last state of a slot always arrives, those
// in between need not. A report that merges into one that waits costs no
// allocation, but for a text that is longer than any before.
//
//   bus's loop     Report()... --Send-->          Return() --Send--> ...
//   control loop                        Arrive() --^
//
// Threads: the bus's loop, unless noted. No lock: a parcel belongs to the
// control loop from Send() to the end of Arrive(), and all else to the bus's.
class ReportRelay : public std::enable_shared_from_this<ReportRelay> {
 public:
  struct Parcel {
    std::vector<std::optional<SlotReport>> slots;  // by number
    std::optional<BusReport> bus;
  };
  // Gets each parcel, on the control loop. False: it wants no more, and the
  // relay does not touch a loop again.
  using Receiver = absl::AnyInvocable<bool(const Parcel& parcel)>;

  // The loops are borrowed and live as long as there are reports, and the bus's
  // as long as the receiver wants more. Any thread.
  ReportRelay(uint32_t slots, vmm::EventLoop* bus, vmm::EventLoop* control,
              Receiver receiver);
  ReportRelay(const ReportRelay&) = delete;
  ReportRelay& operator=(const ReportRelay&) = delete;

  // What the bus reports. REQUIRES: `slot` is below the number of slots.
  void Report(uint32_t slot, const SlotReport& report);
  void Report(const BusReport& report);

  // What waits of this device, and does not any more: for whoever tells the
  // control loop by another way that the device is gone, since this would come
  // behind.
  std::optional<SlotReport> Take(uint32_t slot, uint64_t generation);

 private:
  void Send();
  void Arrive();  // on the control loop
  void Return();

  vmm::EventLoop* const bus_;
  vmm::EventLoop* const control_;
  Receiver receiver_;  // the control loop's
  Parcel waiting_;
  bool anything_waits_ = false;
  Parcel sent_;  // the control loop's while it is on its way
  bool on_its_way_ = false;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_REPORT_RELAY_H_
