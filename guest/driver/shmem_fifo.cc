#include "guest/driver/shmem_fifo.h"

namespace vmsg::guest {
namespace {

// A queue head.
constexpr uint16_t kMagic = 0x514F;
constexpr size_t kStatus = 2;
constexpr size_t kTail = 4;
constexpr size_t kHead = 6;

constexpr uint16_t kStateMask = 0x1F;
constexpr uint16_t kInit = 0;
constexpr uint16_t kReady = 1;
constexpr uint16_t kRun = 2;
constexpr uint16_t kShutdown = 3;

uint16_t StateOf(const std::byte* queue_head) {
  return LoadAcquire<uint16_t>(queue_head + kStatus) & kStateMask;
}

}  // namespace

FifoFault ShmemPlace::LookAtDevice() const {
  const uint16_t state = StateOf(device_head);
  if (state == kRun || state == kReady) return FifoFault::kNone;
  return state == kInit ? FifoFault::kDeviceRestarted
                        : FifoFault::kDeviceShutDown;
}

ShmemFifo::ShmemFifo(std::byte* window) : region_(window + kShmemRegion) {}

bool ShmemFifo::IsHere(const std::byte* window) {
  return LoadAcquire<uint16_t>(window + kShmemRegion) == kShmemHeaderMagic;
}

bool ShmemFifo::Attach() {
  running_ = false;
  phase_ = Phase::kStopped;
  fault_.store(FifoFault::kNone, std::memory_order_relaxed);
  std::byte bytes[kShmemHeaderBytes] = {};
  // The magic is stored last; what is read after it is complete.
  if (LoadAcquire<uint16_t>(region_) == kShmemHeaderMagic) {
    CopyFromShared(bytes, region_, kShmemHeaderBytes);
  }
  header_ = DecodeShmemHeader(bytes);
  header_fault_ = CheckShmemHeader(header_);
  if (header_fault_ != ShmemHeaderFault::kNone) {
    return Break(FifoFault::kBadHeader);
  }
  own_ = region_ + header_.driver().queue_head_offset;
  device_ = region_ + header_.device().queue_head_offset;
  phase_ = Phase::kInit;
  Show(kInit);
  StoreRelease<uint16_t>(own_, kMagic);
  return true;
}

bool ShmemFifo::Step() {
  if (phase_ != Phase::kInit && phase_ != Phase::kReady) return false;
  if (LoadAcquire<uint16_t>(device_) != kMagic) return false;
  const uint16_t device = StateOf(device_);
  if (device > kRun) {
    phase_ = Phase::kStopped;
    Show(kShutdown);
    Break(FifoFault::kDeviceShutDown);
    return true;
  }
  if (phase_ == Phase::kInit) {
    if (device == kRun) return false;  // with the driver before
    StoreRelaxed<uint16_t>(own_ + kTail, 0);
    StoreRelaxed<uint16_t>(own_ + kHead, 0);
    phase_ = Phase::kReady;
    Show(kReady);
    return true;
  }
  if (device == kInit) return false;
  Start();
  phase_ = Phase::kRun;
  running_ = true;
  Show(kRun);
  return true;
}

void ShmemFifo::Start() {
  ShmemPlace to_device;
  to_device.written = own_ + kTail;
  to_device.taken = region_ + header_.device().queue_head_offset + kHead;
  to_device.elements = region_ + header_.driver().queue_elements_offset;
  ShmemPlace to_driver;
  to_driver.written = region_ + header_.device().queue_head_offset + kTail;
  to_driver.taken = own_ + kHead;
  to_driver.elements = region_ + header_.device().queue_elements_offset;
  for (ShmemPlace* place : {&to_device, &to_driver}) {
    place->device_head = device_;
    place->count = header_.num_queue_elements;
    place->is_aligned = (place->elements - region_) % 8 == 0;
  }
  // Both sides begin at 0: the device has cleared its indices before READY.
  sender_.Start(to_device, 0, 0);
  receiver_.Start(to_driver, 0, 0);
}

void ShmemFifo::Detach() {
  running_ = false;
  if (phase_ == Phase::kStopped) return;
  phase_ = Phase::kStopped;
  Show(kShutdown);
}

void ShmemFifo::Show(uint16_t state) {
  StoreRelease<uint16_t>(own_ + kStatus, state);
}

// Always false, also for no fault at all.
bool ShmemFifo::Break(FifoFault fault) {
  if (fault == FifoFault::kNone) return false;
  FifoFault none = FifoFault::kNone;
  // The first fault stays.
  fault_.compare_exchange_strong(none, fault, std::memory_order_relaxed);
  return false;
}

bool ShmemFifo::Send(std::span<const std::byte> message) {
  if (!Running() || message.empty() || message.size() > kPacketBytes) {
    return false;
  }
  FifoFault fault = FifoFault::kNone;
  return sender_.Send(message, &fault) || Break(fault);
}

void ShmemFifo::CommitSent() {
  if (Running()) sender_.Commit();
}

bool ShmemFifo::Receive(Packet* packet) {
  FifoFault fault = FifoFault::kNone;
  return Running() && (receiver_.Receive(packet, &fault) || Break(fault));
}

void ShmemFifo::CommitReceived() {
  if (Running()) receiver_.Commit();
}

}  // namespace vmsg::guest
