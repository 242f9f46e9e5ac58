#include "vmm/boot/elf_loader.h"

#include <elf.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kText = 0x100000;
constexpr uint64_t kData = 0x200000;
constexpr std::byte kOld{0xCC};  // what RAM holds before

// An executable with a text segment of 16 bytes and a data segment of 8 bytes,
// 64 in memory; each test spoils something.
struct ElfFile {
  ElfFile() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = kText + 4;
    header.e_phoff = sizeof(Elf64_Ehdr);
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_phentsize = sizeof(Elf64_Phdr);
    segments = {Load(kText, 0x1000, 16, 16, PF_R | PF_X),
                Load(kData, 0x2000, 8, 64, PF_R | PF_W)};
  }

  static Elf64_Phdr Load(uint64_t address, uint64_t offset, uint64_t filesz,
                         uint64_t memsz, uint32_t flags) {
    Elf64_Phdr segment = {};
    segment.p_type = PT_LOAD;
    segment.p_flags = flags;
    segment.p_offset = offset;
    segment.p_vaddr = address;
    segment.p_paddr = address;
    segment.p_filesz = filesz;
    segment.p_memsz = memsz;
    segment.p_align = 0x1000;
    return segment;
  }

  std::vector<std::byte> Bytes() {
    std::vector<std::byte> bytes(0x2008, std::byte{0});
    if (header.e_phnum == 0 && count_segments) {
      header.e_phnum = static_cast<uint16_t>(segments.size());
    }
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::memcpy(bytes.data() + sizeof(header), segments.data(),
                segments.size() * sizeof(segments[0]));
    std::fill_n(bytes.begin() + 0x1000, 16, std::byte{0x11});
    std::fill_n(bytes.begin() + 0x2000, 8, std::byte{0x22});
    return bytes;
  }

  Elf64_Ehdr header = {};
  std::vector<Elf64_Phdr> segments;
  bool count_segments = true;
};

class ElfLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(auto ram,
                         MemoryBacking::CreateAnonymous(kRamBytes, "elf"));
    ASSERT_OK(memory_.Add({.range = {{0}, kRamBytes}, .backing = ram}));
    const std::vector<std::byte> fill(kRamBytes, kOld);
    ASSERT_EQ(dma_.Write({0}, fill), DmaResult::kOk);
  }

  absl::StatusOr<LoadedElf> Load(ElfFile file) {
    return LoadElf(file.Bytes(), {}, &dma_);
  }

  std::vector<std::byte> Ram(uint64_t address, size_t bytes) {
    std::vector<std::byte> content(bytes);
    EXPECT_EQ(dma_.Read({address}, content), DmaResult::kOk);
    return content;
  }

  // Loading fails, says all of `parts`, and writes nothing.
  void ExpectRefused(ElfFile file, absl::StatusCode code,
                     const std::string& part) {
    EXPECT_THAT(Load(std::move(file)), StatusIs(code, HasSubstr(part)));
    EXPECT_THAT(Ram(kText, 16), Each(kOld)) << part;
    EXPECT_THAT(Ram(kData, 64), Each(kOld)) << part;
  }
  void ExpectInvalid(ElfFile file, const std::string& part) {
    ExpectRefused(std::move(file), absl::StatusCode::kInvalidArgument, part);
  }
  void ExpectOutOfRange(ElfFile file, const std::string& part) {
    ExpectRefused(std::move(file), absl::StatusCode::kOutOfRange, part);
  }

  GuestMemory memory_;
  DmaSpace dma_{&memory_};
};

TEST_F(ElfLoaderTest, SegmentsAreCopiedAndTheirTailsZeroed) {
  ASSERT_OK_AND_ASSIGN(const LoadedElf loaded, Load({}));
  EXPECT_EQ(loaded.entry.value, kText + 4);
  EXPECT_EQ(loaded.footprint, (GuestRange{{kText}, kData + 64 - kText}));
  EXPECT_THAT(Ram(kText, 16), Each(std::byte{0x11}));
  EXPECT_THAT(Ram(kData, 8), Each(std::byte{0x22}));
  EXPECT_THAT(Ram(kData + 8, 56), Each(std::byte{0}));
  EXPECT_THAT(Ram(kText + 16, 100), Each(kOld));
  EXPECT_THAT(Ram(kData + 64, 100), Each(kOld));
}

TEST_F(ElfLoaderTest, TailLargerThanAnyBufferIsZeroed) {
  ElfFile file;
  file.segments[1].p_memsz = kRamBytes - kData;
  ASSERT_OK(Load(file));
  const uint64_t tail = kRamBytes - kData - 8;
  EXPECT_EQ(Ram(kData + 8, tail), std::vector<std::byte>(tail));
}

