#include "devices/virtio/testing/dummy_device.h"

#include <algorithm>
#include <utility>

#include "vmm/base/check.h"

namespace vmsg::virtio {

DummyDevice::DummyDevice(const DummyOptions& options, vmm::EventLoop* loop)
    : options_(options),
      limits_(options.num_queues, QueueLimits{options.max_queue_size}),
      loop_(loop),
      random_(options.seed),
      initial_config_(options.config_size),
      config_(options.config_size),
      queues_(options.num_queues),
      jobs_(options.max_in_flight),
      transition_(loop),
      transition_timer_(loop->CreateTimer([this] { TransitionTimeUp(); })),
      pump_(loop->CreateWakeSource([this] { Pump(); })) {
  for (Job& job : jobs_) {
    job.timer = loop->CreateTimer([this, job = &job] { JobDone(job); });
  }
  if (options.notify_from_thread) thread_ = std::make_unique<NotifierThread>();
}

DummyDevice::~DummyDevice() = default;

vmm::Duration DummyDevice::RandomDelay(vmm::Duration max) {
  // Not std::uniform_int_distribution: its results differ between libraries.
  return vmm::Duration(random_() % static_cast<uint64_t>(max.count() + 1));
}

// --- Knobs. ---

void DummyDevice::SetBackendFailing(bool failing) {
  backend_failing_ = failing;
  if (context_.notifier != nullptr) {
    context_.notifier->NotifyBackendHealth(
        !failing, failing ? "dummy back end failed" : "dummy back end works");
  }
}

void DummyDevice::FailNextActivation(absl::Status error) {
  VMSG_CHECK(!error.ok());
  activation_error_ = std::move(error);
}

void DummyDevice::HoldTransitions(bool hold) {
  hold_transitions_ = hold;
  MaybeEndTransition();
}

void DummyDevice::ChangeConfig(uint32_t offset,
                               std::span<const std::byte> data) {
  VMSG_CHECK(offset <= config_.size() &&
             data.size() <= config_.size() - offset);
  std::copy(data.begin(), data.end(), config_.begin() + offset);
  std::copy(data.begin(), data.end(), initial_config_.begin() + offset);
  if (config_notifier_ != nullptr) {
    config_notifier_->NotifyConfigChanged(offset,
                                          static_cast<uint32_t>(data.size()));
  }
}

void DummyDevice::Break(std::string_view reason) {
  if (broken_ || context_.notifier == nullptr) return;
  broken_ = true;
  context_.notifier->NotifyNeedsReset(reason);
}

uint32_t DummyDevice::in_flight() const {
  return static_cast<uint32_t>(std::count_if(
      jobs_.begin(), jobs_.end(), [](const Job& job) { return job.busy; }));
}

// --- Description and configuration. ---

std::optional<SharedMemoryRegion> DummyDevice::shared_memory(uint8_t id) const {
  return id == 0 ? options_.shared_memory : std::nullopt;
}

void DummyDevice::ReadConfig(uint32_t offset, std::span<std::byte> data) const {
  VMSG_CHECK(state_ != State::kRemoved);
  VMSG_CHECK(offset <= config_.size() &&
             data.size() <= config_.size() - offset);
  std::copy_n(config_.begin() + offset, data.size(), data.begin());
}

bool DummyDevice::WriteConfig(uint32_t offset,
                              std::span<const std::byte> data) {
  VMSG_CHECK(state_ != State::kRemoved);
  VMSG_CHECK(offset <= config_.size() &&
             data.size() <= config_.size() - offset);
  if (offset < kReadOnlyConfigBytes) return false;
  std::copy(data.begin(), data.end(), config_.begin() + offset);
  return true;
}

bool DummyDevice::AcceptFeatures(const Features& features) const {
  VMSG_CHECK(features.IsSubsetOf(options_.offered));
  return options_.required.IsSubsetOf(features);
}

// --- Life. ---

void DummyDevice::StartTransition(State state) {
  state_ = state;
  time_is_up_ = false;
  transition_timer_->Arm(RandomDelay(options_.max_transition_delay));
}

void DummyDevice::TransitionTimeUp() {
  time_is_up_ = true;
  MaybeEndTransition();
}

void DummyDevice::MaybeEndTransition() {
  if (!time_is_up_ || hold_transitions_ || !transition_.running()) return;
  absl::Status result;
  switch (state_) {
    case State::kActivating:
      result = std::exchange(activation_error_, absl::OkStatus());
      if (result.ok()) {
        state_ = State::kActive;
        ++stats_.activations;
      } else {
        state_ = State::kInactive;
        for (Queue& queue : queues_) queue.queue = nullptr;
        context_ = {};
      }
      break;
    case State::kQuiescing:
      for (const Queue& queue : queues_) {
        if (queue.in_flight != 0) return;
      }
      state_ = State::kQuiesced;
      break;
    case State::kResetting:
      state_ = State::kInactive;
      break;
    case State::kRemoving:
      state_ = State::kRemoved;
      break;
    default:  // a queue was reset
      break;
  }
  time_is_up_ = false;
  transition_.Finish(std::move(result));
}

void DummyDevice::Activate(const DeviceContext& context,
                           std::vector<std::unique_ptr<Virtqueue>> queues,
                           StatusCompletion done) {
  VMSG_CHECK(state_ == State::kInactive && !transition_.running());
  VMSG_CHECK(context.loop == loop_ && context.dma != nullptr &&
             context.notifier != nullptr);
  VMSG_CHECK(queues.size() == queues_.size());
  context_ = context;
  for (size_t i = 0; i < queues.size(); ++i) {
    VMSG_CHECK(queues[i] == nullptr || queues[i]->index() == i);
    queues_[i].queue = std::move(queues[i]);
  }
  transition_.Begin(std::move(done));
  StartTransition(State::kActivating);
}

void DummyDevice::ActivateQueue(std::unique_ptr<Virtqueue> queue) {
  VMSG_CHECK(state_ == State::kActive && queue->index() < queues_.size());
  Queue& place = queues_[queue->index()];
  VMSG_CHECK(place.queue == nullptr);
  place.queue = std::move(queue);
  pump_->Signal();
}

void DummyDevice::QueueNotify(uint16_t index) {
  VMSG_CHECK(index < queues_.size());
  if (Works()) Pump();
}

void DummyDevice::ForgetQueue(uint16_t index) {
  Queue& queue = queues_[index];
  queue.queue = nullptr;
  ++queue.epoch;
  queue.in_flight = 0;
}

void DummyDevice::ResetQueue(uint16_t index, Completion done) {
  VMSG_CHECK(state_ == State::kActive && !transition_.running());
  VMSG_CHECK(index < queues_.size());
  ForgetQueue(index);
  if (thread_ != nullptr) thread_->Drain();
  transition_.Begin(std::move(done));
  StartTransition(state_);
}

void DummyDevice::Quiesce(Completion done) {
  VMSG_CHECK(state_ == State::kActive && !transition_.running());
  transition_.Begin(std::move(done));
  StartTransition(State::kQuiescing);
}

void DummyDevice::Resume() {
  VMSG_CHECK(state_ == State::kQuiesced && !transition_.running());
  state_ = State::kActive;
}

void DummyDevice::FailRequests() {
  failing_ = true;
  for (Job& job : jobs_) {
    if (!job.busy || job.epoch != queues_[job.queue].epoch) continue;
    job.epoch = 0;
    --queues_[job.queue].in_flight;
    if (!broken_) Finish(job.queue, std::move(job.chain), /*ok=*/false);
  }
  MaybeEndTransition();
  pump_->Signal();
}

void DummyDevice::Reset(Completion done) {
  VMSG_CHECK(state_ != State::kRemoving && state_ != State::kRemoved);
  ++stats_.resets;
  for (uint16_t i = 0; i < queues_.size(); ++i) ForgetQueue(i);
  RestoreConfig();
  if (thread_ != nullptr) thread_->Drain();
  context_ = {};
  failing_ = false;
  broken_ = false;
  transition_.Begin(std::move(done));
  StartTransition(State::kResetting);
}

void DummyDevice::RestoreConfig() {
  if (config_ == initial_config_) return;
  config_ = initial_config_;
  if (config_notifier_ != nullptr) {
    config_notifier_->NotifyConfigChanged(
        kReadOnlyConfigBytes, options_.config_size - kReadOnlyConfigBytes);
  }
}

void DummyDevice::Remove(Completion done) {
  VMSG_CHECK(state_ != State::kRemoving && state_ != State::kRemoved);
  for (uint16_t i = 0; i < queues_.size(); ++i) ForgetQueue(i);
  for (Job& job : jobs_) {
    job.timer->Cancel();
    job.busy = false;
  }
  thread_ = nullptr;
  context_ = {};
  transition_.Begin(std::move(done));
  StartTransition(State::kRemoving);
}

SavedState DummyDevice::Save() const {
  VMSG_CHECK(state_ == State::kQuiesced || state_ == State::kInactive);
  SavedState state{.version = kStateVersion, .bytes = config_};
  state.bytes.insert(state.bytes.end(), initial_config_.begin(),
                     initial_config_.end());
  return state;
}

absl::Status DummyDevice::Restore(const SavedState& state) {
  VMSG_CHECK(state_ == State::kQuiesced || state_ == State::kInactive);
  const size_t size = config_.size();
  if (state.version != kStateVersion || state.bytes.size() != 2 * size) {
    return absl::InvalidArgumentError("not a state of this dummy device");
  }
  std::copy_n(state.bytes.begin(), size, config_.begin());
  std::copy_n(state.bytes.begin() + size, size, initial_config_.begin());
  return absl::OkStatus();
}

std::vector<std::optional<Virtqueue::Position>> DummyDevice::queue_positions()
    const {
  VMSG_CHECK(state_ == State::kQuiesced);
  std::vector<std::optional<Virtqueue::Position>> positions(queues_.size());
  for (size_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].queue != nullptr) {
      positions[i] = queues_[i].queue->position();
    }
  }
  return positions;
}

