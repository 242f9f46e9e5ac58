// DeviceFifo: the device's end of one FIFO window, whatever its layout.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FIFO_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FIFO_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace vmsg::amp {

inline constexpr size_t kFifoPacketBytes = 64;

// At least so often the driver's handshake state is looked at.
inline constexpr std::chrono::milliseconds kFifoLookInterval(100);

// A packet in private memory. Not aligned to its cache line: nothing needs it,
// and GCC's AddressSanitizer does not align local variables like that.
struct alignas(16) Packet {
  std::array<std::byte, kFifoPacketBytes> bytes;
};

// Which placement of queues and indices the window has. A driver may know one
// only. Source: amp-pci-device, 3.1 and 3.2.
enum class FifoLayout : uint8_t {
  kSpsc,
  kShmemV1,        // self-describing; queue heads on cache lines of their own
  kShmemV1Packed,  // the same with the placement that other devices use
};
// "spsc", "shmem-v1", "shmem-v1-packed".
std::string_view FifoLayoutName(FifoLayout layout);
// Nothing for any other name.
std::optional<FifoLayout> FifoLayoutByName(std::string_view name);

enum class FifoState : uint8_t {
  kRunning,  // packets flow
  kWaiting,  // the driver has not (yet) attached; layouts with a handshake
  kBroken,   // the driver corrupted the window; until Reset(), or, in layouts
             // with a handshake, until a driver starts anew
};
std::string_view FifoStateName(FifoState state);

enum class FifoFault : uint8_t {
  kNone,
  kIndexOutOfRange,  // the driver published an index past the queue
  kOwnIndexChanged,  // an index that only the device writes was overwritten
  kOwnStateChanged,  // likewise its handshake state, or its magic
  kUnknownState,     // the driver is in a handshake state that does not exist
};
std::string_view FifoFaultName(FifoFault fault);

// The window is shared with a hostile driver: every index is read once for one
// decision, and what our side owns is kept in private copies. A packet is
// copied out before anything looks at it.
//
// Threads: one, the FIFO's loop, but for ClearWindow(), DriverLeft() and
// Shutdown(). No method blocks, allocates or makes a system call.
class DeviceFifo {
 public:
  DeviceFifo(const DeviceFifo&) = delete;
  DeviceFifo& operator=(const DeviceFifo&) = delete;
  virtual ~DeviceFifo() = default;

  // Takes the driver's next packet; false when there is none or the FIFO is not
  // running. The slot is given back to the driver by the next CommitReceived().
  virtual bool Receive(Packet* packet) = 0;
  // Publishes what Receive has consumed, once for a batch.
  virtual void CommitReceived() = 0;

  // Puts a message (at most kFifoPacketBytes; the rest of the packet is written
  // as zero) on the device queue; false when it is full or not running. The
  // driver sees it at the next CommitSent().
  virtual bool Send(std::span<const std::byte> message) = 0;
  // True when there was something to publish.
  virtual bool CommitSent() = 0;

  // Whether the device queue has room now: looks at the driver's index.
  virtual bool HasRoom() = 0;

  // Committed packets on the device queue that the driver has not taken; 0 when
  // the FIFO is not running.
  virtual uint32_t Unread() = 0;

  // Looks at what the layout does besides packets: whether what only we write
  // was overwritten, and whether the driver's handshake state asks for
  // something. At each doorbell, and every kFifoLookInterval where
  // has_handshake(). Writes nothing to the window. True: call Step().
  virtual bool Poll() = 0;

  // One step of the handshake, which may write the window. True when the driver
  // that was here is gone: the bus above has to be reset before the next step.
  virtual bool Step() = 0;

  virtual bool has_handshake() const = 0;

  // Puts the window to its initial contents and leaves kBroken: ClearWindow(),
  // then Restart().
  virtual void Reset() = 0;

  // The two halves of Reset(), for a reset that has to show in the window
  // before the loop gets to know of it. ClearWindow() writes the window and
  // nothing else. Restart() makes the private state fit a window that was
  // cleared, and leaves kBroken; it does not touch the window, in which a new
  // driver may be at work already.
  //
  // Threads: ClearWindow() any, with two promises of the caller: no Commit and
  // no Step runs at the same time, and Restart() comes before the next one.
  virtual void ClearWindow() = 0;
  virtual void Restart() = 0;

  // The driver that is here is gone without a goodbye. Returns where on its
  // queue it would put its next packet; untrusted, meant for DropDriver().
  // Layouts with a handshake show in the window that a new driver has to wait.
  // Threads: as ClearWindow(), with DropDriver() in place of Restart().
  virtual uint32_t DriverLeft() = 0;

  // The driver that was here until it had reached `mark` is gone. Discards what
  // it put on its queue before `mark`, taken or not, and what was sent to it
  // and not committed. A new driver may be at work already, beyond the mark; in
  // layouts with a handshake it waits for the next steps.
  virtual void DropDriver(uint32_t mark) = 0;

  // The device goes away: tells the driver where the layout can. Touches the
  // window only. Threads: as ClearWindow().
  virtual void Shutdown() = 0;

  FifoState state() const { return state_; }
  // Why it is broken; kNone otherwise.
  FifoFault fault() const { return fault_; }

 protected:
  explicit DeviceFifo(FifoState state) : state_(state) {}

  // `fault` with kBroken only.
  void Enter(FifoState state, FifoFault fault = FifoFault::kNone) {
    state_ = state;
    fault_ = fault;
  }

 private:
  // Here, so that asking costs no virtual call: it is done several times a
  // turn.
  FifoState state_;
  FifoFault fault_ = FifoFault::kNone;
};

// `window` is the FIFO's kFifoWindowBytes of BAR 1, 64-byte aligned; borrowed,
// outlives the result. The window is brought to its initial contents.
std::unique_ptr<DeviceFifo> CreateDeviceFifo(FifoLayout layout,
                                             std::byte* window);

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FIFO_H_
