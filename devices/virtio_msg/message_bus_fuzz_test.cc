// Whatever a driver sends, in whatever order, with hot-plug, resets and a full
// link in between: everything ends, each well-formed request is answered
// exactly once and in order per device number, and nothing else is. A driver
// that sent no PING gets none.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/message.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/message_bus_fuzz_input.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/fake_link.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/base/check.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::msg {
namespace {

using std::chrono::milliseconds;
using virtio::DummyDevice;

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> input) : input_(input) {}
  // False at the end; then `*value` is unchanged.
  bool U8(uint8_t* value) {
    if (input_.empty()) return false;
    *value = input_.front();
    input_ = input_.subspan(1);
    return true;
  }
  bool U16(uint16_t* value) {
    uint8_t low;
    uint8_t high;
    if (!U8(&low) || !U8(&high)) return false;
    *value = static_cast<uint16_t>(low | high << 8);
    return true;
  }
  bool Take(size_t size, Bytes* bytes) {
    if (input_.size() < size) return false;
    const auto taken = std::as_bytes(input_.first(size));
    bytes->assign(taken.begin(), taken.end());
    input_ = input_.subspan(size);
    return true;
  }

 private:
  std::span<const uint8_t> input_;
};

class Target {
 public:
  Target() : dma_(&harness_.memory()) {}

  void Run(Reader input) {
    for (int i = 0; i < fuzz::kMaxOps; ++i) {
      if (!Step(&input)) break;
      Collect();
    }
    // Time and room bring everything to rest.
    for (DummyDevice* device : devices_) {
      if (device != nullptr) device->HoldTransitions(false);
    }
    harness_.link().set_room(FakeLink::kUnlimited);
    for (int i = 0; i < 20; ++i) {
      harness_.link().Service();
      harness_.loop().AdvanceTime(milliseconds(500));
      Collect();
    }
    VMSG_CHECK(harness_.link().waiting() == 0, "a message was left");
    VMSG_CHECK(harness_.bus().CanAccept(), "the bus is stuck");
    for (const auto& [number, list] : owed_) {
      VMSG_CHECK(list.empty(), "a request without an answer");
    }
    VMSG_CHECK(gone_ == unplugged_, "a removal without an end");
  }

 private:
  struct Owed {
    uint8_t id;
    uint16_t token;
  };
  // Bus messages, or the device number.
  using Number = std::pair<bool, uint32_t>;

  bool Step(Reader* input) {
    uint8_t op;
    uint8_t arg = 0;
    if (!input->U8(&op)) return false;
    op %= fuzz::kNumOps;
    const bool has_arg =
        op != fuzz::kResetAll && op != fuzz::kMemory && op != fuzz::kService;
    if (has_arg && !input->U8(&arg)) return false;
    const uint32_t slot = arg % 32;
    switch (op) {
      case fuzz::kMessage: {
        Bytes message;
        if (!input->Take(arg % (fuzz::kMaxMessage + 1), &message)) return false;
        Enqueue(std::move(message));
        break;
      }
      case fuzz::kTime:
        harness_.link().Service();
        harness_.loop().AdvanceTime(milliseconds(arg));
        break;
      case fuzz::kPlug:
        if (harness_.bus().status(slot).state == SlotState::kEmpty) {
          devices_[slot] = harness_.PlugDummy(
              slot, {.seed = ++seed_, .max_transition_delay = milliseconds(5)});
        }
        break;
      case fuzz::kUnplug:
        if (harness_.bus()
                .Unplug(slot,
                        {.forced = (arg & 0x80) != 0,
                         .deadline = milliseconds(100),
                         .fail_deadline = milliseconds(50)},
                        [this] { ++gone_; })
                .ok()) {
          ++unplugged_;
          if (devices_[slot] != nullptr) devices_[slot]->HoldTransitions(false);
          devices_[slot] = nullptr;
        }
        break;
      case fuzz::kRoom:
        harness_.link().set_room(arg < 7 ? arg : FakeLink::kUnlimited);
        break;
      case fuzz::kHold:
        if (devices_[slot] != nullptr) {
          devices_[slot]->HoldTransitions((arg & 0x80) != 0);
        }
        break;
      case fuzz::kResetAll:
        harness_.link().Clear();
        harness_.bus().ResetAll();
        owed_.clear();
        knows_ping_ = false;
        break;
      case fuzz::kDevice:
        if (devices_[slot] != nullptr) Disturb(devices_[slot], arg >> 5);
        break;
      case fuzz::kMemory: {
        uint16_t place;
        uint16_t value;
        if (!input->U16(&place) || !input->U16(&value)) return false;
        (void)dma_.Store16(vmm::GuestAddress{uint64_t{place} * 2}, value,
                           std::memory_order_release);
        break;
      }
      default:
        harness_.link().Service();
        harness_.loop().RunUntilIdle();
    }
    return true;
  }

