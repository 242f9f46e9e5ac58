#include "devices/virtio/rng/backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace vmsg::virtio {
namespace {

TEST(GetrandomSourceTest, FillsTheWholeOfAnyLength) {
  const auto source = CreateGetrandomSource();
  for (size_t length : {1, 16, 257, 65536}) {
    // A byte that stays 0 in eight fills is left out, not random.
    std::vector<bool> touched(length);
    for (int i = 0; i < 8; ++i) {
      std::vector<std::byte> bytes(length);
      int answers = 0;
      source->Fill(bytes, [&answers](bool ok) {
        EXPECT_TRUE(ok);
        ++answers;
      });
      EXPECT_EQ(answers, 1);
      for (size_t j = 0; j < length; ++j) {
        if (bytes[j] != std::byte{0}) touched[j] = true;
      }
    }
    EXPECT_EQ(std::count(touched.begin(), touched.end(), false), 0);
  }
}

TEST(GetrandomSourceTest, NothingIsFilledAtOnce) {
  const auto source = CreateGetrandomSource();
  int answers = 0;
  source->Fill({}, [&answers](bool ok) { answers += ok ? 1 : 0; });
  EXPECT_EQ(answers, 1);
}

TEST(GetrandomSourceTest, TwoFillsDiffer) {
  const auto source = CreateGetrandomSource();
  std::vector<std::byte> a(32);
  std::vector<std::byte> b(32);
  source->Fill(a, [](bool) {});
  source->Fill(b, [](bool) {});
  EXPECT_NE(a, b);
}

}  // namespace
}  // namespace vmsg::virtio
