// AdversaryProgram: runs the catalogue, and says what came of it.
//
// README.md has the lines that it prints and the words that it takes.

#ifndef VMSG_GUEST_ADVERSARY_ADVERSARY_PROGRAM_H_
#define VMSG_GUEST_ADVERSARY_ADVERSARY_PROGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest/adversary/bench.h"
#include "guest/adversary/case.h"
#include "guest/adversary/pooled_platform.h"
#include "guest/driver/platform.h"
#include "guest/payload/console.h"
#include "guest/payload/line.h"

namespace vmsg::guest {

// Large: not for a stack.
//
// Threads: one; the second writer has its own.
class AdversaryProgram final : private Operator {
 public:
  // All borrowed. `second_writer` null: cases that need one are skipped.
  AdversaryProgram(Platform* platform, Console* console,
                   SecondWriter* second_writer,
                   const BenchOptions& options = {});
  AdversaryProgram(const AdversaryProgram&) = delete;
  AdversaryProgram& operator=(const AdversaryProgram&) = delete;

  // Waits for `run`, runs, and says how it ended. True when each case went as
  // expected and the console was not closed before the end.
  bool Run();

 private:
  static constexpr size_t kMaxLine = 127;

  bool ResetFifo(uint32_t function, uint32_t fifo) override;
  // Waits for a line; false when the console is closed.
  bool ReadLine();
  bool LineIs(const char* word) const;
  // Takes what `run` has to say: what is run, and after which case.
  void ReadPattern(const char* from);
  // Whether it takes this case in; asked of each, in order.
  bool IsWanted(const Group& group, const Case& one);
  void RunCase(const Group& group, const Case& one);
  Line CaseLine(const char* word, const Group& group, const Case& one) const;
  void Print(Line line) { console_->Write(line.Finish()); }

  PooledPlatform platform_;
  Console* const console_;
  Bench bench_;
  std::array<char, kMaxLine + 1> line_ = {};     // ends with 0
  std::array<char, kMaxLine + 1> pattern_ = {};  // ends with 0
  std::array<char, kMaxLine + 1> after_ = {};    // ends with 0; empty: from all
  uint32_t run_ = 0;
  uint32_t failed_ = 0;
  uint32_t skipped_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_ADVERSARY_PROGRAM_H_
