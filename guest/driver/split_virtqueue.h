// SplitVirtqueue: descriptor table, available ring, used ring. Source: virtio
// 1.2, 2.7.

#ifndef VMSG_GUEST_DRIVER_SPLIT_VIRTQUEUE_H_
#define VMSG_GUEST_DRIVER_SPLIT_VIRTQUEUE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/virtqueue.h"

namespace vmsg::guest {

// The id of a chain is the index of its first descriptor.
class SplitVirtqueue final : public Virtqueue {
 public:
  // The whole 16-bit available index (O-24).
  uint32_t position() const override { return published_; }

 private:
  bool SizeIsValid(uint32_t size) const override;
  AreaBytes BytesOfAreas(uint32_t size) const override;
  void Begin() override;
  uint32_t free_descriptors() const override { return chains_.free_ids(); }
  uint16_t Write(uint16_t id, std::span<const QueueBuffer> buffers,
                 bool indirect) override;
  void WriteTableEntry(std::byte* where, const QueueBuffer& buffer, uint16_t i,
                       bool last) override;
  bool Show() override;
  QueueFault Look() override;
  void Advance(uint16_t) override { ++taken_; }
  void WriteInterruptWish(bool on) override;

  // Indices run through all 16 bits; an element is at the index modulo size.
  uint16_t available_ = 0;  // with what is not published yet
  uint16_t published_ = 0;  // what the device sees
  uint16_t taken_ = 0;      // used index up to which we have taken
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_SPLIT_VIRTQUEUE_H_
