// FakeRing: the device's side of a virtqueue, split or packed, from the bytes
// of the standard and sharing nothing with the driver. It does what a device
// may do; a test makes it lie. Source: virtio 1.2, 2.7 and 2.8.

#ifndef VMSG_GUEST_DRIVER_TESTING_FAKE_RING_H_
#define VMSG_GUEST_DRIVER_TESTING_FAKE_RING_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace vmsg::guest {

// Threads: one.
class FakeRing {
 public:
  struct Layout {
    bool packed = false;
    bool event_index = false;
    uint32_t size = 0;
    uint64_t descriptors = 0;  // guest-physical
    uint64_t driver = 0;
    uint64_t device = 0;
  };
  struct Buffer {
    uint64_t address = 0;
    uint32_t bytes = 0;
    bool device_writes = false;
  };
  struct Chain {
    uint16_t id = 0;           // by which the used side names it
    uint32_t descriptors = 0;  // that it takes in the ring
    bool indirect = false;
    std::vector<Buffer> buffers;
  };

  // `at` gives the memory at a guest-physical address.
  FakeRing(const Layout& layout, std::function<std::byte*(uint64_t)> at)
      : layout_(layout), at_(std::move(at)) {}

  // The next available chain.
  std::optional<Chain> Pop();

  // Says that a chain was used.
  void Push(const Chain& chain, uint32_t written);
  // VIRTIO_F_IN_ORDER: says so of several in one go, by the last of them.
  void PushBatch(std::span<const Chain> chains, uint32_t written);
  // Says so of whatever `id` is, as if it took one descriptor.
  void PushId(uint32_t id, uint32_t written);

  // Whether the driver wants an interrupt for what was pushed since this was
  // asked last.
  bool WantsInterrupt();

  // Whether the device wants a notification: always (at first), never, or when
  // the driver shows the n-th descriptor since the beginning (of a split ring:
  // chain), with VIRTIO_F_EVENT_IDX.
  void AskForNotifications(bool on);
  void AskForNotificationAt(uint32_t n);

 private:
  // Descriptors since the beginning: of a packed ring, this is a place and a
  // wrap counter.
  uint16_t PackedPlace(uint32_t position) const;
  bool IsAvailable(uint32_t position);
  std::byte* PackedDescriptor(uint32_t position);
  Buffer ReadBuffer(const std::byte* descriptor, bool device_writes);
  std::optional<Chain> PopSplit();
  std::optional<Chain> PopPacked();
  void PushSplit(uint32_t id, uint32_t written, uint32_t chains);
  void PushPacked(uint32_t id, uint32_t written, uint32_t descriptors);

  const Layout layout_;
  const std::function<std::byte*(uint64_t)> at_;
  // Split: chains. Packed: descriptors.
  uint32_t popped_ = 0;
  uint32_t pushed_ = 0;
  uint32_t asked_ = 0;  // pushed_ at the last WantsInterrupt()
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_FAKE_RING_H_
