#include "vmm/memory/shared_copy.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

// The (offset, size) of each access of a copy.
std::vector<std::pair<size_t, size_t>> Pieces(uintptr_t address, size_t size) {
  std::vector<std::pair<size_t, size_t>> pieces;
  shared_copy_internal::ForEachPiece(address, size,
                                     [&]<typename T>(T, size_t offset) {
                                       pieces.emplace_back(offset, sizeof(T));
                                     });
  return pieces;
}

TEST(SharedCopyTest, TouchesEachByteOnceInAlignedPieces) {
  for (uintptr_t address = 64; address < 80; ++address) {
    for (size_t size = 0; size < 64; ++size) {
      size_t next = 0;
      for (const auto& [offset, length] : Pieces(address, size)) {
        EXPECT_EQ(offset, next);
        EXPECT_EQ((address + offset) % length, 0u);
        next += length;
      }
      EXPECT_EQ(next, size) << address;
    }
  }
}

TEST(SharedCopyTest, ReadsAnAlignedFieldInOneAccess) {
  for (const size_t size : {1, 2, 4, 8}) {
    for (uintptr_t address = 64; address < 80; address += size) {
      EXPECT_THAT(Pieces(address, size), ElementsAre(Pair(0, size)));
    }
  }
}

TEST(SharedCopyTest, UsesTheLargestPieces) {
  EXPECT_THAT(Pieces(64, 0), IsEmpty());
  EXPECT_THAT(Pieces(65, 31),
              ElementsAre(Pair(0, 1), Pair(1, 2), Pair(3, 4), Pair(7, 8),
                          Pair(15, 8), Pair(23, 8)));
  EXPECT_THAT(Pieces(64, 15),
              ElementsAre(Pair(0, 8), Pair(8, 4), Pair(12, 2), Pair(14, 1)));
}

// Bytes that differ from their neighbours.
std::byte Pattern(size_t i) { return static_cast<std::byte>(i * 7 + 1); }

constexpr std::byte kGuard{0xee};
constexpr size_t kRoom = 96;

TEST(SharedCopyTest, CopiesOutExactlyTheBytesForEveryAlignmentAndSize) {
  alignas(8) std::array<std::byte, kRoom> shared;
  for (size_t i = 0; i < kRoom; ++i) shared[i] = Pattern(i);
  for (size_t from = 0; from < 16; ++from) {
    for (size_t to = 0; to < 8; ++to) {
      for (size_t size = 0; size < 40; ++size) {
        std::array<std::byte, kRoom> out;
        out.fill(kGuard);
        CopyFromShared(std::span(out).subspan(to, size), &shared[from]);
        for (size_t i = 0; i < kRoom; ++i) {
          const bool inside = i >= to && i < to + size;
          ASSERT_EQ(out[i], inside ? Pattern(from + i - to) : kGuard);
        }
      }
    }
  }
}

TEST(SharedCopyTest, CopiesInExactlyTheBytesForEveryAlignmentAndSize) {
  std::array<std::byte, kRoom> source;
  for (size_t i = 0; i < kRoom; ++i) source[i] = Pattern(i);
  for (size_t from = 0; from < 8; ++from) {
    for (size_t to = 0; to < 16; ++to) {
      for (size_t size = 0; size < 40; ++size) {
        alignas(8) std::array<std::byte, kRoom> shared;
        shared.fill(kGuard);
        CopyToShared(&shared[to], std::span(source).subspan(from, size));
        for (size_t i = 0; i < kRoom; ++i) {
          const bool inside = i >= to && i < to + size;
          ASSERT_EQ(shared[i], inside ? Pattern(from + i - to) : kGuard);
        }
      }
    }
  }
}

// A plain copy here is what ThreadSanitizer reports.
TEST(SharedCopyTest, MayRaceWithAWriterWithoutTearingAlignedWords) {
  alignas(8) std::array<std::byte, 32> shared{};
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (uint8_t n = 0; !stop.load(std::memory_order_relaxed); ++n) {
      std::array<std::byte, 32> next;
      next.fill(std::byte{n});
      CopyToShared(shared.data(), next);
    }
  });
  for (int i = 0; i < 20000; ++i) {
    std::array<std::byte, 32> seen;
    CopyFromShared(seen, shared.data());
    for (size_t b = 0; b < seen.size(); ++b) ASSERT_EQ(seen[b], seen[b & ~7u]);
  }
  stop = true;
  writer.join();
}

TEST(SharedWordTest, ReleaseAndAcquirePublishWhatWasWrittenBefore) {
  alignas(8) std::array<std::byte, 8> index{};
  int payload = 0;
  std::thread writer([&] {
    payload = 42;
    StoreShared<uint16_t>(index.data(), 1, std::memory_order_release);
  });
  while (LoadShared<uint16_t>(index.data(), std::memory_order_acquire) != 1) {
    std::this_thread::yield();
  }
  EXPECT_EQ(payload, 42);
  writer.join();
}

TEST(SharedWordTest, StoresOnlyItsOwnBytes) {
  alignas(8) std::array<std::byte, 8> bytes;
  bytes.fill(kGuard);
  StoreShared<uint32_t>(&bytes[4], 0, std::memory_order_relaxed);
  EXPECT_EQ(bytes[3], kGuard);
  EXPECT_EQ(bytes[4], std::byte{0});
  EXPECT_EQ(bytes[7], std::byte{0});
  EXPECT_EQ(LoadShared<uint64_t>(bytes.data(), std::memory_order_relaxed),
            0x00000000eeeeeeeeu);
}

}  // namespace
}  // namespace vmsg::vmm
