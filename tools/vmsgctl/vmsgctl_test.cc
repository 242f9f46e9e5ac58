#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tools/vmsgctl/command_line.h"
#include "tools/vmsgctl/exit_code.h"
#include "tools/vmsgctl/run.h"
#include "vmm/control/control_server.h"
#include "vmm/control/device_manager.h"
#include "vmm/control/fake_hotplug_bus.h"
#include "vmm/event/epoll_event_loop.h"

namespace vmsg::vmsgctl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

Outcome Call(std::vector<const char*> words) {
  words.insert(words.begin(), "vmsgctl");
  const Parsed parsed =
      ParseCommandLine(static_cast<int>(words.size()), words.data());
  if (!parsed.command_line.has_value()) {
    return {parsed.exit_code, parsed.output, parsed.error};
  }
  std::ostringstream out;
  std::ostringstream err;
  const int code = Run(*parsed.command_line, out, err);
  return {code, out.str(), err.str()};
}

TEST(ParseTest, PlacesMayLeaveThingsOut) {
  const auto full = ParsePlace("amp0/fifo1/slot3");
  ASSERT_TRUE(full.ok());
  EXPECT_EQ(full->function(), "amp0");
  EXPECT_EQ(full->fifo(), 1u);
  EXPECT_EQ(full->slot(), 3u);
  const auto slot = ParsePlace("slot3");
  ASSERT_TRUE(slot.ok());
  EXPECT_FALSE(slot->has_function());
  EXPECT_FALSE(slot->has_fifo());
  EXPECT_TRUE(slot->has_slot());
  EXPECT_TRUE(ParsePlace("amp0")->has_function());
  for (const char* bad : {"", "amp0/", "amp0/slot1/fifo1", "amp0/amp1",
                          "slot1/slot2", "amp0/fifo-1", "amp0/slot1x"}) {
    EXPECT_FALSE(ParsePlace(bad).ok()) << bad;
  }
}

TEST(ParseTest, DurationsHaveUnits) {
  EXPECT_EQ(*ParseDuration("250ms"), std::chrono::milliseconds(250));
  EXPECT_EQ(*ParseDuration("1.5s"), std::chrono::milliseconds(1500));
  EXPECT_EQ(*ParseDuration("2m"), std::chrono::minutes(2));
  EXPECT_EQ(*ParseDuration("1h"), std::chrono::hours(1));
  EXPECT_EQ(*ParseDuration("3"), std::chrono::seconds(3));
  for (const char* bad : {"", "s", "-1s", "2h", "1d", "nan", "inf", "1 s"}) {
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
  }
}

TEST(ParseTest, HelpNamesCommandsAndExitCodes) {
  const Outcome help = Call({"--help"});
  EXPECT_EQ(help.code, kExitOk);
  EXPECT_THAT(help.out,
              AllOf(HasSubstr("attach"), HasSubstr("detach"), HasSubstr("list"),
                    HasSubstr("get"), HasSubstr("watch"), HasSubstr("fifos"),
                    HasSubstr("reset-fifo"), HasSubstr("--json"),
                    HasSubstr("--target"), HasSubstr("EXIT STATUS")));
  EXPECT_THAT(Call({"attach", "rng", "--help"}).out,
              HasSubstr("--max-bytes-per-period"));
}

TEST(ParseTest, WrongUsageSaysWhatIsWrong) {
  EXPECT_EQ(Call({}).code, kExitUsage);
  EXPECT_EQ(Call({"attach"}).code, kExitUsage);
  EXPECT_EQ(Call({"frobnicate"}).code, kExitUsage);
  const Outcome place = Call({"attach", "rng", "--place", "amp0//"});
  EXPECT_EQ(place.code, kExitUsage);
  EXPECT_THAT(place.err, HasSubstr("is no place"));
  const Outcome wait = Call({"attach", "rng", "--wait", "soon"});
  EXPECT_EQ(wait.code, kExitUsage);
  EXPECT_THAT(wait.err, HasSubstr("is no time"));
  EXPECT_THAT(Call({"reset-fifo", "amp0"}).err, HasSubstr("FUNCTION/fifoN"));
}

TEST(RunTest, SaysThatTheVmmCannotBeReached) {
  const Outcome outcome =
      Call({"--target", "unix:/nonexistent.sock", "--timeout", "30s", "list"});
  EXPECT_EQ(outcome.code, kExitUnreachable);
  EXPECT_THAT(outcome.err, HasSubstr("unix:/nonexistent.sock"));
}

