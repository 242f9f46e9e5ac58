#include "benchmarks/doorbell_loops.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <utility>

#include "guest/driver/message.h"
#include "vmm/base/check.h"

namespace vmsg::bench {
namespace {

vmm::EventFd MakeEvent() {
  absl::StatusOr<vmm::EventFd> event = vmm::EventFd::Create();
  VMSG_CHECK(event.ok());
  return *std::move(event);
}

std::unique_ptr<vmm::EpollEventLoop> MakeLoop() {
  auto loop = vmm::EpollEventLoop::Create();
  VMSG_CHECK(loop.ok());
  return *std::move(loop);
}

class EventFdRoute final : public vmm::MsiRoute {
 public:
  explicit EventFdRoute(const vmm::EventFd* event) : event_(event) {}
  absl::Status Update(const vmm::MsiMessage& /*message*/) override {
    return absl::OkStatus();
  }
  absl::Status Trigger() override {
    event_->Signal();
    return absl::OkStatus();
  }

 private:
  const vmm::EventFd* const event_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<vmm::MsiRoute>>
EventFdInterrupts::CreateMsiRoute() {
  return std::make_unique<EventFdRoute>(event_);
}

DoorbellLoop::DoorbellLoop() : interrupt_(MakeEvent()) {}

// --- MinimalDoorbellLoop. ---

MinimalDoorbellLoop::MinimalDoorbellLoop()
    : doorbell_(MakeEvent()), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  VMSG_CHECK(epoll_.valid());
  epoll_event wanted = {.events = EPOLLIN, .data = {.fd = doorbell_.fd()}};
  VMSG_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, doorbell_.fd(), &wanted) ==
             0);
}

void MinimalDoorbellLoop::RunOnce(bool wait) {
  epoll_event ready;
  const int count = epoll_wait(epoll_.get(), &ready, 1, wait ? -1 : 0);
  VMSG_CHECK(count >= 0 || errno == EINTR);
  if (count != 1) return;
  doorbell_.Drain();
  interrupt().Signal();
}

// --- AmpDoorbellLoop. ---

AmpDoorbellLoop::AmpDoorbellLoop(amp::FifoLayout layout)
    : loop_(MakeLoop()),
      interrupts_(&interrupt()),
      driver_({.num_fifos = 1, .fifo_layout = layout}, loop_.get(),
              &interrupts_) {
  // The device notices that it has a driver.
  RunOnce(/*wait=*/false);
  driver_.Join([this] { RunOnce(/*wait=*/false); });
  interrupt().Drain();
}

void AmpDoorbellLoop::RunOnce(bool wait) {
  loop_->RunOnce(vmm::Duration(wait ? -1 : 0));
}

void AmpDoorbellLoop::Ring() {
  std::array<std::byte, 12> request;
  VMSG_CHECK(guest::EncodePing(++pings_, request) == request.size());
  VMSG_CHECK(driver_.fifo().Send(request));
  driver_.fifo().CommitSent();
  driver_.RingDoorbell();
}

void AmpDoorbellLoop::TakeAnswer() {
  guest::Packet answer;
  uint32_t data;
  VMSG_CHECK(driver_.fifo().Receive(&answer), "an interrupt without an answer");
  VMSG_CHECK(guest::DecodePing(answer.bytes, &data) && data == pings_);
  driver_.fifo().CommitReceived();
}

// --- DoorbellThread. ---

DoorbellThread::DoorbellThread(DoorbellLoop* loop)
    : loop_(loop), thread_([this] { ThreadMain(); }) {
  VMSG_CHECK(pthread_getcpuclockid(thread_.native_handle(), &cpu_clock_) == 0);
  Ping();
}

DoorbellThread::~DoorbellThread() {
  stop_.store(true, std::memory_order_relaxed);
  loop_->Ring();
  thread_.join();
}

void DoorbellThread::ThreadMain() {
  id_.store(gettid(), std::memory_order_relaxed);
  while (!stop_.load(std::memory_order_relaxed)) loop_->RunOnce(true);
}

void DoorbellThread::Ping() {
  loop_->Ring();
  const vmm::EventFd& interrupt = loop_->interrupt();
  while (interrupt.Drain() == 0) {
    pollfd fd = {.fd = interrupt.fd(), .events = POLLIN, .revents = 0};
    VMSG_CHECK(poll(&fd, 1, -1) >= 0 || errno == EINTR);
  }
  loop_->TakeAnswer();
}

uint64_t DoorbellThread::CpuNs() const {
  timespec time;
  VMSG_CHECK(clock_gettime(cpu_clock_, &time) == 0);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace vmsg::bench
