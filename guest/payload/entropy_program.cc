#include "guest/payload/entropy_program.h"

#include "guest/driver/message.h"

namespace vmsg::guest {
namespace {

// FNV-1a, 64 bit.
constexpr uint64_t kFnvStart = 0xcbf29ce484222325;
constexpr uint64_t kFnvPrime = 0x100000001b3;

uint64_t Fnv1a(uint64_t digest, std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) {
    digest = (digest ^ static_cast<uint64_t>(b)) * kFnvPrime;
  }
  return digest;
}

constexpr uint32_t kStatusRunning =
    kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk;

}  // namespace

EntropyProgram::EntropyProgram(Platform* platform, Console* console,
                               const EntropyProgramOptions& options)
    : platform_(platform), console_(console), options_(options) {}

bool EntropyProgram::Run() {
  Print(Line("start").Number("version", 1));
  ListFunctions();
  uint32_t buses = 0;
  uint32_t devices = 0;
  for (uint32_t f = 0; f < num_functions_; ++f) {
    for (uint32_t n = 0; n < functions_[f].amp.num_fifos(); ++n) {
      OpenChannel(f, n);
      devices += Enumerate(f, n);
      ++buses;
    }
  }
  Print(Line("ready")
            .Number("functions", num_functions_)
            .Number("buses", buses)
            .Number("devices", devices));

  while (!power_off_ && !console_->closed()) {
    const uint64_t seen = platform_->InterruptCount(kAnyInterrupt);
    if (Work() || power_off_) continue;
    platform_->WaitForInterrupt(kAnyInterrupt, seen, kNoDeadline);
  }

  for (Device& device : devices_) {
    if (device.state == Device::State::kStarted ||
        device.state == Device::State::kFailed) {
      Release(&device);
    }
  }
  Report();
  for (uint32_t f = 0; f < num_functions_; ++f) {
    for (uint32_t n = 0; n < functions_[f].amp.num_fifos(); ++n) {
      functions_[f].channels[n].fifo->Detach();
    }
    functions_[f].amp.Close();
  }
  Print(Line("end").Text("result", failed_ ? "fail" : "ok"));
  return !failed_;
}

// --- Start-up. ---

void EntropyProgram::ListFunctions() {
  class Printer final : public PciVisitor {
   public:
    explicit Printer(EntropyProgram* program) : program_(program) {}
    bool Visit(const PciFunctionInfo& info) override {
      program_->Print(Line("pci")
                          .PciAddress(info.where.device, info.where.function)
                          .Hex("vendor", info.vendor_id, 4)
                          .Hex("device", info.device_id, 4)
                          .Hex("class", info.class_code, 6));
      return true;
    }

   private:
    EntropyProgram* const program_;
  };
  Printer printer(this);
  VisitPciFunctions(platform_, &printer);

  std::array<PciLocation, kMaxFunctions> found;
  const uint32_t count =
      FindPciFunctions(platform_, kAmpVendorId, kAmpDeviceId, found);
  if (count > kMaxFunctions) Fail("functions", Error::kNoMemory);
  for (uint32_t i = 0; i < count && i < kMaxFunctions; ++i) {
    OpenFunction(found[i]);
  }
}

void EntropyProgram::OpenFunction(PciLocation where) {
  AmpFunction& amp = functions_[num_functions_].amp;
  if (const Error error = amp.Open(platform_, where); error != Error::kNone) {
    return Fail("function", error);
  }
  Print(Line("function")
            .Number("function", num_functions_)
            .PciAddress(where.device, where.function)
            .Hex("version", amp.version())
            .Number("fifos", amp.num_fifos())
            .Number("vectors", amp.vectors()));
  ++num_functions_;
}

void EntropyProgram::OpenChannel(uint32_t function, uint32_t fifo) {
  AmpFunction& amp = functions_[function].amp;
  Channel& channel = functions_[function].channels[fifo];
  channel.fifo = channel.window.Open(amp.window(fifo));
  channel.bus.emplace(platform_, channel.fifo,
                      BusOptions{.doorbell_address = amp.doorbell_address(fifo),
                                 .interrupt = amp.interrupt(fifo).id,
                                 .timeout_ns = options_.timeout_ns});
  const Error error =
      JoinFifo(platform_, channel.fifo, amp.doorbell_address(fifo),
               amp.interrupt(fifo).id, options_.timeout_ns);
  if (error != Error::kNone) {
    channel.dead = true;
    FailAt("fifo", error, {function, fifo, 0});
  }
}

