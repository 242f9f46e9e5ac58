#include "vmm/control/request_memory.h"

#include <utility>

namespace vmsg::control {

bool RequestMemory::Join(const std::string& key, Reply<DeviceRecord>* reply) {
  const auto [it, is_first] = entries_.try_emplace(key);
  if (!is_first) {
    if (it->second.answer.has_value()) {
      (*reply)(OperationStatus{}, *it->second.answer);
    } else {
      it->second.waiting.push_back(std::move(*reply));
    }
    return true;
  }
  *reply = [this, key, first = std::move(*reply)](OperationStatus status,
                                                  DeviceRecord record) mutable {
    // The sender first: the others only repeat it.
    first(status, record);
    Finish(key, status, record);
  };
  return false;
}

void RequestMemory::Finish(const std::string& key,
                           const OperationStatus& status,
                           const DeviceRecord& record) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  std::vector<Reply<DeviceRecord>> waiting = std::move(it->second.waiting);
  if (status.ok()) {
    it->second.answer = record;
    it->second.waiting.clear();
    answered_.push_back(key);
    if (answered_.size() > capacity_) {
      entries_.erase(answered_.front());
      answered_.pop_front();
    }
  } else {
    entries_.erase(it);
  }
  for (Reply<DeviceRecord>& other : waiting) other(status, record);
}

}  // namespace vmsg::control
