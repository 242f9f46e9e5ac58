// What a run of the VMM did, for scripts and for whoever watches.

#ifndef VMSG_EXAMPLES_KVM_VMM_STATS_H_
#define VMSG_EXAMPLES_KVM_VMM_STATS_H_

#include <string>

#include "examples/kvm_vmm/entropy_log.h"
#include "examples/kvm_vmm/guest_runner.h"
#include "examples/kvm_vmm/machine.h"

namespace vmsg::example {

// One JSON object: accelerator, counters of each FIFO, what the entropy back
// ends handed out, exits of the vCPUs.
std::string StatsJson(const GuestRunner& guest, const Machine& machine,
                      const EntropyLog& entropy, const GuestEnd& end);

// One line on standard error for each FIFO whose driver broke a row.
void PrintViolations(const Machine& machine);

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_STATS_H_
