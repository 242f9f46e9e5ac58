// Any bytes decode to an error or to a message that lies inside them, and
// everything that is answered without a device stays inside its buffer.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/empty_slot.h"
#include "devices/virtio_msg/message.h"
#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

constexpr std::array<uint32_t, 4> kMaxima = {48, 52, 64, 264};

bool Inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  return part.empty() ||
         (part.data() >= whole.data() &&
          part.data() + part.size() <= whole.data() + whole.size());
}

// Input: u8 which maximum, then the message.
void Run(std::span<const uint8_t> input) {
  if (input.empty()) return;
  const uint32_t max = kMaxima[input[0] % kMaxima.size()];
  const auto bytes = std::as_bytes(input.subspan(1));
  Header header;
  DriverMessage message = PingResponse{.data = 0xDEAD};
  const DecodeError error =
      DecodeFromDriver(Revision::k2025, max, bytes, &header, &message);
  VMSG_CHECK(DecodeErrorName(error) != "?");
  if (error != DecodeError::kNone) {
    const PingResponse* const left = std::get_if<PingResponse>(&message);
    VMSG_CHECK(left != nullptr && left->data == 0xDEAD, "it was changed");
    return;
  }
  const size_t msg_size =
      static_cast<size_t>(bytes[6]) | static_cast<size_t>(bytes[7]) << 8;
  VMSG_CHECK(msg_size >= 8 && msg_size <= bytes.size() && msg_size <= max);
  const auto whole = bytes.first(msg_size);
  if (const auto* const set = std::get_if<SetConfig>(&message)) {
    VMSG_CHECK(Inside(set->data, whole));
  } else if (const auto* const words =
                 std::get_if<SetDriverFeatures>(&message)) {
    VMSG_CHECK(16 + size_t{4} * words->words.size() <= msg_size);
    for (uint32_t i = 0; i < words->words.size(); ++i) {
      VMSG_CHECK(words->words[i] ==
                 (static_cast<uint32_t>(whole[16 + 4 * i]) |
                  static_cast<uint32_t>(whole[17 + 4 * i]) << 8 |
                  static_cast<uint32_t>(whole[18 + 4 * i]) << 16 |
                  static_cast<uint32_t>(whole[19 + 4 * i]) << 24));
    }
  }
  if (header.is_bus) return;
  std::array<std::byte, kMaxMessageBytes> out;
  const size_t size = AnswerForEmptySlot(Revision::k2025, max, header, message,
                                         std::span(out).first(max));
  VMSG_CHECK(size <= max);
  VMSG_CHECK((size == 0) == std::holds_alternative<EventAvail>(message),
             "an answer to a request, none to an event");
}

}  // namespace
}  // namespace vmsg::msg

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vmsg::msg::Run({data, size});
  return 0;
}
