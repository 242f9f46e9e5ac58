// AckedFeatures: the set of feature bits that a driver wrote.

#ifndef VMSG_DEVICES_VIRTIO_MSG_ACKED_FEATURES_H_
#define VMSG_DEVICES_VIRTIO_MSG_ACKED_FEATURES_H_

#include <cstdint>

#include "devices/virtio/features.h"
#include "devices/virtio_msg/message.h"

namespace vmsg::msg {

// A value. A driver may name any block up to the last 32-bit index; what lies
// past virtio::Features::kBits is kept only as far as needed to refuse it. A
// bit that lies far past it can't be taken back, but by a reset: which of 2^32
// blocks have one would be too much to remember for a guest that breaks a rule
// already. Source: virtio-msg-messages, 4.3, 6.4, O-11.
class AckedFeatures {
 public:
  // Makes the named blocks equal to the words; the others keep their value.
  void Write(uint32_t block_index, const FeatureWords& words) {
    for (uint32_t k = 0; k < words.size(); ++k) {
      const uint64_t block = uint64_t{block_index} + k;
      const uint64_t beyond = block - virtio::Features::kBlocks;
      if (block < virtio::Features::kBlocks) {
        known_.set_block(static_cast<uint32_t>(block), words[k]);
      } else if (beyond < kTrackedBeyond) {
        const uint64_t bit = uint64_t{1} << beyond;
        beyond_ = words[k] != 0 ? beyond_ | bit : beyond_ & ~bit;
      } else if (words[k] != 0) {
        far_beyond_ = true;
      }
    }
  }

  // A bit is set that no device of this library has.
  bool HasUnknown() const { return beyond_ != 0 || far_beyond_; }
  const virtio::Features& known() const { return known_; }

 private:
  static constexpr uint64_t kTrackedBeyond = 64;

  virtio::Features known_;
  uint64_t beyond_ = 0;      // a bit for each of the next kTrackedBeyond blocks
  bool far_beyond_ = false;  // one fact for all blocks after these
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_ACKED_FEATURES_H_
