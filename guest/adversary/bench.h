// Bench: a victim that a case may do anything to, controls that have to notice
// nothing, and the judgement of what came of it.

#ifndef VMSG_GUEST_ADVERSARY_BENCH_H_
#define VMSG_GUEST_ADVERSARY_BENCH_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest/adversary/case.h"
#include "guest/adversary/raw_message.h"
#include "guest/adversary/raw_packed_queue.h"
#include "guest/adversary/raw_queue.h"
#include "guest/adversary/station.h"
#include "guest/driver/amp_function.h"
#include "guest/driver/error.h"
#include "guest/driver/features.h"
#include "guest/driver/message.h"
#include "guest/driver/platform.h"

namespace vmsg::guest {

// Who helps where the guest can't help itself: a FIFO of layout `spsc` leaves
// BROKEN by a reset of the function, which a guest can't ask for.
class Operator {
 public:
  Operator(const Operator&) = delete;
  Operator& operator=(const Operator&) = delete;
  // Resets the FIFO and waits until that is done. False: there is nobody.
  virtual bool ResetFifo(uint32_t function, uint32_t fifo) = 0;

 protected:
  Operator() = default;
  ~Operator() = default;
};

// Calls a function over and over on a thread of its own.
class SecondWriter {
 public:
  SecondWriter(const SecondWriter&) = delete;
  SecondWriter& operator=(const SecondWriter&) = delete;
  // `write(bench, round)` with round 0, 1, 2 ..., the first before this
  // returns, until Stop(), which returns when the last call has.
  virtual void Start(void (*write)(Bench& bench, uint64_t round),
                     Bench* bench) = 0;
  virtual void Stop() = 0;

 protected:
  SecondWriter() = default;
  ~SecondWriter() = default;
};

struct BenchOptions {
  // How long an answer that should come is waited for.
  uint64_t answer_ns = 20'000'000'000;
  // How long a case that is expected to be DEGRADED waits for one before it
  // says that there is none.
  uint64_t silence_ns = 250'000'000;
  // The controls are asked in the middle of a case after so many of its
  // doorbells and register writes, or so much time.
  uint32_t watch_acts = 32;
  uint64_t watch_ns = 50'000'000;
};

struct CaseResult {
  bool ok = false;       // as expected, and nobody else noticed
  bool skipped = false;  // not possible here
  Verdict verdict = Verdict::kPass;
  const char* why = "";                 // when not ok, one word
  Recovery recovery = Recovery::kNone;  // what brought the victim back
  uint32_t watched = 0;  // how often the controls answered in the middle of it
};

// The victim is the rng on FIFO 0 of the first function; the controls are the
// ones on FIFO 1 of that function and on FIFO 0 of the second one.
//
// Large: not for a stack. Threads: one, but for what SecondWriter calls.
class Bench {
 public:
  // Borrowed; `second_writer` may be null.
  Bench(Platform* platform, Operator* helper, SecondWriter* second_writer,
        const BenchOptions& options = {});
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Opens everything and brings it into the state that every case starts from:
  // all have answered a canonical read, and the victim has `queue()` and
  // DRIVER_OK. kNone, or what failed first.
  Error SetUp();
  // What SetUp() was at: "pci", or the device.
  const char* stage() const { return stage_; }

  // Runs one case, judges it, and brings the victim back.
  //
  // DEGRADED when the victim's FIFO does not answer a PING any more, or its
  // device wants a reset, or the state in which the case leaves it is not
  // there: with Leaves::kRunning a request on queue() has to be served. Else
  // what the case says of its input: taken is PASS, refused is REJECT. The
  // controls answer a PING and serve a read before the case, in the middle of
  // it (Watch), after it, and after the victim is back, which takes a canonical
  // read of it. More than group.most() to bring it back fails the case.
  CaseResult Run(const Group& group, const Case& one);

  bool HasLayout(Layout layout) const;
  // What a case needs is here, apart from the layout.
  bool Has(Needs needs) const;

