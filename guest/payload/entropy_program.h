// EntropyProgram: what the guest does. Finds virtio-msg-amp-pci functions,
// listens on every FIFO, drives each virtio-rng that is or gets plugged, and
// reports, in the lines of protocol.md.
//
// Everything it knows of devices comes from PCI and the wire. It runs on any
// Platform: on bare metal, and in a process of the host.

#ifndef VMSG_GUEST_PAYLOAD_ENTROPY_PROGRAM_H_
#define VMSG_GUEST_PAYLOAD_ENTROPY_PROGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "guest/driver/amp_function.h"
#include "guest/driver/arena.h"
#include "guest/driver/bus.h"
#include "guest/driver/error.h"
#include "guest/driver/fifo.h"
#include "guest/driver/pci.h"
#include "guest/driver/platform.h"
#include "guest/driver/rng.h"
#include "guest/driver/virtio_device.h"
#include "guest/driver/window_fifo.h"
#include "guest/payload/command.h"
#include "guest/payload/console.h"
#include "guest/payload/line.h"

namespace vmsg::guest {

struct EntropyProgramOptions {
  uint32_t read_bytes = 4096;  // read from each device once it is started
  RngOptions rng = {};
  uint64_t timeout_ns = BusOptions().timeout_ns;
};

// Large (some 100 KiB): not for a stack.
//
// Threads: one.
class EntropyProgram {
 public:
  static constexpr uint32_t kMaxFunctions = 4;
  // Started at a time. More are reported and left alone.
  static constexpr uint32_t kMaxDevices = 64;

  // Both borrowed.
  EntropyProgram(Platform* platform, Console* console,
                 const EntropyProgramOptions& options = {});
  EntropyProgram(const EntropyProgram&) = delete;
  EntropyProgram& operator=(const EntropyProgram&) = delete;

  // Runs until `poweroff`, or until the console is closed. True when nothing
  // failed.
  bool Run();

 private:
  // One FIFO.
  struct Channel {
    WindowFifo window;
    Fifo* fifo = nullptr;  // in `window`, in the layout that it says
    std::optional<Bus> bus;
    bool dead = false;  // reported once, then left alone
  };
  struct Function {
    AmpFunction amp;
    std::array<Channel, AmpFunction::kMaxFifos> channels;
  };
  struct Place {
    uint32_t function = 0;
    uint32_t fifo = 0;
    uint16_t slot = 0;
    friend bool operator==(const Place&, const Place&) = default;
  };
  struct Device {
    enum class State : uint8_t {
      kFree,
      kStarted,
      kFailed,  // known, not usable; its memory is still the device's
      kLost,    // gone without a confirmed reset: never used again
    };
    State state = State::kFree;
    Place place;
    Arena arena;  // carved at the first use
    VirtioDevice virtio;
    Rng rng;
    uint64_t total_bytes = 0;
    uint64_t digest = 0;
  };

  // Start-up.
  void ListFunctions();
  void OpenFunction(PciLocation where);
  void OpenChannel(uint32_t function, uint32_t fifo);
  uint32_t Enumerate(uint32_t function, uint32_t fifo);

  // One round of work; false when there was none.
  bool Work();
  bool WorkOnChannel(uint32_t function, uint32_t fifo);
  bool WorkOnDevices();
  bool WorkOnCommands();
  void HandleEvent(const Place& place, uint16_t state);
  void Execute(const Command& command);

  // Devices.
  Device* Find(const Place& place);
  Device* Allocate(const Place& place);
  void Ready(const Place& place);
  void Probe(const Place& place);
  bool Start(Device* device);
  void Release(Device* device);
  void Read(Device* device, uint32_t bytes);

  // Output.
  void Print(Line line) { console_->Write(line.Finish()); }
  static Line PlaceLine(const char* word, const Place& place);
  void Fail(const char* what, Error error);
  void FailAt(const char* what, Error error, const Place& place,
              QueueFault fault = QueueFault::kNone);
  void Report();

  Channel& channel(const Place& place) {
    return functions_[place.function].channels[place.fifo];
  }

  Platform* const platform_;
  Console* const console_;
  const EntropyProgramOptions options_;
  std::array<Function, kMaxFunctions> functions_;
  uint32_t num_functions_ = 0;
  std::array<Device, kMaxDevices> devices_;
  CommandReader commands_;
  bool power_off_ = false;
  bool failed_ = false;
  std::array<std::byte, 4096> bytes_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_ENTROPY_PROGRAM_H_