// --- Work. ---

bool DummyDevice::Works() const { return state_ == State::kActive && !broken_; }

DummyDevice::Job* DummyDevice::FreeJob() {
  const auto job = std::find_if(jobs_.begin(), jobs_.end(),
                                [](const Job& j) { return !j.busy; });
  return job == jobs_.end() ? nullptr : &*job;
}

void DummyDevice::Pump() {
  bool more = false;
  for (uint16_t i = 0; i < queues_.size() && Works(); ++i) {
    if (queues_[i].queue != nullptr) more |= PumpQueue(i);
  }
  if (more) pump_->Signal();
}

// Takes chains until the queue is empty or the back end is full. True: there
// may be more, but another source of the loop is due.
bool DummyDevice::PumpQueue(uint16_t index) {
  Virtqueue* const queue = queues_[index].queue.get();
  for (uint32_t taken = 0; taken < queue->size(); ++taken) {
    Job* const job = FreeJob();
    if (job == nullptr && !failing_) return false;  // JobDone() comes back
    DescriptorChain chain;
    switch (queue->Pop(&chain)) {
      case Virtqueue::PopResult::kBroken:
        BreakOnFault(index);
        return false;
      case Virtqueue::PopResult::kEmpty:
        if (queue->EnableNotifications()) continue;
        return false;
      case Virtqueue::PopResult::kChain:
        break;
    }
    ++stats_.taken;
    if (failing_) {
      Finish(index, std::move(chain), /*ok=*/false);
      if (broken_) return false;
      continue;
    }
    job->chain = std::move(chain);
    job->queue = index;
    job->epoch = queues_[index].epoch;
    job->busy = true;
    ++queues_[index].in_flight;
    job->timer->Arm(RandomDelay(options_.max_work_delay));
  }
  return true;
}

