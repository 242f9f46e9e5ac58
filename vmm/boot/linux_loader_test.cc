#include "vmm/boot/linux_loader.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/boot/elf_note.h"
#include "vmm/boot/linux_boot_layout.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using namespace linux_boot;  // NOLINT(build/namespaces): our own constants

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kRamBytes = 32 * kMiB;
constexpr uint64_t kKernelAt = 16 * kMiB;
constexpr uint64_t kEntry = kKernelAt + 0x40;
constexpr std::byte kKernelByte{0x4B};
constexpr std::byte kInitrdByte{0x49};

template <typename T>
void Put(std::vector<std::byte>* file, uint64_t offset, T value) {
  std::memcpy(file->data() + offset, &value, sizeof(value));
}

std::vector<std::byte> BzImageFile() {
  std::vector<std::byte> file(5 * 512 + 0x1000, kKernelByte);
  std::fill_n(file.begin(), 5 * 512, std::byte{0});
  Put<uint8_t>(&file, kSetupHeaderOffset, 4);
  Put<uint32_t>(&file, kSysSizeOffset, 0x100);
  Put<uint16_t>(&file, kBootFlagOffset, kBootFlag);
  Put<uint16_t>(&file, kJumpOffset, 0x6AEB);
  Put<uint32_t>(&file, kHeaderMagicOffset, kHeaderMagic);
  Put<uint16_t>(&file, kVersionOffset, 0x020F);
  Put<uint8_t>(&file, kLoadFlagsOffset, kLoadedHigh);
  Put<uint32_t>(&file, kInitrdMaxOffset, 0x7FFFFFFF);
  Put<uint32_t>(&file, kAlignmentOffset, 2 * kMiB);
  Put<uint8_t>(&file, kRelocatableOffset, 1);
  Put<uint16_t>(&file, kXLoadFlagsOffset, kXKernel64);
  Put<uint32_t>(&file, kCommandLineSizeOffset, 100);
  Put<uint64_t>(&file, kPreferredAddressOffset, kKernelAt);
  Put<uint32_t>(&file, kInitSizeOffset, 4 * kMiB);
  return file;
}

// A kernel that maps itself high, with the notes of a vmlinux.
struct ElfFile {
  ElfFile() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = kKernelAt;
    header.e_phoff = sizeof(Elf64_Ehdr);
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    load.p_type = PT_LOAD;
    load.p_flags = PF_R | PF_X;
    load.p_offset = 0x1000;
    load.p_vaddr = 0xFFFFFFFF81000000;
    load.p_paddr = kKernelAt;
    load.p_filesz = 0x1000;
    load.p_memsz = 0x2000;
    load.p_align = 0x1000;
    note.p_type = PT_NOTE;
    note.p_offset = 0x800;
    AddNote("GNU", 3, std::vector<uint8_t>(5, 1));
    AddNote("Xen", kPvhEntryNote, Bytes(kEntry));
  }

  static std::vector<uint8_t> Bytes(uint64_t value) {
    std::vector<uint8_t> bytes(8);
    std::memcpy(bytes.data(), &value, 8);
    return bytes;
  }

  void AddNote(const std::string& owner, uint32_t type,
               const std::vector<uint8_t>& content) {
    const auto word = [this](uint32_t value) {
      notes.resize(notes.size() + 4);
      std::memcpy(notes.data() + notes.size() - 4, &value, 4);
    };
    word(static_cast<uint32_t>(owner.size() + 1));
    word(static_cast<uint32_t>(content.size()));
    word(type);
    notes.insert(notes.end(), owner.c_str(), owner.c_str() + owner.size() + 1);
    notes.resize((notes.size() + 3) & ~size_t{3});
    notes.insert(notes.end(), content.begin(), content.end());
    notes.resize((notes.size() + 3) & ~size_t{3});
  }

  std::vector<std::byte> File() const {
    std::vector<std::byte> file(0x2000, std::byte{0});
    Put(&file, 0, header);
    Put(&file, sizeof(header), load);
    Elf64_Phdr last = note;
    if (last.p_filesz == 0) last.p_filesz = notes.size();
    Put(&file, sizeof(header) + sizeof(load), last);
    std::memcpy(file.data() + 0x800, notes.data(), notes.size());
    std::fill_n(file.begin() + 0x1000, 0x1000, kKernelByte);
    return file;
  }

  Elf64_Ehdr header = {};
  Elf64_Phdr load = {};
  Elf64_Phdr note = {};
  std::vector<uint8_t> notes;
};

class LinuxLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(auto ram,
                         MemoryBacking::CreateAnonymous(kRamBytes, "linux"));
    ASSERT_OK(memory_.Add({.range = {{0}, kRamBytes}, .backing = ram}));
    ASSERT_OK_AND_ASSIGN(const RamLayout layout, ComputeRamLayout(kRamBytes));
    boot_.map = ComputeMemoryMap(layout, {});
    boot_.command_line = "console=ttyS0";
    boot_.rsdp = kAcpiArea.start;
  }

  template <typename T>
  T Ram(uint64_t address) {
    T value = {};
    EXPECT_EQ(
        dma_.Read({address}, std::as_writable_bytes(std::span(&value, 1))),
        DmaResult::kOk);
    return value;
  }
  std::vector<std::byte> RamBytes(uint64_t address, size_t bytes) {
    std::vector<std::byte> content(bytes);
    EXPECT_EQ(dma_.Read({address}, content), DmaResult::kOk);
    return content;
  }
  std::string RamText(uint64_t address) {
    std::string text;
    for (char c = Ram<char>(address); c != 0; c = Ram<char>(++address)) {
      text += c;
    }
    return text;
  }

  GuestMemory memory_;
  DmaSpace dma_{&memory_};
  LinuxBoot boot_;
  const std::vector<std::byte> initrd_ =
      std::vector<std::byte>(5000, kInitrdByte);
};

TEST_F(LinuxLoaderTest, KindsAreToldApartByContent) {
  EXPECT_EQ(IdentifyKernel(BzImageFile()), KernelKind::kBzImage);
  ElfFile elf;
  EXPECT_EQ(IdentifyKernel(elf.File()), KernelKind::kPvh);
  elf.notes.clear();
  EXPECT_EQ(IdentifyKernel(elf.File()), KernelKind::kElf);
  EXPECT_EQ(IdentifyKernel({}), KernelKind::kUnknown);
  EXPECT_EQ(IdentifyKernel(std::vector<std::byte>(4096)), KernelKind::kUnknown);
}

TEST_F(LinuxLoaderTest, BzImageStartsAtIts64BitEntryWithItsParameters) {
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       LoadLinux(BzImageFile(), initrd_, boot_, &dma_));
  EXPECT_EQ(state.rip, kKernelAt + 0x200);
  EXPECT_THAT(RamBytes(kKernelAt, 0x1000), Each(kKernelByte));
  EXPECT_EQ(state.cs.selector, 0x10);
  EXPECT_EQ(state.data.selector, 0x18);
  EXPECT_TRUE(state.cs.long_mode_code);
  EXPECT_EQ(state.rflags, 2u) << "interrupts off";
  EXPECT_NE(Ram<uint64_t>(state.gdt.base + 0x10), 0u);

  const uint64_t params = state.rsi;
  EXPECT_EQ(Ram<uint32_t>(params + 0x202), kHeaderMagic);
  EXPECT_EQ(Ram<uint8_t>(params + 0x210), 0xFF);
  EXPECT_EQ(RamText(Ram<uint32_t>(params + 0x228)), "console=ttyS0");
  EXPECT_EQ(Ram<uint64_t>(params + 0x70), kAcpiArea.start.value);
  const uint32_t initrd = Ram<uint32_t>(params + 0x218);
  EXPECT_EQ(Ram<uint32_t>(params + 0x21C), initrd_.size());
  EXPECT_EQ(initrd, kRamBytes - 8192) << "the last place, page-aligned";
  EXPECT_EQ(RamBytes(initrd, initrd_.size()), initrd_);

  ASSERT_EQ(Ram<uint8_t>(params + 0x1E8), boot_.map.size());
  for (size_t i = 0; i < boot_.map.size(); ++i) {
    const uint64_t entry = params + 0x2D0 + 20 * i;
    EXPECT_EQ(Ram<uint64_t>(entry), boot_.map[i].range.start.value);
    EXPECT_EQ(Ram<uint64_t>(entry + 8), boot_.map[i].range.size);
    EXPECT_EQ(Ram<uint32_t>(entry + 16),
              static_cast<uint32_t>(boot_.map[i].type));
  }
}

