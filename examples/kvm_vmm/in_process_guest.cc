#include "examples/kvm_vmm/in_process_guest.h"

#include <atomic>
#include <deque>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "guest/adversary/adversary_program.h"
#include "guest/adversary/thread_writer.h"
#include "guest/driver/error.h"
#include "guest/driver/testing/in_process_platform.h"
#include "guest/payload/command_line.h"
#include "guest/payload/console.h"
#include "guest/payload/entropy_program.h"
#include "vmm/base/mutex.h"
#include "vmm/boot/ram_layout.h"

namespace vmsg::example {
namespace {

// The console of the program: its commands come from Input(), its lines go out.
class ProgramConsole final : public guest::Console {
 public:
  ProgramConsole(guest::InProcessPlatform* platform,
                 GuestRunner::ConsoleOutput output)
      : platform_(platform), output_(std::move(output)) {}

  void Type(std::string_view bytes) {
    {
      vmm::MutexLock lock(&mutex_);
      typed_.insert(typed_.end(), bytes.begin(), bytes.end());
    }
    platform_->Wake();
  }
  void Close() { closed_ = true; }

  void Write(std::span<const char> line) override {
    for (const char c : line) output_(c);
  }
  bool Read(char* c) override {
    vmm::MutexLock lock(&mutex_);
    if (typed_.empty()) return false;
    *c = typed_.front();
    typed_.pop_front();
    return true;
  }
  bool closed() override { return closed_; }
  uint64_t sleeps() override { return platform_->sleeps(); }

 private:
  guest::InProcessPlatform* const platform_;
  GuestRunner::ConsoleOutput output_;
  std::atomic<bool> closed_{false};
  vmm::Mutex mutex_;
  std::deque<char> typed_ ABSL_GUARDED_BY(mutex_);
};

// Until the program ends; what it returns is whether all went well.
absl::AnyInvocable<bool()> MakeProgram(
    InProcessProgram program, const guest::EntropyProgramOptions& options,
    guest::Platform* platform, guest::Console* console) {
  if (program == InProcessProgram::kAdversary) {
    auto writer = std::make_unique<guest::ThreadWriter>();
    auto adversary = std::make_unique<guest::AdversaryProgram>(
        platform, console, writer.get());
    return [writer = std::move(writer), adversary = std::move(adversary)] {
      return adversary->Run();
    };
  }
  return [entropy = std::make_unique<guest::EntropyProgram>(
              platform, console, options)] { return entropy->Run(); };
}

class InProcessGuest final : public GuestRunner {
 public:
  InProcessGuest(InProcessProgram program,
                 const guest::EntropyProgramOptions& options,
                 std::unique_ptr<guest::InProcessPlatform> platform,
                 ConsoleOutput console)
      : platform_(std::move(platform)),
        console_(platform_.get(), std::move(console)),
        program_(MakeProgram(program, options, platform_.get(), &console_)) {}
  ~InProcessGuest() override { Stop(); }

  std::string_view accel() const override { return "in-process"; }
  vmm::MmioBus* mmio() override { return platform_->mmio(); }
  vmm::PioBus* pio() override { return nullptr; }
  vmm::InterruptController* interrupts() override {
    return platform_->interrupts();
  }
  vmm::GuestMemory* memory() override { return platform_->memory(); }

  absl::Status Start(EndCallback on_end) override {
    thread_ = std::thread([this, on_end = std::move(on_end)]() mutable {
      const bool ok = program_();
      on_end({ok, ok ? "" : "its program reported an error"});
    });
    return absl::OkStatus();
  }

  void Input(std::string_view bytes) override { console_.Type(bytes); }

  void Stop() override {
    if (!thread_.joinable()) return;
    console_.Close();
    platform_->Shutdown();
    thread_.join();
  }

  std::vector<std::pair<std::string, uint64_t>> exits() const override {
    return {};
  }

 private:
  const std::unique_ptr<guest::InProcessPlatform> platform_;
  ProgramConsole console_;
  absl::AnyInvocable<bool()> program_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GuestRunner>> CreateInProcessGuest(
    InProcessProgram program, std::string_view command_line,
    uint64_t memory_bytes, GuestRunner::ConsoleOutput console) {
  guest::EntropyProgramOptions program_options;
  if (guest::ApplyCommandLine(command_line, &program_options) !=
      guest::Error::kNone) {
    return absl::InvalidArgumentError(
        absl::StrCat("the guest's program does not know what \"",
                     std::string(command_line), "\" means"));
  }
  // What lies above the hole for PCI would be of no use to the program.
  const absl::StatusOr<vmm::RamLayout> ram =
      vmm::ComputeRamLayout(memory_bytes);
  if (!ram.ok()) return ram.status();
  guest::InProcessPlatform::Options options;
  options.ram = ram->low;
  options.ecam = kEcamBase;
  absl::StatusOr<std::unique_ptr<guest::InProcessPlatform>> platform =
      guest::InProcessPlatform::Create(std::move(options));
  if (!platform.ok()) return platform.status();
  return std::make_unique<InProcessGuest>(
      program, program_options, std::move(*platform), std::move(console));
}

}  // namespace vmsg::example
