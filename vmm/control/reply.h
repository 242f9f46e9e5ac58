// Reply: an answer that is given exactly once, whatever happens.

#ifndef VMSG_VMM_CONTROL_REPLY_H_
#define VMSG_VMM_CONTROL_REPLY_H_

#include <utility>

#include "absl/functional/any_invocable.h"
#include "vmm/control/operation_status.h"

namespace vmsg::control {

// Move-only. Calling it answers; destroying it unanswered answers UNAVAILABLE,
// so that a loop that stops with work in its queue leaves nobody waiting.
//
// Threads: called or destroyed on any one thread; the callback runs there.
template <typename T>
class Reply {
 public:
  using Callback = absl::AnyInvocable<void(OperationStatus, T)>;

  Reply() = default;
  // Implicit, so that a lambda can be passed where a Reply is wanted.
  template <typename F, typename = std::enable_if_t<
                            !std::is_same_v<std::decay_t<F>, Reply> &&
                            std::is_invocable_v<F&, OperationStatus, T>>>
  Reply(F&& callback)  // NOLINT(google-explicit-constructor)
      : callback_(std::forward<F>(callback)) {}
  Reply(Reply&& other) noexcept
      : callback_(std::exchange(other.callback_, nullptr)) {}
  Reply& operator=(Reply&& other) noexcept {
    if (this != &other) {
      Abandon();
      callback_ = std::exchange(other.callback_, nullptr);
    }
    return *this;
  }
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  ~Reply() { Abandon(); }

  // False once answered.
  explicit operator bool() const { return static_cast<bool>(callback_); }

  void operator()(OperationStatus status, T value) {
    if (Callback callback = std::exchange(callback_, nullptr)) {
      callback(std::move(status), std::move(value));
    }
  }
  void Fail(absl::StatusCode code, std::string message) {
    (*this)(OperationStatus{code, std::move(message)}, T{});
  }

 private:
  void Abandon() {
    if (callback_) {
      Fail(absl::StatusCode::kUnavailable, "the VMM is shutting down");
    }
  }

  Callback callback_;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_REPLY_H_
