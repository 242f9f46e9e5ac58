#include "vmm/memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/unique_fd.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kPage = 4096;

std::shared_ptr<const MemoryBacking> Anonymous(uint64_t size) {
  return *MemoryBacking::CreateAnonymous(size, "test");
}

constexpr GuestRange Range(uint64_t start, uint64_t size) {
  return {.start = {start}, .size = size};
}

// --- MemoryBacking ---

TEST(MemoryBackingTest, AnonymousMemoryIsZeroedAndWritable) {
  const auto backing = Anonymous(2 * kPage);
  EXPECT_EQ(backing->size(), 2 * kPage);
  EXPECT_EQ(backing->fd_offset(), 0u);
  EXPECT_FALSE(backing->read_only());
  EXPECT_EQ(backing->data()[0], std::byte{0});
  backing->data()[2 * kPage - 1] = std::byte{7};
  EXPECT_EQ(backing->data()[2 * kPage - 1], std::byte{7});
}

TEST(MemoryBackingTest, AnotherMappingOfTheDescriptorSeesTheSameBytes) {
  const auto backing = Anonymous(kPage);
  void* const other =
      mmap(nullptr, kPage, PROT_READ, MAP_SHARED, backing->fd(), 0);
  ASSERT_NE(other, MAP_FAILED);
  backing->data()[5] = std::byte{9};
  EXPECT_EQ(static_cast<const std::byte*>(other)[5], std::byte{9});
  munmap(other, kPage);
}

