// OperationStatus: how an operation of the control plane ended, in a form that
// is handed between threads.

#ifndef VMSG_VMM_CONTROL_OPERATION_STATUS_H_
#define VMSG_VMM_CONTROL_OPERATION_STATUS_H_

#include <string>

#include "absl/status/status.h"

namespace vmsg::control {

// An absl::Status as plain data. (absl::Status shares its text by a reference
// count inside Debian's build of Abseil, which ThreadSanitizer can't see.)
struct OperationStatus {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string message;

  bool ok() const { return code == absl::StatusCode::kOk; }

  static OperationStatus From(const absl::Status& status) {
    return {status.code(), std::string(status.message())};
  }
  absl::Status ToStatus() const { return absl::Status(code, message); }
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_OPERATION_STATUS_H_
