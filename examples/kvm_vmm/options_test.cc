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

TEST(OptionsTest, WireMonitorIsForAllFunctionsOrNone) {
  for (const bool on : {false, true}) {
    std::vector<const char*> words = {"--accel=in-process", "--device",
                                      "virtio-msg-amp-pci,id=amp0", "--device",
                                      "virtio-msg-amp-pci,id=amp1"};
    if (on) words.push_back("--wire-monitor");
    const ParsedOptions parsed = Parse(words);
    ASSERT_TRUE(parsed.options.has_value()) << parsed.error;
    ASSERT_EQ(parsed.options->functions.size(), 2u);
    EXPECT_EQ(parsed.options->functions[0].wire_monitor, on);
    EXPECT_EQ(parsed.options->functions[1].wire_monitor, on);
  }
}

TEST(OptionsTest, KernelIsNeededUnlessInProcess) {
  EXPECT_THAT(Parse({}).error, HasSubstr("--kernel"));
  EXPECT_THAT(Parse({"--accel=kvm"}).error, HasSubstr("--kernel"));
  EXPECT_TRUE(Parse({"--accel=in-process"}).options.has_value());
}

TEST(OptionsTest, ProgramOfTheInProcessGuestIsNamed) {
  const ParsedOptions parsed =
      Parse({"--accel=in-process", "--in-process-program=adversary"});
  ASSERT_TRUE(parsed.options.has_value()) << parsed.error;
  EXPECT_EQ(parsed.options->in_process_program, InProcessProgram::kAdversary);
  EXPECT_EQ(
      Parse({"--accel=in-process", "--in-process-program=other"}).exit_code, 2);
}

TEST(OptionsTest, ErrorsNameTheOption) {
  EXPECT_EQ(Parse({"--accel=qemu"}).exit_code, 2);
  EXPECT_THAT(Parse({"--accel=in-process", "--control=/tmp/x"}).error,
              HasSubstr("--control: write unix:PATH"));
  EXPECT_THAT(Parse({"--accel=in-process", "--device", "virtio-net"}).error,
              HasSubstr("no such driver"));
  EXPECT_EQ(Parse({"--accel=in-process", "--memory=1"}).exit_code, 2);
}

TEST(OptionsTest, LinuxOptionsAreTaken) {
  const ParsedOptions parsed =
      Parse({"--kernel=vmlinuz", "--initrd=initrd.cpio",
             "--append=console=ttyS0 quiet", "--smp=2", "--memory=5G",
             "--entropy-record=record"});
  ASSERT_TRUE(parsed.options.has_value()) << parsed.error;
  EXPECT_EQ(parsed.options->initrd, "initrd.cpio");
  EXPECT_EQ(parsed.options->command_line, "console=ttyS0 quiet");
  EXPECT_EQ(parsed.options->vcpus, 2u);
  EXPECT_EQ(parsed.options->entropy_record, "record");
  EXPECT_EQ(parsed.options->memory_bytes, uint64_t{5} << 30);
}

TEST(OptionsTest, MemorySizesHaveSuffixesAndLimits) {
  const auto bytes = [](const char* size) {
    const std::string option = std::string("--memory=") + size;
    const ParsedOptions parsed = Parse({"--accel=in-process", option.c_str()});
    return parsed.options.has_value() ? parsed.options->memory_bytes : 0;
  };
  EXPECT_EQ(bytes("64"), uint64_t{64} << 20);
  EXPECT_EQ(bytes("512M"), uint64_t{512} << 20);
  EXPECT_EQ(bytes("8192K"), uint64_t{8} << 20);
  EXPECT_EQ(bytes("64G"), uint64_t{64} << 30);
  for (const char* wrong : {"", "M", "65G", "3M", "1T", "64MB", "-1", "4097K",
                            "18446744073709551615G"}) {
    EXPECT_EQ(bytes(wrong), 0u) << wrong;
  }
}

TEST(OptionsTest, HelpShowsTheDeviceSyntax) {
  const ParsedOptions parsed = Parse({"--help"});
  EXPECT_EQ(parsed.exit_code, 0);
  EXPECT_FALSE(parsed.options.has_value());
  EXPECT_THAT(parsed.output, HasSubstr("virtio-rng-device"));
}

}  // namespace
}  // namespace vmsg::example
