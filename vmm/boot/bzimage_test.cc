#include "vmm/boot/bzimage.h"

#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/boot/linux_boot_layout.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::HasSubstr;
using namespace linux_boot;  // NOLINT(build/namespaces): our own constants

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSetupSectors = 4;
constexpr uint64_t kPayloadBytes = 0x1000;

class BzImageTest : public ::testing::Test {
 protected:
  BzImageTest() : file_((kSetupSectors + 1) * 512 + kPayloadBytes) {
    Set<uint8_t>(kSetupHeaderOffset, kSetupSectors);
    Set<uint32_t>(kSysSizeOffset, kPayloadBytes / 16);
    Set<uint16_t>(kBootFlagOffset, 0xAA55);
    Set<uint8_t>(kJumpOffset, 0xEB);
    Set<uint8_t>(kJumpOffset + 1, 0x6A);
    std::memcpy(file_.data() + kHeaderMagicOffset, "HdrS", 4);
    Set<uint16_t>(kVersionOffset, 0x020F);
    Set<uint8_t>(kLoadFlagsOffset, 1);
    Set<uint32_t>(kInitrdMaxOffset, 0x7FFFFFFF);
    Set<uint32_t>(kAlignmentOffset, 2 * kMiB);
    Set<uint8_t>(kRelocatableOffset, 1);
    Set<uint16_t>(kXLoadFlagsOffset, 1);
    Set<uint32_t>(kCommandLineSizeOffset, 2047);
    Set<uint64_t>(kPreferredAddressOffset, 16 * kMiB);
    Set<uint32_t>(kInitSizeOffset, 8 * kMiB);
  }

  template <typename T>
  void Set(uint64_t offset, T value) {
    std::memcpy(file_.data() + offset, &value, sizeof(value));
  }

  void ExpectInvalid(const std::string& part) {
    EXPECT_THAT(ParseBzImage(file_),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(part)));
  }

  std::vector<std::byte> file_;
};

TEST_F(BzImageTest, HeaderIsReadFieldByField) {
  ASSERT_TRUE(IsBzImage(file_));
  ASSERT_OK_AND_ASSIGN(const BzImage image, ParseBzImage(file_));
  EXPECT_EQ(image.protocol, 0x020F);
  EXPECT_EQ(image.setup_header, 0x1F1u);
  EXPECT_EQ(image.setup_header_bytes, 0x202u + 0x6A - 0x1F1);
  EXPECT_EQ(image.payload, 5u * 512);
  EXPECT_EQ(image.payload_bytes, kPayloadBytes);
  EXPECT_TRUE(image.relocatable);
  EXPECT_EQ(image.preferred_address, 16 * kMiB);
  EXPECT_EQ(image.alignment, 2 * kMiB);
  EXPECT_EQ(image.needed_bytes, 8 * kMiB);
  EXPECT_EQ(image.command_line_max, 2047u);
  EXPECT_EQ(image.initrd_last, 0x7FFFFFFFu);
}

TEST_F(BzImageTest, NoSetupSectorsMeansFour) {
  Set<uint8_t>(kSetupHeaderOffset, 0);
  ASSERT_OK_AND_ASSIGN(const BzImage image, ParseBzImage(file_));
  EXPECT_EQ(image.payload, 5u * 512);
}

TEST_F(BzImageTest, SignatureBehindTheKernelIsNotLoaded) {
  file_.resize(file_.size() + 1500);
  ASSERT_OK_AND_ASSIGN(const BzImage image, ParseBzImage(file_));
  EXPECT_EQ(image.payload_bytes, kPayloadBytes);
}

TEST_F(BzImageTest, OtherFilesAreNoKernels) {
  Set<uint16_t>(kBootFlagOffset, 0);
  EXPECT_FALSE(IsBzImage(file_));
  ExpectInvalid("no Linux kernel");
  file_.resize(3);
  EXPECT_FALSE(IsBzImage(file_));
  file_.clear();
  ExpectInvalid("no Linux kernel");
}

TEST_F(BzImageTest, TruncatedFilesAreRefused) {
  const std::vector<std::byte> whole = file_;
  file_.resize(whole.size() - 17);
  ExpectInvalid("truncated");
  file_.resize((kSetupSectors + 1) * 512);
  ExpectInvalid("truncated: the kernel begins at");
  file_.resize(kHeaderEnd - 1);
  ExpectInvalid("too few for its header");
}

TEST_F(BzImageTest, KernelShorterThanItsEntryPointIsRefused) {
  file_.resize((kSetupSectors + 1) * 512 + kEntry64Offset);
  Set<uint32_t>(kSysSizeOffset, kEntry64Offset / 16);
  ExpectInvalid("64-bit entry point is not in the file");
}

TEST_F(BzImageTest, UnsupportedKindsAreNamed) {
  Set<uint16_t>(kVersionOffset, 0x020B);
  ExpectInvalid("boot protocol 2.11");
  Set<uint16_t>(kVersionOffset, 0x020C);
  Set<uint16_t>(kXLoadFlagsOffset, 2);
  ExpectInvalid("no x86-64 kernel");
  Set<uint8_t>(kLoadFlagsOffset, 0);
  ExpectInvalid("zImage");
}

TEST_F(BzImageTest, ContradictionsAreRefused) {
  Set<uint32_t>(kAlignmentOffset, 0x300000);
  ExpectInvalid("alignment 0x300000");
  Set<uint32_t>(kAlignmentOffset, 0);
  ExpectInvalid("alignment 0");
  Set<uint32_t>(kAlignmentOffset, 2 * kMiB);
  Set<uint32_t>(kInitSizeOffset, kPayloadBytes - 1);
  ExpectInvalid("init_size");
  Set<uint8_t>(kJumpOffset + 1, 0x61);
  ExpectInvalid("header ends at");
  Set<uint8_t>(kJumpOffset + 1, 0xFF);
  ExpectInvalid("a header of");
}

TEST_F(BzImageTest, KernelGoesWhereItPrefers) {
  ASSERT_OK_AND_ASSIGN(const BzImage image, ParseBzImage(file_));
  ASSERT_OK_AND_ASSIGN(const GuestAddress at,
                       PlaceBzImage(image, {kMiB}, {24 * kMiB}));
  EXPECT_EQ(at.value, 16 * kMiB);
}

TEST_F(BzImageTest, RelocatableKernelGoesLowerWhereRamIsSmall) {
  ASSERT_OK_AND_ASSIGN(BzImage image, ParseBzImage(file_));
  ASSERT_OK_AND_ASSIGN(const GuestAddress at,
                       PlaceBzImage(image, {kMiB}, {24 * kMiB - 1}));
  EXPECT_EQ(at.value, 2 * kMiB);
  image.relocatable = false;
  EXPECT_THAT(PlaceBzImage(image, {kMiB}, {24 * kMiB - 1}),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("8192 KiB")));
}

TEST_F(BzImageTest, TooLittleRamIsRefused) {
  ASSERT_OK_AND_ASSIGN(BzImage image, ParseBzImage(file_));
  EXPECT_OK(PlaceBzImage(image, {kMiB}, {10 * kMiB}));
  EXPECT_THAT(PlaceBzImage(image, {kMiB}, {10 * kMiB - 1}),
              StatusIs(absl::StatusCode::kOutOfRange));
  image.preferred_address = UINT64_MAX - 10;
  EXPECT_THAT(PlaceBzImage(image, {kMiB}, {kMiB}),
              StatusIs(absl::StatusCode::kOutOfRange));
}

}  // namespace
}  // namespace vmsg::vmm
