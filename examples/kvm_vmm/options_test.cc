#include "examples/kvm_vmm/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace vmsg::example {
namespace {

using ::testing::HasSubstr;

ParsedOptions Parse(std::vector<const char*> words) {
  words.insert(words.begin(), "kvm_vmm");
  return ParseOptions(static_cast<int>(words.size()), words.data());
}

TEST(OptionsTest, FunctionsAndDevicesAreToldApart) {
  const ParsedOptions parsed =
      Parse({"--kernel=guest.elf", "--control=unix:/tmp/x.sock", "--device",
             "virtio-msg-amp-pci,id=amp0,num-fifos=4", "--device",
             "virtio-rng-device,bus=amp0/fifo0/bus1"});
  ASSERT_TRUE(parsed.options.has_value()) << parsed.error;
  EXPECT_EQ(parsed.options->control_path, "/tmp/x.sock");
  EXPECT_EQ(parsed.options->accel, Accel::kAuto);
  ASSERT_EQ(parsed.options->functions.size(), 1u);
  EXPECT_EQ(parsed.options->functions[0].num_fifos, 4u);
  ASSERT_EQ(parsed.options->devices.size(), 1u);
  EXPECT_EQ(parsed.options->devices[0].place.slot, 1u);
}

TEST(OptionsTest, KernelIsNeededUnlessInProcess) {
  EXPECT_THAT(Parse({}).error, HasSubstr("--kernel"));
  EXPECT_THAT(Parse({"--accel=kvm"}).error, HasSubstr("--kernel"));
  EXPECT_TRUE(Parse({"--accel=in-process"}).options.has_value());
}

TEST(OptionsTest, ErrorsNameTheOption) {
  EXPECT_EQ(Parse({"--accel=qemu"}).exit_code, 2);
  EXPECT_THAT(Parse({"--accel=in-process", "--control=/tmp/x"}).error,
              HasSubstr("--control: write unix:PATH"));
  EXPECT_THAT(Parse({"--accel=in-process", "--device", "virtio-net"}).error,
              HasSubstr("no such driver"));
  EXPECT_EQ(Parse({"--accel=in-process", "--memory=1"}).exit_code, 2);
}

TEST(OptionsTest, HelpShowsTheDeviceSyntax) {
  const ParsedOptions parsed = Parse({"--help"});
  EXPECT_EQ(parsed.exit_code, 0);
  EXPECT_FALSE(parsed.options.has_value());
  EXPECT_THAT(parsed.output, HasSubstr("virtio-rng-device"));
}

}  // namespace
}  // namespace vmsg::example