uint32_t EntropyProgram::Enumerate(uint32_t function, uint32_t fifo) {
  Channel& channel = functions_[function].channels[fifo];
  if (channel.dead) return 0;
  uint32_t present;
  if (const Error error = channel.bus->Enumerate(&present);
      error != Error::kNone) {
    FailAt("enumerate", error, {function, fifo, 0});
    return 0;
  }
  Print(Line("bus")
            .Number("function", function)
            .Number("fifo", fifo)
            .Hex("present", present, 8));
  uint32_t count = 0;
  for (uint16_t slot = 0; slot < Bus::kDeviceNumbers; ++slot) {
    const Place place{function, fifo, slot};
    if ((present >> slot & 1) != 0) {
      ++count;
      Ready(place);
    } else if (Device* device = Find(place)) {
      Release(device);  // its REMOVED was lost
    }
  }
  return count;
}

// --- Work. ---

bool EntropyProgram::Work() {
  bool worked = false;
  for (uint32_t f = 0; f < num_functions_; ++f) {
    for (uint32_t n = 0; n < functions_[f].amp.num_fifos(); ++n) {
      worked |= WorkOnChannel(f, n);
    }
  }
  worked |= WorkOnDevices();
  worked |= WorkOnCommands();
  return worked;
}

bool EntropyProgram::WorkOnChannel(uint32_t function, uint32_t fifo) {
  Channel& channel = functions_[function].channels[fifo];
  if (channel.dead) return false;
  if (const Error error = channel.bus->Poll(); error != Error::kNone) {
    channel.dead = true;
    FailAt("fifo", error, {function, fifo, 0});
    return true;
  }
  bool worked = false;
  if (channel.bus->TakeEventsLost()) {
    worked = true;
    Enumerate(function, fifo);
  }
  DeviceEvent event;
  while (channel.bus->TakeDeviceEvent(&event)) {
    worked = true;
    HandleEvent({function, fifo, event.number}, event.state);
  }
  return worked;
}

bool EntropyProgram::WorkOnDevices() {
  bool worked = false;
  for (Device& device : devices_) {
    if (device.state != Device::State::kStarted ||
        !device.virtio.needs_reset() || channel(device.place).dead) {
      continue;
    }
    // It asked for a reset: start over. One that can't be started again is left
    // for the operator.
    worked = true;
    if (const Error error = device.virtio.Reset(); error != Error::kNone) {
      FailAt("reset", error, device.place);
      device.state = Device::State::kFailed;
      continue;
    }
    device.arena.Reset();
    Start(&device);
  }
  return worked;
}

bool EntropyProgram::WorkOnCommands() {
  char c;
  Command command;
  bool worked = false;
  while (!power_off_ && console_->Read(&c)) {
    worked = true;
    if (commands_.Add(c, &command)) Execute(command);
  }
  return worked;
}

void EntropyProgram::HandleEvent(const Place& place, uint16_t state) {
  Line line = PlaceLine("event", place);
  if (state == kDeviceReady) {
    Print(line.Text("state", "ready"));
    Ready(place);
  } else if (state == kDeviceRemoved) {
    Print(line.Text("state", "removed"));
    if (Device* device = Find(place)) Release(device);
  } else {
    Print(line.Number("state", state));  // not for us
  }
}

void EntropyProgram::Execute(const Command& command) {
  switch (command.kind) {
    case Command::Kind::kUnknown:
      return Fail("command", Error::kInvalidArgument);
    case Command::Kind::kReport:
      return Report();
    case Command::Kind::kPowerOff:
      power_off_ = true;
      return;
    case Command::Kind::kRead:
      for (Device& device : devices_) {
        if (device.state == Device::State::kStarted) {
          Read(&device, command.bytes);
        }
      }
      return;
    case Command::Kind::kPing:
      for (uint32_t f = 0; f < num_functions_; ++f) {
        for (uint32_t n = 0; n < functions_[f].amp.num_fifos(); ++n) {
          Channel& channel = functions_[f].channels[n];
          const Error error = channel.dead ? Error::kFifoBroken
                                           : channel.bus->Ping(f << 16 | n);
          if (error != Error::kNone) failed_ = true;
          Print(Line("ping")
                    .Number("function", f)
                    .Number("fifo", n)
                    .Text("result",
                          error == Error::kNone ? "ok" : ErrorName(error)));
        }
      }
      return;
  }
}

// --- Devices. ---

EntropyProgram::Device* EntropyProgram::Find(const Place& place) {
  for (Device& device : devices_) {
    if ((device.state == Device::State::kStarted ||
         device.state == Device::State::kFailed) &&
        device.place == place) {
      return &device;
    }
  }
  return nullptr;
}

EntropyProgram::Device* EntropyProgram::Allocate(const Place& place) {
  for (Device& device : devices_) {
    if (device.state != Device::State::kFree) continue;
    if (device.arena.size() == 0) {
      device.arena =
          platform_->dma_arena()->Carve(Rng::ArenaBytes(options_.rng), 64);
      if (device.arena.size() == 0) return nullptr;
    }
    device.place = place;
    return &device;
  }
  return nullptr;
}

