#include "guest/driver/chain_table.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/arena.h"

namespace vmsg::guest {
namespace {

class ChainTableTest : public testing::Test {
 protected:
  void Create(uint32_t size, bool in_order) {
    ASSERT_TRUE(table_.Create(size, in_order, &arena_));
    ASSERT_LE(arena_.used(), ChainTable::ArenaBytes(size));
  }
  // Adds a chain of `ids` ids and returns the first of them.
  uint16_t Add(uint64_t cookie, uint16_t ids = 1, uint16_t descriptors = 1) {
    const uint16_t id = table_.TakeId();
    for (uint16_t i = 1; i < ids; ++i) table_.TakeId();
    table_.Add(id, {.cookie = cookie,
                    .writable = 10,
                    .ids = ids,
                    .descriptors = descriptors});
    return id;
  }
  UsedChain Next() {
    UsedChain chain;
    table_.Next(&chain);
    return chain;
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(1 << 20);
  Arena arena_{memory_, 0x1000};
  ChainTable table_;
};

TEST_F(ChainTableTest, ReportsAnArenaThatIsTooSmall) {
  std::array<std::byte, 64> little;
  Arena small(little, 0);
  EXPECT_FALSE(table_.Create(16, false, &small));
}

TEST_F(ChainTableTest, IdsAreGivenOutInTheOrderInWhichTheyCameBack) {
  Create(3, false);
  for (const uint16_t id : {0, 1, 2}) EXPECT_EQ(Add(id), id);
  table_.Publish();
  EXPECT_EQ(table_.free_ids(), 0u);
  for (const uint16_t id : {2, 0, 1}) {
    ASSERT_EQ(table_.Use(id, 1), QueueFault::kNone);
    EXPECT_EQ(Next().cookie, id);
  }
  for (const uint16_t id : {2, 0, 1}) EXPECT_EQ(Add(7), id);
}

TEST_F(ChainTableTest, ChainGivesBackAllOfItsIdsAndSaysHowLongItWas) {
  Create(4, false);
  const uint16_t id = Add(1, /*ids=*/3, /*descriptors=*/3);
  table_.Publish();
  EXPECT_EQ(table_.free_ids(), 1u);
  ASSERT_EQ(table_.Use(id, 1), QueueFault::kNone);
  UsedChain chain;
  EXPECT_EQ(table_.Next(&chain), 3u);
  EXPECT_EQ(table_.free_ids(), 4u);
  EXPECT_EQ(table_.outstanding(), 0u);
}

TEST_F(ChainTableTest, InOrderOneChainStandsForItsElders) {
  Create(4, true);
  for (uint64_t cookie = 0; cookie < 4; ++cookie) Add(cookie);
  table_.Publish();
  // Around the end of the circle too.
  for (uint64_t first = 0; first < 40; first += 2) {
    ASSERT_EQ(table_.Use((first + 1) % 4, 3), QueueFault::kNone);
    ASSERT_EQ(table_.due(), 2u);
    const UsedChain elder = Next();
    EXPECT_EQ(elder.cookie, first);
    EXPECT_EQ(elder.written, 10u);  // completely
    const UsedChain named = Next();
    EXPECT_EQ(named.cookie, first + 1);
    EXPECT_EQ(named.written, 3u);
    ASSERT_EQ(table_.due(), 0u);
    Add(first + 4);
    Add(first + 5);
    table_.Publish();
  }
}

TEST_F(ChainTableTest, NamesWhatIsWrong) {
  Create(4, false);
  const uint16_t id = Add(1, /*ids=*/2, /*descriptors=*/2);
  EXPECT_EQ(table_.Use(id, 1), QueueFault::kUnpublishedChain);
  table_.Publish();
  const uint16_t young = Add(2);
  EXPECT_EQ(table_.Use(young, 1), QueueFault::kUnpublishedChain);
  EXPECT_EQ(table_.Use(id, 11), QueueFault::kTooMuchWritten);
  EXPECT_EQ(table_.Use(id + 1u, 1), QueueFault::kUnknownChain);  // no head
  EXPECT_EQ(table_.Use(3, 1), QueueFault::kUnknownChain);        // free
  EXPECT_EQ(table_.Use(4, 1), QueueFault::kUnknownChain);        // past the end
  EXPECT_EQ(table_.Use(UINT32_MAX, 1), QueueFault::kUnknownChain);
  EXPECT_EQ(table_.due(), 0u);
  ASSERT_EQ(table_.Use(id, 10), QueueFault::kNone);
  Next();
  EXPECT_EQ(table_.Use(id, 10), QueueFault::kUnknownChain);  // twice
}

TEST_F(ChainTableTest, LargestTableIsUsedWhole) {
  memory_.resize(4 << 20);
  arena_ = Arena(memory_, 0x1000);
  Create(32768, true);
  // The numbers of chains go around their 16 bits with all of them outstanding.
  for (uint32_t i = 0; i < 32768; ++i) Add(i);
  table_.Publish();
  for (uint32_t i = 0; i < 70000; ++i) {
    ASSERT_EQ(table_.Use(i % 32768, 1), QueueFault::kNone);
    ASSERT_EQ(table_.due(), 1u);
    ASSERT_EQ(Next().cookie, i);
    Add(i + 32768);
    ASSERT_EQ(table_.Use(i % 32768, 1), QueueFault::kUnpublishedChain);
    table_.Publish();
  }
  ASSERT_EQ(table_.Use((70000 + 32767) % 32768, 2), QueueFault::kNone);
  EXPECT_EQ(table_.due(), 32768u);
}

TEST_F(ChainTableTest, EachFaultHasAName) {
  EXPECT_STREQ(QueueFaultName(QueueFault::kNone), "none");
  EXPECT_STREQ(QueueFaultName(QueueFault::kIndexPastOutstanding),
               "index-past-outstanding");
  EXPECT_STREQ(QueueFaultName(QueueFault::kUnknownChain), "unknown-chain");
  EXPECT_STREQ(QueueFaultName(QueueFault::kUnpublishedChain),
               "unpublished-chain");
  EXPECT_STREQ(QueueFaultName(QueueFault::kTooMuchWritten), "too-much-written");
  EXPECT_STREQ(QueueFaultName(QueueFault::kOutOfOrder), "out-of-order");
}

}  // namespace
}  // namespace vmsg::guest
