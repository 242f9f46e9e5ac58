// PackedVirtqueue: one ring of descriptors, which both sides write. Source:
// virtio 1.2, 2.8.

#ifndef VMSG_GUEST_DRIVER_PACKED_VIRTQUEUE_H_
#define VMSG_GUEST_DRIVER_PACKED_VIRTQUEUE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/virtqueue.h"

namespace vmsg::guest {

// Both sides go round the ring, and say with which parity of the round (the
// wrap counter) a descriptor was made available or used. Of all that was added
// since Publish() only the very first descriptor is held back: a device reads
// in order, so it goes no further than that.
//
// Where VIRTIO_F_IN_ORDER was negotiated, a used chain stands for the ones
// before it as well, so the first chain that is used too early can't be told
// from that: kOutOfOrder does not occur, its elders are unknown chains when
// they come.
class PackedVirtqueue final : public Virtqueue {
 public:
  // Bits 14 to 0: where the next descriptor goes; bit 31: its wrap counter.
  uint32_t position() const override;

 private:
  // A place in the ring, with the wrap counter of the round.
  struct Place {
    uint16_t offset = 0;
    bool wrap = true;
    void Advance(uint32_t descriptors, uint32_t size);
  };

  bool SizeIsValid(uint32_t) const override { return true; }
  AreaBytes BytesOfAreas(uint32_t size) const override;
  void Begin() override;
  uint32_t free_descriptors() const override { return free_; }
  uint16_t Write(uint16_t id, std::span<const QueueBuffer> buffers,
                 bool indirect) override;
  void WriteTableEntry(std::byte* where, const QueueBuffer& buffer, uint16_t i,
                       bool last) override;
  bool Show() override;
  QueueFault Look() override;
  void Advance(uint16_t descriptors) override;
  void WriteInterruptWish(bool on) override;

  uint32_t free_ = 0;
  Place next_;               // where the next chain goes
  Place published_;          // up to there the device sees the ring
  Place used_;               // where the device says what it has used next
  uint32_t held_back_ = 0;   // descriptors between published_ and next_
  uint16_t held_flags_ = 0;  // of the first of them
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_PACKED_VIRTQUEUE_H_
