// Features: a set of virtio feature bits. Source: virtio 1.2, 2.2 and 6.

#ifndef VMSG_DEVICES_VIRTIO_FEATURES_H_
#define VMSG_DEVICES_VIRTIO_FEATURES_H_

#include <array>
#include <cstdint>
#include <initializer_list>

namespace vmsg::virtio {

// Bits that do not belong to a device type.
inline constexpr uint32_t kFeatureIndirectDesc = 28;
inline constexpr uint32_t kFeatureEventIdx = 29;
inline constexpr uint32_t kFeatureVersion1 = 32;
inline constexpr uint32_t kFeatureAccessPlatform = 33;
inline constexpr uint32_t kFeatureRingPacked = 34;
inline constexpr uint32_t kFeatureInOrder = 35;
inline constexpr uint32_t kFeatureNotificationData = 38;
inline constexpr uint32_t kFeatureNotifConfigData = 39;
inline constexpr uint32_t kFeatureRingReset = 40;
inline constexpr uint32_t kFeatureAdminVq = 41;

// A value; 128 bits, which is all that the standard has given out so far.
class Features {
 public:
  static constexpr uint32_t kBits = 128;
  static constexpr uint32_t kBlocks = kBits / 32;

  constexpr Features() = default;
  constexpr Features(std::initializer_list<uint32_t> bits) {
    for (uint32_t bit : bits) Set(bit);
  }

  // A bit past kBits is absent, and setting it has no effect.
  constexpr bool Has(uint32_t bit) const {
    return bit < kBits && ((blocks_[bit / 32] >> (bit % 32)) & 1) != 0;
  }
  constexpr void Set(uint32_t bit) {
    if (bit < kBits) blocks_[bit / 32] |= uint32_t{1} << (bit % 32);
  }
  constexpr void Clear(uint32_t bit) {
    if (bit < kBits) blocks_[bit / 32] &= ~(uint32_t{1} << (bit % 32));
  }

  // Feature bits 32 * index to 32 * index + 31. Zero past the end.
  constexpr uint32_t block(uint64_t index) const {
    return index < kBlocks ? blocks_[index] : 0;
  }
  // REQUIRES: index < kBlocks.
  constexpr void set_block(uint32_t index, uint32_t value) {
    blocks_[index] = value;
  }

  constexpr bool IsSubsetOf(const Features& other) const {
    for (uint32_t i = 0; i < kBlocks; ++i) {
      if ((blocks_[i] & ~other.blocks_[i]) != 0) return false;
    }
    return true;
  }
  constexpr Features operator|(const Features& other) const {
    Features result = *this;
    for (uint32_t i = 0; i < kBlocks; ++i)
      result.blocks_[i] |= other.blocks_[i];
    return result;
  }
  friend constexpr bool operator==(const Features&, const Features&) = default;

 private:
  std::array<uint32_t, kBlocks> blocks_ = {};
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_FEATURES_H_