TEST_F(LinuxLoaderTest, InitrdStaysBelowWhatTheKernelReaches) {
  std::vector<std::byte> file = BzImageFile();
  Put<uint32_t>(&file, kInitrdMaxOffset, 24 * kMiB - 1);
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       LoadLinux(file, initrd_, boot_, &dma_));
  EXPECT_EQ(Ram<uint32_t>(state.rsi + 0x218), 24 * kMiB - 8192);
}

TEST_F(LinuxLoaderTest, WithoutInitrdItsFieldsAreZero) {
  ASSERT_OK_AND_ASSIGN(const CpuState bzimage,
                       LoadLinux(BzImageFile(), {}, boot_, &dma_));
  EXPECT_EQ(Ram<uint64_t>(bzimage.rsi + 0x218), 0u);
  ASSERT_OK_AND_ASSIGN(const CpuState pvh,
                       LoadLinux(ElfFile().File(), {}, boot_, &dma_));
  EXPECT_EQ(Ram<uint32_t>(pvh.rbx + 12), 0u);
  EXPECT_EQ(Ram<uint64_t>(pvh.rbx + 16), 0u);
}

TEST_F(LinuxLoaderTest, PvhStartsIn32BitModeWithItsStartInfo) {
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       LoadLinux(ElfFile().File(), initrd_, boot_, &dma_));
  EXPECT_EQ(state.rip, kEntry);
  EXPECT_THAT(RamBytes(kKernelAt, 0x1000), Each(kKernelByte));
  EXPECT_THAT(RamBytes(kKernelAt + 0x1000, 0x1000), Each(std::byte{0}));
  EXPECT_EQ(state.cr0 & 0x80000001, 1u) << "protected, not paged";
  EXPECT_EQ(state.efer, 0u);
  EXPECT_TRUE(state.cs.default_32bit);
  EXPECT_FALSE(state.cs.long_mode_code);
  EXPECT_EQ(state.cs.limit, 0xFFFFFFFFu);

  const uint64_t info = state.rbx;
  EXPECT_EQ(Ram<uint32_t>(info), 0x336EC578u);
  EXPECT_EQ(Ram<uint32_t>(info + 4), 1u);
  ASSERT_EQ(Ram<uint32_t>(info + 12), 1u);
  const uint64_t module = Ram<uint64_t>(info + 16);
  EXPECT_EQ(RamBytes(Ram<uint64_t>(module), initrd_.size()), initrd_);
  EXPECT_EQ(Ram<uint64_t>(module + 8), initrd_.size());
  EXPECT_EQ(RamText(Ram<uint64_t>(info + 24)), "console=ttyS0");
  EXPECT_EQ(Ram<uint64_t>(info + 32), kAcpiArea.start.value);
  const uint64_t map = Ram<uint64_t>(info + 40);
  ASSERT_EQ(Ram<uint32_t>(info + 48), boot_.map.size());
  for (size_t i = 0; i < boot_.map.size(); ++i) {
    EXPECT_EQ(Ram<uint64_t>(map + 24 * i), boot_.map[i].range.start.value);
    EXPECT_EQ(Ram<uint64_t>(map + 24 * i + 8), boot_.map[i].range.size);
    EXPECT_EQ(Ram<uint32_t>(map + 24 * i + 16),
              static_cast<uint32_t>(boot_.map[i].type));
  }
}

TEST_F(LinuxLoaderTest, PvhEntryOutsideOfTheKernelIsRefused) {
  ElfFile elf;
  elf.notes.clear();
  elf.AddNote("Xen", kPvhEntryNote, ElfFile::Bytes(kKernelAt + 0x2000));
  EXPECT_THAT(LoadLinux(elf.File(), {}, boot_, &dma_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("PVH entry point 0x1002000")));
}

