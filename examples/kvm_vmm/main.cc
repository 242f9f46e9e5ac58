// A whole virtual machine monitor around the vmsg library: the embedder's view.
// docs/embedding.md walks through it.

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/factories/rng_factory.h"
#include "examples/kvm_vmm/entropy_log.h"
#include "examples/kvm_vmm/in_process_guest.h"
#include "examples/kvm_vmm/kvm_guest.h"
#include "examples/kvm_vmm/machine.h"
#include "examples/kvm_vmm/options.h"
#include "examples/kvm_vmm/stats.h"
#include "vmm/base/stream_log_sink.h"
#include "vmm/control/control_server.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/kvm/kvm_vm.h"

namespace vmsg::example {
namespace {

// Of each thread, those of gRPC too. In a stack of 2 MiB or more, which is the
// default, the kernel may make one touched page a huge one: 2 MiB of memory for
// each thread, on a host with transparent huge pages for all.
constexpr size_t kStackBytes = 1 << 20;

void LimitStacks() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

int Fail(const absl::Status& status) {
  std::cerr << "kvm_vmm: " << status << "\n";
  return 1;
}

void PrintConsole(char c) {
  std::cout << c;
  if (c == '\n') std::cout << std::flush;
}

// KVM where it can be opened. A KVM that opens and then fails is an error.
absl::StatusOr<std::unique_ptr<GuestRunner>> CreateGuest(
    const Options& options) {
  if (options.accel != Accel::kInProcess) {
    absl::StatusOr<std::unique_ptr<GuestRunner>> guest =
        CreateKvmGuest({.kernel = options.kernel,
                        .initrd = options.initrd,
                        .command_line = options.command_line,
                        .vcpus = options.vcpus},
                       options.memory_bytes, PrintConsole);
    if (guest.ok() || options.accel == Accel::kKvm ||
        !vmm::KvmVm::CannotBeOpened(guest.status())) {
      return guest;
    }
    std::cerr << "kvm_vmm: " << guest.status().message()
              << "; the guest runs in-process instead\n";
  }
  return CreateInProcessGuest(options.in_process_program, options.command_line,
                              options.memory_bytes, PrintConsole);
}

// Standard input goes to the guest's console. A file can't be watched, and need
// not be: it is all there. Of one without an end (/dev/zero) the beginning will
// do.
class ConsoleInput {
 public:
  ConsoleInput(GuestRunner* guest, vmm::EventLoop* loop) : guest_(guest) {
    auto watch = loop->Watch(STDIN_FILENO, vmm::FdEvents::kReadable,
                             [this](vmm::FdEvents) { Read(); });
    if (watch.ok()) {
      watch_ = std::move(*watch);
    } else {
      for (int reads = 0; reads < kMaxFileReads && Read(); ++reads) continue;
    }
  }

 private:
  static constexpr int kMaxFileReads = 1024;

  bool Read() {
    char buffer[256];
    const ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (n > 0) {
      guest_->Input(std::string_view(buffer, static_cast<size_t>(n)));
      return true;
    }
    if (n == 0 && watch_ != nullptr) watch_->SetEvents(vmm::FdEvents::kNone);
    return n < 0 && errno == EINTR;
  }

  GuestRunner* const guest_;
  std::unique_ptr<vmm::FdWatch> watch_;
};

// Plugs the devices of the command line, the way an operator would.
absl::Status ColdPlug(const std::vector<control::AttachRequest>& requests,
                      control::DeviceManager* manager,
                      vmm::EpollEventLoop* control_loop) {
  absl::Status result;
  size_t missing = requests.size();
  for (const control::AttachRequest& request : requests) {
    manager->Attach(request, [&](control::OperationStatus status,
                                 const control::DeviceRecord&) {
      result.Update(status.ToStatus());
      --missing;
    });
  }
  while (missing != 0) control_loop->RunOnce(vmm::Duration(-1));
  return result;
}

// Runs the guest, again each time that it asks for a reboot, until it is over;
// then stops the loop. Everything is borrowed.
class Life {
 public:
  Life(GuestRunner* guest, Machine* machine, vmm::EpollEventLoop* loop)
      : guest_(guest), machine_(machine), loop_(loop) {}
  // Before the devices go, on every way out.
  ~Life() { guest_->Stop(); }

