#include "vmm/bus/dispatch_bus.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Place = std::pair<uint64_t, size_t>;  // offset, size

constexpr std::byte kFill{0x5A};
constexpr GuestAddress kBase{0xFE00'0000};

// Reads give kFill.
class RecordingHandler final : public IoHandler {
 public:
  void Read(uint64_t offset, std::span<std::byte> data) override {
    reads.emplace_back(offset, data.size());
    std::fill(data.begin(), data.end(), kFill);
  }
  void Write(uint64_t offset, std::span<const std::byte> data) override {
    writes.emplace_back(offset, data.size());
    written.insert(written.end(), data.begin(), data.end());
  }

  std::vector<Place> reads;
  std::vector<Place> writes;
  std::vector<std::byte> written;
};

std::vector<std::byte> Bytes(size_t count, int first = 1) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
  }
  return bytes;
}

class DispatchMmioBusTest : public ::testing::Test {
 protected:
  // Placed at `base` unless nullopt.
  std::unique_ptr<MmioMapping> Handler(std::string name, uint64_t size,
                                       std::optional<GuestAddress> base) {
    auto mapping = bus_.MapHandler(std::move(name), size, &handler_).value();
    EXPECT_OK(mapping->SetBase(base));
    return mapping;
  }
  std::unique_ptr<MmioMapping> Doorbell(std::string name, GuestAddress base) {
    auto mapping = bus_.MapDoorbell(std::move(name), 4, &event_).value();
    EXPECT_OK(mapping->SetBase(base));
    return mapping;
  }
  std::unique_ptr<MmioMapping> Memory(std::string name, uint64_t offset,
                                      uint64_t size, GuestAddress base) {
    auto mapping =
        bus_.MapMemory(std::move(name), backing_, offset, size).value();
    EXPECT_OK(mapping->SetBase(base));
    return mapping;
  }
  std::vector<std::byte> Read(GuestAddress address, size_t size) {
    std::vector<std::byte> data(size, std::byte{0xEE});
    bus_.Read(address, data);
    return data;
  }

  DispatchMmioBus bus_;
  RecordingHandler handler_;
  EventFd event_ = EventFd::Create().value();
  std::shared_ptr<const MemoryBacking> backing_ =
      MemoryBacking::CreateAnonymous(16384, "bus_test").value();
};

TEST_F(DispatchMmioBusTest, AccessReachesTheHandlerWithItsOffset) {
  const auto mapping = Handler("dev", 0x1000, kBase);

  EXPECT_TRUE(bus_.Write({kBase.value + 0x20}, Bytes(4)));
  EXPECT_EQ(Read({kBase.value + 0xFF8}, 8), std::vector<std::byte>(8, kFill));

  EXPECT_THAT(handler_.writes, ElementsAre(Place(0x20, 4)));
  EXPECT_EQ(handler_.written, Bytes(4));
  EXPECT_THAT(handler_.reads, ElementsAre(Place(0xFF8, 8)));
  EXPECT_EQ(bus_.unclaimed().value(), 0u);
}

TEST_F(DispatchMmioBusTest, UnclaimedReadsAllOnesAndIsCountedOncePerAccess) {
  std::array<std::byte, 8> data = {};

  EXPECT_FALSE(bus_.Read(kBase, data));
  EXPECT_TRUE(std::all_of(data.begin(), data.end(),
                          [](std::byte b) { return b == std::byte{0xFF}; }));
  EXPECT_FALSE(bus_.Write(kBase, data));
  EXPECT_EQ(bus_.unclaimed().value(), 2u);
}

TEST_F(DispatchMmioBusTest, EmptyAccessDoesNothing) {
  const auto mapping = Handler("dev", 0x1000, kBase);

  EXPECT_FALSE(bus_.Read(kBase, {}));
  EXPECT_FALSE(bus_.Write(kBase, {}));

  EXPECT_THAT(handler_.reads, IsEmpty());
  EXPECT_THAT(handler_.writes, IsEmpty());
  EXPECT_EQ(bus_.unclaimed().value(), 0u);
}

