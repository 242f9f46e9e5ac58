// Finds a note in an ELF file.

#ifndef VMSG_VMM_BOOT_ELF_NOTE_H_
#define VMSG_VMM_BOOT_ELF_NOTE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace vmsg::vmm {

// The content of the first note `type` of `owner` in the PT_NOTE segments of an
// ELF64 little-endian file; nullopt where there is none, or the file is no ELF,
// or broken before the note. Reads nothing outside `file`; the work is bounded
// by its size and by kMaxElfProgramHeaders. Source: System V ABI, chapter 5,
// "Note Section".
std::optional<std::span<const std::byte>> FindElfNote(
    std::span<const std::byte> file, std::string_view owner, uint32_t type);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_ELF_NOTE_H_
