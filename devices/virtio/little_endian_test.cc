#include "devices/virtio/little_endian.h"

#include <gtest/gtest.h>

#include <array>

namespace vmsg::virtio {
namespace {

TEST(LittleEndianTest, LowByteComesFirst) {
  std::array<std::byte, 8> bytes = {};
  StoreLittle<uint64_t>(0x0102030405060708, bytes);
  EXPECT_EQ(bytes[0], std::byte{8});
  EXPECT_EQ(bytes[7], std::byte{1});
  EXPECT_EQ(LoadLittle<uint64_t>(bytes), 0x0102030405060708u);

  const std::span<const std::byte, 8> all(bytes);
  EXPECT_EQ(LoadLittle<uint16_t>(all.subspan<0, 2>()), 0x0708);
  EXPECT_EQ(LoadLittle<uint32_t>(all.subspan<4, 4>()), 0x01020304u);
}

}  // namespace
}  // namespace vmsg::virtio
