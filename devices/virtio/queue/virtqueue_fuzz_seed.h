// What the seeds of both ring formats have in common: the header and the image
// of an input as virtqueue_fuzz_input.h describes them.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_SEED_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_SEED_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "devices/virtio/little_endian.h"
#include "devices/virtio/queue/virtqueue_fuzz_input.h"
#include "devices/virtio/queue/virtqueue_layout.h"

namespace vmsg::virtio::fuzz {

inline constexpr uint16_t kNext = kDescFlagNext;
inline constexpr uint16_t kWrite = kDescFlagWrite;
inline constexpr uint16_t kTable = kDescFlagIndirect;
inline const std::vector<uint8_t> kServeAll = {
    kPopAll,       kCopy, kCompleteNewest, kCompleteOldest, kEnable,
    kShouldNotify, kPop,  kReset};

// `Derived` writes descriptors and rings by its format's names, and returns
// itself, as here.
template <typename Derived>
class SeedBase {
 public:
  Derived& Ops(std::vector<uint8_t> operations) {
    operations_ = std::move(operations);
    return self();
  }

  std::string Bytes() const {
    std::string bytes;
    for (const int byte : {int{features_}, int{size_}, start_ & 0xff,
                           start_ >> 8, static_cast<int>(operations_.size())}) {
      bytes.push_back(static_cast<char>(byte));
    }
    bytes.append(operations_.begin(), operations_.end());
    std::string image;
    for (std::byte byte : image_) image.push_back(static_cast<char>(byte));
    // What follows the last byte that is not zero is zero anyway.
    image.resize(image.find_last_not_of('\0') + 1);
    return bytes + image;
  }

 protected:
  // `size` and `start` as the format's header says them.
  SeedBase(uint8_t features, uint8_t size, uint16_t start)
      : features_(features), size_(size), start_(start), image_(0x1000) {}

  Derived& PutDescriptor(uint64_t table, uint64_t index,
                         const DescriptorBytes& bytes) {
    std::ranges::copy(
        bytes, image_.begin() +
                   static_cast<ptrdiff_t>(table + kDescriptorBytes * index));
    return self();
  }
  Derived& Put16(uint64_t address, uint16_t value) {
    StoreLittle(value, std::span(image_).subspan(address).template first<2>());
    return self();
  }

 private:
  Derived& self() { return static_cast<Derived&>(*this); }

  uint8_t features_;
  uint8_t size_;
  uint16_t start_;
  std::vector<std::byte> image_;
  std::vector<uint8_t> operations_;
};

}  // namespace vmsg::virtio::fuzz

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_SEED_H_
