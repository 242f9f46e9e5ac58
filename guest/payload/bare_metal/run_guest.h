// What an image does, once the machine is set up.

#ifndef VMSG_GUEST_PAYLOAD_BARE_METAL_RUN_GUEST_H_
#define VMSG_GUEST_PAYLOAD_BARE_METAL_RUN_GUEST_H_

#include <span>

#include "guest/driver/platform.h"
#include "guest/payload/console.h"

namespace vmsg::guest {

// Defined once in each image; called once. False: the machine is to be switched
// off with an error. `command_line` is the VMM's, and stays. Nobody runs
// constructors or destructors of globals, and the stack has 64 KiB.
bool RunGuest(Platform* platform, Console* console,
              std::span<const char> command_line);

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_BARE_METAL_RUN_GUEST_H_
