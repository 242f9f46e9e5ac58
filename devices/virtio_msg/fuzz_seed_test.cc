// Makes the seeds of the fuzz tests of this folder. To write them:
//
//   bazel run //devices/virtio_msg:fuzz_seed_test -- --write

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "bazel/seed_corpus.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio_msg/endpoint_fuzz_input.h"
#include "devices/virtio_msg/message_bus_fuzz_input.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"

namespace vmsg::msg::fuzz {
namespace {

using vmsg::fuzz::Seeds;

std::string AsString(const Bytes& bytes) {
  std::string result;
  for (const std::byte byte : bytes) result.push_back(static_cast<char>(byte));
  return result;
}

// A message of each kind: u8 which maximum (2: 64 bytes), then the message.
Seeds CodecSeeds() {
  Seeds seeds;
  const auto add = [&](const std::string& name, const Bytes& message) {
    seeds["codec_corpus/" + name] = '\2' + AsString(message);
  };
  add("get_device_info", GetDeviceInfoRequest(5));
  add("get_device_features", GetDeviceFeaturesRequest(5, 0, 2));
  add("get_too_many_features", GetDeviceFeaturesRequest(5, 0, 0xFFFFFFFF));
  add("set_driver_features", SetDriverFeaturesRequest(5, 1, {1}));
  add("set_no_features", SetDriverFeaturesRequest(5, 0xFFFFFFFF, {}));
  add("get_config", GetConfigRequest(5, 0, 8));
  add("get_config_past_the_end", GetConfigRequest(5, 0xFFFFFFFF, 0xFFFFFFFF));
  add("set_config", SetConfigRequest(5, 7, 32, {1}));
  add("get_status", GetStatusRequest(5));
  add("set_status", SetStatusRequest(5, 0x0B));
  add("get_vqueue", GetVqueueRequest(5, 0));
  add("set_vqueue",
      SetVqueueRequest(5, 0, 128, 0x40001000, 0x40001800, 0x40002000));
  add("reset_vqueue", ResetVqueueRequest(5, 0));
  add("get_shm", GetShmRequest(5, 1));
  add("avail", Hex("00 41 05 00 00 00 10 00 01 00 00 00 05 00 00 80"));
  add("get_devices", GetDevicesRequest(0, 16));
  add("get_devices_unaligned", GetDevicesRequest(4, 9));
  add("ping", PingRequest(0x12345678));
  add("ping_answer", Message(3, 0x03, 0, Payload().U32(1)));
  add("event_of_a_device", Hex("00 42 05 00 00 00 0c 00 01 00 00 00"));
  add("reserved_type_bits", Message(0xFC, 0x07, 5));
  add("bus_message_with_number", Message(2, 0x03, 5, Payload().U32(1)));
  Bytes bad_size = GetStatusRequest(5);
  bad_size[6] = std::byte{200};
  add("size_above_what_arrived", bad_size);
  Bytes bad_count = SetConfigRequest(5, 7, 32, {1});
  bad_count[19] = std::byte{0x80};
  add("count_that_does_not_fit", bad_count);
  return seeds;
}

class Input {
 public:
  Input& Send(const Bytes& message) {
    Byte(kMessage).Byte(static_cast<uint8_t>(message.size()));
    bytes_ += AsString(message);
    return *this;
  }
  Input& Do(Op op, uint8_t argument) { return Byte(op).Byte(argument); }
  Input& Do(Op op) { return Byte(op); }
  Input& Memory(uint64_t address, uint16_t value) {
    const uint64_t place = address / 2;
    return Byte(kMemory)
        .Byte(static_cast<uint8_t>(place))
        .Byte(static_cast<uint8_t>(place >> 8))
        .Byte(static_cast<uint8_t>(value))
        .Byte(static_cast<uint8_t>(value >> 8));
  }
  // The driver's way to DRIVER_OK.
  Input& Start(uint16_t dev) {
    Send(GetDeviceInfoRequest(dev));
    for (const uint32_t status : {0u, 1u, 3u}) {
      Send(SetStatusRequest(dev, status)).Do(kTime, 10);
    }
    Send(SetDriverFeaturesRequest(dev, 0, {1u << 29, 1u | 1u << 8}));
    Send(SetStatusRequest(dev, 11));
    Send(BusHarness::SetVqueueFor(dev, 0));
    return Send(SetStatusRequest(dev, 15)).Do(kTime, 10);
  }
  // A request of one writable buffer on queue 0.
  Input& MakeAvailable(uint16_t dev) {
    const virtio::QueueConfig place = BusHarness::QueuePlace(dev, 0);
    return Memory(place.desc.value + 2, 8)  // address 0x80000
        .Memory(place.desc.value + 8, 64)   // length
        .Memory(place.desc.value + 12, 2)   // flags: written by the device
        .Memory(place.driver.value + 2, 1)  // available index
        .Send(AvailEvent(dev, 0));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  Input& Byte(uint8_t byte) {
    bytes_.push_back(static_cast<char>(byte));
    return *this;
  }
  std::string bytes_;
};

Seeds BusSeeds() {
  Seeds seeds;
  const auto add = [&](const std::string& name, const Input& input) {
    seeds["message_bus_corpus/" + name] = input.bytes();
  };
  add("enumerate", Input()
                       .Do(kPlug, 0)
                       .Do(kPlug, 5)
                       .Send(GetDevicesRequest(0, 32))
                       .Send(PingRequest(1))
                       .Do(kService));
  add("start_and_serve", Input()
                             .Do(kPlug, 1)
                             .Start(1)
                             .MakeAvailable(1)
                             .Do(kTime, 5)
                             .Send(ResetVqueueRequest(1, 0))
                             .Do(kTime, 5)
                             .Send(SetStatusRequest(1, 0))
                             .Do(kTime, 10));
  add("slow_reset_fills_the_bound", [] {
    Input input;
    input.Do(kPlug, 1).Do(kPlug, 2).Do(kHold, 0x81);
    for (int i = 0; i < 10; ++i) input.Send(SetStatusRequest(1, 0));
    input.Send(GetStatusRequest(2)).Do(kService).Do(kHold, 1).Do(kTime, 100);
    return input;
  }());
  add("full_link", [] {
    Input input;
    input.Do(kPlug, 1).Start(1).Do(kRoom, 0);
    for (int i = 0; i < 5; ++i) input.Send(GetConfigRequest(1, 0, 4));
    input.Do(kDevice, 0x81).Do(kService).Do(kRoom, 1).Do(kTime, 1);
    return input.Do(kRoom, 255).Do(kTime, 1);
  }());
  add("pings_answered_and_not", [] {
    const Bytes right = PingAnswer(kRightAnswer, 0);
    Input input;
    input.Send(PingRequest(1)).Do(kService).Send(right).Do(kTime, 101);
    input.Send(PingAnswer(2, 7)).Send(right).Do(kTime, 50).Send(right);
    // Missed, missed, and an answer after all.
    input.Do(kTime, 200).Do(kTime, 200).Do(kTime, 200).Send(right);
    return input.Do(kRoom, 0).Do(kTime, 200).Do(kRoom, 255).Do(kTime, 10);
  }());
  add("graceful_removal", Input()
                              .Do(kPlug, 3)
                              .Start(3)
                              .MakeAvailable(3)
                              .Do(kUnplug, 3)
                              .Send(GetStatusRequest(3))
                              .Send(SetStatusRequest(3, 0))
                              .Do(kTime, 20)
                              .Do(kPlug, 3)
                              .Send(GetDeviceInfoRequest(3))
                              .Do(kTime, 200));
  add("deadlines", Input()
                       .Do(kPlug, 3)
                       .Start(3)
                       .Do(kUnplug, 3)
                       .Do(kTime, 120)
                       .MakeAvailable(3)
                       .Do(kTime, 120)
                       .Send(GetStatusRequest(3)));
  add("forced_removal_of_a_hung_device", Input()
                                             .Do(kPlug, 3)
                                             .Start(3)
                                             .Do(kHold, 0x83)
                                             .Send(SetStatusRequest(3, 0))
                                             .Send(GetStatusRequest(3))
                                             .Do(kService)
                                             .Do(kUnplug, 0x83)
                                             .Do(kTime, 60));
  add("reset_overtakes_activation",
      Input()
          .Do(kPlug, 1)
          .Send(SetStatusRequest(1, 3))
          .Send(SetDriverFeaturesRequest(1, 1, {1}))
          .Do(kHold, 0x81)
          .Send(SetStatusRequest(1, 15))
          .Send(SetStatusRequest(1, 0))
          .Do(kService)
          .Do(kHold, 1)
          .Do(kTime, 20));
  add("function_reset", Input()
                            .Do(kPlug, 1)
                            .Do(kPlug, 2)
                            .Start(1)
                            .Do(kUnplug, 2)
                            .Do(kRoom, 0)
                            .Send(GetStatusRequest(1))
                            .Do(kService)
                            .Do(kResetAll)
                            .Do(kRoom, 255)
                            .Send(GetDevicesRequest(0, 32))
                            .Start(1));
  add("broken_ring",
      Input()
          .Do(kPlug, 1)
          .Start(1)
          .Memory(BusHarness::QueuePlace(1, 0).driver.value + 2, 999)
          .Send(AvailEvent(1, 0))
          .Do(kTime, 5)
          .Send(GetStatusRequest(1))
          .Send(SetStatusRequest(1, 0))
          .Do(kTime, 10)
          .Start(1));
  add("failed_activation", Input().Do(kPlug, 1).Do(kDevice, 0x21).Start(1));
  add("malformed", Input()
                       .Do(kPlug, 5)
                       .Send(Bytes(3))
                       .Send(Message(0, 0x0D, 5))
                       .Send(Message(1, 0x02, 5))
                       .Send(GetStatusRequest(77))
                       .Send(Bytes(96, std::byte{0xFF})));
  return seeds;
}

Seeds EndpointSeeds() {
  const auto bytes = [](std::initializer_list<uint8_t> ops) {
    return std::string(ops.begin(), ops.end());
  };
  // To FEATURES_OK with all that is offered, and to DRIVER_OK with two queues.
  const std::string negotiate = bytes({kGetInfo,
                                       kGetFeatures,
                                       0,
                                       3,
                                       kSetStatus,
                                       1,
                                       0,
                                       kSetStatus,
                                       3,
                                       0,
                                       kSetFeatures,
                                       0,
                                       3,
                                       kWordOffered,
                                       kWordOffered,
                                       kWordOffered,
                                       kSetStatus,
                                       11,
                                       0,
                                       kGetStatus});
  const std::string start =
      negotiate + bytes({kGetVqueue, 0, kSetVqueue, 0, 8, 3, kSetVqueue, 1, 64,
                         3, kGetVqueue, 1, kSetStatus, 15, 0});
  Seeds seeds;
  const auto add = [&](const std::string& name, const std::string& input) {
    seeds["endpoint_corpus/" + name] = input;
  };
  add("start", start + bytes({kAvail, 0, kAvail, 200, kGetShm, 0, kGetShm, 1}));
  add("features_refused", bytes({kSetStatus,
                                 3,
                                 0,
                                 kSetFeatures,
                                 0,
                                 2,
                                 28,
                                 kWordNone,
                                 kSetStatus,
                                 11,
                                 0,
                                 kSetFeatures,
                                 1,
                                 1,
                                 kWordAll,
                                 kSetStatus,
                                 11,
                                 0,
                                 kSetFeatures,
                                 254,
                                 1,
                                 5,
                                 kSetFeatures,
                                 1,
                                 1,
                                 kWordRequired,
                                 kSetStatus,
                                 11,
                                 0}));
  add("features_after_ok",
      negotiate + bytes({kSetFeatures, 0, 1, kWordAll, kSetStatus, 11, 0}));
  add("configuration",
      bytes({kGetConfig, 0,          16,         kSetConfig, 0,
             4,          4,          kSetConfig, 1,          4,
             4,          kSetConfig, 0,          0,          4,
             kSetConfig, 0,          14,         4,          kChangeConfig,
             4,          4,          kSetConfig, 0,          8,
             0,          kGetConfig, 255,        2,          kChangeConfig,
             16,         0}));
  add("unusable_queues",
      negotiate + bytes({kSetVqueue, 0, 3,          3,
                         kSetVqueue, 0, 128,        3,
                         kSetVqueue, 3, 8,          3,
                         kSetVqueue, 0, 0,          3,
                         kSetVqueue, 0, 8,          kAreaUnaligned,
                         kSetVqueue, 0, 8,          kAreaPastTheEnd | 1,
                         kSetVqueue, 0, 8,          kAreaWraps | 2,
                         kGetVqueue, 0, kSetStatus, 15,
                         0}));
  add("queues_that_run",
      start +
          bytes(
              {kSetVqueue, 0,  16,         3, kGetVqueue,   0, kSetVqueue,   2,
               16,         3,  kGetVqueue, 2, kResetVqueue, 0, kGetVqueue,   0,
               kSetVqueue, 0,  4,          3, kAvail,       0, kResetVqueue, 77,
               kGetVqueue, 254}));
  add("device_breaks",
      start +
          bytes({kBreak, kSetVqueue, 2, 8, 3, kBreak, kChangeConfig, 0, 2,
                 kSetStatus, 0, 0, kGetStatus}) +
          start);
  add("activation_fails", bytes({kFailActivation}) + start +
                              bytes({kSetStatus, 15, 0, kSetStatus, 0, 1}) +
                              start);
  add("driver_fails", start + bytes({kSetStatus, 128, 0, kSetStatus, 15, 255,
                                     kSetStatus, 0, 0}));
  return seeds;
}

Seeds AllSeeds() {
  Seeds seeds = CodecSeeds();
  seeds.merge(EndpointSeeds());
  seeds.merge(BusSeeds());
  return seeds;
}

}  // namespace
}  // namespace vmsg::msg::fuzz

int main(int argc, char** argv) {
  return vmsg::fuzz::SeedTestMain(argc, argv, "devices/virtio_msg",
                                  vmsg::msg::fuzz::AllSeeds());
}
