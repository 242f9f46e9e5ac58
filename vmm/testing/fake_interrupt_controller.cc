#include "vmm/testing/fake_interrupt_controller.h"

#include <utility>

namespace vmsg::vmm {

class FakeInterruptController::Route final : public MsiRoute {
 public:
  Route(std::shared_ptr<State> state, uint32_t number)
      : state_(std::move(state)), number_(number) {}
  ~Route() override {
    MutexLock lock(&state_->mutex);
    --state_->alive;
  }

  absl::Status Update(const MsiMessage& message) override {
    MutexLock lock(&state_->mutex);
    if (state_->update_code != absl::StatusCode::kOk) {
      return absl::Status(state_->update_code, "the test refuses updates");
    }
    message_ = message;
    ++state_->updates[number_];
    return absl::OkStatus();
  }

  absl::Status Trigger() override {
    MutexLock lock(&state_->mutex);
    if (state_->trigger_code != absl::StatusCode::kOk) {
      return absl::Status(state_->trigger_code, "the test refuses triggers");
    }
    if (!message_.has_value()) {
      return absl::FailedPreconditionError("the MSI route has no message yet");
    }
    state_->raised.push_back({number_, *message_});
    ++state_->counts[number_];
    state_->raised_one.NotifyAll();
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<State> state_;
  const uint32_t number_;
  std::optional<MsiMessage> message_;  // guarded by state_->mutex
};

FakeInterruptController::FakeInterruptController()
    : state_(std::make_shared<State>()) {}

absl::StatusOr<std::unique_ptr<MsiRoute>>
FakeInterruptController::CreateMsiRoute() {
  MutexLock lock(&state_->mutex);
  if (state_->creations_left.has_value()) {
    if (*state_->creations_left == 0) {
      return absl::ResourceExhaustedError("the test allows no more routes");
    }
    --*state_->creations_left;
  }
  const auto number = static_cast<uint32_t>(state_->counts.size());
  state_->counts.push_back(0);
  state_->updates.push_back(0);
  ++state_->alive;
  return std::make_unique<Route>(state_, number);
}

std::vector<FakeInterruptController::Raised> FakeInterruptController::raised()
    const {
  MutexLock lock(&state_->mutex);
  return state_->raised;
}

std::vector<MsiMessage> FakeInterruptController::raised(uint32_t route) const {
  MutexLock lock(&state_->mutex);
  std::vector<MsiMessage> messages;
  for (const Raised& one : state_->raised) {
    if (one.route == route) messages.push_back(one.message);
  }
  return messages;
}

uint64_t FakeInterruptController::count() const {
  MutexLock lock(&state_->mutex);
  return state_->raised.size();
}

uint64_t FakeInterruptController::count(uint32_t route) const {
  MutexLock lock(&state_->mutex);
  return route < state_->counts.size() ? state_->counts[route] : 0;
}

void FakeInterruptController::ClearRaised() {
  MutexLock lock(&state_->mutex);
  state_->raised.clear();
  for (uint64_t& count : state_->counts) count = 0;
}

bool FakeInterruptController::WaitForCount(
    uint32_t route, uint64_t count, std::chrono::nanoseconds timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(&state_->mutex);
  while (route >= state_->counts.size() || state_->counts[route] < count) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) return false;
    state_->raised_one.WaitFor(&state_->mutex, left);
  }
  return true;
}

uint64_t FakeInterruptController::updates(uint32_t route) const {
  MutexLock lock(&state_->mutex);
  return route < state_->updates.size() ? state_->updates[route] : 0;
}

uint32_t FakeInterruptController::routes_created() const {
  MutexLock lock(&state_->mutex);
  return static_cast<uint32_t>(state_->counts.size());
}

uint32_t FakeInterruptController::routes_alive() const {
  MutexLock lock(&state_->mutex);
  return state_->alive;
}

void FakeInterruptController::FailCreateAfter(std::optional<uint32_t> routes) {
  MutexLock lock(&state_->mutex);
  state_->creations_left = routes;
}

void FakeInterruptController::FailUpdates(absl::StatusCode code) {
  MutexLock lock(&state_->mutex);
  state_->update_code = code;
}

void FakeInterruptController::FailTriggers(absl::StatusCode code) {
  MutexLock lock(&state_->mutex);
  state_->trigger_code = code;
}

}  // namespace vmsg::vmm
