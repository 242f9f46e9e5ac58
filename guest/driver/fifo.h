// Fifo: the driver's end of one FIFO window, whatever its layout.

#ifndef VMSG_GUEST_DRIVER_FIFO_H_
#define VMSG_GUEST_DRIVER_FIFO_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsg::guest {

// Source: amp-pci-device, 3.
inline constexpr size_t kPacketBytes = 64;
inline constexpr uint64_t kFifoWindowBytes = uint64_t{16} * 1024;

// A packet in private memory.
struct alignas(8) Packet {
  std::array<std::byte, kPacketBytes> bytes = {};
};

enum class FifoState : uint8_t {
  kRunning,  // packets flow
  kWaiting,  // the device has not joined (yet); layouts with a handshake
  kBroken,   // see fault(); until Attach() succeeds, which may take a reset of
             // the function
};

enum class FifoFault : uint8_t {
  kNone,
  kIndexOutOfRange,    // the device published an index past the queue
  kIndexWentBack,      // the device took back packets, or room, it had given
  kForeignIndexWrite,  // an index that only the driver writes has changed
  // Layouts with a handshake:
  kBadHeader,        // the window describes itself wrongly
  kDeviceRestarted,  // the device has left this driver: attach again
  kDeviceShutDown,   // the device says that it is gone
};

// The window is shared with a device that is not trusted: every index is read
// once for one decision, own indices live in private copies, and a packet is
// copied out before anything looks at it.
//
// Nothing here rings a doorbell or waits.
//
// Threads: one for Send and CommitSent, one for Receive and CommitReceived;
// they may be two threads as far as a layout says so.
class Fifo {
 public:
  Fifo(const Fifo&) = delete;
  Fifo& operator=(const Fifo&) = delete;

  // Starts from what the window holds, without clearing it: a driver that comes
  // after another carries on where that one was. Call again after a function
  // reset. False when the window can't be used; see fault(). Where the layout
  // has a handshake, this begins it, and kWaiting is the state until Step() has
  // seen it through.
  virtual bool Attach() = 0;

  // Goes on with the handshake as far as it goes now. True when the device
  // should be told by the doorbell. JoinFifo() does all of this.
  virtual bool Step() = 0;

  // The driver goes: says so where the layout can, and stops.
  virtual void Detach() = 0;

  // Puts a message (1 to kPacketBytes bytes; the rest of the packet is zero) on
  // the driver queue; false when that is full or the FIFO does not run. The
  // device sees it after CommitSent().
  virtual bool Send(std::span<const std::byte> message) = 0;
  virtual void CommitSent() = 0;

  // Takes the next packet of the device queue; false when there is none or the
  // FIFO does not run. Its room goes back to the device with CommitReceived().
  virtual bool Receive(Packet* packet) = 0;
  virtual void CommitReceived() = 0;

  virtual FifoState state() const = 0;
  virtual FifoFault fault() const = 0;

 protected:
  Fifo() = default;
  ~Fifo() = default;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_FIFO_H_
