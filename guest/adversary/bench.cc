#include "guest/adversary/bench.h"

#include "guest/driver/pci.h"
#include "guest/driver/shmem_fifo.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kBar0 = 0x10;
constexpr uint32_t kCommandMemory = 2;
constexpr uint32_t kCommandBusMaster = 4;
// All that a type 0 header and the MSI-X capability take.
constexpr uint16_t kConfigEnd = 0x4C;

constexpr uint32_t kRunning =
    kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk;

uint64_t Mix(uint64_t digest, uint64_t value) {
  for (int i = 0; i < 8; ++i) {
    digest = (digest ^ (value & 0xFF)) * 0x100000001b3;
    value >>= 8;
  }
  return digest;
}

}  // namespace

Bench::Bench(Platform* platform, Operator* helper, SecondWriter* second_writer,
             const BenchOptions& options)
    : platform_(platform),
      operator_(helper),
      second_writer_(second_writer),
      options_(options),
      wait_ns_(options.answer_ns),
      ask_ns_(options.answer_ns) {}

// --- Coming up. ---

Error Bench::SetUp() {
  if (FindPciFunctions(platform_, kAmpVendorId, kAmpDeviceId, places_) < 2) {
    return Error::kNotFound;
  }
  if (const Error error = FindCapability(platform_, places_[0], kCapabilityMsix,
                                         &msix_capability_);
      error != Error::kNone) {
    return error;
  }
  for (size_t i = 0; i < functions_.size(); ++i) {
    const Error error = functions_[i].Open(platform_, places_[i]);
    if (error != Error::kNone) return error;
  }
  if (functions_[0].num_fifos() < 2) return Error::kNotFound;
  for (size_t i = 0; i < bars_.size(); ++i) {
    bars_[i] = Config(static_cast<uint16_t>(kBar0 + 4 * i));
  }
  command_ = Config(kCommand, 2);

  Arena* const arena = platform_->dma_arena();
  const auto place = [&](Station* station, AmpFunction* function, uint32_t n) {
    station->Place(platform_, function, n,
                   arena->Carve(Station::ArenaBytes(), 64), options_.answer_ns);
  };
  place(&victim_, function(), 0);
  place(&sibling_, function(), 1);
  place(&other_, &functions_[1], 0);
  if (!queue_.Create(arena)) return Error::kNoMemory;

  const std::array<Station*, 2> controls = {&other_, &sibling_};
  constexpr std::array<const char*, 2> kNames = {"other", "sibling"};
  for (size_t i = 0; i < controls.size(); ++i) {
    stage_ = kNames[i];
    Error error = controls[i]->Open();
    if (error == Error::kNone) error = controls[i]->Start();
    if (error == Error::kNone) error = controls[i]->Read();
    if (error != Error::kNone) return error;
  }
  stage_ = "victim";
  if (const Error error = victim_.Open(); error != Error::kNone) return error;
  FindConfigDevice();
  return StartVictim();
}

void Bench::FindConfigDevice() {
  for (uint16_t n = 0; n < Bus::kDeviceNumbers; ++n) {
    Packet info;
    if (n != victim_.slot() &&
        Ask(Request(kMsgGetDeviceInfo, 8).Device(n), &info) &&
        RawMessage::Get(info, 20, 4) == kConfigBytes) {
      config_device_ = n;
    }
  }
}

// The function with all that is on it, from whatever state its registers have.
Error Bench::OpenFunction() {
  SetConfig(kCommand, command_ & ~(kCommandMemory | kCommandBusMaster), 2);
  for (size_t i = 0; i < bars_.size(); ++i) {
    SetConfig(static_cast<uint16_t>(kBar0 + 4 * i), bars_[i]);
  }
  if (const Error error = functions_[0].Open(platform_, places_[0]);
      error != Error::kNone) {
    return error;
  }
  Error error = sibling_.Open();
  if (error == Error::kNone) error = sibling_.Start();
  if (error == Error::kNone) error = victim_.Open();
  return error;
}

Error Bench::StartVictim() {
  Error error = victim_.Start();
  if (error == Error::kNone) error = victim_.Read();
  if (error != Error::kNone) return error;
  uses_packed_ = false;
  if (!StopAt(kRunning & ~kStatusDriverOk)) return Error::kRefused;
  queue_.Clear();
  if (!SetQueue(queue_.settings()) || SetStatus(kRunning) != kRunning ||
      !Serves()) {
    return Error::kRefused;
  }
  return Error::kNone;
}

bool Bench::HasLayout(Layout layout) const {
  if (layout == Layout::kAny) return true;
  const bool shmem = ShmemFifo::IsHere(functions_[0].window(0));
  return shmem == (layout == Layout::kShmem);
}

bool Bench::Has(Needs needs) const {
  switch (needs) {
    case Needs::kNothing:
      break;
    case Needs::kSecondWriter:
      return second_writer_ != nullptr;
    case Needs::kConfiguration:
      return config_device_ != kNoDevice;
  }
  return true;
}

// --- One case. ---

