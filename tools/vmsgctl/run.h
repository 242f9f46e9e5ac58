// Runs a command against a VMM.

#ifndef VMSG_TOOLS_VMSGCTL_RUN_H_
#define VMSG_TOOLS_VMSGCTL_RUN_H_

#include <ostream>

#include "tools/vmsgctl/command_line.h"

namespace vmsg::vmsgctl {

// Prints the answer to `out`, errors to `err`; returns the exit code. Blocks.
int Run(const CommandLine& line, std::ostream& out, std::ostream& err);

}  // namespace vmsg::vmsgctl

#endif  // VMSG_TOOLS_VMSGCTL_RUN_H_
