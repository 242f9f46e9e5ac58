// CommandReader: the commands of protocol.md, from single characters.

#ifndef VMSG_GUEST_PAYLOAD_COMMAND_H_
#define VMSG_GUEST_PAYLOAD_COMMAND_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace vmsg::guest {

struct Command {
  enum class Kind : uint8_t {
    kUnknown,  // not one of these, or longer than a line may be
    kReport,
    kPing,
    kRead,
    kPowerOff,
  };
  Kind kind = Kind::kUnknown;
  uint32_t bytes = 0;  // of kRead: 1 to kMaxReadBytes
};

inline constexpr uint32_t kMaxReadBytes = 65536;

class CommandReader {
 public:
  // Takes one character. True when it ended a line; empty lines are skipped.
  bool Add(char c, Command* command);

 private:
  static constexpr size_t kMaxLine = 31;

  Command Parse() const;

  std::array<char, kMaxLine> line_ = {};
  size_t size_ = 0;
  bool too_long_ = false;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_COMMAND_H_