TEST(MemoryBackingTest, WhoHasTheDescriptorCannotTruncateIt) {
  const auto backing = Anonymous(kPage);
  EXPECT_NE(ftruncate(backing->fd(), 0), 0);
  EXPECT_NE(fcntl(backing->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(MemoryBackingTest, AnonymousRefusesASizeThatIsNoNumberOfPages) {
  for (const uint64_t size : {uint64_t{0}, kPage - 1, kPage + 1}) {
    EXPECT_THAT(MemoryBacking::CreateAnonymous(size, "ram0"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("memory \"ram0\"")));
  }
}

TEST(MemoryBackingTest, AnonymousReportsThatTheHostHasNotThatMuch) {
  for (const uint64_t size : {uint64_t{1} << 62, ~uint64_t{0} << 12}) {
    EXPECT_THAT(MemoryBacking::CreateAnonymous(size, "ram0"),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
}

TEST(MemoryBackingTest, AnonymousRefusesANameThatTheKernelRefuses) {
  EXPECT_THAT(MemoryBacking::CreateAnonymous(kPage, std::string(250, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

class MapFileTest : public ::testing::Test {
 protected:
  MapFileTest() : file_(memfd_create("file", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(file_.get(), 3 * kPage), 0);
  }
  UniqueFd Duplicate() const { return UniqueFd(dup(file_.get())); }

  UniqueFd file_;
};

TEST_F(MapFileTest, MapsAPartThatChangesTheFile) {
  ASSERT_OK_AND_ASSIGN(
      const auto backing,
      MemoryBacking::MapFile(Duplicate(), kPage, 2 * kPage, false));
  EXPECT_EQ(backing->fd_offset(), kPage);
  backing->data()[3] = std::byte{'x'};
  char byte = 0;
  ASSERT_EQ(pread(file_.get(), &byte, 1, kPage + 3), 1);
  EXPECT_EQ(byte, 'x');
}

TEST_F(MapFileTest, AReadOnlyMappingReadsTheFile) {
  ASSERT_EQ(pwrite(file_.get(), "y", 1, 2), 1);
  ASSERT_OK_AND_ASSIGN(const auto backing,
                       MemoryBacking::MapFile(Duplicate(), 0, kPage, true));
  EXPECT_TRUE(backing->read_only());
  EXPECT_EQ(backing->data()[2], std::byte{'y'});
}

TEST_F(MapFileTest, RefusesAPartThatTheFileDoesNotHave) {
  EXPECT_THAT(MemoryBacking::MapFile(Duplicate(), kPage, 3 * kPage, false),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("reach past its end at 12288")));
  EXPECT_THAT(MemoryBacking::MapFile(Duplicate(), 4 * kPage, 1, false),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      MemoryBacking::MapFile(Duplicate(), kPage, UINT64_MAX - 10, false),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(MapFileTest, RefusesNothingAndAnUnalignedOffset) {
  EXPECT_THAT(MemoryBacking::MapFile(Duplicate(), 0, 0, false),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(MemoryBacking::MapFile(Duplicate(), 8, kPage, false),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(MapFileTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(MemoryBacking::MapFile(UniqueFd(), 0, kPage, false),
              StatusIs(absl::StatusCode::kInvalidArgument));
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd writer(ends[1]);
  EXPECT_THAT(MemoryBacking::MapFile(UniqueFd(ends[0]), 0, kPage, true),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(MapFileTest, ReportsADescriptorThatIsNotOpenForWriting) {
  const std::string path = "/proc/self/fd/" + std::to_string(file_.get());
  UniqueFd reader(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(reader.valid());
  EXPECT_THAT(MemoryBacking::MapFile(std::move(reader), 0, kPage, false),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

// --- MemoryMap ---

TEST(MemoryMapTest, FindsTheRegionOfEveryByteAndNoOther) {
  const auto backing = Anonymous(4 * kPage);
  const MemoryMap map(
      {{.range = Range(0x1000, 0x1000), .backing = backing},
       {.range = Range(0x2000, 0x800), .backing = backing},
       {.range = Range(UINT64_MAX - 0xfff, 0x1000), .backing = backing}});
  const MemoryRegion* const first = &map.regions()[0];
  EXPECT_EQ(map.Find({0}), nullptr);
  EXPECT_EQ(map.Find({0xfff}), nullptr);
  EXPECT_EQ(map.Find({0x1000}), first);
  EXPECT_EQ(map.Find({0x1fff}), first);
  EXPECT_EQ(map.Find({0x2000}), first + 1);
  EXPECT_EQ(map.Find({0x27ff}), first + 1);
  EXPECT_EQ(map.Find({0x2800}), nullptr);
  EXPECT_EQ(map.Find({UINT64_MAX - 0x1000}), nullptr);
  EXPECT_EQ(map.Find({UINT64_MAX}), first + 2);
}

TEST(MemoryMapTest, AnEmptyMapHoldsNothing) {
  const MemoryMap map({});
  EXPECT_EQ(map.Find({0}), nullptr);
}

TEST(MemoryMapDeathTest, UnsortedOrOverlappingRegionsAreABug) {
  const auto backing = Anonymous(kPage);
  const MemoryRegion low = {.range = Range(0x1000, 0x1000), .backing = backing};
  const MemoryRegion high = {.range = Range(0x1800, 0x800), .backing = backing};
  EXPECT_DEATH(MemoryMap({high, low}), "check failed");
  EXPECT_DEATH(MemoryMap({low, high}), "check failed");
}

// --- GuestMemory ---

class GuestMemoryTest : public ::testing::Test {
 protected:
  MemoryRegion Region(uint64_t start, uint64_t size) const {
    return {.range = Range(start, size), .backing = backing_};
  }
  std::vector<GuestRange> Ranges() const {
    std::vector<GuestRange> ranges;
    for (const MemoryRegion& r : memory_.Snapshot()->regions()) {
      ranges.push_back(r.range);
    }
    return ranges;
  }

  std::shared_ptr<const MemoryBacking> backing_ = Anonymous(4 * kPage);
  GuestMemory memory_;
};

TEST_F(GuestMemoryTest, StartsEmpty) { EXPECT_THAT(Ranges(), IsEmpty()); }

TEST_F(GuestMemoryTest, KeepsRegionsSortedWhateverTheOrderOfAdding) {
  EXPECT_OK(memory_.Add(Region(0x3000, 0x1000)));
  EXPECT_OK(memory_.Add(Region(0x1000, 0x1000)));
  EXPECT_OK(memory_.Add(Region(0x2000, 0x1000)));
  EXPECT_THAT(Ranges(),
              ElementsAre(Range(0x1000, 0x1000), Range(0x2000, 0x1000),
                          Range(0x3000, 0x1000)));
}

TEST_F(GuestMemoryTest, TakesARegionAtTheEndOfTheAddressSpace) {
  EXPECT_OK(memory_.Add(Region(UINT64_MAX - 0xfff, 0x1000)));
}

TEST_F(GuestMemoryTest, RefusesAnOverlapAndNamesBoth) {
  EXPECT_OK(memory_.Add(Region(0x1000, 0x2000)));
  const uint64_t version = memory_.version();
  EXPECT_THAT(memory_.Add(Region(0x2000, 0x2000)),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("[0x2000,+0x2000)"),
                             HasSubstr("[0x1000,+0x2000)"))));
  EXPECT_THAT(Ranges(), ElementsAre(Range(0x1000, 0x2000)));
  EXPECT_EQ(memory_.version(), version);
}

TEST_F(GuestMemoryTest, RefusesWhatCannotBeARegion) {
  const auto refused =
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("memory region"));
  EXPECT_THAT(memory_.Add(Region(0x1000, 0)), refused);
  EXPECT_THAT(memory_.Add(Region(UINT64_MAX - 0xfff, 0x1001)), refused);
  EXPECT_THAT(memory_.Add(Region(0x1000, 4 * kPage + 1)), refused);
  MemoryRegion region = Region(0x1000, kPage);
  region.backing_offset = 3 * kPage + 8;
  EXPECT_THAT(memory_.Add(region), refused);
  region.backing_offset = UINT64_MAX - 7;
  EXPECT_THAT(memory_.Add(region), refused);
  region.backing_offset = 4;  // Words would be unaligned.
  EXPECT_THAT(memory_.Add(region), refused);
  EXPECT_THAT(memory_.Add({.range = Range(0x1000, kPage)}), refused);
  EXPECT_THAT(Ranges(), IsEmpty());
}

TEST_F(GuestMemoryTest, RefusesAWritableRegionOfReadOnlyMemory) {
  ASSERT_OK_AND_ASSIGN(const auto read_only,
                       MemoryBacking::MapFile(UniqueFd(dup(backing_->fd())), 0,
                                              kPage, /*read_only=*/true));
  MemoryRegion region = {.range = Range(0x1000, kPage), .backing = read_only};
  EXPECT_THAT(memory_.Add(region),
              StatusIs(absl::StatusCode::kInvalidArgument));
  region.read_only = true;
  EXPECT_OK(memory_.Add(region));
}

TEST_F(GuestMemoryTest, RemovesExactlyTheRegionOfThatRange) {
  EXPECT_OK(memory_.Add(Region(0x1000, 0x1000)));
  EXPECT_OK(memory_.Add(Region(0x2000, 0x1000)));
  EXPECT_THAT(
      memory_.Remove(Range(0x1000, 0x800)),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("[0x1000,+0x800)")));
  EXPECT_THAT(memory_.Remove(Range(0x1000, 0x2000)),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(memory_.Remove(Range(0x1000, 0x1000)));
  EXPECT_THAT(Ranges(), ElementsAre(Range(0x2000, 0x1000)));
  EXPECT_THAT(memory_.Remove(Range(0x1000, 0x1000)),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(GuestMemoryTest, TheVersionChangesWithEachChange) {
  const uint64_t first = memory_.version();
  EXPECT_OK(memory_.Add(Region(0x1000, 0x1000)));
  const uint64_t second = memory_.version();
  EXPECT_NE(first, second);
  EXPECT_OK(memory_.Remove(Range(0x1000, 0x1000)));
  EXPECT_NE(memory_.version(), second);
  EXPECT_NE(memory_.version(), first);
}

TEST_F(GuestMemoryTest, ASnapshotKeepsARemovedRegionMapped) {
  const std::weak_ptr<const MemoryBacking> alive = backing_;
  EXPECT_OK(memory_.Add(Region(0x1000, 0x1000)));
  backing_.reset();
  auto snapshot = memory_.Snapshot();
  EXPECT_OK(memory_.Remove(Range(0x1000, 0x1000)));
  ASSERT_EQ(snapshot->regions().size(), 1u);
  snapshot->regions()[0].backing->data()[0] = std::byte{1};
  EXPECT_FALSE(alive.expired());
  snapshot.reset();
  EXPECT_TRUE(alive.expired());
}

TEST_F(GuestMemoryTest, TheWriteHookGetsItsContextAndCanBeTakenAway) {
  std::vector<GuestRange> seen;
  memory_.NoteWrite(Range(1, 2));
  memory_.SetWriteHook(
      [](void* context, GuestRange range) {
        static_cast<std::vector<GuestRange>*>(context)->push_back(range);
      },
      &seen);
  memory_.NoteWrite(Range(3, 4));
  memory_.SetWriteHook(nullptr, nullptr);
  memory_.NoteWrite(Range(5, 6));
  EXPECT_THAT(seen, ElementsAre(Range(3, 4)));
}

}  // namespace
}  // namespace vmsg::vmm