  static void Disturb(DummyDevice* device, int what) {
    switch (what) {
      case 0:
        device->Break("fuzz");
        break;
      case 1:
        device->FailNextActivation(absl::UnavailableError("fuzz"));
        break;
      case 2:
        device->SetBackendFailing(true);
        break;
      case 3:
        device->SetBackendFailing(false);
        break;
      default:
        device->ChangeConfig(static_cast<uint32_t>(what), Bytes(2));
    }
  }

  void Enqueue(Bytes message) {
    if (message.size() >= 8 && !FillPingResponse(&message)) {
      const uint16_t token = ++token_;
      message[4] = static_cast<std::byte>(token & 0xFF);
      message[5] = static_cast<std::byte>(token >> 8);
      Header header;
      DriverMessage decoded;
      const bool answered =
          DecodeFromDriver(Revision::k2025, 64, message, &header, &decoded) ==
              DecodeError::kNone &&
          !std::holds_alternative<EventAvail>(decoded) && header.dev_num < 32;
      if (answered) {
        owed_[{header.is_bus, header.dev_num}].push_back(
            {header.msg_id, header.token});
        if (std::holds_alternative<Ping>(decoded)) knows_ping_ = true;
      }
    }
    harness_.link().Enqueue(std::move(message));
  }

  // Whether it is an answer to a PING. See fuzz::kRightAnswer.
  bool FillPingResponse(Bytes* message) const {
    Header header;
    DriverMessage decoded;
    if (DecodeFromDriver(Revision::k2025, 64, *message, &header, &decoded) !=
        DecodeError::kNone) {
      return false;
    }
    const auto* const answer = std::get_if<PingResponse>(&decoded);
    if (answer == nullptr) return false;
    if (answer->data == fuzz::kRightAnswer) {
      *message = PingAnswer(ping_data_, ping_token_);
    }
    return true;
  }

  void Collect() {
    for (const Received& message : harness_.link().Take()) {
      VMSG_CHECK(message.bytes().size() == message.msg_size() &&
                     message.msg_size() <= 64,
                 "a message of a wrong size");
      VMSG_CHECK(message.type() < 4, "reserved bits are set");
      if (message.is_ping()) {
        VMSG_CHECK(knows_ping_, "a PING for a driver that sent none");
        VMSG_CHECK(message.token() != 0, "a PING with the token of events");
        ping_token_ = message.token();
        ping_data_ = message.u32(0);
        continue;
      }
      if (!message.is_response()) {
        VMSG_CHECK(message.is_event() && message.token() == 0, "no event");
        continue;
      }
      std::deque<Owed>& list = owed_[{message.is_bus(), message.dev()}];
      VMSG_CHECK(!list.empty() && list.front().id == message.id() &&
                     list.front().token == message.token(),
                 "an answer that was not owed, or not yet");
      list.pop_front();
    }
  }

  vmm::FakeClock clock_;
  WireMonitor monitor_{{.name = "amp0/fifo0"}, &clock_, nullptr};
  BusHarness harness_{{.ping = {.interval = milliseconds(100),
                                .timeout = milliseconds(50),
                                .misses = 2},
                       .traffic_observer = &monitor_}};
  vmm::DmaSpace dma_;
  std::array<DummyDevice*, 32> devices_ = {};
  std::map<Number, std::deque<Owed>> owed_;
  uint64_t seed_ = 0;
  uint64_t unplugged_ = 0;
  uint64_t gone_ = 0;
  uint16_t token_ = 0;
  bool knows_ping_ = false;  // the driver has sent one
  uint16_t ping_token_ = 0;  // of the last one that it got
  uint32_t ping_data_ = 0;
};

}  // namespace
}  // namespace vmsg::msg

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vmsg::msg::Target().Run(vmsg::msg::Reader({data, size}));
  return 0;
}
