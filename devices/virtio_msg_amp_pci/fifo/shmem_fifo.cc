#include "devices/virtio_msg_amp_pci/fifo/shmem_fifo.h"

#include <array>
#include <cstring>
#include <span>

#include "devices/virtio_msg_amp_pci/fifo/clear_shared.h"
#include "vmm/base/check.h"

namespace vmsg::amp {
namespace {

// Our queue head in INIT, with indices of 0.
constexpr uint64_t kInitWord = kShmemQueueMagic;
constexpr uint64_t kShutdownWord =
    uint64_t{kShmemQueueMagic} | static_cast<uint64_t>(ShmemState::kShutdown)
                                     << 16;

std::array<std::byte, kShmemHeaderBytes> HeaderWithoutMagic(
    const ShmemPlacement& at) {
  ShmemHeader header;
  header.num_queue_elements = at.elements;
  header.dev_queue_head_offset = at.dev_head;
  header.dev_queue_elements_offset = at.dev_elements;
  header.drv_queue_head_offset = at.drv_head;
  header.drv_queue_elements_offset = at.drv_elements;
  std::array<std::byte, kShmemHeaderBytes> bytes;
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

}  // namespace

ShmemFifo::ShmemFifo(std::byte* window, const ShmemPlacement& placement)
    : DeviceFifo(FifoState::kWaiting),
      region_(window + kShmemRegion),
      placement_(placement),
      own_(region_ + placement.dev_head),
      peer_(region_ + placement.drv_head),
      driver_queue_({.written = peer_ + kShmemQueueTail,
                     .taken = own_ + kShmemQueueHead,
                     .elements = region_ + placement.drv_elements,
                     .count = placement.elements}),
      device_queue_({.written = own_ + kShmemQueueTail,
                     .taken = peer_ + kShmemQueueHead,
                     .elements = region_ + placement.dev_elements,
                     .count = placement.elements}) {
  VMSG_CHECK(reinterpret_cast<uintptr_t>(window) % 64 == 0);
  VMSG_CHECK(IsSound(placement));
  ClearWindow();
}

bool ShmemFifo::Send(std::span<const std::byte> message) {
  VMSG_CHECK(message.size() <= kShmemElementBytes);
  if (state() != FifoState::kRunning) return false;
  if (device_queue_.Push(message)) return true;
  return NoteFault(device_queue_.fault());
}

bool ShmemFifo::HasRoom() {
  if (state() != FifoState::kRunning) return false;
  if (device_queue_.HasRoom()) return true;
  return NoteFault(device_queue_.fault());
}

uint32_t ShmemFifo::Unread() {
  if (state() != FifoState::kRunning) return 0;
  const uint32_t unread = device_queue_.Unread();
  NoteFault(device_queue_.fault());
  return unread;
}

// --- The handshake. ---

bool ShmemFifo::Poll() {
  const Peer peer = LookAtPeer();
  if (state() == FifoState::kBroken) {
    return !break_shown_ || peer == Peer::kInit || peer == Peer::kReady;
  }
  // Acquire: who finds it changed by ClearWindow() or DriverLeft() finds out
  // why.
  const uint64_t changed =
      vmm::LoadShared<uint64_t>(own_, std::memory_order_acquire) ^
      OwnWord(own_state_);
  if (changed != 0) {
    Break((changed & UINT32_MAX) != 0 ? FifoFault::kOwnStateChanged
                                      : FifoFault::kOwnIndexChanged);
    return true;
  }
  if (own_state_ == ShmemState::kRun) {
    if (peer == Peer::kRun) {
      peer_ran_ = true;
      return false;
    }
    if (peer == Peer::kUnknown) {
      Break(FifoFault::kUnknownState);
      return true;
    }
  }
  return NextState(peer) != own_state_;
}

bool ShmemFifo::Step() {
  const Peer peer = LookAtPeer();
  if (state() == FifoState::kBroken) {
    // In a step of its own, so that whoever asks in between sees BROKEN.
    const bool over =
        break_shown_ && (peer == Peer::kInit || peer == Peer::kReady);
    if (over) Restart();
    // Also when it shows already: the driver may have overwritten it.
    Show(ShmemState::kInit);
    break_shown_ = !over;
    return over;
  }
  const ShmemState next = NextState(peer);
  if (next == own_state_) return false;
  const bool driver_left = own_state_ == ShmemState::kRun;
  if (next == ShmemState::kInit) Restart();
  Show(next);
  if (next == ShmemState::kRun) {
    peer_ran_ = peer == Peer::kRun;
    Enter(FifoState::kRunning);
  }
  return driver_left;
}

ShmemFifo::Peer ShmemFifo::LookAtPeer() const {
  const auto word = vmm::LoadShared<uint32_t>(peer_, std::memory_order_acquire);
  if ((word & 0xFFFF) != kShmemQueueMagic) return Peer::kAbsent;
  switch (static_cast<ShmemState>(word >> 16 & kShmemStateMask)) {
    case ShmemState::kInit:
      return Peer::kInit;
    case ShmemState::kReady:
      return Peer::kReady;
    case ShmemState::kRun:
      return Peer::kRun;
    case ShmemState::kShutdown:
    case ShmemState::kPeerDead:
      return Peer::kAbsent;
  }
  return Peer::kUnknown;
}

ShmemState ShmemFifo::NextState(Peer peer) const {
  switch (own_state_) {
    case ShmemState::kInit:
      return peer == Peer::kInit || peer == Peer::kReady ? ShmemState::kReady
                                                         : ShmemState::kInit;
    case ShmemState::kReady:
      if (peer == Peer::kInit) return ShmemState::kReady;
      return peer == Peer::kReady || peer == Peer::kRun ? ShmemState::kRun
                                                        : ShmemState::kInit;
    case ShmemState::kRun:
      return peer == Peer::kRun || (peer == Peer::kReady && !peer_ran_)
                 ? ShmemState::kRun
                 : ShmemState::kInit;
    case ShmemState::kShutdown:
    case ShmemState::kPeerDead:
      break;
  }
  return ShmemState::kInit;
}

uint64_t ShmemFifo::OwnWord(ShmemState state) const {
  if (state == ShmemState::kInit) return kInitWord;
  return uint64_t{kShmemQueueMagic} | static_cast<uint64_t>(state) << 16 |
         uint64_t{device_queue_.published()} << 32 |
         uint64_t{driver_queue_.published()} << 48;
}

void ShmemFifo::Show(ShmemState state) {
  own_state_ = state;
  // One word, so that nobody sees a state with the indices of another. Release:
  // what the driver may do then comes after what we did.
  vmm::StoreShared<uint64_t>(own_, OwnWord(state), std::memory_order_release);
}

// --- Endings and beginnings. ---

void ShmemFifo::Reset() {
  ClearWindow();
  Restart();
}

void ShmemFifo::ClearWindow() {
  // The magic goes first and comes last: a driver that finds it finds the rest.
  vmm::StoreShared<uint16_t>(region_, 0, std::memory_order_release);
  std::byte* const window = region_ - kShmemRegion;
  ClearShared(window, window + kShmemWindowBytes);
  vmm::StoreShared<uint64_t>(own_, kInitWord, std::memory_order_release);
  const std::array<std::byte, kShmemHeaderBytes> header =
      HeaderWithoutMagic(placement_);
  vmm::CopyToShared(region_ + sizeof(uint16_t),
                    std::span(header).subspan(sizeof(uint16_t)));
  vmm::StoreShared<uint16_t>(region_, kShmemHeaderMagic,
                             std::memory_order_release);
}

void ShmemFifo::Restart() {
  driver_queue_.Restart();
  device_queue_.Restart();
  Enter(FifoState::kWaiting);
  own_state_ = ShmemState::kInit;
  peer_ran_ = break_shown_ = false;
}

uint32_t ShmemFifo::DriverLeft() {
  // Here and not on the loop, so that a new driver, however quick, waits for
  // us. INIT with both indices 0; the private state follows in DropDriver().
  vmm::StoreShared<uint64_t>(own_, kInitWord, std::memory_order_release);
  return 0;
}

void ShmemFifo::DropDriver(uint32_t) { Restart(); }

void ShmemFifo::Shutdown() {
  vmm::StoreShared<uint64_t>(own_, kShutdownWord, std::memory_order_release);
}

void ShmemFifo::Break(FifoFault fault) {
  if (state() == FifoState::kBroken) return;
  Enter(FifoState::kBroken, fault);
  break_shown_ = false;
  driver_queue_.Stop(fault);
  device_queue_.Stop(fault);
}

}  // namespace vmsg::amp
