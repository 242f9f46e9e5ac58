#include "examples/kvm_vmm/entropy_log.h"

#include <cstddef>
#include <fstream>
#include <span>
#include <string>
#include <utility>

namespace vmsg::example {

class EntropyLog::Source final : public virtio::EntropySource {
 public:
  Source(EntropyLog* log, size_t index)
      : log_(log), index_(index), inner_(virtio::CreateGetrandomSource()) {
    if (log->record_.empty()) return;
    file_.open(log->record_ + "." + std::to_string(index), std::ios::binary);
  }

  void Fill(std::span<std::byte> to,
            absl::AnyInvocable<void(bool)> done) override {
    inner_->Fill(to, [this, to, done = std::move(done)](bool ok) mutable {
      if (ok) Enter(to);
      done(ok);
    });
  }

 private:
  void Enter(std::span<const std::byte> bytes) {
    vmm::MutexLock lock(&log_->mutex_);
    EntropyTotals& totals = log_->totals_[index_];
    totals.bytes += bytes.size();
    for (const std::byte b : bytes) {
      totals.fnv1a =
          (totals.fnv1a ^ std::to_integer<uint64_t>(b)) * 0x100000001b3;
    }
    if (!file_.is_open()) return;
    file_.write(reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
    file_.flush();
  }

  EntropyLog* const log_;
  const size_t index_;
  const std::unique_ptr<virtio::EntropySource> inner_;
  std::ofstream file_;  // not open: no record
};

std::unique_ptr<virtio::EntropySource> EntropyLog::NewSource() {
  size_t index;
  {
    vmm::MutexLock lock(&mutex_);
    index = totals_.size();
    totals_.emplace_back();
  }
  return std::make_unique<Source>(this, index);
}

std::vector<EntropyTotals> EntropyLog::totals() const {
  vmm::MutexLock lock(&mutex_);
  return totals_;
}

}  // namespace vmsg::example
