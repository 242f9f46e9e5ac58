// Features: a set of virtio feature bits. Source: virtio 1.2, 2.2 and 6.

#ifndef VMSG_GUEST_DRIVER_FEATURES_H_
#define VMSG_GUEST_DRIVER_FEATURES_H_

#include <array>
#include <cstdint>

namespace vmsg::guest {

inline constexpr uint32_t kFeatureIndirectDesc = 28;
inline constexpr uint32_t kFeatureEventIdx = 29;
inline constexpr uint32_t kFeatureVersion1 = 32;
inline constexpr uint32_t kFeatureAccessPlatform = 33;
inline constexpr uint32_t kFeatureRingPacked = 34;
inline constexpr uint32_t kFeatureInOrder = 35;
inline constexpr uint32_t kFeatureNotificationData = 38;
inline constexpr uint32_t kFeatureRingReset = 40;

// Bits 0 to 127. A device may offer more; the driver reads and enables none of
// these.
class Features {
 public:
  static constexpr uint32_t kBlocks = 4;

  constexpr Features() = default;
  template <typename... Bits>
  static constexpr Features Of(Bits... bits) {
    Features result;
    (result.Set(bits), ...);
    return result;
  }

  constexpr bool Has(uint32_t bit) const {
    return bit < 32 * kBlocks && ((blocks_[bit / 32] >> bit % 32) & 1) != 0;
  }
  // REQUIRES: bit < 128.
  constexpr void Set(uint32_t bit) {
    blocks_[bit / 32] |= uint32_t{1} << bit % 32;
  }
  // A copy with, or without, one more. REQUIRES: bit < 128.
  constexpr Features With(uint32_t bit) const {
    Features result = *this;
    result.Set(bit);
    return result;
  }
  constexpr Features Without(uint32_t bit) const {
    Features result = *this;
    result.blocks_[bit / 32] &= ~(uint32_t{1} << bit % 32);
    return result;
  }
  // 0 past the end.
  constexpr uint32_t block(uint64_t index) const {
    return index < kBlocks ? blocks_[index] : 0;
  }
  // No effect past the end.
  constexpr void set_block(uint32_t index, uint32_t value) {
    if (index < kBlocks) blocks_[index] = value;
  }

  constexpr bool Contains(const Features& other) const {
    for (uint32_t i = 0; i < kBlocks; ++i) {
      if ((other.blocks_[i] & ~blocks_[i]) != 0) return false;
    }
    return true;
  }
  constexpr Features operator&(const Features& other) const {
    Features result;
    for (uint32_t i = 0; i < kBlocks; ++i) {
      result.blocks_[i] = blocks_[i] & other.blocks_[i];
    }
    return result;
  }
  friend constexpr bool operator==(const Features&, const Features&) = default;

 private:
  std::array<uint32_t, kBlocks> blocks_ = {};
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_FEATURES_H_
