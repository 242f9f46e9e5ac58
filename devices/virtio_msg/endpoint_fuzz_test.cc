// Whatever a driver asks of a device, in whatever order, and whatever the
// device does in between: each answer and each EVENT_CONFIG is byte for byte
// what a second model of the endpoint says.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/features.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg/endpoint_fuzz_input.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/shadow_endpoint.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/base/check.h"
#include "vmm/base/guest_address.h"

namespace vmsg::msg {
namespace {

constexpr uint16_t kDev = 7;

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> input) : input_(input) {}
  // 0 at the end, from which on ended() is true.
  uint8_t U8() {
    if (input_.empty()) {
      ended_ = true;
      return 0;
    }
    const uint8_t value = input_.front();
    input_ = input_.subspan(1);
    return value;
  }
  uint32_t Number() {
    const uint32_t value = U8();
    if (value < 200) return value;
    const uint64_t power = uint64_t{1} << ((value - 200) / 3 + 14);
    return static_cast<uint32_t>(power + (value - 200) % 3 - 1);
  }
  bool ended() const { return ended_; }

 private:
  std::span<const uint8_t> input_;
  bool ended_ = false;
};

uint32_t BlockOf(const std::set<uint32_t>& bits, uint32_t block) {
  uint32_t word = 0;
  for (const uint32_t bit : bits) {
    if (bit / 32 == block) word |= uint32_t{1} << (bit % 32);
  }
  return word;
}

virtio::DummyOptions DeviceOptions() {
  virtio::DummyOptions options;
  options.device_id = ShadowEndpoint::kDeviceId;
  options.num_queues = ShadowEndpoint::kNumQueues;
  options.max_queue_size = ShadowEndpoint::kMaxQueueSize;
  options.offered = {};
  for (const uint32_t bit : ShadowEndpoint::Offered()) options.offered.Set(bit);
  // What the transport can't carry is not offered by it.
  options.offered.Set(virtio::kFeatureNotifConfigData);
  options.offered.Set(virtio::kFeatureAdminVq);
  options.required = {};
  for (const uint32_t bit : ShadowEndpoint::Required()) {
    options.required.Set(bit);
  }
  options.config_size = ShadowEndpoint::kConfigSize;
  options.shared_memory = virtio::SharedMemoryRegion{
      .address = vmm::GuestAddress{ShadowEndpoint::kShmAddress},
      .length = ShadowEndpoint::kShmLength};
  options.max_transition_delay = std::chrono::microseconds(0);
  return options;
}

static_assert(ShadowEndpoint::kMemoryBytes == BusHarness::kMemoryBytes);
static_assert(ShadowEndpoint::kReadOnlyConfigBytes ==
              virtio::DummyDevice::kReadOnlyConfigBytes);

class Target {
 public:
  Target() : device_(harness_.PlugDummy(kDev, DeviceOptions())) {
    harness_.DriverMayBreakAnything();
    harness_.Enumerate();
    harness_.link().Take();
  }

  void Run(Reader* input) {
    for (int i = 0; i < fuzz::kMaxEndpointOps; ++i) {
      const uint8_t op = input->U8() % fuzz::kNumEndpointOps;
      if (input->ended()) return;
      Step(op, input);
      VMSG_CHECK(harness_.counters().malformed.value() == 0,
                 "a message of the test is malformed");
    }
  }

 private:
  void Step(uint8_t op, Reader* input) {
    switch (op) {
      case fuzz::kGetInfo:
        return Expect(GetDeviceInfoRequest(kDev), shadow_.GetDeviceInfo());
      case fuzz::kGetFeatures: {
        const uint32_t block = input->Number();
        const uint32_t count = input->Number();
        return Expect(GetDeviceFeaturesRequest(kDev, block, count),
                      shadow_.GetDeviceFeatures(block, count));
      }
      case fuzz::kSetFeatures:
        return SetFeatures(input);
      case fuzz::kGetConfig: {
        const uint32_t offset = input->Number();
        const uint32_t length = input->Number();
        return Expect(GetConfigRequest(kDev, offset, length),
                      shadow_.GetConfig(offset, length));
      }
      case fuzz::kSetConfig:
        return SetConfig(input);
      case fuzz::kGetStatus:
        return Expect(GetStatusRequest(kDev), shadow_.Status());
      case fuzz::kSetStatus:
        return SetStatus(input);
      case fuzz::kGetVqueue: {
        const uint32_t index = input->Number();
        return Expect(GetVqueueRequest(kDev, index), shadow_.GetVqueue(index));
      }
      case fuzz::kSetVqueue:
        return SetVqueue(input);
      case fuzz::kResetVqueue: {
        const uint32_t index = input->Number();
        shadow_.ResetVqueue(index);
        return Expect(ResetVqueueRequest(kDev, index), {});
      }
      case fuzz::kGetShm: {
        const uint32_t index = input->Number();
        return Expect(GetShmRequest(kDev, index), shadow_.GetShm(index));
      }
      case fuzz::kAvail:
        Compare(harness_.Send(AvailEvent(kDev, input->Number())), {}, {});
        return;
      case fuzz::kChangeConfig: {
        const uint32_t offset = input->U8() % (ShadowEndpoint::kConfigSize + 1);
        const Bytes data =
            Data(input->U8() % (ShadowEndpoint::kConfigSize - offset + 1));
        device_->ChangeConfig(offset, data);
        return Happened(shadow_.ChangeConfig(offset, data));
      }
      case fuzz::kBreak:
        // Only a device that works can find that it does not.
        if (device_->state() != virtio::DummyDevice::State::kActive) return;
        device_->Break("fuzz");
        return Happened(shadow_.NeedsReset());
      default:
        device_->FailNextActivation(absl::UnavailableError("fuzz"));
        fail_activation_ = true;
    }
  }

