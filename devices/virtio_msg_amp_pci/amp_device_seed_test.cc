// Makes the seeds of amp_device_fuzz_test. To write them:
//
//   bazel run //devices/virtio_msg_amp_pci:amp_device_seed_test -- --write

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bazel/seed_corpus.h"
#include "devices/virtio_msg_amp_pci/amp_device_fuzz_input.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"

namespace vmsg::amp::fuzz {
namespace {

// A driver's life as steps.
class Seed {
 public:
  Seed& Do(Step step, const std::vector<uint32_t>& operands = {}) {
    bytes_.push_back(static_cast<char>(step));
    for (const uint32_t operand : operands) Byte(operand);
    return *this;
  }
  Seed& Byte(uint32_t value) {
    bytes_.push_back(static_cast<char>(value));
    return *this;
  }
  Seed& Half(uint32_t value) { return Byte(value).Byte(value >> 8); }
  Seed& Word(uint32_t value) { return Half(value).Half(value >> 16); }

  Seed& Send(uint32_t fifo, const Bytes& message) {
    Do(Step::kPut, {fifo, static_cast<uint32_t>(message.size())});
    for (const std::byte byte : message) Byte(std::to_integer<uint32_t>(byte));
    return Do(Step::kRing, {fifo}).Do(Step::kRun).Do(Step::kTake, {fifo});
  }
  Seed& Plug(uint32_t fifo, uint32_t slot) {
    return Do(Step::kPlug, {fifo, slot}).Do(Step::kRun);
  }
  // To DRIVER_OK, with queue 0 at the start of RAM.
  Seed& BringUp(uint32_t fifo, uint16_t slot) {
    const std::vector<uint8_t> version_1 = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
    // Index 0, size 4; descriptors at 0x100000, the rings 256 bytes apart.
    std::vector<uint8_t> queue(40);
    queue[8] = 4;
    queue[16 + 2] = queue[24 + 2] = queue[32 + 2] = 0x10;
    queue[24 + 1] = 1;
    queue[32 + 1] = 2;
    return Send(fifo, RawGetDeviceInfo(slot, 1))
        .Send(fifo, RawSetStatus(slot, 2, 3))
        .Send(fifo, RawMessage(0, 0x04, slot, 3, version_1))
        .Send(fifo, RawSetStatus(slot, 4, 0xB))
        .Send(fifo, RawMessage(0, 0x0A, slot, 5, queue))
        .Send(fifo, RawSetStatus(slot, 6, 0xF))
        .Do(Step::kAdvance, {5});
  }
  // One chain of one writable buffer in queue 0, and EVENT_AVAIL.
  Seed& Request(uint32_t fifo, uint16_t slot) {
    Do(Step::kWriteRam).Half(0).Byte(16);  // address, length, flags, next
    Word(0x101000).Word(0).Word(64).Half(2).Half(0);
    Do(Step::kWriteRam).Half(0x102).Byte(4);  // idx 1, head 0
    Half(1).Half(0);
    const std::vector<uint8_t> event(8);
    return Send(fifo, RawMessage(0, 0x41, slot, 0, event))
        .Do(Step::kAdvance, {5});
  }

  // First of all: what the machine is like.
  Seed& Options(uint32_t options) { return Byte(kOptions | options); }

