// LoopThread: a real loop on a thread of its own.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LOOP_THREAD_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LOOP_THREAD_H_

#include <memory>
#include <thread>
#include <utility>

#include "vmm/base/check.h"
#include "vmm/event/epoll_event_loop.h"

namespace vmsg::amp {

// Runs from Start() until Stop(). Threads: the test's.
class LoopThread {
 public:
  LoopThread() {
    auto loop = vmm::EpollEventLoop::Create();
    VMSG_CHECK(loop.ok());
    loop_ = *std::move(loop);
  }
  ~LoopThread() { Stop(); }

  vmm::EpollEventLoop* loop() { return loop_.get(); }
  void Start() {
    thread_ = std::thread([this] { loop_->Run(); });
  }
  void Stop() {
    if (!thread_.joinable()) return;
    loop_->Stop();
    thread_.join();
  }

 private:
  std::unique_ptr<vmm::EpollEventLoop> loop_;
  std::thread thread_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LOOP_THREAD_H_
