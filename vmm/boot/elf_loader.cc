#include "vmm/boot/elf_loader.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"

namespace vmsg::vmm {
namespace {

static_assert(std::endian::native == std::endian::little,
              "headers are read as the host keeps integers");
static_assert(sizeof(Elf64_Ehdr) == 64);
static_assert(sizeof(Elf64_Phdr) == 56);

struct Segment {
  size_t index;  // in the program header table, for error texts
  GuestRange range;
  uint64_t file_offset;
  uint64_t file_bytes;
  bool executable;
};

absl::Status Invalid(const std::string& text) {
  return absl::InvalidArgumentError("ELF: " + text);
}

// Checks that a field has the one value that is supported.
absl::Status Expect(std::string_view field, uint64_t value, uint64_t wanted) {
  if (value == wanted) return absl::OkStatus();
  return Invalid(absl::StrFormat("%s is %d, expected %d", std::string(field),
                                 value, wanted));
}

absl::Status CheckIdent(const Elf64_Ehdr& header) {
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return Invalid("no ELF magic");
  }
  const struct {
    std::string_view field;
    uint64_t value;
    uint64_t wanted;
  } fields[] = {
      {"class", header.e_ident[EI_CLASS], ELFCLASS64},
      {"data encoding", header.e_ident[EI_DATA], ELFDATA2LSB},
      {"ident version", header.e_ident[EI_VERSION], EV_CURRENT},
      {"ABI version", header.e_ident[EI_ABIVERSION], 0},
      {"type", header.e_type, ET_EXEC},
      {"machine", header.e_machine, EM_X86_64},
      {"version", header.e_version, EV_CURRENT},
      {"flags", header.e_flags, 0},
      {"ehsize", header.e_ehsize, sizeof(Elf64_Ehdr)},
      {"phentsize", header.e_phentsize, sizeof(Elf64_Phdr)},
  };
  for (const auto& field : fields) {
    absl::Status status = Expect(field.field, field.value, field.wanted);
    if (!status.ok()) return status;
  }
  const uint8_t abi = header.e_ident[EI_OSABI];
  if (abi != ELFOSABI_SYSV && abi != ELFOSABI_GNU) {
    return Invalid(absl::StrFormat("ABI %d is neither System V nor GNU", abi));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Elf64_Phdr>> ReadProgramHeaders(
    std::span<const std::byte> image, const Elf64_Ehdr& header) {
  if (header.e_phnum == 0 || header.e_phnum > kMaxElfProgramHeaders) {
    return Invalid(absl::StrFormat("phnum is %d, supported are 1 to %d",
                                   header.e_phnum, kMaxElfProgramHeaders));
  }
  const uint64_t bytes = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_phoff > image.size() || image.size() - header.e_phoff < bytes) {
    return Invalid(absl::StrFormat(
        "program headers at [%#x, +%#x) are not inside the file of %#x bytes",
        header.e_phoff, bytes, image.size()));
  }
  std::vector<Elf64_Phdr> headers(header.e_phnum);
  std::memcpy(headers.data(), image.data() + header.e_phoff, bytes);
  return headers;
}

// All of a PT_LOAD header that can be judged without the guest's memory.
absl::Status CheckLoadHeader(size_t index, const Elf64_Phdr& header,
                             size_t file_size, bool maps_itself) {
  if (header.p_filesz > header.p_memsz) {
    return Invalid(absl::StrFormat("segment %d: filesz %#x exceeds memsz %#x",
                                   index, header.p_filesz, header.p_memsz));
  }
  if (header.p_offset > file_size ||
      file_size - header.p_offset < header.p_filesz) {
    return Invalid(absl::StrFormat(
        "segment %d: data at [%#x, +%#x) is not inside the file of %#x bytes",
        index, header.p_offset, header.p_filesz, file_size));
  }
  if (!maps_itself && header.p_paddr != header.p_vaddr) {
    return Invalid(
        absl::StrFormat("segment %d: paddr %#x differs from vaddr %#x", index,
                        header.p_paddr, header.p_vaddr));
  }
  if (header.p_align > 1) {
    if (!std::has_single_bit(header.p_align)) {
      return Invalid(absl::StrFormat("segment %d: align %#x is no power of two",
                                     index, header.p_align));
    }
    if (((header.p_vaddr ^ header.p_offset) & (header.p_align - 1)) != 0) {
      return Invalid(absl::StrFormat(
          "segment %d: vaddr %#x and offset %#x differ modulo align %#x", index,
          header.p_vaddr, header.p_offset, header.p_align));
    }
  }
  const GuestRange range = {{header.p_paddr}, header.p_memsz};
  if (!range.IsValid()) {
    return Invalid(absl::StrFormat("segment %d: [%#x, +%#x) wraps around",
                                   index, range.start.value, range.size));
  }
  return absl::OkStatus();
}

absl::Status CheckPlace(const Segment& segment, const ElfLoadOptions& options,
                        DmaSpace* memory) {
  const uint64_t start = segment.range.start.value;
  const uint64_t last = start + (segment.range.size - 1);
  if (start < options.lowest.value || last >= options.limit.value) {
    return absl::OutOfRangeError(absl::StrFormat(
        "ELF: segment %d: [%#x, +%#x) is not inside [%#x, %#x)", segment.index,
        start, segment.range.size, options.lowest.value, options.limit.value));
  }
  if (memory->Check(segment.range, /*writable=*/true) != DmaResult::kOk) {
    return absl::OutOfRangeError(absl::StrFormat(
        "ELF: segment %d: [%#x, +%#x) is not wholly in writable RAM",
        segment.index, start, segment.range.size));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Segment>> CollectSegments(
    std::span<const std::byte> image, const std::vector<Elf64_Phdr>& headers,
    bool maps_itself) {
  std::vector<Segment> segments;
  for (size_t i = 0; i < headers.size(); ++i) {
    const Elf64_Phdr& header = headers[i];
    if (header.p_type == PT_INTERP || header.p_type == PT_DYNAMIC) {
      return Invalid(absl::StrFormat(
          "program header %d: not static (it needs a dynamic linker)", i));
    }
    if (header.p_type != PT_LOAD) continue;
    const absl::Status status =
        CheckLoadHeader(i, header, image.size(), maps_itself);
    if (!status.ok()) return status;
    if (header.p_memsz == 0) continue;
    segments.push_back({.index = i,
                        .range = {{header.p_paddr}, header.p_memsz},
                        .file_offset = header.p_offset,
                        .file_bytes = header.p_filesz,
                        .executable = (header.p_flags & PF_X) != 0});
  }
  if (segments.empty()) return Invalid("there is no segment to load");
  return segments;
}

absl::Status CheckOverlaps(const std::vector<Segment>& segments) {
  for (size_t i = 0; i < segments.size(); ++i) {
    for (size_t j = i + 1; j < segments.size(); ++j) {
      const GuestRange& a = segments[i].range;
      const GuestRange& b = segments[j].range;
      if (!a.Overlaps(b)) continue;
      return Invalid(
          absl::StrFormat("segments %d [%#x, +%#x) and %d [%#x, +%#x) overlap",
                          segments[i].index, a.start.value, a.size,
                          segments[j].index, b.start.value, b.size));
    }
  }
  return absl::OkStatus();
}

DmaResult Zero(GuestRange range, DmaSpace* memory) {
  static constexpr std::array<std::byte, 4096> kZeroes = {};
  uint64_t done = 0;
  while (done < range.size) {
    const uint64_t bytes =
        std::min<uint64_t>(kZeroes.size(), range.size - done);
    const DmaResult result =
        memory->Write({range.start.value + done},
                      std::span(kZeroes).first(static_cast<size_t>(bytes)));
    if (result != DmaResult::kOk) return result;
    done += bytes;
  }
  return DmaResult::kOk;
}

absl::Status CopySegment(std::span<const std::byte> image,
                         const Segment& segment, DmaSpace* memory) {
  DmaResult result = DmaResult::kOk;
  if (segment.file_bytes != 0) {
    result =
        memory->Write(segment.range.start,
                      image.subspan(segment.file_offset, segment.file_bytes));
  }
  if (result == DmaResult::kOk) {
    result = Zero({{segment.range.start.value + segment.file_bytes},
                   segment.range.size - segment.file_bytes},
                  memory);
  }
  if (result == DmaResult::kOk) return absl::OkStatus();
  return absl::InternalError(absl::StrFormat(
      "ELF: segment %d: memory went away while it was loaded", segment.index));
}

}  // namespace

absl::StatusOr<LoadedElf> LoadElf(std::span<const std::byte> image,
                                  const ElfLoadOptions& options,
                                  DmaSpace* memory) {
  Elf64_Ehdr header;
  if (image.size() < sizeof(header)) {
    return Invalid(
        absl::StrFormat("%d bytes are too few for a header", image.size()));
  }
  std::memcpy(&header, image.data(), sizeof(header));
  absl::Status status = CheckIdent(header);
  if (!status.ok()) return status;

  const auto headers = ReadProgramHeaders(image, header);
  if (!headers.ok()) return headers.status();
  const auto segments = CollectSegments(image, *headers, options.maps_itself);
  if (!segments.ok()) return segments.status();
  status = CheckOverlaps(*segments);
  if (!status.ok()) return status;

  const GuestAddress entry = {header.e_entry};
  if (std::none_of(segments->begin(), segments->end(),
                   [entry](const Segment& segment) {
                     return segment.executable && segment.range.Contains(entry);
                   })) {
    return Invalid(absl::StrFormat(
        "entry point %#x is not inside an executable segment", entry.value));
  }
  for (const Segment& segment : *segments) {
    status = CheckPlace(segment, options, memory);
    if (!status.ok()) return status;
  }

  uint64_t first = UINT64_MAX;
  uint64_t last = 0;
  for (const Segment& segment : *segments) {
    status = CopySegment(image, segment, memory);
    if (!status.ok()) return status;
    const uint64_t start = segment.range.start.value;
    first = std::min(first, start);
    last = std::max(last, start + (segment.range.size - 1));
  }
  return LoadedElf{.entry = entry, .footprint = {{first}, last - first + 1}};
}

}  // namespace vmsg::vmm
