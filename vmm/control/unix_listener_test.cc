#include "vmm/control/unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vmm/event/epoll_event_loop.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::control {
namespace {

using vmm::IsOk;
using vmm::StatusIs;

constexpr uid_t kOtherUser = 65534;

class UnixListenerTest : public testing::Test {
 protected:
  // Short: a socket address holds 107 characters.
  UnixListenerTest() {
    char folder[] = "/tmp/vmsg-listener-XXXXXX";
    folder_ = mkdtemp(folder);
    path_ = folder_ + "/control.sock";
    loop_ = std::move(*vmm::EpollEventLoop::Create());
  }
  ~UnixListenerTest() override {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }

  absl::StatusOr<std::unique_ptr<UnixListener>> Listen() {
    return UnixListener::Create(
        path_, loop_.get(), nullptr,
        [this](vmm::UniqueFd fd) { accepted_.push_back(std::move(fd)); });
  }

  vmm::UniqueFd Connect() {
    vmm::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                sizeof(address)) != 0) {
      return vmm::UniqueFd();
    }
    return fd;
  }

  std::string folder_;
  std::string path_;
  std::unique_ptr<vmm::EpollEventLoop> loop_;
  std::vector<vmm::UniqueFd> accepted_;
};

TEST_F(UnixListenerTest, FileIsForItsOwnerOnlyWhateverTheUmask) {
  const mode_t before = umask(0);
  const auto listener = Listen();
  umask(before);
  ASSERT_THAT(listener.status(), IsOk());
  struct stat info;
  ASSERT_EQ(lstat(path_.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(UnixListenerTest, HandsOnAConnectionThatDoesNotBlock) {
  const auto listener = Listen();
  ASSERT_THAT(listener.status(), IsOk());
  const vmm::UniqueFd peer = Connect();
  ASSERT_TRUE(peer.valid());
  loop_->RunOnce(std::chrono::seconds(5));
  ASSERT_EQ(accepted_.size(), 1u);
  EXPECT_NE(fcntl(accepted_[0].get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(accepted_[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(UnixListenerTest, PeersOfAnotherUserAreNotAllowed) {
  EXPECT_TRUE(UnixListener::IsAllowed(1000, 1000));
  EXPECT_TRUE(UnixListener::IsAllowed(0, 1000));
  EXPECT_FALSE(UnixListener::IsAllowed(1001, 1000));
  EXPECT_FALSE(UnixListener::IsAllowed(1000, 0));
}

TEST_F(UnixListenerTest, ConnectionOfAnotherUserIsClosed) {
  if (geteuid() != 0 || seteuid(kOtherUser) != 0) {
    GTEST_SKIP() << "only root can be another user, where there is one";
  }
  ASSERT_EQ(seteuid(0), 0);
  const auto listener = Listen();
  ASSERT_THAT(listener.status(), IsOk());
  // As if the modes of folder and socket kept nobody away.
  ASSERT_EQ(chmod(folder_.c_str(), 0711), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  ASSERT_EQ(seteuid(kOtherUser), 0);
  const vmm::UniqueFd peer = Connect();
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_TRUE(peer.valid());
  loop_->RunOnce(std::chrono::seconds(5));
  EXPECT_TRUE(accepted_.empty());
  char byte;
  EXPECT_EQ(recv(peer.get(), &byte, 1, 0), 0) << "closed";

  const vmm::UniqueFd own = Connect();
  loop_->RunOnce(std::chrono::seconds(5));
  EXPECT_EQ(accepted_.size(), 1u);
}

TEST_F(UnixListenerTest, WithoutADescriptorTheConnectionWaits) {
  const auto listener = Listen();
  ASSERT_THAT(listener.status(), IsOk());
  const vmm::UniqueFd peer = Connect();
  ASSERT_TRUE(peer.valid());
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  vmm::UniqueFd next(dup(peer.get()));
  const rlimit none = {static_cast<rlim_t>(next.get()), before.rlim_max};
  next.reset();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  loop_->RunOnce(std::chrono::seconds(5));
  // The socket is still readable, and must not keep the loop busy.
  // It looks again from time to time.
  int busy = 0;
  for (int i = 0; i < 100; ++i) busy += loop_->RunOnce(std::chrono::seconds(0));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LT(busy, 50);
  EXPECT_TRUE(accepted_.empty());

  for (int i = 0; i < 3 && accepted_.empty(); ++i) {
    loop_->RunOnce(std::chrono::seconds(5));
  }
  EXPECT_EQ(accepted_.size(), 1u);
}

TEST_F(UnixListenerTest, SecondListenerOnThePathIsRefused) {
  const auto first = Listen();
  ASSERT_THAT(first.status(), IsOk());
  EXPECT_THAT(Listen().status(), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_TRUE(Connect().valid());
}

TEST_F(UnixListenerTest, ReplacesASocketThatNobodyListensOn) {
  vmm::UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  ASSERT_EQ(
      bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)),
      0);
  dead.reset();
  const auto listener = Listen();
  EXPECT_THAT(listener.status(), IsOk());
  EXPECT_TRUE(Connect().valid());
}

TEST_F(UnixListenerTest, KeepsAFileThatIsNoSocket) {
  vmm::UniqueFd file(open(path_.c_str(), O_CREAT | O_WRONLY, 0600));
  ASSERT_TRUE(file.valid());
  EXPECT_THAT(Listen().status(), StatusIs(absl::StatusCode::kAlreadyExists));
  struct stat info;
  EXPECT_EQ(lstat(path_.c_str(), &info), 0);
}

TEST_F(UnixListenerTest, RemovesItsFileAndNobodyElses) {
  {
    const auto listener = Listen();
    ASSERT_THAT(listener.status(), IsOk());
  }
  struct stat info;
  EXPECT_NE(lstat(path_.c_str(), &info), 0);
  {
    const auto listener = Listen();
    ASSERT_THAT(listener.status(), IsOk());
    unlink(path_.c_str());
    vmm::UniqueFd file(open(path_.c_str(), O_CREAT | O_WRONLY, 0600));
  }
  EXPECT_EQ(lstat(path_.c_str(), &info), 0);
}

TEST_F(UnixListenerTest, PathThatIsTooLongIsInvalid) {
  path_ = "/tmp/" + std::string(120, 'x');
  EXPECT_THAT(Listen().status(), StatusIs(absl::StatusCode::kInvalidArgument));
  path_ = "";
  EXPECT_THAT(Listen().status(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(UnixListenerTest, FileInPlaceOfAFolderIsNamed) {
  const vmm::UniqueFd file(open(path_.c_str(), O_CREAT | O_WRONLY, 0600));
  const std::string folder = path_;
  path_ += "/control.sock";
  const absl::Status status = Listen().status();
  path_ = folder;
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_NE(std::string(status.message()).find(folder), std::string::npos);
}

TEST_F(UnixListenerTest, FolderThatIsMissingIsNamed) {
  path_ = "/nonexistent/control.sock";
  const absl::Status status = Listen().status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_NE(std::string(status.message()).find(path_), std::string::npos);
}

}  // namespace
}  // namespace vmsg::control