TEST_F(LinuxLoaderTest, FilesThatAreNoKernelAreRefused) {
  ElfFile elf;
  elf.notes.clear();
  EXPECT_THAT(LoadLinux(elf.File(), {}, boot_, &dma_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no PVH entry point")));
  EXPECT_THAT(LoadLinux(std::vector<std::byte>(8192), {}, boot_, &dma_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("neither a bzImage nor an ELF file")));
}

TEST_F(LinuxLoaderTest, CommandLineEndsAtTheKernelsLimit) {
  boot_.command_line = std::string(100, 'x');
  EXPECT_OK(LoadLinux(BzImageFile(), {}, boot_, &dma_));
  boot_.command_line += 'x';
  EXPECT_THAT(LoadLinux(BzImageFile(), {}, boot_, &dma_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("has 101 bytes, the kernel takes 100")));
  boot_.command_line = std::string("a\0b", 3);
  EXPECT_THAT(LoadLinux(BzImageFile(), {}, boot_, &dma_),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(LinuxLoaderTest, InitrdThatDoesNotFitIsRefused) {
  const std::vector<std::byte> large(13 * kMiB);
  EXPECT_THAT(LoadLinux(BzImageFile(), large, boot_, &dma_),
              StatusIs(absl::StatusCode::kOutOfRange,
                       HasSubstr("an initramfs of 13312 KiB")));
  const std::vector<std::byte> fits(12 * kMiB);
  EXPECT_OK(LoadLinux(BzImageFile(), fits, boot_, &dma_));
}

TEST_F(LinuxLoaderTest, MapThatIsTooLongForItsPlaceIsRefused) {
  const MemoryMapEntry last = boot_.map.back();
  boot_.map.resize(128, last);
  EXPECT_OK(LoadLinux(BzImageFile(), {}, boot_, &dma_));
  boot_.map.resize(129, last);
  EXPECT_THAT(LoadLinux(BzImageFile(), {}, boot_, &dma_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a memory map of 129 entries")));
  // 24 bytes each, from 0x8100 to the command line at 0x9000.
  boot_.map.resize(160, last);
  EXPECT_OK(LoadLinux(ElfFile().File(), {}, boot_, &dma_));
  boot_.map.resize(161, last);
  EXPECT_THAT(LoadLinux(ElfFile().File(), {}, boot_, &dma_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a memory map of 161 entries")));
}

TEST_F(LinuxLoaderTest, PlaceWithoutRamIsNamedWithWhatBelongsThere) {
  ASSERT_OK_AND_ASSIGN(auto ram,
                       MemoryBacking::CreateAnonymous(kRamBytes, "high"));
  GuestMemory high;
  ASSERT_OK(high.Add({.range = {{kMiB}, kRamBytes}, .backing = ram}));
  DmaSpace dma(&high);
  EXPECT_THAT(LoadLinux(BzImageFile(), {}, boot_, &dma),
              StatusIs(absl::StatusCode::kOutOfRange,
                       HasSubstr("no writable RAM for the command line at "
                                 "[0x9000")));
}

TEST_F(LinuxLoaderTest, InitrdPlaceIsTheLastPossible) {
  ASSERT_OK_AND_ASSIGN(GuestAddress at, PlaceInitrd(1, {0x1000}, {0x3000}));
  EXPECT_EQ(at.value, 0x2000u);
  ASSERT_OK_AND_ASSIGN(at, PlaceInitrd(0x2000, {0x1000}, {0x3FFF}));
  EXPECT_EQ(at.value, 0x1000u);
  EXPECT_THAT(PlaceInitrd(0x2001, {0x1000}, {0x3000}),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(PlaceInitrd(UINT64_MAX, {0}, {0x3000}),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(LinuxLoaderTest, NotesBehindABrokenOneAreNotFound) {
  ElfFile elf;
  EXPECT_TRUE(FindElfNote(elf.File(), "Xen", kPvhEntryNote).has_value());
  EXPECT_FALSE(FindElfNote(elf.File(), "Xe", kPvhEntryNote).has_value());
  EXPECT_FALSE(FindElfNote(elf.File(), "Xen", 17).has_value());
  elf.note.p_filesz = elf.notes.size() - 1;
  EXPECT_FALSE(FindElfNote(elf.File(), "Xen", kPvhEntryNote).has_value());
  elf.note.p_filesz = 0;
  elf.notes[4] = 0xFF;  // the first note's content, now longer than all
  elf.notes[7] = 0xFF;
  EXPECT_FALSE(FindElfNote(elf.File(), "Xen", kPvhEntryNote).has_value());
}

}  // namespace
}  // namespace vmsg::vmm
