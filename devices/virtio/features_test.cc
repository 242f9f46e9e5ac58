#include "devices/virtio/features.h"

#include <gtest/gtest.h>

namespace vmsg::virtio {
namespace {

TEST(FeaturesTest, BitsLieInTheirBlocks) {
  const Features features = {kFeatureIndirectDesc, kFeatureVersion1,
                             kFeatureRingReset};
  // The values of the byte example in virtio-msg-messages, section 9.
  EXPECT_EQ(features.block(0), 0x10000000u);
  EXPECT_EQ(features.block(1), 0x00000101u);
  EXPECT_EQ(features.block(2), 0u);
}

TEST(FeaturesTest, SetAndClearTouchOneBit) {
  Features features;
  features.Set(33);
  features.Set(40);
  features.Clear(33);
  EXPECT_FALSE(features.Has(33));
  EXPECT_TRUE(features.Has(40));
  EXPECT_FALSE(features.Has(8));
}

TEST(FeaturesTest, BitsPastTheEndAreAbsentAndIgnored) {
  Features features;
  features.Set(Features::kBits);
  features.Set(UINT32_MAX);
  features.Clear(UINT32_MAX);
  EXPECT_EQ(features, Features());
  EXPECT_FALSE(features.Has(Features::kBits));
  EXPECT_FALSE(features.Has(UINT32_MAX));
}

TEST(FeaturesTest, BlocksPastTheEndReadZeroWhateverTheIndex) {
  Features features;
  for (uint32_t i = 0; i < Features::kBlocks; ++i) {
    features.set_block(i, 0xffffffff);
  }
  EXPECT_EQ(features.block(Features::kBlocks - 1), 0xffffffffu);
  EXPECT_EQ(features.block(Features::kBlocks), 0u);
  // Would wrap to block 0 in 32 bits.
  EXPECT_EQ(features.block(uint64_t{1} << 32), 0u);
}

TEST(FeaturesTest, SubsetLooksAtEveryBlock) {
  const Features offered = {1, 40, 100};
  EXPECT_TRUE(Features().IsSubsetOf(offered));
  EXPECT_TRUE(Features({1, 100}).IsSubsetOf(offered));
  EXPECT_FALSE(Features({1, 101}).IsSubsetOf(offered));
  EXPECT_EQ(Features({1}) | Features({40, 100}), offered);
}

}  // namespace
}  // namespace vmsg::virtio
