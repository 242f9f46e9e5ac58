// GET_CONFIG and SET_CONFIG of a device that has a configuration, which the
// victim has not, and queues besides queue 0. Source: virtio-msg-messages, 4.4,
// 4.5 and 6.5.

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr auto kNeeds = Needs::kConfiguration;
constexpr uint32_t kMax = UINT32_MAX;
constexpr uint32_t kEnd = Bench::kConfigBytes;
// What a 64-byte message carries behind its fields.
constexpr uint32_t kMost = 44;
// The driver may not write those before it; DummyDevice says so.
constexpr uint32_t kWritable = 4;
constexpr size_t kDataAt = 20;

const Packet* Get(Bench& b, uint32_t offset, uint32_t length) {
  const Packet* const answer = b.Exchange(b.Request(kMsgGetConfig, 16)
                                              .Device(b.config_device())
                                              .U32(8, offset)
                                              .U32(12, length));
  if (answer == nullptr) b.Fail("no-answer");
  return answer;
}

// Refused when the answer has no byte; taken when it has all.
Reaction Read(Bench& b, uint32_t offset, uint32_t length) {
  const Packet* const answer = Get(b, offset, length);
  if (answer == nullptr) return kRefused;
  const uint64_t got = RawMessage::Get(*answer, 16, 4);
  if (RawMessage::Get(*answer, 6, 2) != kDataAt + got ||
      (got != 0 && got != length)) {
    b.Fail("bad-answer");
  }
  return got != 0 ? kTaken : kRefused;
}

struct Configuration {
  std::array<std::byte, kEnd> bytes = {};
  uint32_t generation = 0;

  bool operator==(const Configuration&) const = default;
};

// All of it, in as many messages as that takes. False when one of them is not
// answered as it should be, and the case has failed: that is waited for once.
bool Look(Bench& b, Configuration* config) {
  for (uint32_t at = 0; at < kEnd;) {
    const uint32_t length = kEnd - at < kMost ? kEnd - at : kMost;
    const Packet* const answer = Get(b, at, length);
    if (answer == nullptr) return false;
    if (RawMessage::Get(*answer, 16, 4) != length) {
      b.Fail("bad-answer");
      return false;
    }
    config->generation = static_cast<uint32_t>(RawMessage::Get(*answer, 8, 4));
    for (uint32_t i = 0; i < length; ++i) {
      config->bytes[at + i] = answer->bytes[kDataAt + i];
    }
    at += length;
  }
  return true;
}

// Writes bytes that are not there yet, with a generation that is `ahead` of the
// current one. Refused when the answer has none of them. All else has to be as
// before, and what was taken has to be there.
Reaction Write(Bench& b, uint32_t ahead, uint32_t offset, uint32_t length) {
  Configuration expected;
  if (!Look(b, &expected)) return kRefused;
  RawMessage set =
      b.Request(kMsgSetConfig, static_cast<uint16_t>(kDataAt + length));
  set.Device(b.config_device())
      .U32(8, expected.generation + ahead)
      .U32(12, offset)
      .U32(16, length);
  const std::byte value =
      offset < kEnd ? ~expected.bytes[offset] : std::byte{0xA5};
  for (uint32_t i = 0; i < length; ++i) {
    set.U8(kDataAt + i, static_cast<uint8_t>(value));
  }
  const Packet* const answer = b.Exchange(set);
  if (answer == nullptr) {
    b.Fail("no-answer");
    return kRefused;
  }
  const uint64_t taken = RawMessage::Get(*answer, 16, 4);
  if (taken != 0 && taken != length) b.Fail("bad-answer");
  for (uint64_t i = offset; i < offset + taken && i < kEnd; ++i) {
    expected.bytes[i] = value;
  }
  Configuration after;
  if (!Look(b, &after)) return kRefused;
  if (after != expected) b.Fail("something-else-changed");
  return taken != 0 ? kTaken : kRefused;
}
Reaction WriteNow(Bench& b, uint32_t offset, uint32_t length) {
  return Write(b, 0, offset, length);
}

