// The image halt.elf: sleeps many times with an interrupt that comes after the
// last look and before HLT, and has to wake up all the same.

#include <cstdint>
#include <span>

#include "guest/driver/platform.h"
#include "guest/payload/bare_metal/cpu.h"
#include "guest/payload/bare_metal/interrupts.h"
#include "guest/payload/bare_metal/run_guest.h"
#include "guest/payload/console.h"
#include "guest/payload/line.h"

namespace vmsg::guest {
namespace {

constexpr uint32_t kRounds = 200;
// Who sleeps over the interrupt is woken by the timer, after so long.
constexpr uint64_t kSleptOverNs = 10'000'000'000;
constexpr uint32_t kMostSleptOver = 3;  // then it is clear

}  // namespace

bool RunGuest(Platform* platform, Console* console,
              std::span<const char> /*command_line*/) {
  Interrupt interrupt;
  if (!platform->CreateInterrupt(&interrupt)) return false;
  const auto vector = static_cast<uint8_t>(interrupt.id);
  console->Write(Line("start").Number("version", 1).Finish());
  uint32_t rounds = 0;
  uint32_t slept_over = 0;
  for (; rounds < kRounds && slept_over < kMostSleptOver; ++rounds) {
    const uint64_t seen = VectorCount(vector);
    const uint64_t deadline = UptimeNs() + kSleptOverNs;
    // While interrupts are off it waits: HaltWhile() finds the count as it was,
    // and the first moment at which it can be taken is right before HLT.
    DisableInterrupts();
    RaiseOnSelf(vector);
    HaltWhile(VectorCounter(vector), seen, deadline);
    if (UptimeNs() >= deadline) ++slept_over;
  }
  console->Write(Line("halt")
                     .Number("rounds", rounds)
                     .Number("taken", VectorCount(vector))
                     .Number("slept-over", slept_over)
                     .Finish());
  const bool ok = slept_over == 0 && VectorCount(vector) == rounds;
  console->Write(Line("end").Text("result", ok ? "ok" : "fail").Finish());
  return ok;
}

}  // namespace vmsg::guest
