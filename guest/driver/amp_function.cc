#include "guest/driver/amp_function.h"

#include "guest/driver/fifo.h"

namespace vmsg::guest {
namespace {

constexpr uint8_t kRegisterBar = 0;
constexpr uint8_t kFifoBar = 1;

constexpr uint64_t kRegVersion = 0x00;
constexpr uint64_t kRegFeatures = 0x04;
constexpr uint64_t kRegNotify = 0x20;  // + 4 * n
constexpr uint32_t kVersion0_1 = 0x00000001;

}  // namespace

Error AmpFunction::Open(Platform* platform, PciLocation where) {
  Close();
  platform_ = platform;
  where_ = where;
  const uint32_t ids = platform->ReadConfig(where, 0, 4);
  if (ids != (uint32_t{kAmpDeviceId} << 16 | kAmpVendorId)) {
    platform_ = nullptr;
    return Error::kNotFound;
  }
  Error error = OpenBars();
  if (error == Error::kNone) error = OpenInterrupts();
  if (error != Error::kNone) Close();
  return error;
}

Error AmpFunction::OpenBars() {
  if (const Error error = msix_.Open(platform_, where_);
      error != Error::kNone) {
    return error;
  }
  // A driver before us may have left both on; sizing needs decoding off.
  SetBusMaster(platform_, where_, false);
  SetMemoryDecode(platform_, where_, false);
  PciBar table;
  if (const Error error = OpenBar(kRegisterBar, &registers_);
      error != Error::kNone) {
    return error;
  }
  if (const Error error = OpenBar(kFifoBar, &fifos_); error != Error::kNone) {
    return error;
  }
  if (const Error error = OpenBar(msix_.table_bar(), &table);
      error != Error::kNone) {
    return error;
  }
  SetMemoryDecode(platform_, where_, true);

  version_ = static_cast<uint32_t>(
      platform_->ReadMmio(registers_.address + kRegVersion, 4));
  features_ = static_cast<uint32_t>(
      platform_->ReadMmio(registers_.address + kRegFeatures, 4));
  if (version_ != kVersion0_1) return Error::kBadHardware;

  const uint32_t fifos = msix_.vectors();
  if (fifos * kFifoWindowBytes > fifos_.bytes ||
      kRegNotify + 4 * uint64_t{fifos} > registers_.bytes) {
    return Error::kBadHardware;
  }
  num_fifos_ = fifos < kMaxFifos ? fifos : kMaxFifos;
  windows_ =
      platform_->MapMemory(fifos_.address, num_fifos_ * kFifoWindowBytes);
  if (windows_ == nullptr) return Error::kNoMemory;

  if (const Error error = msix_.MapTable(table); error != Error::kNone) {
    return error;
  }
  table_mapped_ = true;
  return Error::kNone;
}

Error AmpFunction::OpenBar(uint8_t index, PciBar* bar) {
  if (const Error error = ReadBar(platform_, where_, index, bar);
      error != Error::kNone) {
    return error;
  }
  if (bar->address != 0) return Error::kNone;
  return PlaceBar(platform_, where_, index, bar);
}

Error AmpFunction::OpenInterrupts() {
  for (; num_interrupts_ < num_fifos_; ++num_interrupts_) {
    Interrupt* const interrupt = &interrupts_[num_interrupts_];
    if (!platform_->CreateInterrupt(interrupt)) return Error::kNoMemory;
    if (const Error error = msix_.Program(num_interrupts_, *interrupt);
        error != Error::kNone) {
      ++num_interrupts_;  // this one is given back too
      return error;
    }
  }
  msix_.Enable(true);
  SetBusMaster(platform_, where_, true);
  return Error::kNone;
}

void AmpFunction::Close() {
  if (platform_ == nullptr) return;
  SetBusMaster(platform_, where_, false);
  if (table_mapped_) {
    for (uint32_t i = 0; i < msix_.vectors(); ++i) msix_.Mask(i, true);
    msix_.Enable(false);
  }
  for (uint32_t i = 0; i < num_interrupts_; ++i) {
    platform_->ReleaseInterrupt(interrupts_[i]);
  }
  table_mapped_ = false;
  num_interrupts_ = 0;
  num_fifos_ = 0;
  windows_ = nullptr;
  platform_ = nullptr;
}

std::byte* AmpFunction::window(uint32_t n) const {
  return windows_ + n * kFifoWindowBytes;
}

uint64_t AmpFunction::doorbell_address(uint32_t n) const {
  return registers_.address + kRegNotify + 4 * uint64_t{n};
}

}  // namespace vmsg::guest
