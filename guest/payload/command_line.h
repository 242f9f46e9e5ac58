// The command line of the guest's program: options as words.

#ifndef VMSG_GUEST_PAYLOAD_COMMAND_LINE_H_
#define VMSG_GUEST_PAYLOAD_COMMAND_LINE_H_

#include <span>

#include "guest/driver/error.h"
#include "guest/payload/entropy_program.h"

namespace vmsg::guest {

// Changes `options` by the words of `text`, which are separated by spaces and
// explained in protocol.md. A later word wins.
//   kInvalidArgument  one of them is none of those; those before it count.
Error ApplyCommandLine(std::span<const char> text,
                       EntropyProgramOptions* options);

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_COMMAND_LINE_H_