// The tool against a real server with a fake bus.
class RunOnServerTest : public testing::Test {
 protected:
  RunOnServerTest() {
    char folder[] = "/tmp/vmsgctl-XXXXXX";
    folder_ = mkdtemp(folder);
    const std::string path = folder_ + "/control.sock";
    target_ = "--target=unix:" + path;
    loop_ = std::move(*vmm::EpollEventLoop::Create());
    bus_ = std::make_unique<control::FakeHotplugBus>(
        control::HotplugBus::Id{"amp0", 0}, loop_.get());
    manager_ = std::move(*control::DeviceManager::Create(
        loop_.get(), {bus_.get()}, {&rng_, &other_}, nullptr));
    server_ = std::move(*control::ControlServer::Start(
        {path, false}, manager_.get(), loop_.get(), nullptr));
    thread_ = std::thread([this] { loop_->Run(); });
  }
  ~RunOnServerTest() override {
    OnLoop([this] { server_.reset(); });
    loop_->Stop();
    thread_.join();
    manager_.reset();
    rmdir(folder_.c_str());
  }

  void OnLoop(std::function<void()> what) {
    std::atomic<bool> done = false;
    loop_->Post([&] {
      what();
      done = true;
    });
    while (!done) std::this_thread::yield();
  }

  Outcome Ctl(std::vector<const char*> words) {
    words.insert(words.begin(), target_.c_str());
    return Call(std::move(words));
  }

  std::string folder_;
  std::string target_;
  std::unique_ptr<vmm::EpollEventLoop> loop_;
  std::unique_ptr<control::FakeHotplugBus> bus_;
  control::FakeFactory rng_{"vmsg.control.v1alpha1.RngConfig", "rng"};
  control::FakeFactory other_{"acme.Config", "acme"};
  std::unique_ptr<control::DeviceManager> manager_;
  std::unique_ptr<control::ControlServer> server_;
  std::thread thread_;
};

TEST_F(RunOnServerTest, AttachesListsShowsAndDetaches) {
  const Outcome attach =
      Ctl({"attach", "rng", "--id", "r0", "--place", "amp0/fifo0/slot2"});
  EXPECT_EQ(attach.code, kExitOk) << attach.err;
  EXPECT_THAT(attach.out, HasSubstr("amp0/fifo0/slot2"));
  EXPECT_THAT(Ctl({"list"}).out,
              AllOf(HasSubstr("r0"), HasSubstr("PENDING_ANNOUNCE")));
  EXPECT_THAT(Ctl({"get", "r0", "--json"}).out,
              AllOf(HasSubstr("\"id\":\"r0\""), HasSubstr("\"slot\":2"),
                    HasSubstr("\"state\":\"DEVICE_STATE_PENDING_ANNOUNCE\"")));
  const Outcome detach = Ctl({"detach", "r0", "--wait", "50ms"});
  EXPECT_EQ(detach.code, kExitNotYet);
  EXPECT_THAT(detach.out, HasSubstr("REMOVING"));
  OnLoop([this] { bus_->DriverLetsGo(2); });
  EXPECT_EQ(Ctl({"get", "r0"}).code, kExitNotFound);
}

TEST_F(RunOnServerTest, ExitCodesTellErrorsApart) {
  ASSERT_EQ(Ctl({"attach", "rng", "--id", "r0"}).code, kExitOk);
  EXPECT_EQ(Ctl({"attach", "rng", "--id", "r0"}).code, kExitAlreadyExists);
  const Outcome invalid = Ctl({"attach", "rng", "--place", "slot9"});
  EXPECT_EQ(invalid.code, kExitUsage);
  EXPECT_THAT(invalid.err, HasSubstr("place.slot"));
  EXPECT_EQ(Ctl({"detach", "nobody"}).code, kExitNotFound);
  ASSERT_EQ(Ctl({"detach", "r0"}).code, kExitOk);
  EXPECT_EQ(Ctl({"detach", "r0"}).code, kExitWrongState);
  EXPECT_EQ(Ctl({"detach", "r0", "--force"}).code, kExitOk);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Ctl({"attach", "rng"}).code, kExitOk);
  }
  EXPECT_EQ(Ctl({"attach", "rng"}).code, kExitExhausted);
}

