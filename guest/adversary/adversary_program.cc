#include "guest/adversary/adversary_program.h"

#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

// Where `text` goes on after `prefix`; null when it does not begin with it.
const char* After(const char* text, const char* prefix) {
  for (; *prefix != '\0'; ++text, ++prefix) {
    if (*text != *prefix) return nullptr;
  }
  return text;
}

bool Same(const char* a, const char* b) {
  const char* const rest = After(a, b);
  return rest != nullptr && *rest == '\0';
}

// GROUP/NAME
bool IsName(const char* text, const Group& group, const Case& one) {
  const char* const rest = After(text, group.name);
  return rest != nullptr && *rest == '/' && Same(rest + 1, one.name);
}

}  // namespace

AdversaryProgram::AdversaryProgram(Platform* platform, Console* console,
                                   SecondWriter* second_writer,
                                   const BenchOptions& options)
    : platform_(platform),
      console_(console),
      bench_(&platform_, this, second_writer, options) {}

bool AdversaryProgram::ReadLine() {
  size_t size = 0;
  while (!console_->closed()) {
    const uint64_t seen = platform_.InterruptCount(kAnyInterrupt);
    char c;
    while (console_->Read(&c)) {
      if (c == '\n') {
        line_[size] = '\0';
        return true;
      }
      if (c != '\r' && size < kMaxLine) line_[size++] = c;
    }
    platform_.WaitForInterrupt(kAnyInterrupt, seen, kNoDeadline);
  }
  return false;
}

bool AdversaryProgram::LineIs(const char* word) const {
  return Same(line_.data(), word);
}

void AdversaryProgram::ReadPattern(const char* from) {
  size_t size = 0;
  while (*from != '\0' && *from != ' ') pattern_[size++] = *from++;
  pattern_[size] = '\0';
  const char* after = After(from, " after ");
  for (size = 0; after != nullptr && *after != '\0';) after_[size++] = *after++;
  after_[size] = '\0';
}

bool AdversaryProgram::IsWanted(const Group& group, const Case& one) {
  if (after_[0] != '\0') {
    if (IsName(after_.data(), group, one)) after_[0] = '\0';
    return false;
  }
  return Same(pattern_.data(), "all") || Same(pattern_.data(), group.name) ||
         IsName(pattern_.data(), group, one);
}

bool AdversaryProgram::Run() {
  Print(Line("start").Number("version", 1));
  do {
    if (!ReadLine()) return false;
  } while (After(line_.data(), "run ") == nullptr);
  ReadPattern(After(line_.data(), "run "));

  if (const Error error = bench_.SetUp(); error != Error::kNone) {
    Print(Line("error")
              .Text("what", "set-up")
              .Text("error", ErrorName(error))
              .Text("stage", bench_.stage()));
    Print(Line("end").Text("result", "fail"));
    return false;
  }
  Print(Line("ready").Text(
      "layout", bench_.HasLayout(Layout::kSpsc) ? "spsc" : "shmem-v1"));
  bool open = ReadLine();  // "next"
  for (uint32_t i = 0; open && i < CatalogueGroups(); ++i) {
    const Group group = CatalogueGroup(i);
    for (const Case& one : group.cases) {
      if (!IsWanted(group, one)) continue;
      RunCase(group, one);
      open = ReadLine();
      if (!open) break;
    }
  }
  const bool ok = open && failed_ == 0 && run_ != 0;
  Print(Line("end")
            .Text("result", ok ? "ok" : "fail")
            .Number("run", run_)
            .Number("failed", failed_)
            .Number("skipped", skipped_));
  return ok;
}

Line AdversaryProgram::CaseLine(const char* word, const Group& group,
                                const Case& one) const {
  return Line(word)
      .Text("group", group.name)
      .Text("name", one.name)
      .Text("expected", VerdictName(one.expected));
}

void AdversaryProgram::RunCase(const Group& group, const Case& one) {
  // First, so that who waits knows which one does not come back.
  Print(CaseLine("begin", group, one));
  const uint64_t start = platform_.NowNs();
  const CaseResult result = bench_.Run(group, one);
  Line line = CaseLine("case", group, one);
  if (result.skipped) {
    ++skipped_;
    Print(line.Text("result", "skipped")
              .Text("why", !bench_.HasLayout(group.layout) ? "other-layout"
                           : one.needs == Needs::kSecondWriter
                               ? "needs-second-writer"
                               : "needs-configuration"));
    return;
  }
  ++run_;
  if (!result.ok) ++failed_;
  line.Text("verdict", VerdictName(result.verdict))
      .Text("result", result.ok ? "ok" : "fail")
      .Text("recovery", RecoveryName(result.recovery))
      .Number("watched", result.watched)
      .Number("ms", (platform_.NowNs() - start) / 1'000'000);
  if (!result.ok) line.Text("why", result.why);
  Print(line);
}

bool AdversaryProgram::ResetFifo(uint32_t function, uint32_t fifo) {
  Print(Line("want")
            .Text("operator", "reset-fifo")
            .Number("function", function)
            .Number("fifo", fifo));
  return ReadLine() && LineIs("done");
}

}  // namespace vmsg::guest