TEST_F(ElfLoaderTest, OtherProgramHeadersAreIgnored) {
  ElfFile file;
  Elf64_Phdr stack = {};
  stack.p_type = PT_GNU_STACK;
  stack.p_memsz = UINT64_MAX;
  file.segments.push_back(stack);
  Elf64_Phdr note = {};
  note.p_type = PT_NOTE;
  note.p_offset = UINT64_MAX;
  file.segments.push_back(note);
  Elf64_Phdr empty = ElfFile::Load(0, 0, 0, 0, 0);
  file.segments.push_back(empty);
  EXPECT_OK(Load(file));
}

TEST_F(ElfLoaderTest, EveryTruncationIsRefused) {
  const std::vector<std::byte> whole = ElfFile().Bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_THAT(LoadElf(std::span(whole).first(size), {}, &dma_),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << size;
  }
  EXPECT_OK(LoadElf(whole, {}, &dma_));
}

TEST_F(ElfLoaderTest, EachHeaderFieldIsChecked) {
  const auto spoiled = [](auto spoil) {
    ElfFile file;
    spoil(&file.header);
    return file;
  };
  const struct {
    ElfFile file;
    const char* said;
  } cases[] = {
      {spoiled([](Elf64_Ehdr* h) { h->e_ident[0] = 0x7E; }), "magic"},
      {spoiled([](Elf64_Ehdr* h) { h->e_ident[EI_CLASS] = ELFCLASS32; }),
       "class is 1"},
      {spoiled([](Elf64_Ehdr* h) { h->e_ident[EI_DATA] = ELFDATA2MSB; }),
       "data encoding is 2"},
      {spoiled([](Elf64_Ehdr* h) { h->e_ident[EI_VERSION] = 0; }),
       "ident version is 0"},
      {spoiled([](Elf64_Ehdr* h) { h->e_ident[EI_OSABI] = 9; }), "ABI 9"},
      {spoiled([](Elf64_Ehdr* h) { h->e_ident[EI_ABIVERSION] = 1; }),
       "ABI version is 1"},
      {spoiled([](Elf64_Ehdr* h) { h->e_type = ET_DYN; }), "type is 3"},
      {spoiled([](Elf64_Ehdr* h) { h->e_type = ET_REL; }), "type is 1"},
      {spoiled([](Elf64_Ehdr* h) { h->e_machine = EM_AARCH64; }),
       "machine is 183"},
      {spoiled([](Elf64_Ehdr* h) { h->e_version = 2; }), "version is 2"},
      {spoiled([](Elf64_Ehdr* h) { h->e_flags = 1; }), "flags is 1"},
      {spoiled([](Elf64_Ehdr* h) { h->e_ehsize = 52; }), "ehsize is 52"},
      {spoiled([](Elf64_Ehdr* h) { h->e_phentsize = 32; }), "phentsize is 32"},
      {spoiled([](Elf64_Ehdr* h) { h->e_phnum = kMaxElfProgramHeaders + 1; }),
       "phnum is 65"},
      {spoiled([](Elf64_Ehdr* h) { h->e_phnum = 0xFFFF; }), "phnum is 65535"},
      {spoiled([](Elf64_Ehdr* h) { h->e_phoff = 0x2000; }), "program headers"},
      {spoiled([](Elf64_Ehdr* h) { h->e_phoff = UINT64_MAX; }),
       "program headers"},
      {spoiled([](Elf64_Ehdr* h) { h->e_phoff = UINT64_MAX - 100; }),
       "program headers"},
      {spoiled([](Elf64_Ehdr* h) { h->e_entry = 0; }), "entry point"},
      {spoiled([](Elf64_Ehdr* h) { h->e_entry = kText + 16; }), "entry point"},
      {spoiled([](Elf64_Ehdr* h) { h->e_entry = kData; }), "entry point"},
  };
  for (const auto& c : cases) ExpectInvalid(c.file, c.said);
}

TEST_F(ElfLoaderTest, FileWithoutProgramHeadersIsRefused) {
  ElfFile file;
  file.count_segments = false;
  ExpectInvalid(file, "phnum is 0");
}

TEST_F(ElfLoaderTest, FileWithNothingToLoadIsRefused) {
  ElfFile file;
  for (Elf64_Phdr& segment : file.segments) segment.p_type = PT_NOTE;
  ExpectInvalid(file, "no segment to load");
}

