#include "devices/factories/rng_factory.h"

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "devices/virtio/rng/device.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"

namespace vmsg::devices {
namespace {

using control::v1alpha1::RngConfig;

// Longer ones would stop the guest's requests for good, for all it can tell.
constexpr std::chrono::seconds kMaxPeriod = std::chrono::hours(1);

absl::StatusOr<virtio::RngOptions> Parse(const control::DeviceConfig& config) {
  RngConfig message;
  if (!message.ParseFromString(config.bytes)) {
    return absl::InvalidArgumentError("device.rng: is not a valid RngConfig");
  }
  virtio::RngOptions options;
  options.max_bytes_per_period = message.max_bytes_per_period();
  if (message.has_period()) {
    if (options.max_bytes_per_period == 0) {
      return absl::InvalidArgumentError(
          "device.rng.period: has a meaning only with max_bytes_per_period");
    }
    const google::protobuf::Duration& period = message.period();
    // Before the sum, which could overflow.
    const bool in_range = period.seconds() >= 0 &&
                          period.seconds() <= kMaxPeriod.count() &&
                          period.nanos() >= 0 && period.nanos() <= 999'999'999;
    if (in_range) {
      options.period = std::chrono::seconds(period.seconds()) +
                       std::chrono::nanoseconds(period.nanos());
    }
    if (!in_range || options.period <= vmm::Duration(0) ||
        options.period > kMaxPeriod) {
      return absl::InvalidArgumentError(
          "device.rng.period: must be above 0 and at most 1 hour");
    }
  }
  return options;
}

}  // namespace

RngFactory::RngFactory(SourceMaker make_source)
    : type_name_(RngConfig::descriptor()->full_name()),
      make_source_(std::move(make_source)) {}

absl::Status RngFactory::Validate(const control::DeviceConfig& config) const {
  return Parse(config).status();
}

absl::StatusOr<std::unique_ptr<control::Pluggable>> RngFactory::Create(
    const control::DeviceConfig& config,
    const control::FactoryContext& context) {
  const absl::StatusOr<virtio::RngOptions> options = Parse(config);
  if (!options.ok()) return options.status();
  return std::make_unique<amp::VirtioPluggable>(
      [options = *options, source = make_source_(),
       loop = context.loop]() mutable
      -> absl::StatusOr<std::unique_ptr<virtio::VirtioDevice>> {
        return virtio::RngDevice::Create(options, std::move(source), loop);
      });
}

}  // namespace vmsg::devices
