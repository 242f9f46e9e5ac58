// EntropyLog: what the back ends of the rng devices handed out, to compare with
// what the guest says that it got.

#ifndef VMSG_EXAMPLES_KVM_VMM_ENTROPY_LOG_H_
#define VMSG_EXAMPLES_KVM_VMM_ENTROPY_LOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "devices/virtio/rng/backend.h"
#include "vmm/base/mutex.h"

namespace vmsg::example {

struct EntropyTotals {
  uint64_t bytes = 0;
  uint64_t fnv1a = 0xcbf29ce484222325;  // of the bytes, 64 bit
};

// Threads: any.
class EntropyLog {
 public:
  // Unless `record` is empty, what source number n hands out is also written to
  // the file RECORD.n, which is complete whenever the guest has the bytes. A
  // file that can't be written is left as it is.
  explicit EntropyLog(std::string record = {}) : record_(std::move(record)) {}

  // A getrandom source that is entered in the log. The log outlives it.
  std::unique_ptr<virtio::EntropySource> NewSource();

  // One entry per source, in order of creation.
  std::vector<EntropyTotals> totals() const;

 private:
  class Source;

  const std::string record_;
  mutable vmm::Mutex mutex_;
  std::vector<EntropyTotals> totals_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_ENTROPY_LOG_H_
