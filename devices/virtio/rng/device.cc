#include "devices/virtio/rng/device.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/virtio/little_endian.h"
#include "devices/virtio/transition.h"
#include "vmm/base/check.h"

namespace vmsg::virtio {
namespace {

// After so much the loop has its turn, for the other devices on it, however
// many notifications come meanwhile.
constexpr uint32_t kMaxStepsPerTurn = 64;
constexpr uint64_t kMaxBuffersPerTurn = 1024;  // the last chain may exceed it
constexpr uint64_t kMaxBytesPerTurn = RngOptions::kMaxRequestBytes;

// Saved state, version 1: le64 budget left, le64 nanoseconds left of the
// period.
constexpr uint32_t kStateVersion = 1;
constexpr size_t kStateBytes = 16;

uint64_t Fnv1a(uint64_t digest, std::span<const std::byte> bytes) {
  for (std::byte byte : bytes) {
    digest ^= static_cast<uint64_t>(byte);
    digest *= 0x100000001b3;
  }
  return digest;
}

class RngDeviceImpl final : public RngDevice {
 public:
  RngDeviceImpl(const RngOptions& options,
                std::unique_ptr<EntropySource> source, vmm::EventLoop* loop)
      : options_(options),
        loop_(loop),
        buffer_(RngOptions::kMaxRequestBytes),
        source_(std::move(source)),
        transition_(loop),
        period_timer_(loop->CreateTimer([this] { Work(); })),
        work_(loop->CreateWakeSource([this] { NextTurn(); })) {}

  uint32_t device_id() const override { return kDeviceIdEntropy; }
  Features offered_features() const override {
    // One chain at a time, so they are used in order without more ado.
    return {kFeatureVersion1,   kFeatureIndirectDesc, kFeatureEventIdx,
            kFeatureRingPacked, kFeatureInOrder,      kFeatureNotificationData,
            kFeatureRingReset};
  }
  std::span<const QueueLimits> queues() const override { return kLimits; }
  uint32_t config_size() const override { return 0; }
  std::optional<SharedMemoryRegion> shared_memory(uint8_t) const override {
    return std::nullopt;
  }
  void ReadConfig(uint32_t, std::span<std::byte> data) const override {
    VMSG_CHECK(data.empty(), "there is no configuration");
  }
  bool WriteConfig(uint32_t, std::span<const std::byte>) override {
    return false;
  }
  bool AcceptFeatures(const Features& features) const override {
    return features.Has(kFeatureVersion1);
  }

  void Activate(const DeviceContext& context,
                std::vector<std::unique_ptr<Virtqueue>> queues,
                StatusCompletion done) override;
  void ActivateQueue(std::unique_ptr<Virtqueue> queue) override;
  void QueueNotify(uint16_t index) override;
  void ResetQueue(uint16_t index, Completion done) override;
  void Quiesce(Completion done) override;
  void Resume() override;
  void FailRequests() override;
  void Reset(Completion done) override;
  void Remove(Completion done) override;
  SavedState Save() const override;
  absl::Status Restore(const SavedState& state) override;
  std::vector<std::optional<Virtqueue::Position>> queue_positions()
      const override;
  RngStats stats() const override { return stats_; }

 private:
  enum class State : uint8_t {
    kInactive,
    kActive,
    kQuiescing,
    kQuiesced,
    kRemoved,  // from the call of Remove() on
  };

  bool CanTake() const {
    return state_ == State::kActive && !broken_ && queue_ != nullptr &&
           !filling_;
  }
  bool HaveBudget();
  void Work();
  void NextTurn();
  void StartFill(uint32_t length);
  void Filled(uint64_t epoch, bool ok);
  void CompleteChain(std::span<const std::byte> bytes);
  void NotifyUsed();
  void SetHealth(bool healthy);
  void Break(std::string_view reason);
  void MaybeQuiesced();
  void ForgetQueue();
  void ForgetAll();

