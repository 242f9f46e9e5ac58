#include "devices/virtio/testing/notifier_thread.h"

namespace vmsg::virtio {

NotifierThread::NotifierThread() : thread_([this] { Run(); }) {}

NotifierThread::~NotifierThread() {
  {
    vmm::MutexLock lock(&mutex_);
    stop_ = true;
    pending_.clear();
    changed_.NotifyAll();
  }
  thread_.join();
}

void NotifierThread::Notify(DriverNotifier* notifier, uint16_t queue) {
  vmm::MutexLock lock(&mutex_);
  pending_.emplace_back(notifier, queue);
  changed_.NotifyAll();
}

void NotifierThread::Drain() {
  vmm::MutexLock lock(&mutex_);
  pending_.clear();
  while (calling_) changed_.Wait(&mutex_);
}

void NotifierThread::Run() {
  mutex_.Lock();
  while (!stop_) {
    if (pending_.empty()) {
      changed_.Wait(&mutex_);
      continue;
    }
    const auto [notifier, queue] = pending_.front();
    pending_.erase(pending_.begin());
    calling_ = true;
    mutex_.Unlock();
    notifier->NotifyUsed(queue);
    mutex_.Lock();
    calling_ = false;
    changed_.NotifyAll();
  }
  mutex_.Unlock();
}

}  // namespace vmsg::virtio
