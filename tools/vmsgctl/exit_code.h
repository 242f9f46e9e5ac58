// Exit codes of vmsgctl: a part of its interface, for scripts.

#ifndef VMSG_TOOLS_VMSGCTL_EXIT_CODE_H_
#define VMSG_TOOLS_VMSGCTL_EXIT_CODE_H_

#include <grpcpp/support/status.h>

namespace vmsg::vmsgctl {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotFound = 3;
inline constexpr int kExitAlreadyExists = 4;
inline constexpr int kExitWrongState = 5;
inline constexpr int kExitExhausted = 6;
inline constexpr int kExitUnreachable = 7;
inline constexpr int kExitNotYet = 8;

inline constexpr char kExitCodeHelp[] =
    "  0  done\n"
    "  1  another error\n"
    "  2  wrong usage, or a field that the VMM refused\n"
    "  3  no such device\n"
    "  4  the id or the slot is taken\n"
    "  5  the device is in the wrong state\n"
    "  6  no free slot or host resource\n"
    "  7  the VMM can't be reached or does not answer\n"
    "  8  done, but what --wait waited for has not happened yet";

inline int ExitCode(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return kExitOk;
    case grpc::StatusCode::INVALID_ARGUMENT:
      return kExitUsage;
    case grpc::StatusCode::NOT_FOUND:
      return kExitNotFound;
    case grpc::StatusCode::ALREADY_EXISTS:
      return kExitAlreadyExists;
    case grpc::StatusCode::FAILED_PRECONDITION:
      return kExitWrongState;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return kExitExhausted;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return kExitUnreachable;
    default:
      return kExitError;
  }
}

}  // namespace vmsg::vmsgctl

#endif  // VMSG_TOOLS_VMSGCTL_EXIT_CODE_H_