void EntropyProgram::Ready(const Place& place) {
  if (Device* device = Find(place)) {
    // A repeated announcement, or another device whose predecessor's REMOVED
    // we have not seen: the status tells.
    uint32_t status;
    if (device->state == Device::State::kStarted &&
        device->virtio.ReadStatus(&status) == Error::kNone &&
        (status & kStatusRunning) == kStatusRunning) {
      return;
    }
    Release(device);
  }
  Probe(place);
}

void EntropyProgram::Probe(const Place& place) {
  Device* const device = Allocate(place);
  if (device == nullptr) return FailAt("device", Error::kNoMemory, place);
  if (const Error error =
          device->virtio.Probe(&*channel(place).bus, place.slot);
      error != Error::kNone) {
    // Gone already is no failure: its REMOVED is on the way.
    if (error != Error::kNotFound) FailAt("probe", error, place);
    return;
  }
  const DeviceInfo& info = device->virtio.info();
  Print(PlaceLine("probe", place)
            .Number("device", info.device_id)
            .Hex("vendor", info.vendor_id, 4)
            .Number("queues", info.max_virtqueues)
            .Number("config", info.config_size));
  if (info.device_id != kDeviceIdEntropy) {
    Print(PlaceLine("unsupported", place).Number("device", info.device_id));
    device->virtio.Detach();
    return;
  }
  if (Start(device)) Read(device, options_.read_bytes);
}

bool EntropyProgram::Start(Device* device) {
  if (const Error error =
          device->rng.Start(&device->virtio, options_.rng, &device->arena);
      error != Error::kNone) {
    device->state = Device::State::kFailed;
    FailAt("start", error, device->place);
    return false;
  }
  device->state = Device::State::kStarted;
  device->total_bytes = 0;
  device->digest = kFnvStart;
  const Features& features = device->virtio.features();
  Print(PlaceLine("started", device->place)
            .Number("device", device->virtio.info().device_id)
            .Hex("features",
                 uint64_t{features.block(1)} << 32 | features.block(0), 16));
  return true;
}

void EntropyProgram::Release(Device* device) {
  const Error error =
      channel(device->place).dead ? Error::kFifoBroken : device->virtio.Reset();
  device->virtio.Detach();
  Print(PlaceLine("removed", device->place)
            .Number("reset", error == Error::kNone ? 1 : 0));
  if (error != Error::kNone) {
    // It may still write to what it was given.
    device->state = Device::State::kLost;
    return;
  }
  device->arena.Reset();
  device->state = Device::State::kFree;
}

void EntropyProgram::Read(Device* device, uint32_t bytes) {
  uint32_t done = 0;
  uint32_t requests = 0;
  Error error = Error::kNone;
  while (done < bytes && error == Error::kNone) {
    const uint32_t left = bytes - done;
    const std::span<std::byte> piece =
        std::span(bytes_).first(left < bytes_.size() ? left : bytes_.size());
    uint64_t received;
    uint32_t piece_requests;
    error = device->rng.Read(piece, &received, &piece_requests);
    device->digest = Fnv1a(device->digest, piece.first(received));
    done += static_cast<uint32_t>(received);
    requests += piece_requests;
  }
  device->total_bytes += done;
  if (error != Error::kNone) {
    FailAt("read", error, device->place, device->rng.queue_fault());
  }
  Print(PlaceLine("entropy", device->place)
            .Number("bytes", done)
            .Number("requests", requests)
            .Number("total", device->total_bytes)
            .Hex("fnv1a", device->digest, 16));
}

// --- Output. ---

Line EntropyProgram::PlaceLine(const char* word, const Place& place) {
  Line line(word);
  line.Number("function", place.function)
      .Number("fifo", place.fifo)
      .Number("slot", place.slot);
  return line;
}

void EntropyProgram::Fail(const char* what, Error error) {
  failed_ = true;
  Print(Line("error").Text("what", what).Text("error", ErrorName(error)));
}

void EntropyProgram::FailAt(const char* what, Error error, const Place& place,
                            QueueFault fault) {
  failed_ = true;
  Line line("error");
  line.Text("what", what)
      .Text("error", ErrorName(error))
      .Number("function", place.function)
      .Number("fifo", place.fifo)
      .Number("slot", place.slot);
  if (fault != QueueFault::kNone) line.Text("fault", QueueFaultName(fault));
  Print(line);
}

void EntropyProgram::Report() {
  const uint64_t sleeps = console_->sleeps();
  for (uint32_t f = 0; f < num_functions_; ++f) {
    Line line("interrupts");
    line.Number("function", f);
    const AmpFunction& amp = functions_[f].amp;
    for (uint32_t n = 0; n < amp.num_fifos(); ++n) {
      line.Indexed("vector", n, platform_->InterruptCount(amp.interrupt(n).id));
    }
    Print(line.Number("hlt", sleeps));
  }
  Print(Line("memory")
            .Number("used", platform_->dma_arena()->used())
            .Number("total", platform_->dma_arena()->size()));
}

}  // namespace vmsg::guest