  void SetFeatures(Reader* input) {
    const uint32_t block = input->Number();
    std::vector<uint32_t> words(input->U8() % 4);
    Payload payload;
    payload.U32(block).U32(static_cast<uint32_t>(words.size()));
    for (size_t k = 0; k < words.size(); ++k) {
      const uint32_t index = block + static_cast<uint32_t>(k);
      const uint8_t what = input->U8() % (fuzz::kWordAll + 1);
      words[k] =
          what == fuzz::kWordNone       ? 0
          : what == fuzz::kWordAll      ? 0xFFFF'FFFF
          : what == fuzz::kWordOffered  ? BlockOf(shadow_.Offered(), index)
          : what == fuzz::kWordRequired ? BlockOf(shadow_.Required(), index)
                                        : uint32_t{1} << what;
      payload.U32(words[k]);
    }
    shadow_.SetDriverFeatures(block, words);
    Expect(Message(0, 0x04, kDev, payload), {});
  }

  void SetConfig(Reader* input) {
    const uint32_t generation = shadow_.generation() + input->U8();
    const uint32_t offset = input->Number();
    const Bytes data = Data(input->U8() % 20);
    Bytes request = Message(0, 0x06, kDev,
                            Payload()
                                .U32(generation)
                                .U32(offset)
                                .U32(static_cast<uint32_t>(data.size())));
    request.insert(request.end(), data.begin(), data.end());
    request[6] = static_cast<std::byte>(request.size());
    Expect(request, shadow_.SetConfig(generation, offset, data));
  }

  void SetStatus(Reader* input) {
    const uint32_t low = input->U8();
    const uint32_t status = low | uint32_t{input->U8()} << 8;
    const bool fails = fail_activation_ && shadow_.WouldActivate(status);
    if (fails) fail_activation_ = false;
    std::optional<Bytes> event;
    const Bytes answer = shadow_.SetStatus(status, fails, &event);
    Expect(SetStatusRequest(kDev, status), answer, event);
  }

  void SetVqueue(Reader* input) {
    const uint32_t index = input->Number();
    const uint32_t size = input->Number();
    const uint8_t wrong = input->U8();
    // Places of its own for each queue: the device writes to the last one.
    const uint64_t base = 0x4000 * (uint64_t{index % 8} + 1);
    std::array<uint64_t, 3> areas = {base, base + 0x1000, base + 0x2000};
    if ((wrong & 3) < areas.size()) {
      uint64_t& area = areas[wrong & 3];
      switch (wrong & (3 << 2)) {
        case fuzz::kAreaUnaligned:
          area += 1;
          break;
        case fuzz::kAreaPastTheEnd:
          area = ShadowEndpoint::kMemoryBytes - 16;
          break;
        case fuzz::kAreaWraps:
          area = ~uint64_t{0} - 15;
          break;
        default:
          break;
      }
    }
    shadow_.SetVqueue(index, size, areas[0], areas[1], areas[2]);
    Expect(SetVqueueRequest(kDev, index, size, areas[0], areas[1], areas[2]),
           {});
  }

  // Bytes that differ from call to call.
  Bytes Data(size_t size) {
    Bytes data(size);
    for (std::byte& byte : data) byte = static_cast<std::byte>(++counter_);
    return data;
  }

  // The answer to `request` has this payload, and `event` comes besides.
  void Expect(const Bytes& request, const Bytes& payload,
              const std::optional<Bytes>& event = std::nullopt) {
    Bytes answer(request.begin(), request.begin() + 8);
    answer[0] |= std::byte{1};
    answer[6] = static_cast<std::byte>(8 + payload.size());
    answer.insert(answer.end(), payload.begin(), payload.end());
    Compare(harness_.Send(request), answer, event);
  }

  // The device did something; `event` is what the driver hears of it.
  void Happened(const std::optional<Bytes>& event) {
    Compare(harness_.Send(std::vector<Bytes>()), {}, event);
  }

  void Compare(const std::vector<Received>& received,
               const std::optional<Bytes>& answer,
               const std::optional<Bytes>& event) {
    size_t answers = 0;
    size_t events = 0;
    for (const Received& message : received) {
      if (message.is_response()) {
        VMSG_CHECK(answer.has_value() && message.bytes() == *answer,
                   "another answer than that of the model");
        ++answers;
      } else {
        VMSG_CHECK(event.has_value() && message.is_config_event() &&
                       message.dev() == kDev && message.token() == 0 &&
                       std::ranges::equal(std::span(message.bytes()).subspan(8),
                                          *event),
                   "another event than that of the model");
        ++events;
      }
    }
    VMSG_CHECK(answers == (answer.has_value() ? 1u : 0u), "answers");
    VMSG_CHECK(events == (event.has_value() ? 1u : 0u), "events");
  }

  BusHarness harness_;
  virtio::DummyDevice* const device_;
  ShadowEndpoint shadow_;
  bool fail_activation_ = false;
  uint8_t counter_ = 0;
};

}  // namespace
}  // namespace vmsg::msg

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vmsg::msg::Reader reader({data, size});
  vmsg::msg::Target().Run(&reader);
  return 0;
}