  // ---- For cases: what there is.

  Platform* platform() { return platform_; }
  AmpFunction* function() { return functions_.data(); }
  Station& victim() { return victim_; }
  Station& sibling() { return sibling_; }
  // Of a device on the victim's FIFO with kConfigBytes of configuration, for
  // Needs::kConfiguration.
  static constexpr uint32_t kConfigBytes = 96;
  uint16_t config_device() const { return config_device_; }
  std::byte* window() { return victim_.window(); }
  uint64_t registers() const;  // guest-physical, of BAR 0
  uint64_t windows() const;    // of BAR 1
  uint64_t msix_table() const;
  uint16_t msix_capability() const { return msix_capability_; }

  // ---- PCI and registers.

  uint32_t Config(uint16_t offset, uint8_t width = 4);
  void SetConfig(uint16_t offset, uint32_t value, uint8_t width = 4);
  uint64_t ReadRegister(uint64_t offset, uint8_t width);
  void WriteRegister(uint64_t offset, uint8_t width, uint64_t value);
  // Refused when the access reads 0.
  Reaction ReadsZero(uint64_t offset, uint8_t width);
  // Writes `value`; refused when the register reads what it read before.
  Reaction ConfigIgnores(uint16_t offset, uint32_t value, uint8_t width = 4);

  // ---- Messages. Requests are the victim's device's, unless changed.

  RawMessage Request(uint8_t id, uint16_t size) const {
    return RawMessage(0, id, victim_.slot(), size);
  }
  RawMessage OnBus(uint8_t id, uint16_t size) const {
    return RawMessage(kTypeBus, id, 0, size);
  }
  // Puts it on the driver queue and rings. False when there is no room within
  // the time of an answer.
  bool Send(const RawMessage& message);
  // Puts it there and does not ring.
  bool Post(const RawMessage& message);
  void Ring() {
    victim_.Ring();
    ++acts_;
    Watch();
  }
  // Sends it, then a request to the victim's device, and takes what comes until
  // that is answered: answers to one device, and of the bus, come in order.
  // Returns the answer to `message`; null for none. More than one answer, or
  // one to nothing, fails the case.
  const Packet* Exchange(const RawMessage& message);
  // Exchanges it: refused when there is no answer.
  Reaction Try(const RawMessage& message);
  // Refused when the answer (which has to come, else the case fails) has
  // `bytes` bytes of 0 at `at`.
  Reaction AnswersZero(const RawMessage& message, size_t at, size_t bytes);
  // Whether an answer comes without a ring of ours; to `act`, if that is given.
  bool AnswersWithoutRing(const RawMessage& message,
                          void (*act)(Bench& bench) = nullptr);
  // A PING, with an answer in time.
  bool Alive();
  // Takes what is there until `answers` answers have come, or none comes in
  // time; returns how many did.
  uint32_t Collect(uint32_t answers);
  // Takes the next packet if there is one, without waiting.
  bool Receive(Packet* packet);
  // As long as a case that waits for nothing waits.
  void Idle(uint64_t ns);
  // Lets the controls show that they answer, when it is time. All that rings,
  // writes a register or waits does so; none of that is for the second writer.
  void Watch();
  // Interrupts of the victim's vector, and waiting for them.
  uint64_t Interrupts();

  // ---- The victim's device. 256 stands for "no answer".

  uint32_t Status();
  // The status after it.
  uint32_t SetStatus(uint32_t status);
  // Status 0, then ACKNOWLEDGE, DRIVER, and, if `to` says so, VERSION_1,
  // INDIRECT_DESC and RING_RESET as far as offered, and FEATURES_OK. `to` is
  // one of 0, 1, 3 and 11. False when the device does not go along.
  bool StopAt(uint32_t to);
  // From status 0 to DRIVER_OK with exactly these features and queue(), which
  // is packed() with RING_PACKED. False when they are not offered, or it does
  // not serve a request then.
  bool StartWith(const Features& features);
  bool WriteFeatures(uint32_t block, uint32_t word);
  uint32_t OfferedFeatures(uint32_t block);
  // SET_VQUEUE; whether the device then shows `vqueue`'s size and addresses.
  bool SetQueue(const Vqueue& vqueue);
  // What GET_VQUEUE says.
  Vqueue GetQueue(uint32_t index);

