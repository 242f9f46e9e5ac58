#include "devices/factories/device_option.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"

namespace vmsg::devices {
namespace {

using ::testing::HasSubstr;

std::string AttachError(const std::string& text) {
  const auto option = ParseDeviceOption(text);
  if (!option.ok()) return std::string(option.status().message());
  return std::string(ToAttachRequest(*option).status().message());
}

TEST(DeviceOptionTest, AmpFunctionTakesIdAndFifos) {
  const auto option =
      ParseDeviceOption("virtio-msg-amp-pci,id=amp7,num-fifos=3");
  ASSERT_TRUE(option.ok());
  ASSERT_TRUE(IsAmpPciFunction(*option));
  const auto amp = ToAmpPciOptions(*option);
  ASSERT_TRUE(amp.ok()) << amp.status();
  EXPECT_EQ(amp->id, "amp7");
  EXPECT_EQ(amp->num_fifos, 3u);
}

TEST(DeviceOptionTest, AmpFunctionDefaultsToTwoFifos) {
  const auto amp = ToAmpPciOptions(*ParseDeviceOption("virtio-msg-amp-pci"));
  ASSERT_TRUE(amp.ok());
  EXPECT_EQ(amp->num_fifos, 2u);
}

TEST(DeviceOptionTest, AmpFunctionTakesALayout) {
  const auto layout = [](const std::string& name) {
    return ToAmpPciOptions(
               *ParseDeviceOption("virtio-msg-amp-pci,fifo-layout=" + name))
        ->fifo_layout;
  };
  EXPECT_EQ(
      ToAmpPciOptions(*ParseDeviceOption("virtio-msg-amp-pci"))->fifo_layout,
      amp::FifoLayout::kSpsc);
  EXPECT_EQ(layout("spsc"), amp::FifoLayout::kSpsc);
  EXPECT_EQ(layout("shmem-v1"), amp::FifoLayout::kShmemV1);
  EXPECT_EQ(layout("shmem-v1-packed"), amp::FifoLayout::kShmemV1Packed);
}

TEST(DeviceOptionTest, PingIsOffUnlessAskedFor) {
  const auto ping = [](const std::string& properties) {
    return ToAmpPciOptions(
               *ParseDeviceOption("virtio-msg-amp-pci" + properties))
        ->ping;
  };
  EXPECT_EQ(ping("").interval.count(), 0);
  EXPECT_FALSE(ping("").ask_first);
  const msg::PingOptions all =
      ping(",ping-interval=1500,ping-timeout=250,ping-misses=2,ping-first=on");
  EXPECT_EQ(all.interval, std::chrono::milliseconds(1500));
  EXPECT_EQ(all.timeout, std::chrono::milliseconds(250));
  EXPECT_EQ(all.misses, 2u);
  EXPECT_TRUE(all.ask_first);
}

TEST(DeviceOptionTest, PingNamesWhatIsWrong) {
  const auto error = [](const std::string& property) {
    return std::string(
        ToAmpPciOptions(*ParseDeviceOption("virtio-msg-amp-pci," + property))
            .status()
            .message());
  };
  EXPECT_THAT(error("ping-interval=3600001"),
              HasSubstr("must be 0 to 3600000"));
  EXPECT_THAT(error("ping-interval=often"), HasSubstr("is no number"));
  EXPECT_THAT(error("ping-timeout=0"), HasSubstr("must be 1 to 3600000"));
  EXPECT_THAT(error("ping-misses=0"), HasSubstr("must be 1 to 1000"));
  EXPECT_THAT(error("ping-misses=1001"), HasSubstr("must be 1 to 1000"));
  EXPECT_THAT(error("ping-first=yes"), HasSubstr("must be on or off"));
}

TEST(DeviceOptionTest, AmpFunctionNamesWhatIsWrong) {
  const auto error = [](const char* text) {
    return std::string(
        ToAmpPciOptions(*ParseDeviceOption(text)).status().message());
  };
  EXPECT_THAT(error("virtio-msg-amp-pci,num-fifos=9"),
              HasSubstr("num-fifos: must be 1 to 8"));
  EXPECT_THAT(error("virtio-msg-amp-pci,num-fifos=two"),
              HasSubstr("\"two\" is no number"));
  EXPECT_THAT(error("virtio-msg-amp-pci,fifo-layout=shmem"),
              HasSubstr("fifo-layout: must be spsc, shmem-v1 or "));
  EXPECT_THAT(
      error("virtio-msg-amp-pci,fifos=2"),
      HasSubstr("fifos: no such property; known: id, num-fifos, fifo-layout"));
}

TEST(DeviceOptionTest, RngIsWhatAnAttachWouldAskFor) {
  const auto request = ToAttachRequest(*ParseDeviceOption(
      "virtio-rng-device,id=r,bus=amp0/fifo1/bus3,max-bytes=512,period=1500"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->id, "r");
  EXPECT_EQ(request->place.function, "amp0");
  EXPECT_EQ(request->place.fifo, 1u);
  EXPECT_EQ(request->place.slot, 3u);
  control::v1alpha1::RngConfig config;
  EXPECT_EQ(request->config.type_name, config.GetDescriptor()->full_name());
  ASSERT_TRUE(config.ParseFromString(request->config.bytes));
  EXPECT_EQ(config.max_bytes_per_period(), 512u);
  EXPECT_EQ(config.period().seconds(), 1);
  EXPECT_EQ(config.period().nanos(), 500'000'000);
}

TEST(DeviceOptionTest, PartsOfThePlaceMayBeLeftOut) {
  const auto request =
      ToAttachRequest(*ParseDeviceOption("virtio-rng-device,bus=fifo1"));
  ASSERT_TRUE(request.ok());
  EXPECT_FALSE(request->place.function.has_value());
  EXPECT_EQ(request->place.fifo, 1u);
  EXPECT_FALSE(request->place.slot.has_value());
}

TEST(DeviceOptionTest, ErrorsQuoteWhatIsWrong) {
  EXPECT_THAT(AttachError(""), HasSubstr("must start with a driver"));
  EXPECT_THAT(AttachError("virtio-rng-device,id"), HasSubstr("no key=value"));
  EXPECT_THAT(AttachError("virtio-rng-device,=1"), HasSubstr("no key=value"));
  EXPECT_THAT(AttachError("virtio-rng-device,id=a,id=b"),
              HasSubstr("given twice"));
  EXPECT_THAT(AttachError("virtio-fancy-device"),
              HasSubstr("no such driver; known: virtio-msg-amp-pci"));
  EXPECT_THAT(AttachError("virtio-rng-device,bus=amp0/bus1/fifo1"),
              HasSubstr("is no place"));
  EXPECT_THAT(AttachError("virtio-rng-device,max-bytes=-1"),
              HasSubstr("max-bytes"));
}

}  // namespace
}  // namespace vmsg::devices
