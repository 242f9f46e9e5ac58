// Case: one misbehaviour of the catalogue, and what is to come of it.

#ifndef VMSG_GUEST_ADVERSARY_CASE_H_
#define VMSG_GUEST_ADVERSARY_CASE_H_

#include <cstdint>
#include <span>

namespace vmsg::guest {

class Bench;

// What came of an input, by what the guest can see afterwards.
enum class Verdict : uint8_t {
  // It was taken as legal: it had the effect, or got the answer, that a legal
  // input has, and what was set up before goes on without a new start.
  kPass,
  // It was refused: no answer, or the answer that says "no", or no effect; a
  // fingerprint of all that the guest can read is what it was, and what was set
  // up before goes on without a new start.
  kReject,
  // What was set up before does not go on: the FIFO has stopped answering, or
  // the device wants a reset, or it has lost its set-up. Others are unaffected,
  // and a new start helps.
  kDegraded,
};
constexpr const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "PASS";
    case Verdict::kReject:
      return "REJECT";
    case Verdict::kDegraded:
      return "DEGRADED";
  }
  return "?";
}

// What a case has seen of its own input. The rest of the verdict is not for it
// to say: see Bench::Judge.
enum class Reaction : uint8_t { kTaken, kRefused };

// In what state a case leaves the victim's device if all goes on.
enum class Leaves : uint8_t {
  kRunning,  // with DRIVER_OK and its queue: a request has to be served
  kStopped,  // the case has reset it, and took it anywhere before DRIVER_OK
};

// Who besides the victim has to notice nothing.
enum class Scope : uint8_t {
  kFifo,      // all but the FIFO of the victim: the other FIFO of its function,
              // and the other function
  kFunction,  // the other function
};

// What brings the victim back, the least first.
enum class Recovery : uint8_t {
  kDeviceReset,  // a reset of the device; then a canonical read
  kHandshake,    // the driver joins the FIFO again, which only shmem-v1 knows
  kOperator,     // the operator resets the FIFO
  kFunction,     // the function is opened anew
  kNone,         // nothing does
};
constexpr const char* RecoveryName(Recovery recovery) {
  switch (recovery) {
    case Recovery::kDeviceReset:
      return "device-reset";
    case Recovery::kHandshake:
      return "handshake";
    case Recovery::kOperator:
      return "operator";
    case Recovery::kFunction:
      return "function";
    case Recovery::kNone:
      break;
  }
  return "none";
}

enum class Layout : uint8_t { kAny, kSpsc, kShmem };

enum class Needs : uint8_t {
  kNothing,
  // A second thread that writes to shared memory meanwhile: in-process only.
  kSecondWriter,
  // A device with a configuration beside the victim: in //tests/adversary only.
  kConfiguration,
};

struct Case {
  const char* name;
  Verdict expected;
  Reaction (*run)(Bench& bench);
  Leaves leaves = Leaves::kRunning;
  Needs needs = Needs::kNothing;
};

struct Group {
  const char* name;
  std::span<const Case> cases;
  Scope scope = Scope::kFifo;
  Layout layout = Layout::kAny;
  // What a case that is expected to be DEGRADED may take to come back. All
  // others come back by a reset of the device.
  Recovery degraded = Recovery::kDeviceReset;

  // The most that a case may take, which is a part of what is expected of it.
  constexpr Recovery most(const Case& one) const {
    return one.expected == Verdict::kDegraded ? degraded
                                              : Recovery::kDeviceReset;
  }
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_CASE_H_
