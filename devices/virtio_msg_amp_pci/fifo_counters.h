// Counts of one FIFO.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_COUNTERS_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_COUNTERS_H_

#include "vmm/base/counter.h"

namespace vmsg::amp {

// Written by the FIFO's loop. Any thread reads.
struct FifoCounters {
  vmm::OwnedCounter wakeups;  // doorbells served, merged ones once
  vmm::OwnedCounter packets_in;
  vmm::OwnedCounter packets_out;
  vmm::OwnedCounter interrupts;     // raised (delivered or left pending)
  vmm::OwnedCounter full_rechecks;  // looks for room by timer
  vmm::OwnedCounter breaks;         // times the FIFO went BROKEN
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_COUNTERS_H_