  // ---- queue(), which is queue 0 of the victim.

  RawQueue& queue() { return queue_; }
  // A well-formed chain of one writable buffer, at descriptor `index`.
  void GoodDescriptor(uint32_t index, uint32_t bytes = 64);
  void Kick();  // EVENT_AVAIL
  // The next chain that comes back of the ring in use, with the wait of an
  // answer.
  bool WaitUsed(RawQueue::Used* used);
  // Offers chain `head` and kicks; taken when it comes back.
  Reaction Offered(uint16_t head);
  // A canonical request on the ring in use.
  bool Serves();
  // queue() as a packed ring, after StartWith(RING_PACKED). Its chains go as
  // Offered: taken when the next used descriptor has `id`.
  RawPackedQueue& packed() { return packed_; }
  Reaction OfferedPacked(const RawPackedQueue::Entry& entry);
  Reaction ComesBack(uint16_t id);
  // Kicks; refused when the device has looked and given nothing back.
  Reaction Ignored();
  // Whether EVENT_USED comes.
  bool IsTold();

  // ---- The second writer.

  void StartWriter(void (*write)(Bench& bench, uint64_t round)) {
    second_writer_->Start(write, this);
  }
  // The controls show that they answer first.
  void StopWriter() {
    AskControls();
    second_writer_->Stop();
  }

  // A refusal is held against what the guest can read now, instead of at the
  // start. StopAt() does it, too.
  void Mark() { before_ = Fingerprint(); }

  // Something was seen that no verdict allows.
  void Fail(const char* why) {
    if (why_ == nullptr) why_ = why;
  }

 private:
  static constexpr uint16_t kNoDevice = UINT16_MAX;

  Error OpenFunction();
  Error StartVictim();
  void FindConfigDevice();
  bool ControlsAnswer(Scope scope);
  void StartWatch(Scope scope);
  void AskControls();
  Verdict Judge(const Case& one, Reaction reaction);
  uint64_t Fingerprint();
  Recovery Recover(Scope scope, Verdict verdict);
  // Sends it and waits for its answer, whatever else comes.
  bool Ask(RawMessage message, Packet* answer);
  uint64_t Deadline(uint64_t wait_ns) const {
    return DeadlineAfter(platform_->NowNs(), wait_ns);
  }
  // The next packet, by then; looks every millisecond.
  bool ReceiveBy(uint64_t deadline_ns, Packet* packet);
  uint16_t NextToken();

  Platform* const platform_;
  Operator* const operator_;
  SecondWriter* const second_writer_;
  const BenchOptions options_;
  uint64_t wait_ns_;  // for what may not come
  uint64_t ask_ns_;   // for an answer that tells whether the FIFO lives
  std::array<AmpFunction, 2> functions_;
  std::array<PciLocation, 2> places_;
  std::array<uint32_t, 6> bars_ = {};
  uint32_t command_ = 0;
  uint16_t msix_capability_ = 0;
  uint16_t config_device_ = kNoDevice;
  Station victim_;
  Station sibling_;
  Station other_;
  RawQueue queue_;
  RawPackedQueue packed_{&queue_};
  bool uses_packed_ = false;
  // In the middle of a case: the controls are asked.
  bool watching_ = false;
  Scope watch_scope_ = Scope::kFifo;
  uint64_t watch_at_ns_ = 0;  // at the latest
  uint32_t acts_ = 0;         // since they were asked
  uint32_t watched_ = 0;
  bool alive_ = true;  // as of the last judgement
  uint64_t before_ = 0;
  uint16_t token_ = 0;
  Packet answer_;
  const char* why_ = nullptr;
  const char* stage_ = "pci";
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_BENCH_H_
