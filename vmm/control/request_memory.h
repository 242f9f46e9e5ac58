// RequestMemory: recognises a repeated request by the id that its sender gave.

#ifndef VMSG_VMM_CONTROL_REQUEST_MEMORY_H_
#define VMSG_VMM_CONTROL_REQUEST_MEMORY_H_

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/control/device_manager.h"
#include "vmm/control/reply.h"

namespace vmsg::control {

// Remembers the answers of requests that succeeded, `capacity` of them, and who
// repeats a request that is still on its way. A request that failed is
// forgotten, so that its sender may try it again.
//
// Threads: the control loop's.
class RequestMemory {
 public:
  explicit RequestMemory(size_t capacity) : capacity_(capacity) {}
  RequestMemory(const RequestMemory&) = delete;
  RequestMemory& operator=(const RequestMemory&) = delete;

  // True when `key` is a repetition: `*reply` was taken and has been, or will
  // be, given the first one's answer. False for a first request: go on with the
  // reply that is now in `*reply`, which notes the answer on its way. `this`
  // outlives that reply.
  bool Join(const std::string& key, Reply<DeviceRecord>* reply);

 private:
  struct Entry {
    std::optional<DeviceRecord> answer;
    std::vector<Reply<DeviceRecord>> waiting;
  };

  void Finish(const std::string& key, const OperationStatus& status,
              const DeviceRecord& record);

  const size_t capacity_;
  std::map<std::string, Entry> entries_;
  std::deque<std::string> answered_;  // oldest first
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_REQUEST_MEMORY_H_
