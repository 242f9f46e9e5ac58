// What an embedder sets and sees of a message bus and its slots.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_TYPES_H_
#define VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_TYPES_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/traffic_observer.h"
#include "vmm/base/clock.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::msg {

// Where a slot is in its hot-plug life. What a driver does (status, resets) and
// health are told apart from it.
enum class SlotState : uint8_t {
  kEmpty,
  kPendingAnnounce,  // plugged; the driver has not been told, and has not seen
                     // it
  kPresent,          // the driver may know it
  kRemoving,
};

enum class SlotHealth : uint8_t {
  kOk,
  kNeedsReset,
  kBackendFailed,
  kUnresponsive,  // the driver of the bus is; see DriverHealth
};

// What is known about the driver of a bus from asking it.
enum class DriverHealth : uint8_t {
  kUnknown,  // it was not asked, or has not answered yet and need not
  kAnswers,
  kUnresponsive,  // silent, PING after PING
};

struct SlotStatus {
  SlotState state = SlotState::kEmpty;
  uint64_t generation = 0;     // as given to Plug
  uint32_t device_id = 0;      // virtio device type
  uint32_t driver_status = 0;  // status byte, virtio 1.2, 2.1
  uint64_t resets = 0;         // by the driver or the function
  SlotHealth health = SlotHealth::kOk;
  std::string health_reason;  // empty when OK
};

// PING as a health check; see DriverPing.
struct PingOptions {
  // How long a driver may be quiet before it is asked. 0: never asked.
  vmm::Duration interval{0};
  // How long it has for an answer.
  vmm::Duration timeout = std::chrono::seconds(1);
  // So many PINGs in a row without an answer make it unresponsive.
  uint32_t misses = 3;
  // The embedder knows that its driver answers: it is asked although it has not
  // sent a PING of its own, and silence counts from the first one on.
  bool ask_first = false;

  static constexpr vmm::Duration kMaxTime = std::chrono::hours(1);
  static constexpr uint32_t kMaxMisses = 1000;
};
// interval from 0, timeout above 0, both at most kMaxTime; misses 1 to
// kMaxMisses.
constexpr bool IsValid(const PingOptions& options) {
  return options.interval >= vmm::Duration(0) &&
         options.interval <= PingOptions::kMaxTime &&
         options.timeout > vmm::Duration(0) &&
         options.timeout <= PingOptions::kMaxTime && options.misses >= 1 &&
         options.misses <= PingOptions::kMaxMisses;
}

struct MessageBusOptions {
  Revision revision = Revision::k2025;
  uint32_t max_message_bytes = 64;  // kMinMessageBytes to kMaxMessageBytes
  uint32_t vendor_id = 0x1AF4;      // GET_DEVICE_INFO
  // Requests that wait for the answer of one busy device, the one it works on
  // included, before the bus stops taking messages. Source: amp-pci-device,
  // section 4.
  static constexpr uint32_t kMaxDeferred = 8;
  static constexpr uint32_t kSlots = 32;
  // How long an EVENT_DEVICE that the driver has taken keeps the next one back
  // when it shows no reaction: existing drivers hold a single buffer for bus
  // messages.
  vmm::Duration announce_pacing = std::chrono::milliseconds(100);
  PingOptions ping = {};  // valid
  // Guest memory for drivers that accept VIRTIO_F_ACCESS_PLATFORM: a space with
  // a translator. Borrowed, outlives the bus, used on its loop. Null: no device
  // offers the feature, whatever it says itself.
  vmm::DmaSpace* translated_dma = nullptr;
  // With it: a driver may do without the feature, and give guest-physical
  // addresses past the translator. False: it is refused (FEATURES_OK stays
  // clear). Source: virtio 1.2, 6.1 and 6.2.
  bool allow_untranslated = false;
  // Sees all traffic; borrowed, outlives the bus. Null: nobody looks.
  TrafficObserver* traffic_observer = nullptr;
};

struct UnplugOptions {
  // Forced: requests fail at once. Graceful: the device serves on until the
  // driver writes status 0 or `deadline` has passed, and fails them then.
  bool forced = false;
  vmm::Duration deadline = std::chrono::seconds(10);
  // After that, how long requests are failed for a driver that does not write
  // status 0, before the device goes anyway.
  vmm::Duration fail_deadline = std::chrono::seconds(5);
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_TYPES_H_