  std::string bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

vmsg::fuzz::Seeds Seeds() {
  vmsg::fuzz::Seeds seeds;
  const auto add = [&](const char* name, const Seed& seed) {
    seeds[name] = seed.bytes();
  };
  const Bytes ping = RawPing(1, 2);

  add("ping", Seed().Send(0, ping).Send(1, ping));
  add("enumerate_and_drive",
      Seed().Send(0, RawGetDevices(9)).Plug(0, 3).BringUp(0, 3).Request(0, 3));
  add("unplug_in_use", Seed()
                           .Send(1, RawGetDevices(9))
                           .Plug(1, 0)
                           .BringUp(1, 0)
                           .Request(1, 0)
                           .Do(Step::kUnplug, {1, 0, 0})
                           .Send(1, RawSetStatus(0, 7, 0))
                           .Do(Step::kAdvance, {200})
                           .Plug(1, 0));
  add("forced_unplug", Seed()
                           .Send(0, RawGetDevices(9))
                           .Plug(0, 31)
                           .BringUp(0, 31)
                           .Do(Step::kUnplug, {0, 31, 1})
                           .Request(0, 31)
                           .Do(Step::kAdvance, {255}));
  Seed malformed;  // until the driver queue wraps
  for (int i = 0; i < 61; ++i) {
    malformed.Do(Step::kPut, {0, 4, 0x02, 0x03, 0, 0});
  }
  add("malformed",
      malformed.Do(Step::kRing, {0}).Do(Step::kRun).Do(Step::kAdvance, {9}));
  Seed full_pings;
  for (int i = 0; i < 70; ++i) {
    full_pings.Do(Step::kPut, {0, 12});
    full_pings.Word(0x00000302).Word(0x000C0001).Word(7);
    full_pings.Do(Step::kRing, {0}).Do(Step::kRun);
  }
  add("full_device_queue", full_pings.Do(Step::kAdvance, {100})
                               .Do(Step::kTake, {0})
                               .Do(Step::kAdvance, {100}));
  add("broken_and_reset", Seed()
                              .Do(Step::kSetIndex, {0, 0, 62})
                              .Do(Step::kRing, {0})
                              .Do(Step::kRun)
                              .Send(1, ping)
                              .Do(Step::kResetFifo, {0})
                              .Send(0, ping));
  add("own_index_overwritten", Seed()
                                   .Do(Step::kSetIndex, {0, 1, 5})
                                   .Do(Step::kRing, {0})
                                   .Do(Step::kRun)
                                   .Do(Step::kReset)
                                   .Send(0, ping));
  add("driver_change", Seed()
                           .Plug(0, 0)
                           .BringUp(0, 0)
                           .Do(Step::kPut, {0, 0})
                           .Do(Step::kBusMaster, {0})
                           .Do(Step::kBusMaster, {1})
                           .BringUp(0, 0)
                           .Request(0, 0)
                           .Do(Step::kReset)
                           .Send(0, ping));
  Seed accesses;
  for (const uint32_t size : {1, 2, 3, 4, 5, 8, 16}) {
    for (const uint32_t bar : {0, 1, 2}) {
      accesses.Do(Step::kMmioRead, {bar}).Half(0x21 * size).Byte(size);
      accesses.Do(Step::kMmioWrite, {bar}).Half(0x3FFE).Byte(size);
      for (uint32_t i = 0; i < size; ++i) accesses.Byte(0xFF);
    }
  }
  add("odd_accesses", accesses);
  Seed config;
  for (const uint32_t offset : {0x04, 0x10, 0x14, 0x18, 0x3C, 0x40, 0xFC}) {
    config.Do(Step::kConfigWrite, {offset, 2}).Word(0xFFFFFFFF);
    config.Do(Step::kConfigRead, {offset, 2});
  }
  add("config_all_ones", config.Do(Step::kConfigWrite, {0x10, 2})
                             .Word(0xE0100000)
                             .Do(Step::kConfigWrite, {0x04, 1})
                             .Word(6)
                             .Do(Step::kRing, {0}));
  // The same life in the other layouts, where a driver has to join first.
  for (const auto& [name, layout] :
       {std::pair{"shmem", 1u}, std::pair{"shmem_packed", 2u}}) {
    const std::string prefix = name;
    seeds[prefix + "_enumerate_and_drive"] = Seed()
                                                 .Options(layout)
                                                 .Do(Step::kJoin, {0})
                                                 .Send(0, RawGetDevices(9))
                                                 .Plug(0, 3)
                                                 .BringUp(0, 3)
                                                 .Request(0, 3)
                                                 .bytes();
    seeds[prefix + "_broken_and_joined"] = Seed()
                                               .Options(layout)
                                               .Do(Step::kJoin, {0})
                                               .Send(0, ping)
                                               .Do(Step::kSetIndex, {0, 0, 63})
                                               .Do(Step::kRing, {0})
                                               .Do(Step::kRun)
                                               .Do(Step::kJoin, {0})
                                               .Send(0, ping)
                                               .bytes();
    // The driver's state and magic, the device's state and magic.
    Seed words;
    words.Options(layout).Do(Step::kJoin, {1}).Plug(1, 0).BringUp(1, 0);
    for (const uint32_t word : {4, 5, 6, 7}) {
      for (const uint32_t value : {0, 1, 3, 31}) {
        words.Do(Step::kSetIndex, {1, word, value})
            .Do(Step::kRing, {1})
            .Do(Step::kRun)
            .Do(Step::kAdvance, {120});
      }
      words.Do(Step::kJoin, {1}).Send(1, ping);
    }
    seeds[prefix + "_every_word"] = words.bytes();
  }
  // A device that asks whether the driver is there: answered, and not.
  for (const uint32_t layout : {0, 1, 2}) {
    Seed asked;
    asked.Options(kPingBit | layout).Do(Step::kJoin, {0}).Send(0, ping);
    for (uint32_t token = 0; token < 4; ++token) {
      const std::vector<uint8_t> data(4);
      asked.Do(Step::kAdvance, {21})
          .Send(0,
                RawMessage(0x03, 0x03, 0, static_cast<uint16_t>(token), data));
    }
    for (int i = 0; i < 8; ++i) asked.Do(Step::kAdvance, {50});
    seeds["asked_" + std::to_string(layout)] = asked.Send(0, ping).bytes();
  }
  return seeds;
}

}  // namespace
}  // namespace vmsg::amp::fuzz

int main(int argc, char** argv) {
  return vmsg::fuzz::SeedTestMain(
      argc, argv, "devices/virtio_msg_amp_pci/amp_device_corpus",
      vmsg::amp::fuzz::Seeds());
}
