#include "vmm/boot/elf_note.h"

#include <elf.h>

#include <cstring>

#include "vmm/boot/elf_loader.h"

namespace vmsg::vmm {
namespace {

// Names and contents are padded to it.
constexpr uint64_t kNoteAlignment = 4;

uint64_t Padded(uint64_t size) {
  return (size + kNoteAlignment - 1) & ~(kNoteAlignment - 1);
}

std::optional<std::span<const std::byte>> FindInSegment(
    std::span<const std::byte> notes, std::string_view owner, uint32_t type) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr header;
    std::memcpy(&header, notes.data(), sizeof(header));
    notes = notes.subspan(sizeof(header));
    const uint64_t name_room = Padded(header.n_namesz);
    // The content of the last note may go without its padding.
    if (name_room > notes.size() ||
        header.n_descsz > notes.size() - name_room) {
      return std::nullopt;
    }
    // The name's size counts its terminating 0.
    if (header.n_type == type && header.n_namesz == owner.size() + 1 &&
        std::memcmp(notes.data(), owner.data(), owner.size()) == 0 &&
        notes[owner.size()] == std::byte{0}) {
      return notes.subspan(name_room, header.n_descsz);
    }
    const uint64_t whole = name_room + Padded(header.n_descsz);
    if (whole > notes.size()) return std::nullopt;
    notes = notes.subspan(whole);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::span<const std::byte>> FindElfNote(
    std::span<const std::byte> file, std::string_view owner, uint32_t type) {
  Elf64_Ehdr header;
  if (file.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, file.data(), sizeof(header));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_phentsize != sizeof(Elf64_Phdr) ||
      header.e_phnum > kMaxElfProgramHeaders) {
    return std::nullopt;
  }
  const uint64_t bytes = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_phoff > file.size() || bytes > file.size() - header.e_phoff) {
    return std::nullopt;
  }
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, file.data() + header.e_phoff + i * sizeof(Elf64_Phdr),
                sizeof(segment));
    if (segment.p_type != PT_NOTE || segment.p_offset > file.size() ||
        segment.p_filesz > file.size() - segment.p_offset) {
      continue;
    }
    const auto found = FindInSegment(
        file.subspan(segment.p_offset, segment.p_filesz), owner, type);
    if (found.has_value()) return found;
  }
  return std::nullopt;
}

}  // namespace vmsg::vmm