  absl::Status Start() {
    return guest_->Start([this](GuestEnd end) {
      loop_->Post([this, end = std::move(end)] { OnEnd(end); });
    });
  }
  const GuestEnd& end() const { return end_; }

 private:
  void OnEnd(const GuestEnd& end) {
    end_ = end;
    if (end.reboot) {
      guest_->Stop();
      absl::Status status = machine_->Reset();
      if (status.ok()) status = Start();
      if (status.ok()) return;
      end_ = {.detail = absl::StrCat("rebooting: ", status.ToString())};
    }
    loop_->Stop();
  }

  GuestRunner* const guest_;
  Machine* const machine_;
  vmm::EpollEventLoop* const loop_;
  GuestEnd end_{.detail = "interrupted"};
};

int RunVmm(const Options& options) {
  // Before any thread is there, so that all of them inherit it.
  LimitStacks();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  const vmm::UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC));

  vmm::StreamLogSink log(STDERR_FILENO);
  EntropyLog entropy(options.entropy_record);
  devices::RngFactory rng([&entropy] { return entropy.NewSource(); });

  auto loop = vmm::EpollEventLoop::Create();
  if (!loop.ok()) return Fail(loop.status());
  vmm::EpollEventLoop* const control_loop = loop->get();
  auto guest = CreateGuest(options);
  if (!guest.ok()) return Fail(guest.status());
  auto machine = Machine::Create(options.functions, guest->get(), {&rng},
                                 control_loop, &log);
  if (!machine.ok()) return Fail(machine.status());
  (*machine)->Start();
  if (absl::Status status =
          ColdPlug(options.devices, (*machine)->manager(), control_loop);
      !status.ok()) {
    return Fail(status);
  }

  auto interrupted = control_loop->Watch(
      signal_fd.get(), vmm::FdEvents::kReadable,
      [control_loop](vmm::FdEvents) { control_loop->Stop(); });
  if (!interrupted.ok()) return Fail(interrupted.status());
  std::optional<Life> life(std::in_place, guest->get(), machine->get(),
                           control_loop);
  if (absl::Status status = life->Start(); !status.ok()) return Fail(status);

  // After the guest has its first instruction: gRPC takes its time to start.
  std::unique_ptr<control::ControlServer> server;
  if (!options.control_path.empty()) {
    auto started = control::ControlServer::Start(
        {options.control_path, options.reflection}, (*machine)->manager(),
        control_loop, &log);
    if (!started.ok()) return Fail(started.status());
    server = std::move(*started);
  }
  const ConsoleInput console(guest->get(), control_loop);
  control_loop->Run();

  const GuestEnd end = life->end();
  life.reset();
  server.reset();
  std::cout << std::flush;
  PrintViolations(**machine);
  if (!options.stats_file.empty()) {
    std::ofstream stats(options.stats_file);
    stats << StatsJson(**guest, **machine, entropy, end) << "\n";
    if (!stats.flush()) {
      return Fail(absl::UnknownError(
          absl::StrCat("cannot write ", options.stats_file)));
    }
  }
  machine->reset();
  if (!end.ok) std::cerr << "kvm_vmm: the guest failed: " << end.detail << "\n";
  return end.ok ? 0 : 1;
}

}  // namespace
}  // namespace vmsg::example

int main(int argc, char** argv) {
  const vmsg::example::ParsedOptions parsed =
      vmsg::example::ParseOptions(argc, argv);
  std::cout << parsed.output;
  std::cerr << parsed.error;
  if (!parsed.options.has_value()) return parsed.exit_code;
  return vmsg::example::RunVmm(*parsed.options);
}