// Refused when everything but the index reads 0.
Reaction GetQueue(Bench& b, uint32_t index) {
  return b.AnswersZero(
      b.Request(kMsgGetVqueue, 12).Device(b.config_device()).U32(8, index), 12,
      36);
}

constexpr Case Row(const char* name, Verdict expected,
                   Reaction (*run)(Bench& bench)) {
  return {name, expected, run, Leaves::kRunning, kNeeds};
}

constexpr Case kCases[] = {
    Row("get_last_byte", kPass, [](Bench& b) { return Read(b, kEnd - 1, 1); }),
    Row("get_whole_message", kPass, [](Bench& b) { return Read(b, 0, kMost); }),
    Row("get_end_in_a_whole_message", kPass,
        [](Bench& b) { return Read(b, kEnd - kMost, kMost); }),
    Row("get_more_than_fits", kReject,
        [](Bench& b) { return Read(b, 0, kMost + 1); }),
    Row("get_all_of_it", kReject, [](Bench& b) { return Read(b, 0, kEnd); }),
    Row("get_none", kReject, [](Bench& b) { return Read(b, 0, 0); }),
    Row("get_none_at_the_end", kReject,
        [](Bench& b) { return Read(b, kEnd, 0); }),
    Row("get_at_the_end", kReject, [](Bench& b) { return Read(b, kEnd, 1); }),
    Row("get_across_the_end", kReject,
        [](Bench& b) { return Read(b, kEnd - 1, 2); }),
    Row("get_wraps_into_it", kReject,
        [](Bench& b) { return Read(b, kMax, 2); }),
    Row("get_wraps_to_where_it_begins", kReject,
        [](Bench& b) { return Read(b, 8, kMax - 7); }),
    Row("set_last_byte", kPass,
        [](Bench& b) { return WriteNow(b, kEnd - 1, 1); }),
    Row("set_whole_message", kPass,
        [](Bench& b) { return WriteNow(b, kEnd - kMost, kMost); }),
    Row("set_first_that_may_be", kPass,
        [](Bench& b) { return WriteNow(b, kWritable, 1); }),
    Row("set_none", kReject, [](Bench& b) { return WriteNow(b, 8, 0); }),
    Row("set_read_only", kReject, [](Bench& b) { return WriteNow(b, 0, 4); }),
    Row("set_last_read_only", kReject,
        [](Bench& b) { return WriteNow(b, kWritable - 1, 1); }),
    Row("set_across_read_only", kReject,
        [](Bench& b) { return WriteNow(b, kWritable - 1, 2); }),
    Row("set_at_the_end", kReject,
        [](Bench& b) { return WriteNow(b, kEnd, 1); }),
    Row("set_across_the_end", kReject,
        [](Bench& b) { return WriteNow(b, kEnd - 1, 2); }),
    Row("set_wraps_into_it", kReject,
        [](Bench& b) { return WriteNow(b, kMax, 2); }),
    Row("set_one_generation_back", kReject,
        [](Bench& b) { return Write(b, UINT32_MAX, 8, 1); }),
    Row("set_one_generation_ahead", kReject,
        [](Bench& b) { return Write(b, 1, 8, 1); }),
    Row("set_generation_with_another_top_bit", kReject,
        [](Bench& b) { return Write(b, 0x80000000, 8, 1); }),
    Row("get_queue_last", kPass, [](Bench& b) { return GetQueue(b, 1); }),
    Row("get_queue_past_the_end", kReject,
        [](Bench& b) { return GetQueue(b, 2); }),
    Row("get_queue_0x10001", kReject,
        [](Bench& b) { return GetQueue(b, 0x10001); }),
};

}  // namespace

constinit const std::span<const Case> kConfigMessageCases = kCases;

}  // namespace vmsg::guest
