#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "vmm/base/check.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {
namespace {

constexpr uint16_t kCommand = 0x04;
constexpr uint32_t kMemorySpace = 1u << 1;
constexpr uint32_t kBusMaster = 1u << 2;
constexpr uint16_t kCapabilitiesPointer = 0x34;
constexpr uint32_t kMsixEnable = 1u << 15;

constexpr uint32_t kSlots = 62;
constexpr size_t kWindowBytes = 0x4000;
constexpr size_t kDriverPackets = 0x1080;
constexpr size_t kDevicePackets = 0x2080;
constexpr size_t kPacketBytes = 64;
constexpr uint64_t kDoorbells = 0x20;

uint16_t Half(const Bytes& packet, size_t at) {
  return static_cast<uint16_t>(std::to_integer<uint16_t>(packet.at(at)) |
                               std::to_integer<uint16_t>(packet.at(at + 1))
                                   << 8);
}

std::array<uint8_t, 4> Word(uint32_t value) {
  return {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8),
          static_cast<uint8_t>(value >> 16), static_cast<uint8_t>(value >> 24)};
}

}  // namespace

RawGuest::RawGuest(vmm::PciDevice* device, vmm::DispatchMmioBus* mmio,
                   vmm::InterruptController* interrupts, vmm::PciAddress where,
                   uint64_t base)
    : device_(device), mmio_(mmio), base_(base) {
  VMSG_CHECK(device_->Connect(where, mmio, interrupts).ok());
}

RawGuest::~RawGuest() { device_->Disconnect(); }

void RawGuest::PlaceBars() {
  for (uint32_t bar = 0; bar < 3; ++bar) {
    SetConfig(static_cast<uint16_t>(0x10 + 4 * bar), 4,
              static_cast<uint32_t>(bar_address(bar)));
  }
  SetConfig(kCommand, 2, Config(kCommand, 2) | kMemorySpace);
  uint64_t size = 0;
  for (const vmm::PciBarInfo& info : device_->bars()) {
    if (info.index == 1) size = info.size_bytes;
  }
  vmm::DispatchMmioBus::Direct direct =
      mmio_->Translate({vmm::GuestAddress{bar_address(1)}, size});
  VMSG_CHECK(direct.data != nullptr, "BAR 1 is not mapped");
  windows_ = direct.data;
  hold_ = std::move(direct.hold);
}

void RawGuest::SetBusMaster(bool on) {
  const uint32_t command = Config(kCommand, 2);
  SetConfig(kCommand, 2, on ? command | kBusMaster : command & ~kBusMaster);
}

void RawGuest::EnableInterrupts() {
  const auto capability =
      static_cast<uint16_t>(Config(kCapabilitiesPointer, 1));
  const uint32_t control = Config(capability + 2, 2);
  const uint32_t vectors = (control & 0x7FF) + 1;
  for (uint32_t n = 0; n < vectors; ++n) {
    Write32(2, 16 * n, 0xFEE00000);
    Write32(2, 16 * n + 4, 0);
    Write32(2, 16 * n + 8, 0x40 + n);
    Write32(2, 16 * n + 12, 0);
  }
  SetConfig(capability + 2, 2, control | kMsixEnable);
}

void RawGuest::Start() {
  PlaceBars();
  EnableInterrupts();
  SetBusMaster(true);
}

uint32_t RawGuest::Config(uint16_t offset, uint8_t width) {
  return device_->ReadConfig(offset, width);
}

void RawGuest::SetConfig(uint16_t offset, uint8_t width, uint32_t value) {
  device_->WriteConfig(offset, width, value);
}

bool RawGuest::Read(uint32_t bar, uint64_t offset, std::span<std::byte> data) {
  return mmio_->Read(vmm::GuestAddress{bar_address(bar) + offset}, data);
}

bool RawGuest::Write(uint32_t bar, uint64_t offset,
                     std::span<const std::byte> data) {
  return mmio_->Write(vmm::GuestAddress{bar_address(bar) + offset}, data);
}

uint32_t RawGuest::Read32(uint32_t bar, uint64_t offset) {
  std::array<std::byte, 4> bytes;
  Read(bar, offset, bytes);
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= std::to_integer<uint32_t>(bytes[i]) << (8 * i);
  }
  return value;
}

void RawGuest::Write32(uint32_t bar, uint64_t offset, uint32_t value) {
  const std::array<uint8_t, 4> bytes = Word(value);
  Write(bar, offset, std::as_bytes(std::span(bytes)));
}