TEST_F(RunOnServerTest, WaitForTheDriverEndsWithACodeOfItsOwn) {
  const Outcome late = Ctl({"attach", "rng", "--id", "r0", "--wait", "50ms"});
  EXPECT_EQ(late.code, kExitNotYet);
  EXPECT_THAT(late.err, HasSubstr("not ready yet"));
  EXPECT_THAT(Ctl({"list"}).out, HasSubstr("r0"));
}

TEST_F(RunOnServerTest, KindOfAnEmbedderIsAttachedByItsType) {
  const Outcome outcome =
      Ctl({"attach", "other", "--type-url", "example.com/acme.Config"});
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("acme"));
}

TEST_F(RunOnServerTest, ValidateOnlyChangesNothing) {
  EXPECT_EQ(Ctl({"attach", "rng", "--id", "r0", "--validate-only"}).code,
            kExitOk);
  EXPECT_THAT(Ctl({"list"}).out, Not(HasSubstr("r0")));
}

TEST_F(RunOnServerTest, WatchPrintsEachChangeAndEndsAfterTheCount) {
  Outcome watched;
  std::thread watcher([&] {
    watched = Ctl({"watch", "--count", "2", "--json"});
  });
  // Whichever comes first, the watcher sees two changes of r0 or later.
  std::atomic<bool> ended = false;
  std::thread changer([&] {
    ASSERT_EQ(Ctl({"attach", "rng", "--id", "r0"}).code, kExitOk);
    for (uint32_t status = 1; !ended; status ^= 2) {
      OnLoop([&] { bus_->DriverWrites(0, status); });
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  watcher.join();
  ended = true;
  changer.join();
  EXPECT_EQ(watched.code, kExitOk) << watched.err;
  EXPECT_THAT(watched.out,
              AllOf(HasSubstr("DEVICE_EVENT_KIND_SYNCED"),
                    HasSubstr("DEVICE_EVENT_KIND_CHANGED"), HasSubstr("r0")));
}

TEST_F(RunOnServerTest, FifosShowABrokenOneAndResetMendsIt) {
  OnLoop([this] { bus_->Break("index out of range"); });
  EXPECT_THAT(Ctl({"fifos"}).out, HasSubstr("BROKEN (index out of range)"));
  EXPECT_EQ(Ctl({"reset-fifo", "amp0/fifo0"}).code, kExitOk);
  EXPECT_THAT(Ctl({"fifos", "--json"}).out, HasSubstr("FIFO_STATE_RUNNING"));
  EXPECT_EQ(Ctl({"reset-fifo", "amp0/fifo7"}).code, kExitUsage);
}

TEST_F(RunOnServerTest, UnresponsiveDriverShowsEverywhere) {
  ASSERT_EQ(Ctl({"attach", "rng", "--id", "r0"}).code, kExitOk);
  EXPECT_THAT(Ctl({"fifos"}).out, HasSubstr(" none "));
  EXPECT_THAT(Ctl({"fifos", "--json"}).out,
              HasSubstr("\"driver_health\":\"DRIVER_HEALTH_UNKNOWN\""));
  OnLoop([this] { bus_->FallSilent(); });
  EXPECT_THAT(Ctl({"fifos"}).out, HasSubstr(" unresponsive "));
  EXPECT_THAT(Ctl({"fifos", "--json"}).out,
              HasSubstr("\"driver_health\":\"DRIVER_HEALTH_UNRESPONSIVE\""));
  EXPECT_THAT(Ctl({"list"}).out, HasSubstr(" UNRESPONSIVE "));
  EXPECT_THAT(Ctl({"get", "r0"}).out, HasSubstr("UNRESPONSIVE (no answer)"));
  EXPECT_THAT(Ctl({"get", "r0", "--json"}).out,
              AllOf(HasSubstr("\"HEALTH_STATE_UNRESPONSIVE\""),
                    HasSubstr("\"reason\":\"no answer\"")));
  std::atomic<bool> ended = false;
  std::thread changer([&] {
    for (uint32_t status = 1; !ended; status ^= 2) {
      OnLoop([&] { bus_->DriverWrites(0, status); });
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  const Outcome watched = Ctl({"watch", "--count", "1"});
  ended = true;
  changer.join();
  EXPECT_THAT(watched.out, HasSubstr("CHANGED r0"));
  EXPECT_THAT(watched.out, HasSubstr("health=UNRESPONSIVE"));
}

}  // namespace
}  // namespace vmsg::vmsgctl