TEST_F(ElfLoaderTest, EachSegmentFieldIsChecked) {
  const auto spoiled = [](auto spoil) {
    ElfFile file;
    spoil(&file.segments[1]);
    return file;
  };
  const struct {
    ElfFile file;
    const char* said;
  } cases[] = {
      {spoiled([](Elf64_Phdr* s) { s->p_filesz = 65; }), "exceeds memsz"},
      {spoiled([](Elf64_Phdr* s) { s->p_filesz = UINT64_MAX; }),
       "exceeds memsz"},
      {spoiled([](Elf64_Phdr* s) { s->p_filesz = 9; }), "not inside the file"},
      {spoiled([](Elf64_Phdr* s) { s->p_offset = 0x3000; }),
       "not inside the file"},
      {spoiled([](Elf64_Phdr* s) { s->p_offset = UINT64_MAX - 0xFFF; }),
       "not inside the file"},
      {spoiled([](Elf64_Phdr* s) { s->p_vaddr += 0x1000; }), "differs"},
      {spoiled([](Elf64_Phdr* s) { s->p_align = 0x1001; }), "power of two"},
      {spoiled([](Elf64_Phdr* s) { s->p_offset += 8, s->p_filesz = 0; }),
       "modulo align"},
      {spoiled([](Elf64_Phdr* s) {
         s->p_vaddr = s->p_paddr = UINT64_MAX - 0xFFF;
         s->p_memsz = 0x1001;
       }),
       "wraps around"},
      {spoiled([](Elf64_Phdr* s) { s->p_memsz = UINT64_MAX; }), "wraps around"},
  };
  for (const auto& c : cases) {
    ExpectInvalid(c.file, c.said);
    ExpectInvalid(c.file, "segment 1");
  }
}

TEST_F(ElfLoaderTest, AlignmentsOfZeroAndOneMeanNone) {
  for (const uint64_t align : {0, 1}) {
    ElfFile file;
    file.segments[1].p_align = align;
    file.segments[1].p_vaddr = file.segments[1].p_paddr = kData + 3;
    EXPECT_OK(Load(file)) << align;
  }
}

TEST_F(ElfLoaderTest, OverlappingSegmentsAreNamed) {
  ElfFile file;
  file.segments[1].p_vaddr = file.segments[1].p_paddr = kText;
  ExpectInvalid(file, "segments 0 [0x100000");
}

TEST_F(ElfLoaderTest, SegmentsThatTouchDoNotOverlap) {
  ElfFile file;
  file.segments[0].p_memsz = kData - kText;
  EXPECT_OK(Load(file));
}

TEST_F(ElfLoaderTest, DynamicExecutablesAreRefused) {
  for (const uint32_t type : {PT_INTERP, PT_DYNAMIC}) {
    ElfFile file;
    file.segments.push_back({});
    file.segments.back().p_type = type;
    ExpectInvalid(file, "not static");
  }
}

TEST_F(ElfLoaderTest, SegmentsOutsideRamOrItsBoundsAreRefused) {
  const auto at = [](uint64_t address, uint64_t memsz) {
    ElfFile file;
    file.segments[1].p_vaddr = file.segments[1].p_paddr = address;
    file.segments[1].p_memsz = memsz;
    return file;
  };
  ExpectOutOfRange(at(kFreeRam.value - 0x1000, 64), "is not inside");
  ExpectOutOfRange(at(0, 64), "is not inside");
  ExpectOutOfRange(at(kDeviceHole.value - 0x1000, 0x1001), "is not inside");
  ExpectOutOfRange(at(kDeviceHole.value, 64), "is not inside");
  ExpectOutOfRange(at(uint64_t{1} << 40, 64), "is not inside");
  ExpectOutOfRange(at(kRamBytes - 0x1000, 0x1001), "RAM");
  ExpectOutOfRange(at(kRamBytes, 64), "RAM");
  ExpectOutOfRange(at(kData, uint64_t{1} << 31), "RAM");
}

TEST_F(ElfLoaderTest, ReadOnlyRegionIsNoRam) {
  ASSERT_OK_AND_ASSIGN(auto rom, MemoryBacking::CreateAnonymous(4096, "rom"));
  ASSERT_OK(memory_.Add({.range = {{kRamBytes}, 4096},
                         .read_only = true,
                         .backing = std::move(rom)}));
  ElfFile file;
  file.segments[1].p_vaddr = file.segments[1].p_paddr = kRamBytes;
  ExpectOutOfRange(file, "writable RAM");
}

TEST_F(ElfLoaderTest, BoundsAreTheCallers) {
  const auto file = ElfFile().Bytes();
  EXPECT_OK(LoadElf(file, {.lowest = {kText}, .limit = {kData + 64}}, &dma_));
  EXPECT_THAT(LoadElf(file, {.lowest = {kText + 1}}, &dma_),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(LoadElf(file, {.limit = {kData + 63}}, &dma_),
              StatusIs(absl::StatusCode::kOutOfRange));
}

}  // namespace
}  // namespace vmsg::vmm
