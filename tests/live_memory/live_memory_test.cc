#include "tests/live_memory/live_memory.h"

#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg {
namespace {

// Keeps the compiler from leaving out a pair of calls.
void* volatile g_block;

// What `take` takes, before and after it is given back.
template <typename Take, typename Give>
void ExpectCounted(uint64_t bytes, Take take, Give give) {
  const LiveMemory before = CurrentLiveMemory();
  g_block = take();
  const LiveMemory during = CurrentLiveMemory();
  give(g_block);
  const LiveMemory after = CurrentLiveMemory();
  EXPECT_GE(during.bytes, before.bytes + bytes);
  EXPECT_LT(during.bytes, before.bytes + bytes + 64);
  EXPECT_EQ(during.blocks, before.blocks + 1);
  EXPECT_EQ(after.bytes, before.bytes);
  EXPECT_EQ(after.blocks, before.blocks);
}

TEST(LiveMemoryTest, EachWayToTakeMemoryIsCounted) {
  const auto give = [](void* block) { std::free(block); };
  ExpectCounted(
      1000, [] { return std::malloc(1000); }, give);
  ExpectCounted(
      1000, [] { return std::calloc(10, 100); }, give);
  ExpectCounted(
      1024, [] { return std::aligned_alloc(64, 1024); }, give);
  ExpectCounted(
      1000,
      [] {
        void* block = nullptr;
        EXPECT_EQ(posix_memalign(&block, 64, 1000), 0);
        return block;
      },
      give);
  ExpectCounted(
      1000, [] { return std::realloc(std::malloc(10), 1000); }, give);
  ExpectCounted(
      1000, [] { return ::operator new(1000); },
      [](void* block) { ::operator delete(block); });
  ExpectCounted(
      1024, [] { return ::operator new (1024, std::align_val_t{128}); },
      [](void* block) { ::operator delete (block, std::align_val_t{128}); });
}

TEST(LiveMemoryTest, WhatAnotherThreadGivesBackIsGone) {
  // What the library keeps for the next thread.
  std::thread([] {}).join();
  const LiveMemory before = CurrentLiveMemory();
  g_block = std::malloc(100);
  std::thread([] { std::free(g_block); }).join();
  EXPECT_EQ(CurrentLiveMemory().blocks, before.blocks);
}

TEST(LiveMemoryTest, TheFileSaysTheSame) {
  std::ifstream file(std::getenv("VMSG_LIVE_MEMORY"), std::ios::binary);
  ASSERT_TRUE(file.is_open());
  std::array<uint64_t, 2> words = {};
  file.rdbuf()->pubsetbuf(nullptr, 0);
  const LiveMemory now = CurrentLiveMemory();
  file.read(reinterpret_cast<char*>(words.data()), sizeof(words));
  ASSERT_TRUE(file.good());
  EXPECT_EQ(words[0], now.bytes);
  EXPECT_EQ(words[1], now.blocks);
}

}  // namespace
}  // namespace vmsg

int main(int argc, char** argv) {
  if (std::getenv("VMSG_LIVE_MEMORY") == nullptr) {
    const std::string path =
        std::string(std::getenv("TEST_TMPDIR")) + "/live_memory";
    setenv("VMSG_LIVE_MEMORY", path.c_str(), 1);
    execv("/proc/self/exe", argv);
    return 1;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
