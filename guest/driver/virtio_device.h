// VirtioDevice: a virtio device behind a virtio-msg bus, as its driver sees it.
// Source: virtio-msg-messages, sections 4 and 6; virtio 1.2, 3.1.

#ifndef VMSG_GUEST_DRIVER_VIRTIO_DEVICE_H_
#define VMSG_GUEST_DRIVER_VIRTIO_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/any_virtqueue.h"
#include "guest/driver/arena.h"
#include "guest/driver/bus.h"
#include "guest/driver/error.h"
#include "guest/driver/features.h"
#include "guest/driver/message.h"
#include "guest/driver/virtqueue.h"

namespace vmsg::guest {

// The order of calls is that of virtio 1.2, 3.1.1:
//
//   Probe -> Negotiate -> SetUpQueue for each -> Start -> I/O -> Reset
//
// Reset is allowed at any time, and the rest may follow it again. Every request
// is bounded by the bus's time limit. Where no errors are listed they are the
// ones of Bus::Call, and kBadAnswer for an answer that does not fit the
// request.
//
// Threads: the bus's.
class VirtioDevice final : private DeviceListener {
 public:
  // Queues that can be told of in one word of bits; also the limit of
  // SetUpQueue.
  static constexpr uint32_t kMaxQueues = 64;
  // Configuration bytes that are mirrored here. Source: virtio 1.2, chapter 5;
  // no device type that this project knows has more.
  static constexpr uint32_t kMaxConfig = 256;

  VirtioDevice() = default;
  ~VirtioDevice() { Detach(); }

  // --- Set-up. ---

  // Asks what is at `number` of `bus` (borrowed), and listens to its events.
  //   kNotFound  nothing there.
  Error Probe(Bus* bus, uint16_t number);

  // Resets the device, and negotiates: VIRTIO_F_VERSION_1 and what it offers
  // of `supported`, up to FEATURES_OK.
  //   kRefused  it does not offer all of `required`, or does not accept the
  //             set; or the platform translates addresses for devices, and
  //             VIRTIO_F_ACCESS_PLATFORM is not in the set. The device has
  //             FAILED set.
  Error Negotiate(const Features& supported, const Features& required);

  // Creates `queue` (borrowed, until Reset) with at most `wanted` descriptors
  // for queue `index`, in the format and with the features that were
  // negotiated, tells the device and confirms. Also allowed after Start(). An
  // active queue is reset first where VIRTIO_F_RING_RESET was negotiated.
  //   kNotFound     no such queue.
  //   kRefused      active already, or the device did not take the settings.
  //   others        as Virtqueue::Create.
  Error SetUpQueue(uint16_t index, uint32_t wanted, uint32_t indirect_buffers,
                   Arena* arena, AnyVirtqueue* queue);

  // Takes an active queue away from the device: when it has confirmed that, it
  // touches neither the queue nor its buffers any more. SetUpQueue may follow.
  //   kNotFound  no such queue.
  //   kRefused   VIRTIO_F_RING_RESET was not negotiated, or the queue is still
  //              active: its memory is the device's.
  Error ResetQueue(uint16_t index);

  // Sets DRIVER_OK and sees it confirmed.
  //   kNeedsReset  the device reports an error instead.
  //   kRefused     it does not show DRIVER_OK.
  Error Start();

  // Writes status 0 and waits until the device shows it: from then on it
  // touches none of its queues and buffers. On kTimeout it may still do so:
  // don't reuse their memory.
  Error Reset();

  // Gives up: sets FAILED. For a device that can't be driven.
  Error Fail();

  // Stops listening and forgets the bus. Idempotent.
  void Detach();

  // --- Operation. ---

  // Tells the device of new buffers on `queue`, which SetUpQueue has set up.
  //   kInvalidArgument  not started, or no such queue.
  Error Notify(uint16_t index, const Virtqueue& queue);

  // Bit n: EVENT_USED of queue n has come since the last call. Handles what has
  // arrived on the bus first.
  uint64_t TakeUsed();

  // What the device or its bus has told us: needs_reset() after a status with
  // DEVICE_NEEDS_RESET.
  bool needs_reset() const { return needs_reset_; }
  Error ReadStatus(uint32_t* status);

  // PING, and when that gets no answer, a look at the status: kTimeout when
  // neither comes, kNeedsReset when the device asks for one; recover by Reset
  // and a new set-up.
  Error CheckHealth();

  // Asks for a shared-memory region; kNotFound when there is none.
  Error GetSharedMemory(uint32_t id, SharedMemoryInfo* info);

  // --- Configuration space. ---

  // Reads [offset, offset + to.size()), all of it at one generation.
  //   kInvalidArgument  outside the reported size; nothing is sent.
  //   kStale            it changed under us again and again.
  Error ReadConfig(uint32_t offset, std::span<std::byte> to);

  // Writes with the generation that was last seen. More than one message's
  // worth goes in pieces, in order; after an error those that went before it
  // stay written.
  //   kInvalidArgument  outside the reported size; nothing is sent.
  //   kStale            the configuration was never read, or has changed since,
  //                     as an event said that left the change to be read or
  //                     came between two pieces, or the device when it rejected
  //                     the write. The mirror was read anew: look, and write
  //                     again.
  //   kRefused          the device does not take it.
  // A change that came in an event with its data, and went into an up-to-date
  // mirror, holds nothing back: see TakeConfigChanged(). Source:
  // virtio-msg-messages, DRV-GEN-1 and DRV-EC-2.
  Error WriteConfig(uint32_t offset, std::span<const std::byte> from);

  // The first min(config_size, kMaxConfig) bytes, brought up to date: data in
  // EVENT_CONFIG is applied, anything else is read by GET_CONFIG, here.
  Error Config(std::span<const std::byte>* config);
  // True once after each change that the device has announced.
  bool TakeConfigChanged();

  const DeviceInfo& info() const { return info_; }
  const Features& features() const { return features_; }  // negotiated
  uint16_t number() const { return number_; }
  Bus* bus() const { return bus_; }
  uint32_t generation() const { return generation_; }

 private:
  void OnUsed(uint32_t queue) override;
  void OnConfig(const ConfigEvent& event) override;

  Error SetStatus(uint32_t status, uint32_t* result);
  Error ReadFeatures(Features* offered);
  Error WriteFeatures(const Features& features);
  Error GetQueue(uint16_t index, Vqueue* vqueue);
  Error ReadChunk(uint32_t offset, std::span<std::byte> to,
                  uint32_t* generation);
  Error RefreshMirror();
  // kStale, with the mirror read anew.
  Error ReadInsteadOfWrite();
  bool InConfig(uint32_t offset, size_t length) const;
  uint32_t mirrored() const;
  // The part of a buffer that this bus carries.
  std::span<std::byte> Out(Packet* packet) const;

  Bus* bus_ = nullptr;
  uint16_t number_ = 0;
  DeviceInfo info_;
  Features features_;
  uint32_t status_ = 0;  // what we have set, as the device confirmed it
  uint64_t queues_ = 0;  // bit n: SetUpQueue succeeded
  uint64_t used_ = 0;
  bool needs_reset_ = false;

  uint32_t generation_ = 0;
  bool mirror_valid_ = false;
  // No GET_CONFIG since Probe, or since a change that the mirror does not have.
  bool config_unread_ = true;
  bool config_changed_ = false;
  uint32_t config_events_ = 0;  // changes announced so far
  std::array<std::byte, kMaxConfig> mirror_ = {};
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_VIRTIO_DEVICE_H_
