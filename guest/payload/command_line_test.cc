#include "guest/payload/command_line.h"

#include <string_view>

#include "gtest/gtest.h"
#include "guest/driver/features.h"

namespace vmsg::guest {
namespace {

// Whether rings may be packed after this command line.
bool Packed(std::string_view text) {
  EntropyProgramOptions options;
  EXPECT_EQ(ApplyCommandLine(text, &options), Error::kNone) << text;
  EXPECT_EQ(options.rng.features.Without(kFeatureRingPacked), kRngFeatures);
  return options.rng.features.Has(kFeatureRingPacked);
}

TEST(CommandLineTest, RingsAreSplitUnlessItSaysPacked) {
  EXPECT_FALSE(Packed(""));
  EXPECT_FALSE(Packed("   "));
  EXPECT_FALSE(Packed("ring=split"));
  EXPECT_TRUE(Packed("ring=packed"));
  EXPECT_TRUE(Packed("  ring=packed  "));
}

TEST(CommandLineTest, LaterWordWins) {
  EXPECT_FALSE(Packed("ring=packed ring=split"));
  EXPECT_TRUE(Packed("ring=split ring=packed"));
}

TEST(CommandLineTest, RefusesWhatItDoesNotKnow) {
  for (const std::string_view text :
       {"ring", "ring=", "ring=pack", "ring=packedx", "console=ttyS0",
        "ring=split quiet", "RING=packed", "ring=packed\n"}) {
    EntropyProgramOptions options;
    EXPECT_EQ(ApplyCommandLine(text, &options), Error::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace vmsg::guest
