// RngFactory: makes virtio-rng devices for the control plane.

#ifndef VMSG_DEVICES_FACTORIES_RNG_FACTORY_H_
#define VMSG_DEVICES_FACTORIES_RNG_FACTORY_H_

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "devices/virtio/rng/backend.h"
#include "vmm/control/hotplug_bus.h"

namespace vmsg::devices {

// Takes vmsg.control.v1alpha1.RngConfig.
class RngFactory final : public control::PluggableFactory {
 public:
  // Makes the source of one device; called once for each, on the control loop.
  using SourceMaker =
      absl::AnyInvocable<std::unique_ptr<virtio::EntropySource>()>;

  explicit RngFactory(SourceMaker make_source = &virtio::CreateGetrandomSource);

  const std::string& type_name() const override { return type_name_; }
  const std::string& kind() const override { return kind_; }
  absl::Status Validate(const control::DeviceConfig& config) const override;
  absl::StatusOr<std::unique_ptr<control::Pluggable>> Create(
      const control::DeviceConfig& config,
      const control::FactoryContext& context) override;

 private:
  const std::string type_name_;
  const std::string kind_ = "rng";
  SourceMaker make_source_;
};

}  // namespace vmsg::devices

#endif  // VMSG_DEVICES_FACTORIES_RNG_FACTORY_H_
