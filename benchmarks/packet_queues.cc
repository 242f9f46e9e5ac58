#include "benchmarks/packet_queues.h"

#include "vmm/base/check.h"

namespace vmsg::bench {
namespace {

std::shared_ptr<const vmm::MemoryBacking> MakeMemory() {
  auto memory =
      vmm::MemoryBacking::CreateAnonymous(guest::kFifoWindowBytes, "fifo");
  VMSG_CHECK(memory.ok());
  return *std::move(memory);
}

}  // namespace

FifoWindow::FifoWindow()
    : memory_(MakeMemory()),
      device_(amp::CreateDeviceFifo(amp::FifoLayout::kSpsc, memory_->data())),
      driver_(memory_->data()) {
  VMSG_CHECK(driver_.Attach());
}

}  // namespace vmsg::bench
