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

FifoWindow::FifoWindow(amp::FifoLayout layout)
    : memory_(MakeMemory()),
      device_(amp::CreateDeviceFifo(layout, memory_->data())),
      driver_(storage_.Open(memory_->data())) {
  VMSG_CHECK(driver_->Attach());
  // As many steps as a handshake can have.
  for (int i = 0; i < 4; ++i) {
    driver_->Step();
    if (device_->Poll()) device_->Step();
  }
  VMSG_CHECK(driver_->state() == guest::FifoState::kRunning);
  VMSG_CHECK(device_->state() == amp::FifoState::kRunning);
}

}  // namespace vmsg::bench