std::byte* RawGuest::window(uint32_t n) { return windows_ + n * kWindowBytes; }

uint32_t RawGuest::Index(uint32_t n, size_t offset) {
  return vmm::LoadShared<uint32_t>(window(n) + offset,
                                   std::memory_order_acquire);
}

void RawGuest::SetIndex(uint32_t n, size_t offset, uint32_t value) {
  vmm::StoreShared<uint32_t>(window(n) + offset, value,
                             std::memory_order_release);
}

void RawGuest::Attach(uint32_t n) {
  places_[n] = {.head = Index(n, kDriverHead), .tail = Index(n, kDeviceTail)};
}

bool RawGuest::Put(uint32_t n, const Bytes& message) {
  Place& place = places_[n];
  const uint32_t after = (place.head + 1) % kSlots;
  if (after == Index(n, kDriverTail)) return false;
  std::array<std::byte, kPacketBytes> packet = {};
  std::copy(message.begin(), message.end(), packet.begin());
  vmm::CopyToShared(window(n) + kDriverPackets + kPacketBytes * place.head,
                    packet);
  place.head = after;
  SetIndex(n, kDriverHead, place.head);
  return true;
}

void RawGuest::Ring(uint32_t n) { Write32(0, kDoorbells + 4 * n, 1); }

void RawGuest::Send(uint32_t n, const Bytes& message) {
  VMSG_CHECK(Put(n, message), "the driver queue is full");
  Ring(n);
}

std::optional<Bytes> RawGuest::Take(uint32_t n) {
  Place& place = places_[n];
  if (Index(n, kDeviceHead) == place.tail) return std::nullopt;
  Bytes packet(kPacketBytes);
  vmm::CopyFromShared(packet,
                      window(n) + kDevicePackets + kPacketBytes * place.tail);
  place.tail = (place.tail + 1) % kSlots;
  SetIndex(n, kDeviceTail, place.tail);
  return packet;
}

std::vector<Bytes> RawGuest::TakeAll(uint32_t n) {
  std::vector<Bytes> packets;
  while (std::optional<Bytes> packet = Take(n)) {
    packets.push_back(*std::move(packet));
  }
  return packets;
}

Bytes RawMessage(uint8_t type, uint8_t id, uint16_t dev_num, uint16_t token,
                 std::span<const uint8_t> payload) {
  const auto size = static_cast<uint16_t>(8 + payload.size());
  const std::array<uint8_t, 8> header = {type,
                                         id,
                                         static_cast<uint8_t>(dev_num),
                                         static_cast<uint8_t>(dev_num >> 8),
                                         static_cast<uint8_t>(token),
                                         static_cast<uint8_t>(token >> 8),
                                         static_cast<uint8_t>(size),
                                         static_cast<uint8_t>(size >> 8)};
  Bytes message;
  for (const uint8_t byte : header) message.push_back(std::byte{byte});
  for (const uint8_t byte : payload) message.push_back(std::byte{byte});
  return message;
}

Bytes RawPing(uint16_t token, uint32_t data) {
  return RawMessage(0x02, 0x03, 0, token, Word(data));
}
Bytes RawGetDevices(uint16_t token) {
  return RawMessage(0x02, 0x02, 0, token, Word(32u << 16));
}
Bytes RawGetDeviceInfo(uint16_t dev_num, uint16_t token) {
  return RawMessage(0x00, 0x02, dev_num, token, {});
}
Bytes RawSetStatus(uint16_t dev_num, uint16_t token, uint32_t status) {
  return RawMessage(0x00, 0x08, dev_num, token, Word(status));
}
Bytes RawGetStatus(uint16_t dev_num, uint16_t token) {
  return RawMessage(0x00, 0x07, dev_num, token, {});
}

uint8_t TypeOf(const Bytes& packet) {
  return std::to_integer<uint8_t>(packet.at(0));
}
uint8_t IdOf(const Bytes& packet) {
  return std::to_integer<uint8_t>(packet.at(1));
}
uint16_t DevNumOf(const Bytes& packet) { return Half(packet, 2); }
uint16_t TokenOf(const Bytes& packet) { return Half(packet, 4); }
uint16_t SizeOf(const Bytes& packet) { return Half(packet, 6); }
uint32_t PayloadWord(const Bytes& packet, size_t offset) {
  return Half(packet, 8 + offset) |
         static_cast<uint32_t>(Half(packet, 10 + offset)) << 16;
}

}  // namespace vmsg::amp
