#include "tests/in_process/in_process_machine.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "devices/virtio/rng/backend.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "vmm/base/check.h"

namespace vmsg {
namespace {

constexpr vmm::GuestAddress kEcam{0xE0000000};
constexpr vmm::GuestRange kWindow{{0xC0000000}, 0x10000000};

// Longer than the pacing of events, so that all news is out.
constexpr vmm::Duration kQuiet = std::chrono::milliseconds(300);
constexpr vmm::Duration kTick = std::chrono::milliseconds(1);

// Only a failing test waits that long.
constexpr auto kPatience = std::chrono::seconds(60);

template <typename T>
T Must(absl::StatusOr<T> value) {
  VMSG_CHECK(value.ok());
  return *std::move(value);
}

}  // namespace

// Counts what it hands out: its device may be gone when the test asks.
struct InProcessMachine::Attached {
  uint32_t function;
  uint32_t fifo;
  uint32_t slot;
  uint64_t generation;
  virtio::RngDevice* device = nullptr;  // null after removal began
  virtio::RngStats last;
  vmm::Mutex mutex;
  bool gone ABSL_GUARDED_BY(mutex) = false;
};

InProcessMachine::InProcessMachine(const MachineOptions& options)
    : options_(options) {
  guest::InProcessPlatform::Options platform;
  platform.ecam = kEcam;
  platform.with_doorbells = options.with_doorbells;
  platform.with_iommu = options.with_iommu;
  if (!options.assign_bars) platform.pci_window = kWindow;
  if (!options.threads) {
    platform.clock = &manual_loop_.clock();
    platform.pump = [this](vmm::Duration max) { Pump(max); };
  }
  platform_ = Must(guest::InProcessPlatform::Create(std::move(platform)));

  vmm::PciHostBridge::Options pci;
  pci.ecam = kEcam;
  pci.window_32bit = kWindow;
  bridge_ = Must(vmm::PciHostBridge::Create(pci, platform_->mmio(), nullptr,
                                            platform_->interrupts()));
  for (uint32_t f = 0; f < options.functions; ++f) {
    std::vector<vmm::EventLoop*> loops;
    for (uint32_t n = 0; n < options.num_fifos; ++n) {
      if (!options.threads) {
        loops.push_back(&manual_loop_);
        continue;
      }
      loops_.push_back(Must(vmm::EpollEventLoop::Create()));
      loops.push_back(loops_.back().get());
    }
    amp::AmpPciOptions amp;
    amp.id = absl::StrCat("amp", f);
    amp.num_fifos = options.num_fifos;
    amp.fifo_layout = options.fifo_layout;
    amp.wire_monitor = true;
    amp.translator =
        options.with_iommu ? platform_->iommu() : options.translator;
    amp.allow_untranslated = options.allow_untranslated;
    functions_.push_back(Must(amp::AmpPciDevice::Create(
        amp, platform_->memory(), std::move(loops), nullptr)));
    Must(bridge_->Add(functions_.back().get()));
  }
  if (options.assign_bars) VMSG_CHECK(bridge_->AssignBars().ok());
  for (const auto& loop : loops_) {
    threads_.emplace_back([loop = loop.get()] { loop->Run(); });
  }
}

InProcessMachine::~InProcessMachine() {
  for (const auto& loop : loops_) loop->Stop();
  for (std::thread& thread : threads_) thread.join();
  for (const auto& function : functions_) {
    for (uint32_t n = 0; n < function->num_fifos(); ++n) {
      if (function == functions_[0] && n < options_.hostile_fifos) continue;
      ExpectNoViolations(*function, n);
    }
  }
  bridge_.reset();
  functions_.clear();
}

void InProcessMachine::ExpectNoViolations(const amp::AmpPciDevice& function,
                                          uint32_t n) const {
  for (size_t i = 0; i < msg::kNumRows; ++i) {
    const msg::Row row = static_cast<msg::Row>(i);
    if (std::find(allowed_.begin(), allowed_.end(), row) != allowed_.end()) {
      continue;
    }
    EXPECT_EQ(function.wire_monitor(n)->count(row), 0u)
        << "the driver of " << function.id() << "/fifo" << n << " breaks "
        << msg::RowId(row);
  }
}

void InProcessMachine::Pump(vmm::Duration max) {
  if (manual_loop_.RunUntilIdle() != 0) {
    idle_ = vmm::Duration::zero();
    return;
  }
  const bool forever = max > std::chrono::hours(24);
  if (!forever || idle_ < kQuiet) {
    const vmm::Duration step = std::min(max, kTick);
    manual_loop_.AdvanceTime(step);
    idle_ += step;
    return;
  }
  idle_ = vmm::Duration::zero();
  VMSG_CHECK(!steps_.empty());  // the driver would sleep for ever
  absl::AnyInvocable<void()> next = std::move(steps_.front());
  steps_.pop_front();
  next();
}

void InProcessMachine::RunOn(uint32_t function, uint32_t fifo,
                             absl::AnyInvocable<void()> task) {
  vmm::EventLoop* const loop = functions_[function]->bus(fifo)->loop();
  if (!options_.threads) {
    task();
    return;
  }
  std::promise<void> done;
  VMSG_CHECK(loop->Post([&task, &done] {
    task();
    done.set_value();
  }));
  done.get_future().wait();
}

InProcessMachine::Attached* InProcessMachine::Find(uint32_t function,
                                                   uint32_t fifo,
                                                   uint32_t slot) {
  for (auto it = attached_.rbegin(); it != attached_.rend(); ++it) {
    if ((*it)->function == function && (*it)->fifo == fifo &&
        (*it)->slot == slot) {
      return it->get();
    }
  }
  VMSG_CHECK(false);
  return nullptr;
}

void InProcessMachine::Attach(uint32_t function, uint32_t fifo, uint32_t slot,
                              const virtio::RngOptions& options) {
  attached_.push_back(std::make_unique<Attached>());
  Attached* const attached = attached_.back().get();
  attached->function = function;
  attached->fifo = fifo;
  attached->slot = slot;
  attached->generation =
      Plug(function, fifo, slot, [attached, &options](vmm::EventLoop* loop) {
        std::unique_ptr<virtio::RngDevice> device =
            Must(virtio::RngDevice::Create(
                options, virtio::CreateGetrandomSource(), loop));
        attached->device = device.get();
        return device;
      });
}

uint64_t InProcessMachine::Plug(
    uint32_t function, uint32_t fifo, uint32_t slot,
    absl::AnyInvocable<std::unique_ptr<virtio::VirtioDevice>(vmm::EventLoop*)>
        make) {
  const uint64_t generation = next_generation_++;
  RunOn(function, fifo, [&] {
    control::HotplugBus* const bus = functions_[function]->bus(fifo);
    VMSG_CHECK(
        bus->Plug(slot, generation,
                  std::make_unique<amp::VirtioPluggable>(make(bus->loop())))
            .ok());
  });
  return generation;
}

void InProcessMachine::Detach(uint32_t function, uint32_t fifo, uint32_t slot,
                              bool forced) {
  Attached* const attached = Find(function, fifo, slot);
  RunOn(function, fifo, [this, attached, forced] {
    attached->last = attached->device->stats();
    attached->device = nullptr;
    control::RemoveOptions options;
    options.forced = forced;
    VMSG_CHECK(functions_[attached->function]
                   ->bus(attached->fifo)
                   ->Unplug(attached->slot, attached->generation, options,
                            [attached] {
                              vmm::MutexLock lock(&attached->mutex);
                              attached->gone = true;
                            })
                   .ok());
  });
}

bool InProcessMachine::gone(uint32_t function, uint32_t fifo, uint32_t slot) {
  Attached* const attached = Find(function, fifo, slot);
  vmm::MutexLock lock(&attached->mutex);
  return attached->gone;
}

virtio::RngStats InProcessMachine::rng_stats(uint32_t function, uint32_t fifo,
                                             uint32_t slot) {
  Attached* const attached = Find(function, fifo, slot);
  virtio::RngStats stats;
  RunOn(function, fifo, [attached, &stats] {
    stats = attached->device != nullptr ? attached->device->stats()
                                        : attached->last;
  });
  return stats;
}

control::SlotReport InProcessMachine::slot_report(uint32_t function,
                                                  uint32_t fifo,
                                                  uint32_t slot) {
  control::SlotReport report;
  RunOn(function, fifo,
        [&] { report = functions_[function]->bus(fifo)->slot_report(slot); });
  return report;
}

// --- TestConsole. ---

void TestConsole::Type(std::string_view text) {
  {
    vmm::MutexLock lock(&mutex_);
    input_.insert(input_.end(), text.begin(), text.end());
  }
  platform_->Wake();
}

void TestConsole::Close() {
  {
    vmm::MutexLock lock(&mutex_);
    closed_ = true;
  }
  platform_->Wake();
}

void TestConsole::Write(std::span<const char> line) {
  vmm::MutexLock lock(&mutex_);
  lines_.emplace_back(line.begin(), line.end());
  changed_.NotifyAll();
}

bool TestConsole::Read(char* c) {
  vmm::MutexLock lock(&mutex_);
  if (input_.empty()) return false;
  *c = input_.front();
  input_.pop_front();
  return true;
}

bool TestConsole::closed() {
  vmm::MutexLock lock(&mutex_);
  return closed_;
}

std::string TestConsole::output() const {
  vmm::MutexLock lock(&mutex_);
  std::string result;
  for (const std::string& line : lines_) result += line;
  return result;
}

namespace {

std::string Prefix(std::string_view word) {
  return absl::StrCat("vmsg-guest: ", std::string(word), " ");
}

}  // namespace

size_t TestConsole::LinesLocked(std::string_view word) const {
  const std::string prefix = Prefix(word);
  return static_cast<size_t>(std::count_if(
      lines_.begin(), lines_.end(),
      [&](const std::string& l) { return l.starts_with(prefix); }));
}

size_t TestConsole::Lines(std::string_view word) const {
  vmm::MutexLock lock(&mutex_);
  return LinesLocked(word);
}

bool TestConsole::WaitForLines(std::string_view word, size_t count) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  vmm::MutexLock lock(&mutex_);
  while (LinesLocked(word) < count) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) return false;
    changed_.WaitFor(&mutex_, left);
  }
  return true;
}

std::string TestConsole::Value(std::string_view word,
                               std::string_view key) const {
  const std::string prefix = Prefix(word);
  const std::string name = absl::StrCat(" ", std::string(key), "=");
  vmm::MutexLock lock(&mutex_);
  for (auto line = lines_.rbegin(); line != lines_.rend(); ++line) {
    if (!line->starts_with(prefix)) continue;
    const size_t at = line->find(name);
    if (at == std::string::npos) return "";
    const size_t begin = at + name.size();
    return line->substr(begin, line->find_first_of(" \n", begin) - begin);
  }
  return "";
}

std::string HexDigest(uint64_t digest) {
  return absl::StrFormat("0x%016x", digest);
}

}  // namespace vmsg