void DummyDevice::JobDone(Job* job) {
  job->busy = false;
  Queue& queue = queues_[job->queue];
  if (job->epoch != queue.epoch) {
    ++stats_.dropped;
    job->chain = DescriptorChain();
  } else {
    --queue.in_flight;
    if (!broken_) Finish(job->queue, std::move(job->chain), !backend_failing_);
  }
  MaybeEndTransition();
  if (Works()) Pump();
}

void DummyDevice::Finish(uint16_t index, DescriptorChain chain, bool ok) {
  Virtqueue* const queue = queues_[index].queue.get();
  size_t copied = 0;
  if (ok) {
    const size_t length = std::min<size_t>(
        {chain.readable_bytes(), chain.writable_bytes(), kMaxEchoBytes});
    const std::span<std::byte> echo = std::span(buffer_).first(length);
    if (chain.Read(context_.dma, 0, echo, &copied) != vmm::DmaResult::kOk ||
        chain.Write(context_.dma, 0, echo, &copied) != vmm::DmaResult::kOk) {
      // The chain is kept from the driver: a reset forgives it.
      Break("DMA to a request's buffers failed");
      return;
    }
  }
  ++(ok ? stats_.completed : stats_.failed);
  queue->Complete(std::move(chain), static_cast<uint32_t>(copied));
  if (queue->ShouldNotify()) Notify(index);
  if (queue->fault() != QueueFault::kNone) BreakOnFault(index);
}

void DummyDevice::Notify(uint16_t index) {
  if (thread_ != nullptr) {
    thread_->Notify(context_.notifier, index);
  } else {
    context_.notifier->NotifyUsed(index);
  }
}

void DummyDevice::BreakOnFault(uint16_t index) {
  Break(QueueFaultName(queues_[index].queue->fault()));
}

}  // namespace vmsg::virtio
