#include "vmm/boot/bzimage.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "absl/strings/str_format.h"
#include "vmm/boot/linux_boot_layout.h"

namespace vmsg::vmm {
namespace {

using namespace linux_boot;  // NOLINT(google-build-using-namespace): ours

absl::Status Invalid(const std::string& text) {
  return absl::InvalidArgumentError("bzImage: " + text);
}

// The caller made sure that the header is inside the file.
template <typename T>
T Field(std::span<const std::byte> file, uint64_t offset) {
  T value;
  std::memcpy(&value, file.data() + offset, sizeof(value));
  return value;
}

}  // namespace

bool IsBzImage(std::span<const std::byte> file) {
  return file.size() >= kHeaderMagicOffset + sizeof(uint32_t) &&
         Field<uint16_t>(file, kBootFlagOffset) == kBootFlag &&
         Field<uint32_t>(file, kHeaderMagicOffset) == kHeaderMagic;
}

absl::StatusOr<BzImage> ParseBzImage(std::span<const std::byte> file) {
  if (!IsBzImage(file)) {
    return Invalid("no boot flag and header magic: this is no Linux kernel");
  }
  if (file.size() < kHeaderEnd) {
    return Invalid(
        absl::StrFormat("truncated: %d bytes are too few for its "
                        "header",
                        file.size()));
  }
  BzImage image;
  image.protocol = Field<uint16_t>(file, kVersionOffset);
  if (image.protocol < kMinProtocol) {
    return Invalid(
        absl::StrFormat("boot protocol %d.%02d, supported are 2.12 and later",
                        image.protocol >> 8, image.protocol & 0xFF));
  }
  if ((Field<uint8_t>(file, kLoadFlagsOffset) & kLoadedHigh) == 0) {
    return Invalid("it is not loaded high: a zImage");
  }
  if ((Field<uint16_t>(file, kXLoadFlagsOffset) & kXKernel64) == 0) {
    return Invalid("no 64-bit entry point: this is no x86-64 kernel");
  }

  // The second byte of the jump over the header is its length from there.
  const uint64_t header_end =
      kJumpOffset + 2 + Field<uint8_t>(file, kJumpOffset + 1);
  if (header_end < kHeaderEnd || header_end > file.size()) {
    return Invalid(
        absl::StrFormat("its header ends at %#x, not inside [%#x, %#x]",
                        header_end, kHeaderEnd, file.size()));
  }
  image.setup_header = kSetupHeaderOffset;
  image.setup_header_bytes = header_end - kSetupHeaderOffset;
  if (image.setup_header_bytes > kMaxSetupHeaderBytes) {
    return Invalid(absl::StrFormat("a header of %#x bytes, more than %#x",
                                   image.setup_header_bytes,
                                   kMaxSetupHeaderBytes));
  }

  const uint64_t sectors = Field<uint8_t>(file, kSetupHeaderOffset);
  image.payload =
      ((sectors == 0 ? kDefaultSetupSectors : sectors) + 1) * kSectorBytes;
  // syssize, in paragraphs of 16 bytes, is that of the part behind the setup.
  const uint64_t paragraphs = Field<uint32_t>(file, kSysSizeOffset);
  if (image.payload >= file.size()) {
    return Invalid(absl::StrFormat(
        "truncated: the kernel begins at %#x, the file has %#x bytes",
        image.payload, file.size()));
  }
  // The last paragraph need not be whole; what is behind it is a signature.
  image.payload_bytes = std::min<uint64_t>(file.size() - image.payload,
                                           paragraphs * kParagraphBytes);
  if (image.payload_bytes + kParagraphBytes <= paragraphs * kParagraphBytes) {
    return Invalid(
        absl::StrFormat("truncated: %#x bytes of kernel, the header says %#x",
                        image.payload_bytes, paragraphs * kParagraphBytes));
  }
  if (image.payload_bytes <= kEntry64Offset) {
    return Invalid("truncated: the 64-bit entry point is not in the file");
  }

  image.relocatable = Field<uint8_t>(file, kRelocatableOffset) != 0;
  image.preferred_address = Field<uint64_t>(file, kPreferredAddressOffset);
  image.alignment = Field<uint32_t>(file, kAlignmentOffset);
  if (!std::has_single_bit(image.alignment)) {
    return Invalid(
        absl::StrFormat("alignment %#x is no power of two", image.alignment));
  }
  image.needed_bytes = Field<uint32_t>(file, kInitSizeOffset);
  if (image.needed_bytes < image.payload_bytes) {
    return Invalid(
        absl::StrFormat("init_size %#x is less than the %#x bytes to load",
                        image.needed_bytes, image.payload_bytes));
  }
  image.command_line_max = Field<uint32_t>(file, kCommandLineSizeOffset);
  image.initrd_last = Field<uint32_t>(file, kInitrdMaxOffset);
  return image;
}

absl::StatusOr<GuestAddress> PlaceBzImage(const BzImage& image,
                                          GuestAddress lowest,
                                          GuestAddress ram_end) {
  const auto fits = [&](uint64_t at) {
    return at >= lowest.value && at <= ram_end.value &&
           image.needed_bytes <= ram_end.value - at;
  };
  if (fits(image.preferred_address))
    return GuestAddress{image.preferred_address};
  if (image.relocatable && image.alignment <= ram_end.value) {
    const uint64_t at =
        (lowest.value + image.alignment - 1) & ~(image.alignment - 1);
    if (fits(at)) return GuestAddress{at};
  }
  return absl::OutOfRangeError(absl::StrFormat(
      "bzImage: the kernel needs %d KiB of RAM from %#x, RAM ends at %#x",
      (image.needed_bytes + 1023) / 1024, image.preferred_address,
      ram_end.value));
}

}  // namespace vmsg::vmm
