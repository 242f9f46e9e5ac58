#include "devices/virtio_msg_amp_pci/fifo_channel.h"

#include <algorithm>
#include <utility>

#include "vmm/base/check.h"

namespace vmsg::amp {
namespace {

// Makes the space, if there is a translator, and says where.
vmm::DmaSpace* Translated(const vmm::GuestMemory* memory,
                          const vmm::DmaGate* gate,
                          vmm::DmaTranslator* translator,
                          std::optional<vmm::DmaSpace>* space) {
  if (translator == nullptr) return nullptr;
  return &space->emplace(memory, gate, translator);
}

}  // namespace

FifoChannel::FifoChannel(const Options& options, vmm::EventLoop* loop,
                         const vmm::GuestMemory* memory, std::byte* window,
                         vmm::MsixTable* msix, vmm::LogSink* log_sink)
    : options_(options),
      loop_(loop),
      msix_(msix),
      log_(log_sink, &loop->clock(), options.name),
      fifo_(CreateDeviceFifo(options.layout, window)),
      seen_state_(fifo_->state()),
      dma_(memory, &gate_),
      wake_(loop->CreateWakeSource([this] { Turn(); })),
      observer_wake_(loop->CreateWakeSource([this] {
        if (observer_ != nullptr) observer_();
      })),
      recheck_(loop->CreateTimer([this] { OnRecheck(); })),
      look_(loop->CreateTimer([this] { OnLook(); })),
      bus_(options.name,
           {.max_message_bytes = kFifoPacketBytes,
            .ping = options.ping,
            .translated_dma = Translated(memory, &gate_, options.translator,
                                         &translated_dma_),
            .allow_untranslated = options.allow_untranslated,
            .traffic_observer = options.traffic_observer},
           loop, &dma_, this, log_sink) {
  VMSG_CHECK(options_.max_packets_per_wakeup > 0);
}

FifoChannel::~FifoChannel() { fifo_->Shutdown(); }

absl::StatusOr<std::unique_ptr<FifoChannel>> FifoChannel::Create(
    const Options& options, vmm::EventLoop* loop,
    const vmm::GuestMemory* memory, const vmm::EventFd* doorbell,
    std::byte* window, vmm::MsixTable* msix, vmm::LogSink* log_sink) {
  auto channel = std::unique_ptr<FifoChannel>(
      new FifoChannel(options, loop, memory, window, msix, log_sink));
  absl::StatusOr<std::unique_ptr<vmm::FdWatch>> watch =
      loop->WatchEventFd(doorbell, [c = channel.get()] { c->OnDoorbell(); });
  if (!watch.ok()) return watch.status();
  channel->watch_ = *std::move(watch);
  return channel;
}

// --- vCPU threads. ---

void FifoChannel::SetBusMaster(bool enabled) {
  {
    vmm::MutexLock lock(&mutex_);
    if (enabled == enabled_) return;
    enabled_ = enabled;
    if (!enabled) gate_.Set(false);
    // Before the window changes: a turn that finds it changed looks here next.
    epoch_.fetch_add(1, std::memory_order_release);
    if (!enabled) dropped_before_ = fifo_->DriverLeft();
  }
  wake_->Signal();
}

void FifoChannel::ResetFunction() {
  {
    vmm::MutexLock lock(&mutex_);
    ClearFunction();
  }
  wake_->Signal();
}

void FifoChannel::RemoveFunction() {
  {
    vmm::MutexLock lock(&mutex_);
    ClearFunction();
    fifo_->Shutdown();
  }
  wake_->Signal();
}

void FifoChannel::ClearFunction() {
  enabled_ = false;
  gate_.Set(false);
  cleared_ = true;
  dropped_before_.reset();
  // As in SetBusMaster().
  epoch_.fetch_add(1, std::memory_order_release);
  fifo_->ClearWindow();
}

// --- The loop. Models: queue.pml, restart.pml and handshake.pml of
// tests/model. ---

void FifoChannel::OnDoorbell() {
  counters_.wakeups.Add();
  Turn();
}

void FifoChannel::OnRecheck() {
  counters_.full_rechecks.Add();
  recheck_delay_ = std::min(2 * recheck_delay_, kMaxRecheck);
  Turn();
}

void FifoChannel::OnLook() {
  look_->Arm(kFifoLookInterval);
  if (Overtaken() || fifo_->Poll()) Turn();
}

bool FifoChannel::TrySend(std::span<const std::byte> message) {
  if (!running_ || !fifo_->Send(message)) return false;
  ++sent_;
  return true;
}

void FifoChannel::Turn() {
  if (Overtaken() && !TakeOver()) return;
  if (!running_) return;
  if (fifo_->Poll() && !Shake()) return;
  bool all_sent = true;
  if (fifo_->state() == FifoState::kRunning && !Move(&all_sent)) return;
  if (!Publish()) return;
  ScheduleRecheck(all_sent);
  NoteChanges();
}

bool FifoChannel::Shake() {
  // A driver that left, and the whole handshake of the next one.
  constexpr int kMaxSteps = 4;
  for (int i = 0; i < kMaxSteps; ++i) {
    bool driver_gone = false;
    {
      vmm::MutexLock lock(&mutex_);
      if (Overtaken()) return false;
      driver_gone = fifo_->Step();
    }
    if (driver_gone) ForgetDriver();
    NoteChanges();
    if (!fifo_->Poll()) break;
  }
  return true;
}

bool FifoChannel::TakeOver() {
  bool driver_gone = false;
  {
    vmm::MutexLock lock(&mutex_);
    seen_epoch_ = epoch_.load(std::memory_order_relaxed);
    running_ = enabled_;
    driver_gone = cleared_ || dropped_before_.has_value();
    // Under the lock, since DropDriver() may store an index.
    if (cleared_) fifo_->Restart();
    if (dropped_before_.has_value()) fifo_->DropDriver(*dropped_before_);
    cleared_ = false;
    dropped_before_.reset();
  }
  if (driver_gone) ForgetDriver();
  if (running_) {
    vmm::MutexLock lock(&mutex_);
    if (Overtaken()) return false;
    gate_.Set(true);
  }
  NoteChanges();
  if (!running_) {
    look_->Cancel();
  } else if (fifo_->has_handshake() && !look_->armed()) {
    look_->Arm(kFifoLookInterval);
  }
  // What the driver before did not take may fill the queue, and the new one
  // looks at it only when it is interrupted.
  if (running_ && fifo_->Unread() != 0) Interrupt();
  return running_;
}

void FifoChannel::ForgetDriver() {
  taken_ = sent_ = 0;
  recheck_->Cancel();
  recheck_delay_ = kMinRecheck;
  bus_.ResetAll();
}

bool FifoChannel::Move(bool* all_sent) {
  uint32_t budget = options_.max_packets_per_wakeup;
  bool empty = false;
  Packet packet;
  do {
    while (budget != 0 && bus_.CanAccept()) {
      if (!fifo_->Receive(&packet)) {
        empty = true;
        break;
      }
      if (Overtaken()) return false;
      --budget;
      ++taken_;
      bus_.Receive(packet.bytes);
    }
    // Nothing goes out, and silence means nothing. ResetAll() comes first.
    if (fifo_->state() == FifoState::kBroken) break;
    // May make room for the answers that kept the bus from accepting.
    *all_sent = bus_.Flush();
  } while (!empty && budget != 0 && bus_.CanAccept());
  if (budget == 0 && !empty) wake_->Signal();
  return true;
}

bool FifoChannel::Publish() {
  if (taken_ != 0 || sent_ != 0) {
    vmm::MutexLock lock(&mutex_);
    if (Overtaken()) return false;
    fifo_->CommitReceived();
    fifo_->CommitSent();
  } else if (Overtaken()) {
    return false;  // a fault may be of the clearing's making
  }
  const bool interrupt = sent_ != 0 && fifo_->state() == FifoState::kRunning;
  if (taken_ != 0) counters_.packets_in.Add(taken_);
  if (sent_ != 0) counters_.packets_out.Add(sent_);
  last_sent_ = sent_;
  taken_ = sent_ = 0;
  if (interrupt) Interrupt();
  return true;
}

void FifoChannel::Interrupt() {
  counters_.interrupts.Add();
  msix_->Trigger(options_.index);
}

void FifoChannel::ScheduleRecheck(bool all_sent) {
  const bool progress = last_sent_ != 0;
  if (all_sent || progress) recheck_delay_ = kMinRecheck;
  if (all_sent || fifo_->state() != FifoState::kRunning) {
    if (recheck_->armed()) recheck_->Cancel();
  } else if (progress || !recheck_->armed()) {
    recheck_->Arm(recheck_delay_);
  }
}

void FifoChannel::NoteChanges() {
  const FifoState state = fifo_->state();
  const bool driver = bus_.driver_seen();
  const msg::DriverHealth health = bus_.driver_health();
  if (state == seen_state_ && driver == seen_driver_ &&
      health == seen_health_) {
    return;
  }
  if (state == FifoState::kBroken && seen_state_ != FifoState::kBroken) {
    counters_.breaks.Add();
    log_.LogGuest(vmm::LogSeverity::kWarning, FifoFaultName(fifo_->fault()));
  }
  seen_state_ = state;
  seen_driver_ = driver;
  seen_health_ = health;
  observer_wake_->Signal();
}

void FifoChannel::ResetFifo() {
  {
    vmm::MutexLock lock(&mutex_);
    fifo_->Reset();
    // It is a place in the window of before.
    dropped_before_.reset();
  }
  ForgetDriver();
  NoteChanges();
  wake_->Signal();
}

void FifoChannel::SetObserver(absl::AnyInvocable<void()> observer) {
  observer_ = std::move(observer);
}

}  // namespace vmsg::amp
