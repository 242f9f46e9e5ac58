#include "benchmarks/process_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "vmm/base/unique_fd.h"

namespace vmsg::bench {
namespace {

constexpr size_t kBytes = 8 << 20;
constexpr uint64_t kKib = kBytes >> 10;
// Of pages that are resident the kernel may take some back at any time.
constexpr uint64_t kTakenBackKib = 256;

std::string OwnSmaps() {
  std::ifstream file("/proc/self/smaps");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A mapped memory file, with every page touched.
class TouchedFile {
 public:
  explicit TouchedFile(const char* name) : fd_(memfd_create(name, 0)) {
    EXPECT_EQ(ftruncate(fd_.get(), kBytes), 0);
    at_ =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    EXPECT_NE(at_, MAP_FAILED);
    for (size_t i = 0; i < kBytes; i += 4096) static_cast<char*>(at_)[i] = 1;
  }
  ~TouchedFile() { munmap(at_, kBytes); }

 private:
  vmm::UniqueFd fd_;
  void* at_;
};

TEST(ProcessMemoryTest, GuestRamIsLeftOutAndOtherFilesAreNot) {
  const TouchedFile ram("guest-ram");
  const auto before = ParseSmaps(OwnSmaps(), "guest-ram");
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_EQ(before->guest_ram_kib, kKib);

  const TouchedFile other("not-guest-ram");
  const auto after = ParseSmaps(OwnSmaps(), "guest-ram");
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(after->guest_ram_kib, kKib);
  EXPECT_GE(after->resident_kib + kTakenBackKib, before->resident_kib + kKib);
  EXPECT_LT(after->anonymous_kib, before->anonymous_kib + kKib);
}

TEST(ProcessMemoryTest, HeapIsResidentAndAnonymous) {
  const TouchedFile ram("guest-ram");
  const auto before = ParseSmaps(OwnSmaps(), "guest-ram");
  const std::vector<char> heap(kBytes, 1);
  const auto after = ParseSmaps(OwnSmaps(), "guest-ram");
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_GE(after->resident_kib + kTakenBackKib, before->resident_kib + kKib);
  EXPECT_GE(after->anonymous_kib, before->anonymous_kib + kKib);
}

TEST(ProcessMemoryTest, AddsUpWhatTheKernelWrites) {
  const auto memory = ParseSmaps(
      "7f00-7f10 rw-s 00000000 00:01 7    /memfd:ram (deleted)\n"
      "Size:               4096 kB\n"
      "Rss:                 100 kB\n"
      "Anonymous:             0 kB\n"
      "VmFlags: rd wr sh mr mw me ms sd\n"
      "7f10-7f20 rw-p 00000000 00:00 0 \n"
      "Rss:                  20 kB\n"
      "Anonymous:            16 kB\n"
      "7f20-7f30 r-xp 00000000 00:01 8    /usr/lib/libc-2.so\n"
      "Rss:                   3 kB\n"
      "Anonymous:             1 kB\n",
      "ram");
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->guest_ram_kib, 100u);
  EXPECT_EQ(memory->resident_kib, 23u);
  EXPECT_EQ(memory->anonymous_kib, 17u);
}

TEST(ProcessMemoryTest, ProcessWithoutGuestRamIsAnError) {
  EXPECT_FALSE(ParseSmaps(OwnSmaps(), "no-ram-of-this-name").ok());
  EXPECT_FALSE(ParseSmaps("", "guest-ram").ok());
}

}  // namespace
}  // namespace vmsg::bench
