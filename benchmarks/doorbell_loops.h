// Loops that answer doorbells with interrupts: the device on its event loop,
// and the least that can do it.
//
// Doorbell and interrupt are eventfds, as ioeventfd and irqfd are, so a
// doorbell costs each of them the same system calls.

#ifndef VMSG_BENCHMARKS_DOORBELL_LOOPS_H_
#define VMSG_BENCHMARKS_DOORBELL_LOOPS_H_

#include <sys/types.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "benchmarks/amp_driver.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/unique_fd.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/interrupt/interrupt_controller.h"

namespace vmsg::bench {

// Raises interrupts by writing to one eventfd, whatever the message.
class EventFdInterrupts final : public vmm::InterruptController {
 public:
  explicit EventFdInterrupts(const vmm::EventFd* event) : event_(event) {}
  absl::StatusOr<std::unique_ptr<vmm::MsiRoute>> CreateMsiRoute() override;

 private:
  const vmm::EventFd* const event_;
};

// A loop with one doorbell and one interrupt, and the driver's side of them.
//
// Threads: one for the loop's side, one for the driver's; they may be the same.
class DoorbellLoop {
 public:
  DoorbellLoop();
  virtual ~DoorbellLoop() = default;

  // --- The loop's side. ---

  // One round: waits (or, without `wait`, only looks) for the doorbell, and
  // raises the interrupt if it was rung.
  virtual void RunOnce(bool wait) = 0;

  // --- The driver's side. ---

  virtual void Ring() = 0;
  // Takes what came with an interrupt that is there.
  virtual void TakeAnswer() = 0;

  const vmm::EventFd& interrupt() const { return interrupt_; }

 private:
  const vmm::EventFd interrupt_;
};

// Waits, reads the doorbell, writes the interrupt.
class MinimalDoorbellLoop final : public DoorbellLoop {
 public:
  MinimalDoorbellLoop();

  void RunOnce(bool wait) override;
  void Ring() override { doorbell_.Signal(); }
  void TakeAnswer() override {}

 private:
  const vmm::EventFd doorbell_;
  const vmm::UniqueFd epoll_;
};

// The device: each doorbell stands for one PING request, which it answers.
class AmpDoorbellLoop final : public DoorbellLoop {
 public:
  explicit AmpDoorbellLoop(amp::FifoLayout layout = amp::FifoLayout::kSpsc);

  void RunOnce(bool wait) override;
  void Ring() override;
  // Fails a check unless it is the answer to the last request.
  void TakeAnswer() override;

  vmm::EpollEventLoop::Stats stats() const { return loop_->stats(); }

 private:
  const std::unique_ptr<vmm::EpollEventLoop> loop_;
  EventFdInterrupts interrupts_;
  AmpDriver driver_;
  uint32_t pings_ = 0;
};

// Runs a loop on a thread of its own; the caller's is the driver.
class DoorbellThread {
 public:
  // `loop` is borrowed and outlives this.
  explicit DoorbellThread(DoorbellLoop* loop);
  ~DoorbellThread();

  // Rings, sleeps until the interrupt, and takes the answer.
  void Ping();

  // Processor time that the loop's thread has used.
  uint64_t CpuNs() const;
  pid_t id() const { return id_; }

 private:
  void ThreadMain();

  DoorbellLoop* const loop_;
  std::atomic<bool> stop_{false};
  std::atomic<pid_t> id_{0};
  std::thread thread_;
  clockid_t cpu_clock_ = {};
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_DOORBELL_LOOPS_H_
