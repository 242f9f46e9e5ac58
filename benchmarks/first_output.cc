#include "benchmarks/first_output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kEndLimit{5000};

// A child that does not outlive this.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  ~Child() {
    kill(pid_, SIGTERM);
    const Clock::time_point end = Clock::now() + kEndLimit;
    while (Clock::now() < end) {
      if (waitpid(pid_, nullptr, WNOHANG) != 0) return;
      std::this_thread::sleep_for(milliseconds(2));
    }
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

 private:
  const pid_t pid_;
};

// What the child starts with: our end of the pipe is closed by exec, as are all
// descriptors of well-written code.
class SpawnActions {
 public:
  explicit SpawnActions(int output) {
    VMSG_CHECK(posix_spawn_file_actions_init(&actions_) == 0);
    VMSG_CHECK(posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO,
                                                "/dev/null", O_RDONLY, 0) == 0);
    VMSG_CHECK(posix_spawn_file_actions_adddup2(&actions_, output,
                                                STDOUT_FILENO) == 0);
  }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }

  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

// Waits for a byte until `end`.
absl::Status ReadByte(int fd, Clock::time_point end) {
  while (true) {
    const auto left =
        std::chrono::ceil<milliseconds>(end - Clock::now()).count();
    if (left <= 0) return absl::DeadlineExceededError("no output in time");
    pollfd waited = {.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&waited, 1, static_cast<int>(left)) <= 0) continue;
    char byte;
    const ssize_t n = read(fd, &byte, 1);
    if (n == 1) return absl::OkStatus();
    if (n == 0) return absl::FailedPreconditionError("it ended without output");
  }
}

}  // namespace

absl::StatusOr<std::chrono::nanoseconds> FirstOutput(
    const std::vector<std::string>& command, milliseconds limit) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  int ends[2];
  VMSG_CHECK(pipe2(ends, O_CLOEXEC) == 0);
  const vmm::UniqueFd output(ends[0]);
  vmm::UniqueFd input(ends[1]);
  const SpawnActions actions(input.get());

  const Clock::time_point start = Clock::now();
  pid_t pid = 0;
  const int error = posix_spawn(&pid, arguments[0], actions.get(), nullptr,
                                arguments.data(), environ);
  if (error != 0) {
    return absl::NotFoundError(
        absl::StrCat(command[0], ": ", std::strerror(error)));
  }
  const Child child(pid);
  input.reset();
  if (absl::Status status = ReadByte(output.get(), start + limit);
      !status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(command[0], ": ", status.message()));
  }
  return Clock::now() - start;
}

}  // namespace vmsg::bench