CaseResult Bench::Run(const Group& group, const Case& one) {
  CaseResult result;
  if (!HasLayout(group.layout) || !Has(one.needs)) {
    result.skipped = true;
    return result;
  }
  why_ = nullptr;
  if (!ControlsAnswer(Scope::kFifo)) Fail("control-before");
  Mark();
  wait_ns_ = one.expected == Verdict::kDegraded ? options_.silence_ns
                                                : options_.answer_ns;
  // A FIFO that has to survive answers, however late.
  ask_ns_ =
      group.most(one) == Recovery::kDeviceReset ? options_.answer_ns : wait_ns_;
  StartWatch(group.scope);
  const Reaction reaction = one.run(*this);
  watching_ = false;
  result.watched = watched_;
  if (!ControlsAnswer(group.scope)) Fail("control-after");
  result.verdict = Judge(one, reaction);
  wait_ns_ = ask_ns_ = options_.answer_ns;
  if (result.verdict != one.expected) Fail("verdict");
  result.recovery = Recover(group.scope, result.verdict);
  if (result.recovery > group.most(one)) Fail("recovery");
  if (!ControlsAnswer(Scope::kFifo)) Fail("control-at-end");
  result.ok = why_ == nullptr;
  if (!result.ok) result.why = why_;
  return result;
}

bool Bench::ControlsAnswer(Scope scope) {
  constexpr uint32_t kAnyValue = 0x434F4E54;
  for (Station* station : {&other_, &sibling_}) {
    if (station == &sibling_ && scope == Scope::kFunction) continue;
    if (station->bus()->Ping(kAnyValue) != Error::kNone ||
        station->Read() != Error::kNone) {
      return false;
    }
  }
  return true;
}

void Bench::StartWatch(Scope scope) {
  watching_ = true;
  watch_scope_ = scope;
  watched_ = 0;
  acts_ = 0;
  watch_at_ns_ = Deadline(options_.watch_ns);
}

void Bench::Watch() {
  if (watching_ &&
      (acts_ >= options_.watch_acts || platform_->NowNs() >= watch_at_ns_)) {
    AskControls();
  }
}

void Bench::AskControls() {
  if (!watching_) return;
  if (ControlsAnswer(watch_scope_)) {
    ++watched_;
  } else {
    Fail("control-during");
    // Each further look would take its time, and tell nothing new.
    watching_ = false;
  }
  acts_ = 0;
  watch_at_ns_ = Deadline(options_.watch_ns);
}

Verdict Bench::Judge(const Case& one, Reaction reaction) {
  alive_ = Alive();
  if (!alive_) return Verdict::kDegraded;
  const uint32_t status = Status();
  if (status > kStatusMask || (status & kStatusNeedsReset) != 0) {
    return Verdict::kDegraded;
  }
  if (one.leaves == Leaves::kRunning && (status != kRunning || !Serves())) {
    return Verdict::kDegraded;
  }
  if (reaction == Reaction::kTaken) return Verdict::kPass;
  if (Fingerprint() != before_) Fail("refused-but-changed");
  return Verdict::kReject;
}

// What the guest can read of the function and of the victim's device, but for
// the content of shared memory.
uint64_t Bench::Fingerprint() {
  uint64_t digest = 0xcbf29ce484222325;
  for (uint16_t at = 0; at < kConfigEnd; at = static_cast<uint16_t>(at + 4)) {
    digest = Mix(digest, Config(at));
  }
  for (uint64_t at = 0; at < uint64_t{16} * functions_[0].vectors(); at += 4) {
    digest = Mix(digest, platform_->ReadMmio(msix_table() + at, 4));
  }
  const std::array<RawMessage, 5> questions = {
      Request(kMsgGetDeviceStatus, 8), Request(kMsgGetDeviceInfo, 8),
      Request(kMsgGetVqueue, 12).U32(8, 0),
      Request(kMsgGetDeviceFeatures, 16).U32(8, 0).U32(12, 4),
      OnBus(kBusMsgGetDevices, 12).U16(8, 0).U16(10, 32)};
  for (const RawMessage& question : questions) {
    Packet answer;
    if (!Ask(question, &answer)) return 0;
    // Of the header, all but the token.
    digest = Mix(digest, RawMessage::Get(answer, 0, 4));
    for (size_t at = 6; at < kPacketBytes; at += 2) {
      digest = Mix(digest, RawMessage::Get(answer, at, 2));
    }
  }
  return digest;
}

// The least that helps, first.
Recovery Bench::Recover(Scope scope, Verdict verdict) {
  const auto victim_is_back = [this] { return StartVictim() == Error::kNone; };
  const auto operator_helps = [this] {
    return operator_->ResetFifo(0, victim_.fifo_index());
  };
  if (scope == Scope::kFifo) {
    if (alive_ && victim_is_back()) return Recovery::kDeviceReset;
    if (HasLayout(Layout::kShmem) && victim_.Open() == Error::kNone &&
        victim_is_back()) {
      return Recovery::kHandshake;
    }
    if (operator_helps() && victim_.Open() == Error::kNone &&
        victim_is_back()) {
      return Recovery::kOperator;
    }
  } else if (verdict != Verdict::kDegraded && ControlsAnswer(Scope::kFifo) &&
             victim_is_back() && OpenFunction() == Error::kNone &&
             victim_is_back()) {
    // That the function is opened anew then is for the cases behind, which
    // start from registers as they should be.
    return Recovery::kDeviceReset;
  }
  if (OpenFunction() == Error::kNone && victim_is_back()) {
    return Recovery::kFunction;
  }
  return operator_helps() && OpenFunction() == Error::kNone && victim_is_back()
             ? Recovery::kOperator
             : Recovery::kNone;
}

}  // namespace vmsg::guest
