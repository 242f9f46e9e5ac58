// Makes the seeds of monitor_fuzz_test. To write them:
//
//   bazel run //devices/virtio_msg/monitor:monitor_seed_test -- --write

#include <cstdint>
#include <string>

#include "bazel/seed_corpus.h"
#include "devices/virtio_msg/monitor/monitor_fuzz_input.h"
#include "devices/virtio_msg/monitor/testing/conversation.h"
#include "devices/virtio_msg/testing/wire.h"

namespace vmsg::msg::fuzz {
namespace {

using vmsg::fuzz::Seeds;

constexpr uint32_t kAllFeatures = Conversation::kVersion1 |
                                  Conversation::kNotificationData |
                                  Conversation::kRingReset;

template <typename Talk>
std::string Record(Talk talk) {
  std::string bytes;
  Conversation conversation;
  conversation.set_recorder([&](bool by_driver, const Bytes& message) {
    bytes.push_back(by_driver ? kDriver : kDevice);
    bytes.push_back(static_cast<char>(message.size()));
    for (const std::byte b : message) bytes.push_back(static_cast<char>(b));
  });
  talk(conversation);
  return bytes;
}

Seeds AllSeeds() {
  using C = Conversation;
  Seeds seeds;
  const auto add = [&](const std::string& name, auto talk) {
    seeds["monitor_corpus/" + name] = Record(talk);
  };
  add("start_and_notify", [](C& c) {
    c.Start();
    c.Avail();
    c.Status(0);
  });
  add("all_features", [](C& c) {
    c.Start(kAllFeatures);
    c.Avail(0, 1);
    c.ResetQueue();
    c.SetUpQueue();
    c.Avail(0, 0x8001);
  });
  add("packed_ring", [](C& c) {
    c.Start(kAllFeatures | C::kRingPacked);
    c.Avail(0, 0x80000003);
  });
  add("configuration", [](C& c) {
    c.Info();
    c.ReadConfig(7);
    c.WriteConfig(7, 8);
    c.ConfigEvent(3, 9);
    c.WriteConfig(9, 9);
    c.ConfigEvent(3, 10, {1, 2});
    c.WriteConfig(10, 10);
    c.WriteConfig(4, 10, 20);
  });
  add("needs_reset", [](C& c) {
    c.Start();
    c.ConfigEvent(15 | 64, 0);
    c.ReadStatus(15 | 64);
    c.ReadStatus(15 | 64);
    c.Avail();
    c.Status(0, 15);
    c.Status(1);
  });
  add("removal", [](C& c) {
    c.Start();
    c.Removed();
    c.Avail();
    c.Status(0);
    c.Status(1);
    c.Status(3);
    c.WriteFeatures();
    c.Status(11);
    c.SetUpQueue();
    c.Status(15);
    c.Ready();
    c.Info();
  });
  add("graceful_removal", [](C& c) {
    c.Start();
    c.ReadConfig(4);
    c.Removed();
    c.Info();
    c.Avail();
    c.WriteConfig(4, 4);
    c.Status(0);
    c.Info(0);
    c.Ready();
    c.Start();
    c.Avail();
    c.Removed();
    c.Ready();
    c.Info();
    c.Avail();
    c.Status(1);
  });
  add("no_device", [](C& c) {
    c.Info(0);
    c.Status(1, 0);
    c.Driver(GetDevicesRequest(0, 32));
    c.Device(Message(3, 0x02, 0,
                     Payload().U16(0).U16(32).U16(0).U32(1u << C::kDev)));
    c.Status(1);
  });
  add("pings", [](C& c) {
    c.Ping(1);
    c.Device(Message(2, 0x03, 0, Payload().U32(2), 9));
    c.Driver(Message(3, 0x03, 0, Payload().U32(2), 9));
    c.Driver(Message(3, 0x03, 0, Payload().U32(2), 9));
  });
  add("refused", [](C& c) {
    c.Acknowledge();
    c.Driver(SetDriverFeaturesRequest(C::kDev, 3, {2, 2, 0xFFFFFFFF}));
    c.Answer(0x04);
    c.Status(11, 3);
    c.SetUpQueue();
    c.Status(7);
  });
  add("everything_wrong", [](C& c) {
    c.Status(0x100);
    c.Status(2);
    c.WriteFeatures();
    c.WriteQueueAt(0, 0xFFFFFFFFFFFFFFFF, 3, 1, 0xFFFFFFFF);
    c.ResetQueue(77);
    c.Avail(77, 77);
    c.Status(15 | 64);
    c.Driver(Bytes(3));
    c.Driver(Bytes(96, std::byte{0xFF}));
    c.Driver(Message(0xFC, 0x07, 40));
    c.Driver(Message(2, 0x02, 1, Payload().U16(3).U16(9)));
    c.Driver(Message(1, 0x02, 5));
    c.Driver(Hex("00 07 00 05 00 01 00 08"));
  });
  return seeds;
}

}  // namespace
}  // namespace vmsg::msg::fuzz

int main(int argc, char** argv) {
  return vmsg::fuzz::SeedTestMain(argc, argv, "devices/virtio_msg/monitor",
                                  vmsg::msg::fuzz::AllSeeds());
}