  static constexpr std::array<QueueLimits, 1> kLimits = {
      QueueLimits{.max_size = kQueueSize}};

  // Constant.
  const RngOptions options_;
  vmm::EventLoop* const loop_;
  std::vector<std::byte> buffer_;  // what the source fills
  // Until removed. It may fill the buffer until it is gone, so it goes first.
  std::unique_ptr<EntropySource> source_;

  // Life.
  State state_ = State::kInactive;
  bool failing_ = false;
  bool broken_ = false;
  DeviceContext context_;
  std::unique_ptr<Virtqueue> queue_;

  // The request in work. The source may still be busy for one that nobody wants
  // any more: its answer then carries an old epoch.
  bool filling_ = false;
  bool source_busy_ = false;
  bool inside_fill_ = false;
  uint64_t epoch_ = 0;
  uint32_t fill_length_ = 0;
  DescriptorChain chain_;

  // The limit. It outlives resets: else a guest could lift it by one.
  uint64_t budget_ = 0;
  vmm::MonotonicTime period_end_;

  bool healthy_ = true;
  bool health_unsure_ = false;  // whether it still is what was last said
  RngStats stats_;
  Transition transition_;
  std::unique_ptr<vmm::Timer> period_timer_;
  // Done since the loop had its turn; yielded_: NextTurn() goes on.
  uint32_t steps_ = 0;
  uint64_t buffers_ = 0;
  uint64_t bytes_ = 0;
  bool yielded_ = false;
  std::unique_ptr<vmm::WakeSource> work_;
};

// --- Life. ---

void RngDeviceImpl::Activate(const DeviceContext& context,
                             std::vector<std::unique_ptr<Virtqueue>> queues,
                             StatusCompletion done) {
  VMSG_CHECK(state_ == State::kInactive && !transition_.running());
  VMSG_CHECK(context.loop == loop_ && queues.size() == kLimits.size());
  context_ = context;
  queue_ = std::move(queues[0]);
  health_unsure_ = !healthy_;
  state_ = State::kActive;
  transition_.Begin(std::move(done));
  transition_.Finish();
}

void RngDeviceImpl::ActivateQueue(std::unique_ptr<Virtqueue> queue) {
  VMSG_CHECK(state_ == State::kActive && queue->index() == 0 &&
             queue_ == nullptr);
  queue_ = std::move(queue);
  work_->Signal();
}

void RngDeviceImpl::QueueNotify(uint16_t index) {
  if (index == 0) Work();
}

void RngDeviceImpl::ForgetQueue() {
  ++epoch_;
  filling_ = false;
  chain_ = DescriptorChain();
  queue_ = nullptr;
}

void RngDeviceImpl::ForgetAll() {
  ForgetQueue();
  context_ = {};
  failing_ = false;
  broken_ = false;
  period_timer_->Cancel();
}

void RngDeviceImpl::ResetQueue(uint16_t index, Completion done) {
  VMSG_CHECK(state_ == State::kActive && !transition_.running() && index == 0);
  ForgetQueue();
  transition_.Begin(std::move(done));
  transition_.Finish();
}

void RngDeviceImpl::Quiesce(Completion done) {
  VMSG_CHECK(state_ == State::kActive && !transition_.running());
  state_ = State::kQuiescing;
  transition_.Begin(std::move(done));
  MaybeQuiesced();
}

void RngDeviceImpl::MaybeQuiesced() {
  if (state_ != State::kQuiescing || filling_) return;
  state_ = State::kQuiesced;
  transition_.Finish();
}

void RngDeviceImpl::Resume() {
  VMSG_CHECK(state_ == State::kQuiesced && !transition_.running());
  state_ = State::kActive;
}

void RngDeviceImpl::FailRequests() {
  failing_ = true;
  if (filling_) {
    ++epoch_;  // what the source brings is dropped
    CompleteChain({});
    NotifyUsed();
    MaybeQuiesced();
  }
  Work();
}

void RngDeviceImpl::Reset(Completion done) {
  VMSG_CHECK(state_ != State::kRemoved);
  ForgetAll();
  state_ = State::kInactive;
  transition_.Begin(std::move(done));
  transition_.Finish();
}

void RngDeviceImpl::Remove(Completion done) {
  VMSG_CHECK(state_ != State::kRemoved);
  ForgetAll();
  state_ = State::kRemoved;
  // The source goes in the turn of the completion, not here, where it may be
  // calling us.
  transition_.Begin(Completion([this, done = std::move(done)]() mutable {
    source_ = nullptr;
    done();
  }));
  transition_.Finish();
}

SavedState RngDeviceImpl::Save() const {
  VMSG_CHECK(state_ == State::kQuiesced || state_ == State::kInactive);
  const vmm::Duration left =
      std::max(period_end_ - loop_->clock().Now(), vmm::Duration::zero());
  SavedState state{.version = kStateVersion,
                   .bytes = std::vector<std::byte>(kStateBytes)};
  const std::span<std::byte, kStateBytes> bytes(state.bytes);
  StoreLittle<uint64_t>(budget_, bytes.subspan<0, 8>());
  StoreLittle<uint64_t>(static_cast<uint64_t>(left.count()),
                        bytes.subspan<8, 8>());
  return state;
}

absl::Status RngDeviceImpl::Restore(const SavedState& state) {
  VMSG_CHECK(state_ == State::kQuiesced || state_ == State::kInactive);
  if (state.version != kStateVersion || state.bytes.size() != kStateBytes) {
    return absl::InvalidArgumentError("not a state of a virtio-rng device");
  }
  const std::span<const std::byte, kStateBytes> bytes(state.bytes);
  // The limit may be another one here: it rules.
  budget_ = std::min(LoadLittle<uint64_t>(bytes.subspan<0, 8>()),
                     options_.max_bytes_per_period);
  const uint64_t left =
      std::min(LoadLittle<uint64_t>(bytes.subspan<8, 8>()),
               static_cast<uint64_t>(options_.period.count()));
  period_end_ =
      loop_->clock().Now() + vmm::Duration(static_cast<int64_t>(left));
  return absl::OkStatus();
}

std::vector<std::optional<Virtqueue::Position>> RngDeviceImpl::queue_positions()
    const {
  VMSG_CHECK(state_ == State::kQuiesced);
  if (queue_ == nullptr) return {std::nullopt};
  return {queue_->position()};
}

// --- Work. ---

// False: the period's timer calls Work() when there is some again.
bool RngDeviceImpl::HaveBudget() {
  if (options_.max_bytes_per_period == 0) return true;
  const vmm::MonotonicTime now = loop_->clock().Now();
  if (now >= period_end_) {
    period_end_ = now + options_.period;
    budget_ = options_.max_bytes_per_period;
  }
  if (budget_ != 0) return true;
  if (!period_timer_->armed()) period_timer_->Arm(period_end_ - now);
  return false;
}

void RngDeviceImpl::NextTurn() {
  steps_ = 0;
  buffers_ = 0;
  bytes_ = 0;
  yielded_ = false;
  Work();
}

void RngDeviceImpl::Work() {
  if (yielded_) return;
  for (; CanTake(); ++steps_) {
    if (steps_ == kMaxStepsPerTurn || buffers_ >= kMaxBuffersPerTurn ||
        bytes_ >= kMaxBytesPerTurn) {
      yielded_ = true;
      work_->Signal();
      break;
    }
    if (!failing_) {
      if (source_busy_) break;  // Filled() goes on
      if (!HaveBudget()) {
        queue_->DisableNotifications();
        break;
      }
    }
    const Virtqueue::PopResult popped = queue_->Pop(&chain_);
    if (popped == Virtqueue::PopResult::kBroken) {
      Break(QueueFaultName(queue_->fault()));
      break;
    }
    if (popped == Virtqueue::PopResult::kEmpty) {
      if (queue_->EnableNotifications()) continue;
      break;
    }
    buffers_ += chain_.readable().size() + chain_.writable().size();
    uint64_t length =
        std::min(chain_.writable_bytes(), RngOptions::kMaxRequestBytes);
    if (options_.max_bytes_per_period != 0 && !failing_) {
      length = std::min(length, budget_);
    }
    if (failing_ || length == 0) {
      CompleteChain({});
    } else {
      bytes_ += length;
      StartFill(static_cast<uint32_t>(length));
    }
  }
  if (queue_ != nullptr) NotifyUsed();
}

void RngDeviceImpl::StartFill(uint32_t length) {
  if (options_.max_bytes_per_period != 0) budget_ -= length;
  filling_ = true;
  source_busy_ = true;
  inside_fill_ = true;
  fill_length_ = length;
  source_->Fill(std::span(buffer_).first(length),
                [this, epoch = epoch_](bool ok) { Filled(epoch, ok); });
  inside_fill_ = false;
}

void RngDeviceImpl::Filled(uint64_t epoch, bool ok) {
  source_busy_ = false;
  const std::span<std::byte> bytes = std::span(buffer_).first(fill_length_);
  if (epoch == epoch_) {
    CompleteChain(ok ? bytes : std::span<std::byte>());
    if (!broken_) SetHealth(ok);
  }
  // These bytes are one guest's, or nobody's.
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  if (inside_fill_) return;  // Work() goes on
  MaybeQuiesced();
  if (queue_ != nullptr) NotifyUsed();
  Work();
}

// Gives the request in work back; empty `bytes` are its error status.
void RngDeviceImpl::CompleteChain(std::span<const std::byte> bytes) {
  filling_ = false;
  size_t copied = 0;
  if (chain_.Write(context_.dma, 0, bytes, &copied) != vmm::DmaResult::kOk) {
    Break("DMA to the buffer of a request failed");
    return;
  }
  queue_->Complete(std::move(chain_), static_cast<uint32_t>(copied));
  if (queue_->fault() != QueueFault::kNone) {
    Break(QueueFaultName(queue_->fault()));
    return;
  }
  if (bytes.empty()) {
    ++stats_.failed;
    return;
  }
  ++stats_.requests;
  stats_.bytes += bytes.size();
  stats_.digest = Fnv1a(stats_.digest, bytes);
}

// Also of what was done before the device broke.
void RngDeviceImpl::NotifyUsed() {
  if (queue_->ShouldNotify()) context_.notifier->NotifyUsed(0);
  if (!broken_ && queue_->fault() != QueueFault::kNone) {
    Break(QueueFaultName(queue_->fault()));
  }
}

void RngDeviceImpl::SetHealth(bool healthy) {
  if (healthy_ == healthy && !health_unsure_) return;
  healthy_ = healthy;
  health_unsure_ = false;
  context_.notifier->NotifyBackendHealth(
      healthy,
      healthy ? "the entropy source works again" : "the entropy source failed");
}

void RngDeviceImpl::Break(std::string_view reason) {
  broken_ = true;
  ++epoch_;
  filling_ = false;
  context_.notifier->NotifyNeedsReset(reason);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RngDevice>> RngDevice::Create(
    const RngOptions& options, std::unique_ptr<EntropySource> source,
    vmm::EventLoop* loop) {
  VMSG_CHECK(source != nullptr && loop != nullptr);
  if (options.max_bytes_per_period != 0 &&
      (options.period <= vmm::Duration::zero() ||
       options.period > RngOptions::kMaxPeriod)) {
    return absl::InvalidArgumentError(
        "period is to be above 0 and at most an hour");
  }
  return std::make_unique<RngDeviceImpl>(options, std::move(source), loop);
}

}  // namespace vmsg::virtio
