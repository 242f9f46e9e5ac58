// The input of amp_device_fuzz_test: perhaps a byte of options, then a sequence
// of steps, each an opcode byte and its operands, little-endian. What is
// missing at the end reads as zero.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_DEVICE_FUZZ_INPUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_DEVICE_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsg::amp::fuzz {

inline constexpr uint32_t kFifos = 2;
inline constexpr uint32_t kMaxSteps = 400;

// Operands: f FIFO, s slot, b BAR (a byte each); o offset, l length.
enum class Step : uint8_t {
  kMmioWrite,    // b, o16, l8, l bytes
  kMmioRead,     // b, o16, l8
  kConfigWrite,  // o8, width8, value32
  kConfigRead,   // o8, width8
  kScribble,     // f, o16, value32: into the window
  kSetIndex,     // f, which8, value8: an index, or any word of a queue head
  kPut,          // f, l8, l bytes: a packet where the head says, head moved on
  kRing,         // f
  kTake,         // f: the driver takes all of the device queue
  kRun,          // the loop works until it is idle
  kRunOnce,      // one round of the loop
  kAdvance,      // milliseconds8
  kWriteRam,     // o16, l8, l bytes
  kPlug,         // f, s
  kUnplug,       // f, s, forced8
  kResetFifo,    // f
  kReset,        // the function; then the guest starts anew
  kBusMaster,    // on8
  kJoin,  // f: a driver starts on the FIFO, as far as the device goes along
  kCount,
};

// A first byte from kOptions on says what the machine is like: layouts by
// number in the low two bits (3 counts as 0), then kPingBit. Without one it is
// spsc, and the device sends no PING.
inline constexpr uint8_t kOptions = 0xF0;
inline constexpr uint8_t kLayoutMask = 3;
inline constexpr uint8_t kPingBit = 4;

class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  // Once, first of all; 0 where there are none.
  uint8_t Options() {
    if (bytes_.empty() || bytes_.front() < kOptions) return 0;
    return Byte() & ~kOptions;
  }
  uint8_t Byte() {
    if (bytes_.empty()) return 0;
    const uint8_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  uint16_t Half() {
    const uint16_t low = Byte();
    return static_cast<uint16_t>(low | Byte() << 8);
  }
  uint32_t Word() {
    const uint32_t low = Half();
    return low | uint32_t{Half()} << 16;
  }
  Step NextStep() {
    return static_cast<Step>(Byte() % static_cast<uint8_t>(Step::kCount));
  }

 private:
  std::span<const uint8_t> bytes_;
};

}  // namespace vmsg::amp::fuzz

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_DEVICE_FUZZ_INPUT_H_