TEST_F(DispatchMmioBusTest, UnplacedMappingIsNowhere) {
  const auto mapping = Handler("dev", 0x1000, std::nullopt);
  std::array<std::byte, 1> data;

  EXPECT_FALSE(bus_.Read({0}, data));
  EXPECT_THAT(handler_.reads, IsEmpty());
}

TEST_F(DispatchMmioBusTest, OddSizesAreSplitIntoBytes) {
  const auto mapping = Handler("dev", 0x1000, kBase);

  EXPECT_TRUE(bus_.Write(kBase, Bytes(3)));
  EXPECT_TRUE(bus_.Write({kBase.value + 8}, Bytes(16)));

  ASSERT_EQ(handler_.writes.size(), 19u);
  for (const Place& write : handler_.writes) EXPECT_EQ(write.second, 1u);
  EXPECT_EQ(handler_.writes[2].first, 2u);
  EXPECT_EQ(handler_.writes[18].first, 8u + 15u);
}

TEST_F(DispatchMmioBusTest, AccessAcrossTheEndIsSplitAndThePartOutsideDropped) {
  const auto mapping = Handler("dev", 0x1000, kBase);

  const std::vector<std::byte> data = Read({kBase.value + 0xFFE}, 4);

  EXPECT_THAT(data,
              ElementsAre(kFill, kFill, std::byte{0xFF}, std::byte{0xFF}));
  EXPECT_THAT(handler_.reads, ElementsAre(Place(0xFFE, 1), Place(0xFFF, 1)));
  EXPECT_EQ(bus_.unclaimed().value(), 1u);
}

TEST_F(DispatchMmioBusTest, AccessAcrossTwoMappingsReachesBoth) {
  const auto mapping = Handler("dev", 0x1000, kBase);
  RecordingHandler second;
  const auto other = bus_.MapHandler("dev2", 0x1000, &second).value();
  ASSERT_OK(other->SetBase(GuestAddress{kBase.value + 0x1000}));

  EXPECT_TRUE(bus_.Write({kBase.value + 0xFFF}, Bytes(2)));

  EXPECT_THAT(handler_.writes, ElementsAre(Place(0xFFF, 1)));
  EXPECT_THAT(second.writes, ElementsAre(Place(0, 1)));
  EXPECT_EQ(bus_.unclaimed().value(), 0u);
}

TEST_F(DispatchMmioBusTest, AccessAtTheEndOfTheAddressSpaceDoesNotWrap) {
  const auto top = Handler("top", 0x1000, GuestAddress{UINT64_MAX - 0xFFF});
  RecordingHandler zero;
  const auto bottom = bus_.MapHandler("bottom", 0x1000, &zero).value();
  ASSERT_OK(bottom->SetBase(GuestAddress{0}));

  EXPECT_TRUE(bus_.Write({UINT64_MAX - 1}, Bytes(8)));

  EXPECT_THAT(handler_.writes, ElementsAre(Place(0xFFE, 1), Place(0xFFF, 1)));
  EXPECT_THAT(zero.writes, IsEmpty());
}

TEST_F(DispatchMmioBusTest, MovedMappingAnswersAtItsNewPlaceOnly) {
  const auto mapping = Handler("dev", 0x1000, kBase);
  const GuestAddress moved{kBase.value + 0x800};  // overlaps its old place
  std::array<std::byte, 4> data;

  ASSERT_OK(mapping->SetBase(moved));

  EXPECT_FALSE(bus_.Read(kBase, data));
  EXPECT_TRUE(bus_.Read(moved, data));
  EXPECT_THAT(handler_.reads, ElementsAre(Place(0, 4)));
  ASSERT_OK(mapping->SetBase(std::nullopt));
  EXPECT_FALSE(bus_.Read(moved, data));
}

TEST_F(DispatchMmioBusTest, DestroyedMappingFreesItsPlace) {
  Handler("dev", 0x1000, kBase).reset();
  std::array<std::byte, 4> data;

  EXPECT_FALSE(bus_.Read(kBase, data));
  const auto again = Handler("dev2", 0x1000, kBase);
  EXPECT_TRUE(bus_.Read(kBase, data));
}

