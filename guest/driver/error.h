// Error: how an operation of the driver side ends.

#ifndef VMSG_GUEST_DRIVER_ERROR_H_
#define VMSG_GUEST_DRIVER_ERROR_H_

#include <cstdint>

namespace vmsg::guest {

enum class [[nodiscard]] Error : uint8_t{
    kNone,
    kInvalidArgument,  // our caller's mistake; nothing was sent
    kNoMemory,         // arena, or fixed storage, is used up
    kNotFound,         // no such function, capability, device or queue
    kBadHardware,      // PCI registers that contradict each other
    kFifoBroken,       // the peer corrupted the indices; until a function reset
    kTimeout,          // no answer, or no room, within the bound
    kBadAnswer,        // an answer that does not fit the request or itself
    kRefused,          // the device does not take it (features, queue, write)
    kStale,            // configuration changed since it was read: read again
    kNeedsReset,       // the device asks for a reset
    kQueueFull,        // no descriptor free; complete something first
    kQueueBroken,      // the device corrupted the used ring; until reset
    kDeviceError,      // the device completed a request with an error
    kRemoved,          // the device was removed
};

// "timeout" and so on: one word, for logs.
constexpr const char* ErrorName(Error error) {
  switch (error) {
    case Error::kNone:
      return "none";
    case Error::kInvalidArgument:
      return "invalid-argument";
    case Error::kNoMemory:
      return "no-memory";
    case Error::kNotFound:
      return "not-found";
    case Error::kBadHardware:
      return "bad-hardware";
    case Error::kFifoBroken:
      return "fifo-broken";
    case Error::kTimeout:
      return "timeout";
    case Error::kBadAnswer:
      return "bad-answer";
    case Error::kRefused:
      return "refused";
    case Error::kStale:
      return "stale";
    case Error::kNeedsReset:
      return "needs-reset";
    case Error::kQueueFull:
      return "queue-full";
    case Error::kQueueBroken:
      return "queue-broken";
    case Error::kDeviceError:
      return "device-error";
    case Error::kRemoved:
      return "removed";
  }
  return "unknown";
}

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_ERROR_H_
