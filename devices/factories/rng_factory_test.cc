#include "devices/factories/rng_factory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::devices {
namespace {

using control::v1alpha1::RngConfig;
using ::testing::HasSubstr;

control::DeviceConfig Serialized(const RngConfig& config) {
  return {config.GetDescriptor()->full_name(), config.SerializeAsString()};
}

TEST(RngFactoryTest, MakesADeviceFromTheDefaultConfig) {
  vmm::ManualEventLoop loop;
  RngFactory factory;
  EXPECT_EQ(factory.type_name(), "vmsg.control.v1alpha1.RngConfig");
  EXPECT_EQ(factory.kind(), "rng");
  const auto device = factory.Create(Serialized(RngConfig()), {&loop});
  ASSERT_TRUE(device.ok()) << device.status();
  ASSERT_EQ((*device)->family(), "virtio-msg");
  const auto made =
      static_cast<amp::VirtioPluggable*>(device->get())->TakeDevice();
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ((*made)->device_id(), virtio::kDeviceIdEntropy);
}

TEST(RngFactoryTest, EachDeviceGetsASourceOfItsOwn) {
  vmm::ManualEventLoop loop;
  int made = 0;
  RngFactory factory([&made] {
    ++made;
    return virtio::CreateGetrandomSource();
  });
  ASSERT_TRUE(factory.Create(Serialized(RngConfig()), {&loop}).ok());
  ASSERT_TRUE(factory.Create(Serialized(RngConfig()), {&loop}).ok());
  EXPECT_EQ(made, 2);
}

TEST(RngFactoryTest, PeriodMayLastFromANanosecondToAnHour) {
  vmm::ManualEventLoop loop;
  RngFactory factory;
  RngConfig config;
  config.set_max_bytes_per_period(1);
  config.mutable_period()->set_nanos(1);
  EXPECT_TRUE(factory.Create(Serialized(config), {&loop}).ok());
  config.mutable_period()->set_nanos(0);
  config.mutable_period()->set_seconds(3600);
  EXPECT_TRUE(factory.Create(Serialized(config), {&loop}).ok());
}

TEST(RngFactoryTest, WrongFieldsAreNamedBeforeAnythingIsMade) {
  int made = 0;
  RngFactory factory([&made] {
    ++made;
    return virtio::CreateGetrandomSource();
  });
  const auto error = [&](const control::DeviceConfig& config) {
    vmm::ManualEventLoop loop;
    EXPECT_FALSE(factory.Create(config, {&loop}).ok());
    return std::string(factory.Validate(config).message());
  };
  RngConfig period_alone;
  period_alone.mutable_period()->set_seconds(1);
  EXPECT_THAT(error(Serialized(period_alone)), HasSubstr("device.rng.period"));

  RngConfig bad_period;
  bad_period.set_max_bytes_per_period(1);
  bad_period.mutable_period();
  EXPECT_THAT(error(Serialized(bad_period)), HasSubstr("must be above 0"));
  bad_period.mutable_period()->set_seconds(INT64_MAX);
  EXPECT_THAT(error(Serialized(bad_period)), HasSubstr("must be above 0"));

  bad_period.mutable_period()->set_seconds(3600);
  bad_period.mutable_period()->set_nanos(1);
  EXPECT_THAT(error(Serialized(bad_period)), HasSubstr("at most 1 hour"));

  EXPECT_THAT(error({factory.type_name(), "\xff"}),
              HasSubstr("not a valid RngConfig"));
  EXPECT_EQ(made, 0);
}

}  // namespace
}  // namespace vmsg::devices