TEST_F(DispatchMmioBusTest, OverlapIsRefusedNamingBothAndLeavesTheOldPlace) {
  const auto first = Handler("amp0 bar0", 0x4000, kBase);
  const auto second =
      Handler("amp1 bar0", 0x4000, GuestAddress{kBase.value + 0x10000});

  EXPECT_THAT(second->SetBase(GuestAddress{kBase.value + 0x3FFF}),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("amp1 bar0 [0xfe003fff, +0x4000)"),
                             HasSubstr("amp0 bar0 [0xfe000000, +0x4000)"))));

  std::array<std::byte, 4> data;
  EXPECT_TRUE(bus_.Read({kBase.value + 0x10000}, data));
}

TEST_F(DispatchMmioBusTest, EveryKindOfOverlapIsFound) {
  const auto middle = Handler("middle", 0x1000, GuestAddress{0x10000});
  const auto small = Handler("small", 0x10, std::nullopt);
  const auto large = Handler("large", 0x100000, std::nullopt);
  const auto same = Handler("same", 0x1000, std::nullopt);

  const auto exists = StatusIs(absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(small->SetBase(GuestAddress{0x10000}), exists);
  EXPECT_THAT(small->SetBase(GuestAddress{0x10FFF}), exists);
  EXPECT_THAT(small->SetBase(GuestAddress{0xFFF1}), exists);
  EXPECT_THAT(large->SetBase(GuestAddress{0}), exists);
  EXPECT_THAT(large->SetBase(GuestAddress{0x10001}), exists);
  EXPECT_THAT(same->SetBase(GuestAddress{0x10000}), exists);
  EXPECT_OK(small->SetBase(GuestAddress{0xFFF0}));
  EXPECT_OK(large->SetBase(GuestAddress{0x11000}));
}

TEST_F(DispatchMmioBusTest, RangePastTheLastAddressIsInvalid) {
  const auto mapping = Handler("dev", 0x1000, kBase);

  EXPECT_THAT(mapping->SetBase(GuestAddress{UINT64_MAX - 0xFFE}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dev")));

  std::array<std::byte, 4> data;
  EXPECT_TRUE(bus_.Read(kBase, data));
}

TEST_F(DispatchMmioBusTest, EmptyHandlerRangeIsInvalid) {
  EXPECT_THAT(bus_.MapHandler("dev", 0, &handler_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dev")));
}

TEST_F(DispatchMmioBusTest, MemoryIsReadAndWrittenWithoutAHandler) {
  const auto mapping = Memory("ram", 4096, 8192, kBase);
  const std::vector<std::byte> data = Bytes(24);

  EXPECT_TRUE(bus_.Write({kBase.value + 3}, data));  // unaligned, odd size

  EXPECT_EQ(std::memcmp(backing_->data() + 4096 + 3, data.data(), 24), 0);
  EXPECT_EQ(Read({kBase.value + 3}, 24), data);
  EXPECT_EQ(Read({kBase.value + 4}, 2), Bytes(2, 2));
}

TEST_F(DispatchMmioBusTest, MemoryAccessAcrossTheEndKeepsThePartInside) {
  const auto mapping = Memory("ram", 0, 4096, kBase);

  EXPECT_TRUE(bus_.Write({kBase.value + 4094}, Bytes(4)));

  EXPECT_THAT(Read({kBase.value + 4094}, 4),
              ElementsAre(std::byte{1}, std::byte{2}, std::byte{0xFF},
                          std::byte{0xFF}));
  // What is behind the mapping in the same backing was not reached.
  EXPECT_EQ(backing_->data()[4096], std::byte{0});
}

TEST_F(DispatchMmioBusTest, WriteToReadOnlyMemoryIsDropped) {
  ASSERT_OK_AND_ASSIGN(const auto writable,
                       MemoryBacking::CreateAnonymous(4096, "rom"));
  ASSERT_OK_AND_ASSIGN(
      const auto rom,
      MemoryBacking::MapFile(UniqueFd(dup(writable->fd())), 0, 4096,
                             /*read_only=*/true));
  const auto mapping = bus_.MapMemory("rom", rom, 0, 4096).value();
  ASSERT_OK(mapping->SetBase(kBase));

  EXPECT_TRUE(bus_.Write(kBase, Bytes(4)));

  EXPECT_EQ(Read(kBase, 4), std::vector<std::byte>(4, std::byte{0}));
}

TEST_F(DispatchMmioBusTest, MemoryHasToBeInPagesAndInsideItsBacking) {
  const auto invalid =
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ram"));

  EXPECT_THAT(bus_.MapMemory("ram", backing_, 0, 0), invalid);
  EXPECT_THAT(bus_.MapMemory("ram", backing_, 0, 100), invalid);
  EXPECT_THAT(bus_.MapMemory("ram", backing_, 8, 4096), invalid);
  EXPECT_THAT(bus_.MapMemory("ram", backing_, 4096, 16384), invalid);
  EXPECT_THAT(bus_.MapMemory("ram", backing_, 32768, 4096), invalid);
  EXPECT_THAT(bus_.MapMemory("ram", backing_, 0x1000, ~uint64_t{0xFFF}),
              invalid);
  const auto mapping = Memory("ram", 0, 4096, kBase);
  EXPECT_THAT(mapping->SetBase(GuestAddress{kBase.value + 0x800}), invalid);
}

TEST_F(DispatchMmioBusTest, TranslateGivesTheBytesAndKeepsThemAlive) {
  auto mapping = Memory("ram", 4096, 8192, kBase);
  std::byte* const expected = backing_->data() + 4096 + 0x10;
  const std::weak_ptr<const MemoryBacking> watched = backing_;
  backing_.reset();

  DispatchMmioBus::Direct direct =
      bus_.Translate({{kBase.value + 0x10}, 8192 - 0x10});
  mapping.reset();

  EXPECT_EQ(direct.data, expected);
  EXPECT_FALSE(watched.expired());
  direct.hold.reset();
  EXPECT_TRUE(watched.expired());
}

TEST_F(DispatchMmioBusTest, TranslateRefusesWhatIsNotWhollyInOneMemory) {
  const auto first = Memory("ram0", 0, 4096, kBase);
  const auto second = Memory("ram1", 4096, 4096, {kBase.value + 4096});
  const auto handler = Handler("dev", 4096, GuestAddress{kBase.value + 8192});

  EXPECT_EQ(bus_.Translate({kBase, 4097}).data, nullptr);
  EXPECT_EQ(bus_.Translate({{kBase.value - 1}, 2}).data, nullptr);
  EXPECT_EQ(bus_.Translate({{kBase.value + 8192}, 4}).data, nullptr);
  EXPECT_EQ(bus_.Translate({{kBase.value + 1}, UINT64_MAX}).data, nullptr);
  EXPECT_NE(bus_.Translate({{kBase.value + 4096}, 4096}).data, nullptr);
}

TEST_F(DispatchMmioBusTest, DoorbellTakesWritesOfItsWidthBeforeTheHandler) {
  const auto mapping = Handler("dev", 0x1000, kBase);
  const auto bell = Doorbell("dev bell", {kBase.value + 0x20});

  EXPECT_TRUE(bus_.Write({kBase.value + 0x20}, Bytes(4)));
  EXPECT_EQ(event_.Drain(), 1u);
  EXPECT_THAT(handler_.writes, IsEmpty());
}

TEST_F(DispatchMmioBusTest, DoorbellLeavesReadsAndOtherWidthsToTheHandler) {
  const auto mapping = Handler("dev", 0x1000, kBase);
  const auto bell = Doorbell("dev bell", {kBase.value + 0x20});

  Read({kBase.value + 0x20}, 4);
  bus_.Write({kBase.value + 0x20}, Bytes(1));
  bus_.Write({kBase.value + 0x20}, Bytes(8));
  bus_.Write({kBase.value + 0x22}, Bytes(4));
  bus_.Write({kBase.value + 0x1E}, Bytes(4));

  EXPECT_EQ(event_.Drain(), 0u);
  EXPECT_THAT(handler_.reads, ElementsAre(Place(0x20, 4)));
  EXPECT_THAT(handler_.writes, ElementsAre(Place(0x20, 1), Place(0x20, 8),
                                           Place(0x22, 4), Place(0x1E, 4)));
}

TEST_F(DispatchMmioBusTest, DoorbellsOverlapHandlersOnlyFromInside) {
  const auto mapping = Handler("dev", 0x1000, kBase);
  const auto memory = Memory("ram", 0, 4096, {kBase.value + 0x10000});
  const auto bell = Doorbell("bell", {kBase.value + 0x20});
  const auto other = bus_.MapDoorbell("other", 4, &event_).value();
  const auto edge = Handler("edge", 2, std::nullopt);

  const auto exists = StatusIs(absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(other->SetBase(GuestAddress{kBase.value + 0x20}), exists);
  EXPECT_THAT(other->SetBase(GuestAddress{kBase.value + 0x10000}), exists);
  EXPECT_OK(other->SetBase(GuestAddress{kBase.value + 0x24}));
  EXPECT_THAT(other->SetBase(GuestAddress{kBase.value + 0x22}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  // Not inside yet: its handler may follow.
  EXPECT_OK(other->SetBase(GuestAddress{kBase.value + 0x2000}));
  EXPECT_THAT(edge->SetBase(GuestAddress{kBase.value + 0x2002}),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("edge"), HasSubstr("other"))));
  EXPECT_OK(mapping->SetBase(GuestAddress{kBase.value + 0x2000}));
}

TEST_F(DispatchMmioBusTest, DoorbellOfAnImpossibleWidthIsInvalid) {
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(bus_.MapDoorbell("bell", 0, &event_), invalid);
  EXPECT_THAT(bus_.MapDoorbell("bell", 3, &event_), invalid);
  EXPECT_THAT(bus_.MapDoorbell("bell", 16, &event_), invalid);
}

TEST(DispatchMmioBusWithoutDoorbellsTest, MapDoorbellIsUnimplemented) {
  DispatchMmioBus bus(/*with_doorbells=*/false);
  const EventFd event = EventFd::Create().value();

  EXPECT_THAT(bus.MapDoorbell("bell", 4, &event),
              StatusIs(absl::StatusCode::kUnimplemented));
}

TEST(DispatchPioBusTest, AccessReachesTheHandlerWithItsOffset) {
  DispatchPioBus bus;
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       bus.MapHandler("com1", 0x3F8, 8, &handler));

  EXPECT_TRUE(bus.Write(0x3F9, Bytes(1)));
  std::array<std::byte, 4> data;
  EXPECT_TRUE(bus.Read(0x3FC, data));

  EXPECT_THAT(handler.writes, ElementsAre(Place(1, 1)));
  EXPECT_THAT(handler.reads, ElementsAre(Place(4, 4)));
}

TEST(DispatchPioBusTest, WidePortAccessIsSplitIntoBytes) {
  DispatchPioBus bus;
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       bus.MapHandler("dev", 0x100, 16, &handler));

  EXPECT_TRUE(bus.Write(0x100, Bytes(8)));

  EXPECT_EQ(handler.writes.size(), 8u);
}

TEST(DispatchPioBusTest, AccessPastTheLastPortReadsAllOnes) {
  DispatchPioBus bus;
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       bus.MapHandler("dev", 0xFFFF, 1, &handler));
  std::array<std::byte, 4> data;

  EXPECT_TRUE(bus.Read(0xFFFF, data));

  EXPECT_THAT(data, ElementsAre(kFill, std::byte{0xFF}, std::byte{0xFF},
                                std::byte{0xFF}));
  EXPECT_FALSE(bus.Write(0xFFF0, Bytes(4)));
}

TEST(DispatchPioBusTest, BadRangesAreRefused) {
  DispatchPioBus bus;
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       bus.MapHandler("cf8", 0xCF8, 8, &handler));

  EXPECT_THAT(bus.MapHandler("reset", 0xCF9, 1, &handler),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("reset [0xcf9, +0x1)"),
                             HasSubstr("cf8 [0xcf8, +0x8)"))));
  EXPECT_THAT(bus.MapHandler("empty", 0x10, 0, &handler),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(bus.MapHandler("end", 0xFFFF, 2, &handler),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace vmsg::vmm
