// Console: where a guest's program writes to, and where it is told what to do.

#ifndef VMSG_GUEST_PAYLOAD_CONSOLE_H_
#define VMSG_GUEST_PAYLOAD_CONSOLE_H_

#include <cstdint>
#include <span>

namespace vmsg::guest {

// Where lines go to and commands come from.
//
// Threads: the program's.
class Console {
 public:
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // A whole line, with its '\n'.
  virtual void Write(std::span<const char> line) = 0;

  // The next received character; false when there is none now. Its arrival
  // counts as an interrupt of the platform (kAnyInterrupt).
  virtual bool Read(char* c) = 0;

  // True when the program is to stop where it is.
  virtual bool closed() = 0;

  // How often the platform has slept, for the report.
  virtual uint64_t sleeps() = 0;

 protected:
  Console() = default;
  ~Console() = default;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_CONSOLE_H_
