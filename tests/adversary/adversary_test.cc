// The whole catalogue of guest/adversary against the real device, in-process,
// in each layout.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "devices/virtio/testing/dummy_device.h"
#include "gtest/gtest.h"
#include "guest/adversary/adversary_program.h"
#include "guest/adversary/bench.h"
#include "guest/adversary/case.h"
#include "guest/adversary/catalogue.h"
#include "guest/adversary/thread_writer.h"
#include "guest/payload/console.h"
#include "tests/in_process/in_process_machine.h"

namespace vmsg {
namespace {

constexpr size_t kLeastCases = 150;
constexpr std::string_view kPrefix = "vmsg-guest: ";

size_t OpenFiles() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

// Plays the operator: resets FIFOs when asked to, and looks after each case
// whether files were left open. All on the program's thread.
class OperatorConsole final : public guest::Console {
 public:
  OperatorConsole(InProcessMachine* machine, std::string_view pattern)
      : machine_(machine) {
    Say(absl::StrCat("run ", std::string(pattern)));
  }

  void Write(std::span<const char> text) override {
    const std::string line(text.begin(), text.end());
    const auto starts = [&line](std::string_view word) {
      return line.starts_with(
          absl::StrCat(std::string(kPrefix), std::string(word)));
    };
    if (starts("want operator=reset-fifo function=0 fifo=0")) {
      machine_->RunOn(0, 0,
                      [this] { machine_->function(0)->bus(0)->ResetBus(); });
      return Say("done");
    }
    if (starts("ready ")) {
      open_files_ = OpenFiles();
      return Say("next");
    }
    if (starts("error ")) ADD_FAILURE() << line;
    if (!starts("case ")) return;
    names_.push_back(Value(line, "group") + "/" + Value(line, "name"));
    if (line.find(" result=fail") != std::string::npos) ADD_FAILURE() << line;
    watched_ += line.find(" watched=") == std::string::npos
                    ? 0
                    : std::stoull(Value(line, "watched"));
    if (line.find(" result=skipped") != std::string::npos) {
      ADD_FAILURE() << "all that a case may need is here: " << line;
    } else {
      EXPECT_EQ(OpenFiles(), open_files_) << line;
    }
    Say("next");
  }
  bool Read(char* c) override {
    if (input_.empty()) return false;
    *c = input_.front();
    input_.pop_front();
    return true;
  }
  bool closed() override { return false; }
  uint64_t sleeps() override { return 0; }

  // How often the controls answered in the middle of cases.
  uint64_t watched() const { return watched_; }
  // GROUP/NAME of the cases that are over, skipped ones included.
  const std::vector<std::string>& names() const { return names_; }

 private:
  static std::string Value(const std::string& line, const std::string& key) {
    const size_t at = line.find(" " + key + "=") + key.size() + 2;
    return line.substr(at, line.find(' ', at) - at);
  }

  void Say(std::string_view line) {
    input_.insert(input_.end(), line.begin(), line.end());
    input_.push_back('\n');
    machine_->platform()->Wake();
  }

  InProcessMachine* const machine_;
  std::deque<char> input_;
  size_t open_files_ = 0;
  uint64_t watched_ = 0;
  std::vector<std::string> names_;
};

class AdversaryTest
    : public testing::TestWithParam<std::tuple<amp::FifoLayout, uint32_t>> {};

TEST_P(AdversaryTest, EachCaseEndsAsItsRowSays) {
  const auto [layout, index] = GetParam();
  InProcessMachine machine({.functions = 2,
                            .num_fifos = 2,
                            .fifo_layout = layout,
                            .threads = true,
                            .hostile_fifos = 1});
  machine.Attach(0, 0, 5);
  machine.Attach(0, 1, 0);
  machine.Attach(1, 0, 31);
  machine.Plug(0, 0, 6, [](vmm::EventLoop* loop) {
    return std::make_unique<virtio::DummyDevice>(
        virtio::DummyOptions{.config_size = guest::Bench::kConfigBytes}, loop);
  });
  OperatorConsole console(&machine, guest::CatalogueGroup(index).name);
  guest::ThreadWriter second_writer;
  auto program = std::make_unique<guest::AdversaryProgram>(
      machine.platform(), &console, &second_writer);
  EXPECT_TRUE(program->Run());
  // The controls were asked in the middle of what goes on for a while.
  const std::string_view name = guest::CatalogueGroup(index).name;
  if (name == "flood" || name.starts_with("race-")) {
    EXPECT_GE(console.watched(), guest::CatalogueGroup(index).cases.size());
  }
}

// Each group in each layout that it is for.
std::vector<AdversaryTest::ParamType> AllGroups() {
  std::vector<AdversaryTest::ParamType> all;
  for (const amp::FifoLayout layout :
       {amp::FifoLayout::kSpsc, amp::FifoLayout::kShmemV1,
        amp::FifoLayout::kShmemV1Packed}) {
    const guest::Layout other = layout == amp::FifoLayout::kSpsc
                                    ? guest::Layout::kShmem
                                    : guest::Layout::kSpsc;
    for (uint32_t i = 0; i < guest::CatalogueGroups(); ++i) {
      if (guest::CatalogueGroup(i).layout != other) all.push_back({layout, i});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(
    Groups, AdversaryTest, testing::ValuesIn(AllGroups()),
    [](const testing::TestParamInfo<AdversaryTest::ParamType>& row) {
      const std::string group =
          guest::CatalogueGroup(std::get<1>(row.param)).name;
      return absl::StrCat(LayoutTestName({std::get<0>(row.param), row.index}),
                          "_", absl::StrReplaceAll(group, {{"-", "_"}}));
    });

// Whoever had to end a guest that did not come back goes on like this.
TEST(AfterTest, RunsWhatComesBehindACaseAndIsInThePattern) {
  InProcessMachine machine(
      {.functions = 2, .num_fifos = 2, .threads = true, .hostile_fifos = 1});
  machine.Attach(0, 0, 5);
  machine.Attach(0, 1, 0);
  machine.Attach(1, 0, 31);
  const guest::Group group = guest::CatalogueGroup(0);
  const size_t last = group.cases.size() - 1;
  const auto name = [&group](size_t i) {
    return absl::StrCat(group.name, "/", group.cases[i].name);
  };
  OperatorConsole console(&machine,
                          absl::StrCat(group.name, " after ", name(last - 2)));
  auto program = std::make_unique<guest::AdversaryProgram>(machine.platform(),
                                                           &console, nullptr);
  EXPECT_TRUE(program->Run());
  EXPECT_EQ(console.names(),
            (std::vector<std::string>{name(last - 1), name(last)}));
}

TEST(CatalogueTest, NamesAreUniqueAndThereAreEnough) {
  std::set<std::string> names;
  size_t cases = 0;
  for (uint32_t i = 0; i < guest::CatalogueGroups(); ++i) {
    const guest::Group group = guest::CatalogueGroup(i);
    for (const guest::Case& one : group.cases) {
      names.insert(absl::StrCat(group.name, "/", one.name));
      ++cases;
    }
  }
  EXPECT_EQ(names.size(), cases);
  EXPECT_GE(cases, kLeastCases);
}

}  // namespace
}  // namespace vmsg
