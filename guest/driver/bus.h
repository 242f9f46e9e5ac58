// Bus: the driver side of one virtio-msg bus instance, over one FIFO.
// Source: virtio-msg-messages, sections 2, 5 and 6; amp-pci-device, section 4.

#ifndef VMSG_GUEST_DRIVER_BUS_H_
#define VMSG_GUEST_DRIVER_BUS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/error.h"
#include "guest/driver/fifo.h"
#include "guest/driver/message.h"
#include "guest/driver/platform.h"

namespace vmsg::guest {

// Told of the events of one device while the bus handles what has arrived, so
// in the middle of any call to the bus: take notes only, call nothing.
class DeviceListener {
 public:
  DeviceListener(const DeviceListener&) = delete;
  DeviceListener& operator=(const DeviceListener&) = delete;

  virtual void OnUsed(uint32_t queue) = 0;
  // event.data is valid during the call.
  virtual void OnConfig(const ConfigEvent& event) = 0;

 protected:
  DeviceListener() = default;
  ~DeviceListener() = default;
};

struct BusOptions {
  uint64_t doorbell_address = 0;  // NOTIFYn, guest-physical
  uint32_t interrupt = 0;         // Interrupt::id of this FIFO's vector
  // Bound of every wait: for an answer, or for room on the driver queue.
  uint64_t timeout_ns = 10'000'000'000;
  // Of this bus. Below kMinMaxMessageBytes every request is refused (O-1);
  // above kPacketBytes it counts as that.
  uint16_t max_message_bytes = kPacketBytes;
};

// One request at a time: a call sends, and handles all that comes until its
// answer does. Answers that nobody waits for, and what is malformed, are
// dropped and counted. A PING of the device is answered wherever it turns up.
//
// Threads: one.
class Bus {
 public:
  // Device numbers 0 to 31. Source: amp-pci-device, 4.
  static constexpr uint32_t kDeviceNumbers = 32;

  // All borrowed. The FIFO is attached already.
  Bus(Platform* platform, Fifo* fifo, const BusOptions& options);
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  // Handles what interrupts have announced and what was there at the start,
  // without waiting. It does not look at the FIFO in between: the device raises
  // the interrupt after everything it sends (amp-pci-device, 4), and taking its
  // packets before would let interrupts merge that nobody waits for.
  // kFifoBroken, else kNone.
  Error Poll();

  // Sends the request at the start of `message` (encoded, token 0) and waits
  // for its answer, which goes to `*answer`: its type, id, device number and
  // token match and its size is sound; the payload is for the caller to
  // decode.
  // `message` and `*answer` may be the same memory.
  //   kInvalidArgument  not a request, or too long for this bus.
  //   kTimeout          no answer (or no room to send) in time. A late answer
  //                     is dropped.
  //   kFifoBroken
  Error Call(std::span<std::byte> message, Packet* answer);

  // Sends an event. Errors as Call; nothing is waited for but room.
  Error SendEvent(std::span<std::byte> message);

  // --- Bus messages. ---

  // One window: both values multiples of 8, count not 0. kBadAnswer when the
  // answer describes another window than asked for (a shorter one is allowed).
  // `*present` gets its bits below kDeviceNumbers; `*next` where to go on, 0
  // for nowhere.
  Error GetDevices(uint16_t offset, uint16_t count, uint32_t* present,
                   uint16_t* next);
  // A full walk of device numbers 0 to 31.
  Error Enumerate(uint32_t* present);

  // kBadAnswer when `data` does not come back. On kTimeout look at the status
  // of the devices (VirtioDevice::CheckHealth).
  Error Ping(uint32_t data);

  // The next EVENT_DEVICE in order of arrival; false when there is none.
  bool TakeDeviceEvent(DeviceEvent* event);
  // True once after device events were lost for want of storage: enumerate.
  bool TakeEventsLost();

  // At most one listener a number. REQUIRES: number < kDeviceNumbers.
  void Listen(uint16_t number, DeviceListener* listener);
  void StopListening(uint16_t number);

  Platform* platform() { return platform_; }
  Fifo* fifo() { return fifo_; }
  uint32_t interrupt() const { return options_.interrupt; }
  uint64_t timeout_ns() const { return options_.timeout_ns; }
  size_t max_message_bytes() const { return options_.max_message_bytes; }

  struct Counters {
    uint64_t sent = 0;        // messages
    uint64_t received = 0;    // packets
    uint64_t malformed = 0;   // dropped: sizes, ids, device numbers
    uint64_t unexpected = 0;  // dropped: answers nobody waits for
    uint64_t pings_answered = 0;
    uint64_t pings_dropped = 0;  // too many at once without room to answer
  };
  const Counters& counters() const { return counters_; }

 private:
  // More than the one bit for each device number that a well-paced device
  // needs.
  static constexpr uint32_t kMaxEvents = 64;
  static constexpr uint32_t kMaxOwedPings = 4;
  // The device gives no sign when it has taken packets off the driver queue.
  static constexpr uint64_t kRoomCheckNs = 1'000'000;

  // The answer that Call waits for.
  struct Expected {
    bool waiting = false;
    bool arrived = false;
    Header header;
    Packet* answer = nullptr;
  };
  struct OwedPing {
    uint16_t token = 0;
    uint32_t data = 0;
  };

  void Drain();
  void Handle(const Packet& packet);
  void HandleBus(const Header& header, std::span<const std::byte> message);
  void HandleEvent(const Header& header, std::span<const std::byte> message);
  void HandleResponse(const Header& header, const Packet& packet);
  void AnswerPings();
  void Malformed() { ++counters_.malformed; }
  bool TrySend(std::span<const std::byte> message);
  Error SendBy(std::span<const std::byte> message, uint64_t deadline_ns);
  uint16_t NextToken();

  Platform* const platform_;
  Fifo* const fifo_;
  const BusOptions options_;
  Counters counters_;
  uint16_t last_token_ = 0;
  Expected expected_;
  bool drained_ = false;        // at least once, as of:
  uint64_t drained_count_ = 0;  // InterruptCount()

  std::array<DeviceListener*, kDeviceNumbers> listeners_ = {};
  std::array<DeviceEvent, kMaxEvents> events_ = {};
  uint32_t first_event_ = 0;
  uint32_t event_count_ = 0;
  bool events_lost_ = false;
  std::array<OwedPing, kMaxOwedPings> owed_pings_ = {};
  uint32_t owed_ping_count_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_BUS_H_
