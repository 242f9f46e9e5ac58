// NotifierThread: calls DriverNotifier::NotifyUsed from a thread that is not
// the loop's, as a device with a thread per queue would.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_NOTIFIER_THREAD_H_
#define VMSG_DEVICES_VIRTIO_TESTING_NOTIFIER_THREAD_H_

#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "vmm/base/mutex.h"

namespace vmsg::virtio {

// Threads: all calls from one, the device's loop.
class NotifierThread {
 public:
  NotifierThread();
  NotifierThread(const NotifierThread&) = delete;
  NotifierThread& operator=(const NotifierThread&) = delete;
  // Ends the thread; what was not called yet is dropped.
  ~NotifierThread();

  // Soon calls notifier->NotifyUsed(queue) on the thread.
  void Notify(DriverNotifier* notifier, uint16_t queue);

  // Drops what was not called yet. After it returns no notifier is called until
  // the next Notify(): waits for a call that is running.
  void Drain();

 private:
  void Run();

  vmm::Mutex mutex_;
  vmm::CondVar changed_;
  std::vector<std::pair<DriverNotifier*, uint16_t>> pending_
      ABSL_GUARDED_BY(mutex_);
  bool calling_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_NOTIFIER_THREAD_H_
